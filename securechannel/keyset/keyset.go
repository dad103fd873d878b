// Package keyset builds and parses what PUT KEY carries: a new key version and
// its key blocks, encrypted under the card's data encryption key (GlobalPlatform
// 2.3.1 §11.8, Amendment D 1.1.1 §7.2).
//
// [Build] is the host's side, [Parse] the card's. The encryption itself is a
// function of the caller, because the data encryption key may live in an HSM;
// [Encode] takes blocks that were encrypted elsewhere. Both parties' dialects
// are accepted: key types 80, 81 and 88, AES keys with and without the inner
// length, the extended key format, and public keys.
package keyset

import (
	"errors"
	"fmt"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel/primitive"
)

// Type is a key type code (GlobalPlatform 2.3.1 table 11-16).
type Type uint8

// Key types.
const (
	DES       Type = 0x80 // DES, mode of use implicit
	DESLegacy Type = 0x81 // the same key as Open Platform 2.0.1 cards and Dogtag write it
	AES       Type = 0x88
	RSAPublic Type = 0xA1 // modulus; the exponent follows as component A0
	ECPublic  Type = 0xB0 // point; the curve follows as component F0
)

// String is two hexadecimal digits.
func (t Type) String() string { return fmt.Sprintf("%02X", uint8(t)) }

// secret reports whether keys of this type travel encrypted.
func (t Type) secret() bool { return t == DES || t == DESLegacy || t == AES }

// kcv computes the check value of a key of this type.
func (t Type) kcv(key []byte) (gp.KCV, error) {
	if t == AES {
		return primitive.KCVAES(key)
	}
	return primitive.KCVDES(key)
}

// fits reports whether a key of this type may have n bytes.
func (t Type) fits(n int) bool {
	return n == 16 || n == 24 || n == 32 && t == AES
}

// Errors that callers branch on.
var (
	// ErrMalformed: the data are no PUT KEY data, or a key has a type or length
	// that is not known.
	ErrMalformed = errors.New("malformed PUT KEY data")
	// ErrKCV: a key does not have the check value that came with it.
	ErrKCV = errors.New("key check value is wrong")
)

// Set is the three keys of a card. All have the same length: 16 bytes, AES also
// 24 or 32.
type Set struct {
	Type          Type
	ENC, MAC, DEK secret.Secret
}

// Block is one encrypted key as PUT KEY carries it.
type Block struct {
	Type       Type
	Length     int // bytes of the key before padding and encryption
	Cryptogram []byte
	KCV        gp.KCV
	Form       Form
}

// Form says how the length of an AES key is written.
type Form uint8

// Forms.
const (
	InnerLength Form = iota // before the cryptogram, as Amendment D has it
	NoInner                 // left out where the key needed no padding, as 2.3.1 allows
)

// Encrypt encrypts whole blocks of key material under the card's data
// encryption key: SCP01 and SCP02 3DES-ECB, SCP03 AES-CBC with zero IV. It does
// not keep plain.
type Encrypt func(plain []byte) ([]byte, error)

// Build returns the data field of PUT KEY for a complete key set, and the check
// values that the card has to answer, both in the order ENC, MAC, DEK.
func Build(v gp.KeyVersion, set Set, encrypt Encrypt) ([]byte, [3]gp.KCV, error) {
	var blocks [3]Block
	var kcvs [3]gp.KCV
	for i, k := range []secret.Secret{set.ENC, set.MAC, set.DEK} {
		if k.Len() != set.ENC.Len() {
			return nil, kcvs, fmt.Errorf("building PUT KEY data: keys of %d and %d bytes", set.ENC.Len(), k.Len())
		}
		b, err := NewBlock(set.Type, k, encrypt)
		if err != nil {
			return nil, kcvs, fmt.Errorf("building PUT KEY data: %w", err)
		}
		blocks[i], kcvs[i] = b, b.KCV
	}
	data, err := Encode(v, blocks[:]...)
	return data, kcvs, err
}

// NewBlock encrypts one key. A key that does not fill cipher blocks is padded
// with 80 00….
func NewBlock(t Type, key secret.Secret, encrypt Encrypt) (Block, error) {
	if !t.secret() || !t.fits(key.Len()) {
		return Block{}, fmt.Errorf("key of type %v with %d bytes: %w", t, key.Len(), ErrMalformed)
	}
	kcv, err := t.kcv(key.Bytes())
	if err != nil {
		return Block{}, err
	}
	plain := key.Bytes()
	if len(plain)%16 != 0 {
		plain = primitive.Pad80(plain, 16)
		defer clear(plain)
	}
	ct, err := encrypt(plain)
	if err != nil {
		return Block{}, fmt.Errorf("encrypting a key: %w", err)
	}
	return Block{Type: t, Length: key.Len(), Cryptogram: ct, KCV: kcv}, nil
}

// Encode returns the data field of PUT KEY: version, then the blocks. The
// version is 01 to 7F.
func Encode(v gp.KeyVersion, blocks ...Block) ([]byte, error) {
	if v < 1 || v > 0x7F {
		return nil, fmt.Errorf("encoding PUT KEY data: new key version %v", v)
	}
	data := []byte{byte(v)}
	for _, b := range blocks {
		n := len(b.Cryptogram)
		if !b.Type.secret() || !b.Type.fits(b.Length) || n < b.Length || n >= 0x7F {
			return nil, fmt.Errorf("encoding PUT KEY data: key of type %v with %d bytes in %d", b.Type, b.Length, n)
		}
		data = append(data, byte(b.Type))
		if b.Type == AES && (b.Form == InnerLength || n != b.Length) {
			data = append(data, byte(n+1), byte(b.Length))
		} else {
			data = append(data, byte(n))
		}
		data = append(data, b.Cryptogram...)
		data = append(append(data, byte(len(b.KCV))), b.KCV[:]...)
	}
	return data, nil
}
