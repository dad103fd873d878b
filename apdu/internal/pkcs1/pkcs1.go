// Package pkcs1 is the padding of PKCS #1 v1.5 (RFC 8017), for cards that compute
// the bare RSA function.
package pkcs1

import (
	"crypto"
	"errors"
	"fmt"
)

// digestInfo is the DER in front of a hash, RFC 8017 §9.2 note 1.
var digestInfo = map[crypto.Hash]string{
	crypto.SHA1:   "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
	crypto.SHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA384: "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	crypto.SHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

// Sign is the block of size bytes whose RSA function is the signature of a digest
// made with h (§9.2).
func Sign(h crypto.Hash, digest []byte, size int) ([]byte, error) {
	prefix, ok := digestInfo[h]
	if !ok {
		return nil, fmt.Errorf("%v: %w", h, errors.ErrUnsupported)
	}
	if len(digest) != h.Size() {
		return nil, fmt.Errorf("digest of %d bytes is not of %v", len(digest), h)
	}
	used := len(prefix) + len(digest)
	if size < used+11 {
		return nil, fmt.Errorf("modulus of %d bytes is too short for %v", size, h)
	}
	block := make([]byte, size)
	block[1] = 1
	for i := 2; i < size-used-1; i++ {
		block[i] = 0xFF
	}
	copy(block[size-used:], prefix)
	copy(block[size-len(digest):], digest)
	return block, nil
}

var errDecrypt = errors.New("decryption error")

// Decrypted takes the message out of a deciphered block (§7.2.2). It is retained.
// Every wrong padding is the same error.
func Decrypted(block []byte) ([]byte, error) {
	if len(block) < 2 || block[0] != 0 || block[1] != 2 {
		return nil, errDecrypt
	}
	for i := 2; i < len(block); i++ {
		if block[i] != 0 {
			continue
		}
		if i < 10 {
			return nil, errDecrypt
		}
		return block[i+1:], nil
	}
	return nil, errDecrypt
}
