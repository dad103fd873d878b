package primitive

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"fmt"

	"inkan/apdu/gp"
)

// KCVDES is the key check value of a 3DES key of 16 or 24 bytes: eight bytes of
// 00 encrypted (GlobalPlatform 2.3.1 §B.6).
func KCVDES(key []byte) (gp.KCV, error) {
	b, err := TripleDES(key)
	if err != nil {
		return gp.KCV{}, fmt.Errorf("computing key check value: %w", err)
	}
	var x [des.BlockSize]byte
	b.Encrypt(x[:], x[:])
	return gp.KCV(x[:3]), nil
}

// KCVAES is the key check value of an AES key: sixteen bytes of 01 encrypted
// (GlobalPlatform 2.3.1 §B.6).
func KCVAES(key []byte) (gp.KCV, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return gp.KCV{}, fmt.Errorf("computing key check value: AES key of %d bytes", len(key))
	}
	x := bytes.Repeat([]byte{1}, aes.BlockSize)
	b.Encrypt(x, x)
	return gp.KCV(x[:3]), nil
}
