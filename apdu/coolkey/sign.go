package coolkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"inkan/apdu"
)

// digestInfo is the DER in front of a hash in PKCS #1 v1.5, RFC 8017 §9.2 note 1.
var digestInfo = map[crypto.Hash]string{
	crypto.SHA1:   "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14",
	crypto.SHA256: "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
	crypto.SHA384: "\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
	crypto.SHA512: "\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
}

// Key is a private key on the card, with the public half that belongs to it.
type Key struct {
	Number KeyNumber
	Public crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
}

// SignDigest signs a digest made with h: PKCS #1 v1.5 with an RSA key, ECDSA in
// DER with an EC key, as x509 and openssl verify it.
func (k Key) SignDigest(ctx context.Context, d apdu.Doer, a Access, h crypto.Hash, digest []byte) ([]byte, error) {
	if len(digest) != h.Size() {
		return nil, fmt.Errorf("signing with key %d: digest of %d bytes is not of %v", k.Number, len(digest), h)
	}
	switch pub := k.Public.(type) {
	case *rsa.PublicKey:
		prefix, ok := digestInfo[h]
		if !ok {
			return nil, fmt.Errorf("signing with key %d and %v: %w", k.Number, h, errors.ErrUnsupported)
		}
		block := make([]byte, pub.Size())
		used := len(prefix) + len(digest)
		if len(block) < used+11 {
			return nil, fmt.Errorf("signing with key %d: modulus of %d bytes is too short for %v", k.Number, len(block), h)
		}
		block[1] = 1
		for i := 2; i < len(block)-used-1; i++ {
			block[i] = 0xFF
		}
		copy(block[len(block)-used:], prefix)
		copy(block[len(block)-len(digest):], digest)
		return ComputeRSA(ctx, d, a, k.Number, Sign, block)
	case *ecdsa.PublicKey:
		rs, err := SignECDSA(ctx, d, a, k.Number, digest)
		if err != nil {
			return nil, err
		}
		half := len(rs) / 2
		return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(rs[:half]), new(big.Int).SetBytes(rs[half:])})
	}
	return nil, fmt.Errorf("signing with a %T: %w", k.Public, errors.ErrUnsupported)
}

var errDecrypt = errors.New("decryption error")

// DecryptPKCS1 decrypts an RSA PKCS #1 v1.5 ciphertext. Every wrong padding is
// the same error.
func (k Key) DecryptPKCS1(ctx context.Context, d apdu.Doer, a Access, ciphertext []byte) ([]byte, error) {
	block, err := ComputeRSA(ctx, d, a, k.Number, Decrypt, ciphertext)
	if err != nil {
		return nil, err
	}
	if block[0] != 0 || block[1] != 2 {
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
