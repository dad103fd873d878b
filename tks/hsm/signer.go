package hsm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strconv"
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

// AlgorithmOf is the algorithm of a public key; an error for one that no key pair
// here can have.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	var a Algorithm
	switch k := pub.(type) {
	case *rsa.PublicKey:
		a = Algorithm("rsa-" + strconv.Itoa(k.N.BitLen()))
	case *ecdsa.PublicKey:
		a = Algorithm("ec-p" + strconv.Itoa(k.Curve.Params().BitSize))
	case ed25519.PublicKey:
		a = Ed25519
	}
	if !a.Valid() {
		return "", fmt.Errorf("a public key %T %s is not RSA of 2048, 3072 or 4096 bits, P-256, P-384, P-521 or Ed25519", pub, a)
	}
	return a, nil
}

// CheckDigest refuses to sign with the key pair of pub what is no digest of the hash
// that opts names: SHA-256, SHA-384 or SHA-512. Ed25519 keys sign messages, hash 0.
func CheckDigest(pub crypto.PublicKey, digest []byte, opts crypto.SignerOpts) error {
	h := opts.HashFunc()
	if _, messages := pub.(ed25519.PublicKey); messages {
		if h != 0 {
			return fmt.Errorf("signing: an Ed25519 key signs messages, not a %v digest", h)
		}
		return nil
	}
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
