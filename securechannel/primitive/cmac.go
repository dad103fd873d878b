// Package primitive holds the cryptographic building blocks that secure
// channels, key derivation and key check values share: AES-CMAC, the two 3DES
// MACs of GlobalPlatform, ISO 9797-1 padding method 2, key check values and the
// counter-mode key derivation of SCP03.
//
// Every function is pure and safe for concurrent use. Keys are never kept,
// never part of an error, and never altered.
package primitive

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
)

// CMAC returns the 16 bytes of AES-CMAC (RFC 4493, SP 800-38B) over the
// concatenation of parts. The key has 16, 24 or 32 bytes. Truncation, where a
// protocol wants it, keeps the leftmost bytes.
func CMAC(key []byte, parts ...[]byte) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("computing CMAC: key of %d bytes", len(key))
	}
	return cmac(b, parts), nil
}

// cmac runs CMAC with a 128-bit block cipher.
func cmac(b cipher.Block, parts [][]byte) []byte {
	var x, last [aes.BlockSize]byte
	n := 0 // bytes waiting in last; a full block waits until it is known whether more follows
	for _, p := range parts {
		for len(p) > 0 {
			if n == len(last) {
				subtle.XORBytes(x[:], x[:], last[:])
				b.Encrypt(x[:], x[:])
				n = 0
			}
			c := copy(last[n:], p)
			n, p = n+c, p[c:]
		}
	}
	k1, k2 := subkeys(b)
	k := k1
	if n < len(last) {
		k = k2
		last[n] = 0x80
		clear(last[n+1:])
	}
	subtle.XORBytes(last[:], last[:], k[:])
	subtle.XORBytes(x[:], x[:], last[:])
	b.Encrypt(x[:], x[:])
	return x[:]
}

// subkeys are K1 and K2 of RFC 4493 §2.3.
func subkeys(b cipher.Block) (k1, k2 [aes.BlockSize]byte) {
	b.Encrypt(k1[:], k1[:])
	k1 = double(k1)
	return k1, double(k1)
}

// double multiplies by x in GF(2^128), without branching on secret bits.
func double(in [aes.BlockSize]byte) (out [aes.BlockSize]byte) {
	for i := range len(in) - 1 {
		out[i] = in[i]<<1 | in[i+1]>>7
	}
	out[15] = in[15]<<1 ^ 0x87&-(in[0]>>7)
	return out
}
