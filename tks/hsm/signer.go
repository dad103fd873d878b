package hsm

import (
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// PublicKeyID is the CKA_ID of a key pair: the SHA-1 of the subjectPublicKey
// bits, as the key identifiers of RFC 5280 §4.2.1.2 (1) have it. SHA-1 names a
// key here, it protects nothing.
func PublicKeyID(pub crypto.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("naming public key: %w", err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &spki); err != nil {
		return nil, fmt.Errorf("naming public key: %w", err)
	}
	sum := sha1.Sum(spki.Key.Bytes)
	return sum[:], nil
}

// CheckDigest refuses to sign what is no digest of the hash that opts names:
// SHA-256, SHA-384 or SHA-512.
func CheckDigest(digest []byte, opts crypto.SignerOpts) error {
	h := opts.HashFunc()
	switch h {
	case crypto.SHA256, crypto.SHA384, crypto.SHA512:
	default:
		return fmt.Errorf("signing: hash %v is not SHA-256, SHA-384 or SHA-512", h)
	}
	if len(digest) != h.Size() {
		return fmt.Errorf("signing: %v digest of %d bytes", h, len(digest))
	}
	return nil
}
