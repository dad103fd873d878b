package kdf

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"math/bits"

	"inkan/securechannel/primitive"
)

// Method is how a derivation's input becomes a key.
type Method uint8

// Methods.
const (
	Same Method = 1 // the base key itself; no input
	ECB  Method = 2 // the base key's cipher in ECB over Input
	CBC  Method = 3 // the base key's cipher in CBC, IV zero, over Input
	CMAC Method = 4 // AES-CMAC of each 16-byte block of Input, concatenated
	// HMACSHA256 is HMAC-SHA-256 of Input, one message of any length: 32 bytes.
	HMACSHA256 Method = 5
)

// String is the name of the method.
func (m Method) String() string {
	switch m {
	case Same:
		return "same key"
	case ECB:
		return "ECB"
	case CBC:
		return "CBC"
	case CMAC:
		return "CMAC"
	case HMACSHA256:
		return "HMAC-SHA-256"
	}
	return fmt.Sprintf("method(%d)", uint8(m))
}

// Derivation makes a key out of a base key: Length bytes of what Method makes of
// Input, behind the first Skip (which only HMACSHA256 knows). A DES key gets odd parity in every byte, as PKCS#11
// tokens force it.
type Derivation struct {
	Method Method
	Input  []byte // whole blocks; public
	Skip   int    // bytes left out before the key
	Cipher Cipher // of the derived key
	Length int    // of the derived key in bytes
}

// Apply derives in memory. The base key (of the cipher that the method needs:
// CMAC wants AES, HMACSHA256 wants HMAC; ECB and CBC take from) is not altered. The result is the
// caller's to wipe.
func (d Derivation) Apply(from Cipher, base []byte) ([]byte, error) {
	out, err := d.run(from, base)
	if err != nil {
		return nil, fmt.Errorf("deriving a key by %v: %w", d.Method, err)
	}
	if out, err = d.cut(out); err != nil {
		return nil, err
	}
	if d.Cipher == DES && d.Method != Same {
		OddParity(out)
	}
	return out, nil
}

// cut takes the key out of what the method made, and wipes the rest.
func (d Derivation) cut(out []byte) ([]byte, error) {
	if d.Length < 1 || d.Skip < 0 || d.Skip != 0 && d.Method != HMACSHA256 || d.Skip+d.Length > len(out) {
		clear(out)
		return nil, fmt.Errorf("deriving a key by %v: %d bytes wanted of %d, behind %d", d.Method, d.Length, len(out), d.Skip)
	}
	copy(out, out[d.Skip:d.Skip+d.Length])
	clear(out[d.Length:])
	return out[:d.Length:d.Length], nil
}

func (d Derivation) run(from Cipher, base []byte) ([]byte, error) {
	switch d.Method {
	case Same:
		return append([]byte(nil), base...), nil
	case ECB, CBC:
		return d.encrypt(from, base)
	case CMAC:
		return d.cmac(from, base)
	case HMACSHA256:
		return d.hmac(from, base)
	}
	return nil, fmt.Errorf("no method")
}

func (d Derivation) encrypt(from Cipher, base []byte) ([]byte, error) {
	b, err := NewBlock(from, base)
	if err != nil {
		return nil, err
	}
	n := b.BlockSize()
	if len(d.Input) == 0 || len(d.Input)%n != 0 {
		return nil, fmt.Errorf("input of %d bytes, want blocks of %d", len(d.Input), n)
	}
	out := make([]byte, len(d.Input))
	if d.Method == CBC {
		cipher.NewCBCEncrypter(b, make([]byte, n)).CryptBlocks(out, d.Input)
		return out, nil
	}
	for i := 0; i < len(out); i += n {
		b.Encrypt(out[i:], d.Input[i:])
	}
	return out, nil
}

func (d Derivation) cmac(from Cipher, base []byte) ([]byte, error) {
	if from != AES {
		return nil, fmt.Errorf("base key is for %v, want AES", from)
	}
	if len(d.Input) == 0 || len(d.Input)%16 != 0 {
		return nil, fmt.Errorf("input of %d bytes, want blocks of 16", len(d.Input))
	}
	out := make([]byte, 0, len(d.Input))
	for in := d.Input; len(in) > 0; in = in[16:] {
		t, err := primitive.CMAC(base, in[:16])
		if err != nil {
			clear(out)
			return nil, err
		}
		out = append(out, t...)
		clear(t)
	}
	return out, nil
}

func (d Derivation) hmac(from Cipher, base []byte) ([]byte, error) {
	if from != HMAC {
		return nil, fmt.Errorf("base key is for %v, want HMAC", from)
	}
	if len(d.Input) == 0 || len(base) == 0 {
		return nil, fmt.Errorf("no input, or no key")
	}
	m := hmac.New(sha256.New, base)
	m.Write(d.Input)
	return m.Sum(nil), nil
}

// OddParity sets the lowest bit of every byte so that the byte has an odd
// number of ones, as DES keys have it. It works in place.
func OddParity(key []byte) {
	for i, b := range key {
		b &^= 1
		key[i] = b | byte(bits.OnesCount8(b)+1)&1
	}
}
