package remote

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"inkan/apdu/secret"
	"inkan/securechannel"
)

// maxBody bounds a request and an answer, in bytes; maxKeysBody the answers that
// list keys, and parts of a ledger.
const (
	maxBody     = 64 << 10
	maxKeysBody = 1 << 20
)

// hexBytes is a byte string in upper-case hexadecimal.
type hexBytes []byte

// MarshalText implements encoding.TextMarshaler.
func (h hexBytes) MarshalText() ([]byte, error) { return appendHex(nil, h), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexBytes) UnmarshalText(t []byte) (err error) {
	*h, err = parseHex(t)
	return err
}

const digits = "0123456789ABCDEF"

func appendHex(out, b []byte) []byte {
	for _, c := range b {
		out = append(out, digits[c>>4], digits[c&15])
	}
	return out
}

var errHex = errors.New("bytes are written as an even number of hexadecimal digits in upper case")

func parseHex(t []byte) ([]byte, error) {
	if bytes.ContainsAny(t, "abcdef") {
		return nil, errHex
	}
	out := make([]byte, hex.DecodedLen(len(t)))
	if _, err := hex.Decode(out, t); err != nil {
		clear(out)
		return nil, errHex
	}
	return out, nil
}

// hexSecret is a secret in upper-case hexadecimal. It decodes only; encode is the
// other way.
type hexSecret struct{ secret.Secret }

// UnmarshalJSON implements json.Unmarshaler. It overwrites what it was given: that
// is the decoder's buffer, which nobody else can reach to wipe it.
func (h *hexSecret) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return errHex
	}
	inside := b[1 : len(b)-1]
	out, err := parseHex(inside)
	for i := range inside {
		inside[i] = '0'
	}
	if err != nil {
		return err
	}
	h.Secret = secret.New(out)
	return nil
}

// hexByte is one byte as two digits.
type hexByte uint8

// MarshalText implements encoding.TextMarshaler.
func (h hexByte) MarshalText() ([]byte, error) { return appendHex(nil, []byte{byte(h)}), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *hexByte) UnmarshalText(t []byte) error {
	b, err := parseHex(t)
	if err != nil || len(b) != 1 {
		return errors.New("a byte is written as two hexadecimal digits in upper case")
	}
	*h = hexByte(b[0])
	return nil
}

// protocol is SCP01, SCP02 or SCP03; what is none is for the service to refuse.
type protocol securechannel.Protocol

// MarshalText implements encoding.TextMarshaler.
func (p protocol) MarshalText() ([]byte, error) {
	return []byte(securechannel.Protocol(p).String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *protocol) UnmarshalText(t []byte) error {
	number, ok := strings.CutPrefix(string(t), "SCP")
	n, err := strconv.ParseUint(number, 10, 8)
	if !ok || err != nil || len(number) < 2 {
		return errors.New("a protocol is written as SCP01, SCP02 or SCP03")
	}
	*p = protocol(n)
	return nil
}

// part is a secret member of a message.
type part struct {
	name  string
	value secret.Secret
}

// encode is the JSON of v, an object, with secrets as further members. The caller
// wipes the result, which is the only copy.
func encode(v any, secrets ...part) ([]byte, error) {
	head, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a message: %w", err)
	}
	size := len(head)
	for _, s := range secrets {
		size += len(s.name) + 2*s.value.Len() + len(`,"":""`)
	}
	b := append(make([]byte, 0, size), head[:len(head)-1]...)
	for _, s := range secrets {
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), s.name...), `":"`...)
		b = append(appendHex(b, s.value.Bytes()), '"')
	}
	return append(b, '}'), nil
}

// decode reads one JSON object into v, strictly: no unknown name, nothing behind it.
func decode(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("decoding a message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("decoding a message: it goes on behind its object")
	}
	return nil
}

var errLarge = errors.New("the body is too large")

// readAll reads a body of at most max bytes. The caller wipes the result, of which
// no copy is left.
func readAll(r io.Reader, max int) ([]byte, error) {
	b := make([]byte, 0, min(max, 4096)+1)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > max:
			clear(b)
			return nil, errLarge
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			clear(b)
			return nil, err
		case len(b) == cap(b):
			old := b
			b = append(make([]byte, 0, min(2*cap(b), max+1)), b...)
			clear(old)
		}
	}
}
