// Package ceremony puts a master key together that comes from outside: out of
// components that several people hold, or out of a file wrapped under a transport
// key (hsm.md §10, secure-channel.md §11.8).
//
// A component is a share: the key is the XOR of all of them, so that nobody who
// lacks one knows anything of it. [ParseComponent] reads one and checks it against
// its key check value, [Combine] makes the key, [Unwrap] opens a wrapped file.
// [CheckValue] is what the custodians compare at the end.
//
// All functions are pure and safe for concurrent use; no key byte is in an error.
// What they return is the caller's to wipe.
package ceremony

import (
	"encoding/hex"
	"errors"
	"fmt"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Lengths of key check values in bytes: GlobalPlatform's and tkstool's.
const (
	shortKCV = 3
	longKCV  = 4
)

// ErrCheckValue means that a key and its check value do not belong together: one of
// them is mistyped, or the key is of another type.
var ErrCheckValue = errors.New("the check value does not belong to it: typing mistake, or another type of key")

// ParseComponent reads a component and its check value: hexadecimal digits of both,
// one behind the other, with blanks anywhere. The check value has 3 bytes or
// tkstool's 4.
func ParseComponent(text secret.Secret, t hsm.KeyType) (secret.Secret, error) {
	b, err := parseHex(text.Bytes(), false)
	if err != nil {
		return secret.Secret{}, err
	}
	n := t.Size()
	if len(b) != n+shortKCV && len(b) != n+longKCV {
		clear(b)
		return secret.Secret{}, fmt.Errorf("%d bytes, want %d of an %v component and 3 or 4 of its check value", len(b), n, t)
	}
	value := secret.New(b[:n:n])
	if err := check(t, value, b[n:]); err != nil {
		value.Wipe()
		return secret.Secret{}, err
	}
	return value, nil
}

// Check compares a key or component with its check value of 6 or 8 hexadecimal
// digits. For AES both conventions count: 16 bytes 01 (GlobalPlatform) and 16 bytes
// 00 (PKCS#11). [ErrCheckValue] where they do not belong together.
func Check(t hsm.KeyType, value secret.Secret, kcv string) error {
	b, err := parseHex([]byte(kcv), false)
	if err != nil {
		return fmt.Errorf("check value: %w", err)
	}
	return check(t, value, b)
}

func check(t hsm.KeyType, value secret.Secret, kcv []byte) error {
	if len(kcv) != shortKCV && len(kcv) != longKCV {
		return fmt.Errorf("check value of %d bytes, want 3 or 4", len(kcv))
	}
	blocks := [][]byte{kdf.CheckBlock(t.Cipher())}
	if t.Cipher() == kdf.AES {
		blocks = append(blocks, make([]byte, 16))
	}
	for _, in := range blocks {
		want, err := first(t, value, in)
		if err != nil {
			return err
		}
		if string(want[:len(kcv)]) == string(kcv) { // check values are public
			return nil
		}
	}
	return ErrCheckValue
}

// first is what a check value is cut from.
func first(t hsm.KeyType, value secret.Secret, in []byte) ([]byte, error) {
	d := kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.AES, Length: longKCV}
	if t.Cipher() == kdf.HMAC {
		d.Method = kdf.HMACSHA256
	}
	if value.Len() != t.Size() || !t.Valid() {
		return nil, fmt.Errorf("key of %d bytes, want %d", value.Len(), t.Size())
	}
	return d.Apply(t.Cipher(), value.Bytes())
}

// CheckValue is the check value of a key in hexadecimal, GlobalPlatform convention.
func CheckValue(t hsm.KeyType, value secret.Secret) (string, error) {
	b, err := first(t, value, kdf.CheckBlock(t.Cipher()))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%X", b[:shortKCV]), nil
}

// Combine is the XOR of two or more components. It refuses what makes no secret of
// the key: two equal components, or a key of nothing but zeros.
func Combine(t hsm.KeyType, components ...secret.Secret) (secret.Secret, error) {
	if len(components) < 2 {
		return secret.Secret{}, errors.New("combining components: want at least two, of different people")
	}
	out := make([]byte, t.Size())
	for i, c := range components {
		if c.Len() != t.Size() || !t.Valid() {
			clear(out)
			return secret.Secret{}, fmt.Errorf("combining components: component %d has %d bytes, want %d", i+1, c.Len(), t.Size())
		}
		for _, other := range components[:i] {
			if c.Equal(other) {
				clear(out)
				return secret.Secret{}, fmt.Errorf("combining components: component %d was given before", i+1)
			}
		}
		for j, b := range c.Bytes() {
			out[j] ^= b
		}
	}
	key := secret.New(out)
	if key.Equal(secret.New(make([]byte, len(out)))) {
		return secret.Secret{}, errors.New("combining components: they cancel each other out")
	}
	return key, nil
}

// parseHex reads hexadecimal digits. Blanks and line ends are passed over, with
// loose everything that is no digit.
func parseHex(text []byte, loose bool) ([]byte, error) {
	digits := make([]byte, 0, len(text))
	defer func() { clear(digits) }()
	for i, c := range text {
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f', 'A' <= c && c <= 'F':
			digits = append(digits, c)
		case loose, c == ' ', c == '\t', c == '\r', c == '\n':
		default:
			return nil, fmt.Errorf("character %d is no hexadecimal digit", i+1)
		}
	}
	out := make([]byte, len(digits)/2)
	if _, err := hex.Decode(out, digits); err != nil {
		clear(out)
		return nil, errors.New("an odd number of hexadecimal digits")
	}
	return out, nil
}
