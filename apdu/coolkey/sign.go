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
	"inkan/apdu/internal/pkcs1"
)

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
		block, err := pkcs1.Sign(h, digest, pub.Size())
		if err != nil {
			return nil, fmt.Errorf("signing with key %d: %w", k.Number, err)
		}
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

// DecryptPKCS1 decrypts an RSA PKCS #1 v1.5 ciphertext. Every wrong padding is
// the same error.
func (k Key) DecryptPKCS1(ctx context.Context, d apdu.Doer, a Access, ciphertext []byte) ([]byte, error) {
	block, err := ComputeRSA(ctx, d, a, k.Number, Decrypt, ciphertext)
	if err != nil {
		return nil, err
	}
	return pkcs1.Decrypted(block)
}
