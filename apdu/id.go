package apdu

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// AID is an application identifier (ISO 7816-4 §12.2.3): 0 to 16 bytes, compared
// with ==. The zero value is the empty AID, which selects the default application.
type AID struct {
	b [16]byte
	n uint8
}

// NewAID returns the AID made of b. It fails when b is longer than 16 bytes.
func NewAID(b []byte) (AID, error) {
	var a AID
	if len(b) > len(a.b) {
		return a, fmt.Errorf("AID of %d bytes is longer than 16", len(b))
	}
	a.n = uint8(copy(a.b[:], b))
	return a, nil
}

// ParseAID reads an AID in hexadecimal, 5 to 16 bytes, either letter case.
func ParseAID(s string) (AID, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return AID{}, fmt.Errorf("parsing AID: %w", err)
	}
	if len(b) < 5 {
		return AID{}, fmt.Errorf("AID of %d bytes is shorter than 5", len(b))
	}
	return NewAID(b)
}

// MustAID is ParseAID for constants; it panics on a wrong one.
func MustAID(s string) AID {
	a, err := ParseAID(s)
	if err != nil {
		panic(err)
	}
	return a
}

// Bytes returns a copy of the identifier.
func (a AID) Bytes() []byte { return append([]byte(nil), a.b[:a.n]...) }

// Len is the length in bytes.
func (a AID) Len() int { return int(a.n) }

// HasPrefix reports whether a begins with p (partial selection, ISO 7816-4 §11.2.2).
func (a AID) HasPrefix(p AID) bool {
	return a.n >= p.n && string(a.b[:p.n]) == string(p.b[:p.n])
}

// String is upper-case hexadecimal.
func (a AID) String() string { return upperHex(a.b[:a.n]) }

// MarshalText implements encoding.TextMarshaler.
func (a AID) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is the empty AID.
func (a *AID) UnmarshalText(t []byte) error {
	if len(t) == 0 {
		*a = AID{}
		return nil
	}
	v, err := ParseAID(string(t))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

// CUID is a card unique identifier: IC fabricator (2), IC type (2), batch (2)
// and serial number (4) out of the card's CPLC, 10 bytes. It is a claim of the
// card, nothing in it is proved.
type CUID [10]byte

// ParseCUID reads 20 hexadecimal digits; hyphens between them are ignored.
func ParseCUID(s string) (CUID, error) {
	var c CUID
	return c, parseFixed(c[:], strings.ReplaceAll(s, "-", ""), "CUID")
}

// String is 20 upper-case hexadecimal digits.
func (c CUID) String() string { return upperHex(c[:]) }

// Pretty groups the digits in fours: XXXX-XXXX-XXXX-XXXX-XXXX.
func (c CUID) Pretty() string {
	s := c.String()
	return strings.Join([]string{s[0:4], s[4:8], s[8:12], s[12:16], s[16:20]}, "-")
}

// IsZero reports whether all ten bytes are 00.
func (c CUID) IsZero() bool { return c == CUID{} }

// MarshalText implements encoding.TextMarshaler.
func (c CUID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *CUID) UnmarshalText(t []byte) error {
	v, err := ParseCUID(string(t))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

// ATR is an answer to reset (ISO 7816-3 §8), 2 to 33 bytes.
type ATR []byte

// ParseATR reads an ATR in hexadecimal.
func ParseATR(s string) (ATR, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("parsing ATR: %w", err)
	}
	if len(b) < 2 || len(b) > 33 {
		return nil, fmt.Errorf("ATR of %d bytes, want 2 to 33", len(b))
	}
	return b, nil
}

// String is upper-case hexadecimal.
func (a ATR) String() string { return upperHex(a) }

// MarshalText implements encoding.TextMarshaler.
func (a ATR) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; empty text is no ATR.
func (a *ATR) UnmarshalText(t []byte) error {
	if len(t) == 0 {
		*a = nil
		return nil
	}
	v, err := ParseATR(string(t))
	if err != nil {
		return err
	}
	*a = v
	return nil
}

func upperHex(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func parseFixed(dst []byte, s, what string) error {
	b, err := hex.DecodeString(s)
	if err != nil {
		return fmt.Errorf("parsing %s: %w", what, err)
	}
	if len(b) != len(dst) {
		return fmt.Errorf("%s of %d bytes, want %d", what, len(b), len(dst))
	}
	copy(dst, b)
	return nil
}
