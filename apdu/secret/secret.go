// Package secret keeps PINs, passwords and keys out of logs, errors and
// encodings. A [Secret] prints as "[redacted]" under every format verb and
// refuses to be marshalled; its bytes are reached with [Secret.Bytes] only.
//
// Wiping is best effort: Go may have copied the bytes before New took them.
// Master keys never come here, they stay in the HSM.
//
// A Secret is not safe for a Wipe concurrent with other use.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is a byte string that does not print. The zero value is empty. It is
// a closure on purpose: no reflection-based printer reaches its bytes, and ==
// does not compile.
type Secret struct{ reveal func() []byte }

// New takes ownership of b: the caller does not use b afterwards.
func New(b []byte) Secret { return Secret{reveal: func() []byte { return b }} }

// Random returns a new secret of n random bytes.
func Random(n int) Secret {
	b := make([]byte, n)
	rand.Read(b) // never fails, crypto/rand
	return New(b)
}

// Bytes returns the bytes themselves, not a copy; nil for the zero value.
func (s Secret) Bytes() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Len is the length in bytes.
func (s Secret) Len() int { return len(s.Bytes()) }

// IsZero reports whether there are no bytes.
func (s Secret) IsZero() bool { return s.Len() == 0 }

// Equal compares in constant time (for equal lengths).
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare(s.Bytes(), o.Bytes()) == 1
}

// Clone returns an independent copy.
func (s Secret) Clone() Secret {
	b := make([]byte, s.Len())
	copy(b, s.Bytes())
	return New(b)
}

// Wipe overwrites the bytes with zeros.
func (s Secret) Wipe() { clear(s.Bytes()) }

// String implements fmt.Stringer.
func (s Secret) String() string { return redacted }

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

var errMarshal = errors.New("a secret cannot be marshalled")

// MarshalText always fails.
func (s Secret) MarshalText() ([]byte, error) { return nil, errMarshal }

// MarshalBinary always fails.
func (s Secret) MarshalBinary() ([]byte, error) { return nil, errMarshal }

// PIN is a person's PIN in the form the card receives: UTF-8 bytes.
type PIN struct{ Secret }

// NewPIN takes ownership of b. It refuses an empty PIN, more than 64 bytes and
// control characters; the rules of a profile come on top.
func NewPIN(b []byte) (PIN, error) {
	if len(b) == 0 || len(b) > 64 {
		return PIN{}, fmt.Errorf("PIN of %d bytes", len(b))
	}
	for _, c := range b {
		if c < 0x20 || c == 0x7F {
			return PIN{}, errors.New("PIN with a control character")
		}
	}
	return PIN{New(b)}, nil
}
