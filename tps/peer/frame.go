package peer

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// JoinProtocol is the ALPN protocol on which a node joins, the only one without a
// client certificate. The server speaks first (a greeting, anybody may read it), then
// comes one request and one answer, each as four bytes of length, high byte first,
// and JSON.
const JoinProtocol = "inkan-join"

const (
	maxRequest = 64 << 10
	maxAnswer  = 2 * maxState
)

// greeting is what a node says of its array before it is asked.
type greeting struct {
	Array   string `json:"array"`
	Name    string `json:"name"`
	Node    string `json:"node"` // DNS name of the node that speaks
	Primary string `json:"primary"`
	Address string `json:"address"` // of the primary
	Members int    `json:"members"`
	// Promotion is there after one that the former primary had no part in.
	Promotion *Statement `json:"promotion,omitempty"`
}

// joinRequest is what a node that joins says of itself.
type joinRequest struct {
	Invite  string    `json:"invite"` // id of the invite, which the code gives
	Name    string    `json:"name"`
	Address string    `json:"address"`
	Roles   []Role    `json:"roles"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	Replace bool      `json:"replace"` // a member of this name is to go
	CSR     []byte    `json:"csr"`     // PKCS#10
}

// joinAnswer is the certificate and all that members know.
type joinAnswer struct {
	Certificate []byte   `json:"certificate"`
	Array       envelope `json:"array"`
}

// proved is a message with the proof that its sender has the invite's code: HMAC-SHA256
// over label, TLS exporter and body. Or it is a refusal.
type proved struct {
	Body    []byte       `json:"body,omitempty"`
	MAC     []byte       `json:"mac,omitempty"`
	Refusal *RemoteError `json:"refusal,omitempty"`
}

const (
	requestLabel = "tms:join:request"
	answerLabel  = "tms:join:answer"
)

func (p proved) mac(verifier []byte, label string, exporter []byte) []byte {
	h := hmac.New(sha256.New, verifier)
	h.Write([]byte(label))
	h.Write(exporter)
	h.Write(p.Body)
	return h.Sum(nil)
}

func (p proved) good(verifier []byte, label string, exporter []byte) bool {
	return hmac.Equal(p.MAC, p.mac(verifier, label, exporter))
}

// exporter binds messages to the connection that they are sent on (RFC 8446 §7.5).
func exporter(c *tls.Conn) ([]byte, error) {
	cs := c.ConnectionState()
	return cs.ExportKeyingMaterial("EXPORTER-tms-join", nil, 32)
}

func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader, most uint32, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > most {
		return fmt.Errorf("message of %d bytes, at most %d", n, most)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err != nil {
		return err
	}
	if len(b) != int(n) {
		return io.ErrUnexpectedEOF
	}
	return strict(b, v)
}

func (g greeting) check() error {
	if !idForm.MatchString(g.Array) || g.Members < 1 || g.Members > MaxMembers {
		return errors.New("malformed greeting")
	}
	return errors.Join(checkText("array name", g.Name), checkName(g.Node), checkName(g.Primary), checkAddress(g.Address))
}

func (q joinRequest) check() error {
	if !hexForm.MatchString(q.Invite) || len(q.CSR) == 0 {
		return errors.New("malformed invite or certificate request")
	}
	return errors.Join(checkName(q.Name), checkAddress(q.Address), checkRoles(q.Roles), checkText("version", q.Version))
}
