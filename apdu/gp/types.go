package gp

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// KDD is the key diversification data, the first ten bytes of an INITIALIZE
// UPDATE response. Unlike the CUID it is proved by the card cryptogram wherever
// the card's keys are derived from it.
type KDD [10]byte

// ParseKDD reads 20 hexadecimal digits.
func ParseKDD(s string) (KDD, error) {
	var k KDD
	b, err := hex.DecodeString(s)
	if err != nil {
		return k, fmt.Errorf("parsing KDD: %w", err)
	}
	if len(b) != len(k) {
		return k, fmt.Errorf("KDD of %d bytes, want 10", len(b))
	}
	copy(k[:], b)
	return k, nil
}

// String is 20 upper-case hexadecimal digits.
func (k KDD) String() string { return strings.ToUpper(hex.EncodeToString(k[:])) }

// IsZero reports whether all ten bytes are 00, as some cards return.
func (k KDD) IsZero() bool { return k == KDD{} }

// MarshalText implements encoding.TextMarshaler.
func (k KDD) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *KDD) UnmarshalText(t []byte) error {
	v, err := ParseKDD(string(t))
	if err != nil {
		return err
	}
	*k = v
	return nil
}

// KeyVersion is a key version number (KVN): 01 to 7F for stored keys, FF for
// factory keys, 00 = the card's default.
type KeyVersion uint8

// ParseKeyVersion reads two hexadecimal digits.
func ParseKeyVersion(s string) (KeyVersion, error) {
	n, err := strconv.ParseUint(s, 16, 8)
	if err != nil || len(s) != 2 {
		return 0, fmt.Errorf("key version %q is not two hexadecimal digits", s)
	}
	return KeyVersion(n), nil
}

// String is two upper-case hexadecimal digits.
func (v KeyVersion) String() string { return fmt.Sprintf("%02X", uint8(v)) }

// MarshalText implements encoding.TextMarshaler.
func (v KeyVersion) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (v *KeyVersion) UnmarshalText(t []byte) error {
	n, err := ParseKeyVersion(string(t))
	if err != nil {
		return err
	}
	*v = n
	return nil
}

// KCV is a key check value: the first three bytes of a block encrypted under the key.
type KCV [3]byte

// String is six upper-case hexadecimal digits.
func (k KCV) String() string { return strings.ToUpper(hex.EncodeToString(k[:])) }
