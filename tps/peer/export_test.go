package peer

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"time"
)

// SetStep has f called before and after everything durable that a node does.
func SetStep(c *Config, f func(string) error) { c.step = f }

var (
	PeerUsage = peerUsage
	Canonical = canonical
)

// NewCA makes a CA's certificate; Issue one of a peer.
func NewCA(s State, epoch uint64, key crypto.Signer, now time.Time) ([]byte, error) {
	return newCA(s, epoch, key, now)
}

func Issue(s State, m Member, pub crypto.PublicKey, ca *x509.Certificate, key crypto.Signer, now time.Time) ([]byte, error) {
	return s.issue(m, pub, ca, key, now, 7*24*time.Hour)
}

// Verify checks a chain as a state has it.
func Verify(s State, chain []*x509.Certificate, use x509.ExtKeyUsage, now time.Time) (Member, error) {
	return newTrust(s, nil).verify(chain, use, now)
}

// DecodeRecord reads what array.json holds.
func DecodeRecord(b []byte) error { _, err := decodeRecord(b); return err }

// ParseJoin decodes a join request.
func ParseJoin(b []byte) error { _, _, err := parseJoin(b); return err }

// ParseAnswer decodes the answer to one.
func ParseAnswer(b []byte) error {
	var a joinAnswer
	if err := strict(b, &a); err != nil {
		return err
	}
	return a.Array.check()
}

// ParseEnvelope decodes what PUT /array/v1/state takes.
func ParseEnvelope(b []byte) error {
	var e envelope
	if err := strict(b, &e); err != nil {
		return err
	}
	return e.check()
}

// Greet decodes a greeting.
func Greet(b []byte) error {
	var g greeting
	if err := json.Unmarshal(b, &g); err != nil {
		return err
	}
	return g.check()
}

// VerifyStatement checks the signatures of a promotion.
func VerifyStatement(p Statement, own State) (recovered bool, err error) { return p.verify(own) }

// ReadProved decodes one frame and says how long its body is.
func ReadProved(b []byte) (int, error) {
	var p proved
	err := readFrame(bytes.NewReader(b), maxRequest, &p)
	return len(p.Body), err
}

// Dir is the node's folder.
func (n *Node) Dir() string { return n.cfg.Dir }
