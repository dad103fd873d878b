package kdf

import (
	"crypto/cipher"
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
	}
	return fmt.Sprintf("method(%d)", uint8(m))
}

// Derivation makes a key out of a base key: the Length leftmost bytes of what
// Method makes of Input. A DES key gets odd parity in every byte, as PKCS#11
// tokens force it.
type Derivation struct {
	Method Method
	Input  []byte // whole blocks; public
	Cipher Cipher // of the derived key
	Length int    // of the derived key in bytes
}

// Apply derives in memory. The base key (of the cipher that the method needs:
// CMAC wants AES; ECB and CBC take from) is not altered. The result is the
// caller's to wipe.
func (d Derivation) Apply(from Cipher, base []byte) ([]byte, error) {
	out, err := d.run(from, base)
	if err != nil {
		return nil, fmt.Errorf("deriving a key by %v: %w", d.Method, err)
	}
	if d.Length < 1 || d.Length > len(out) {
		clear(out)
		return nil, fmt.Errorf("deriving a key by %v: %d bytes wanted of %d", d.Method, d.Length, len(out))
	}
	clear(out[d.Length:])
	out = out[:d.Length:d.Length]
	if d.Cipher == DES && d.Method != Same {
		OddParity(out)
	}
	return out, nil
}

func (d Derivation) run(from Cipher, base []byte) ([]byte, error) {
	switch d.Method {
	case Same:
		return append([]byte(nil), base...), nil
	case ECB, CBC:
		return d.encrypt(from, base)
	case CMAC:
		return d.cmac(from, base)
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

// OddParity sets the lowest bit of every byte so that the byte has an odd
// number of ones, as DES keys have it. It works in place.
func OddParity(key []byte) {
	for i, b := range key {
		b &^= 1
		key[i] = b | byte(bits.OnesCount8(b)+1)&1
	}
}
