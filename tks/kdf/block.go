package kdf

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"inkan/apdu/gp"
	"inkan/securechannel/primitive"
)

// NewBlock is the block cipher of a key in memory: 3DES of 16 or 24 bytes, AES
// of 16, 24 or 32. No key byte is in the error.
func NewBlock(c Cipher, key []byte) (cipher.Block, error) {
	switch c {
	case DES:
		return primitive.TripleDES(key)
	case AES:
		b, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("AES key of %d bytes", len(key))
		}
		return b, nil
	}
	return nil, fmt.Errorf("no such cipher: %v", c)
}

// CheckBlock is the constant whose encryption begins with the key check value:
// 8 × 00 for DES, 16 × 01 for AES (GlobalPlatform 2.3.1 §B.6); for an HMAC key, ours,
// the message 8 × 00.
func CheckBlock(c Cipher) []byte {
	if c != AES {
		return make([]byte, 8)
	}
	b := make([]byte, 16)
	for i := range b {
		b[i] = 1
	}
	return b
}

// KCV is the key check value of a key in memory.
func KCV(c Cipher, key []byte) (gp.KCV, error) {
	switch c {
	case DES:
		return primitive.KCVDES(key)
	case HMAC:
		m := hmac.New(sha256.New, key)
		m.Write(CheckBlock(c))
		return gp.KCV(m.Sum(nil)[:3]), nil
	}
	return primitive.KCVAES(key)
}
