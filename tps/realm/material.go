package realm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"inkan/apdu/secret"
)

// Limits of what is uploaded.
const (
	maxMaterial = 48 << 10 // bytes
	maxChain    = 10       // certificates
)

// parsePrivateKey reads one PEM private key: PKCS #8, also encrypted, PKCS #1 or SEC 1.
// What was wrong with it is not repeated: it may hold the key.
func parsePrivateKey(b []byte, password secret.Secret) (crypto.Signer, error) {
	if len(b) > maxMaterial {
		return nil, fmt.Errorf("private key of %d bytes: %w", len(b), ErrInput)
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return nil, fmt.Errorf("no PEM private key is there: %w", ErrInput)
		}
		switch block.Type {
		case "ENCRYPTED PRIVATE KEY":
			return decryptPKCS8(block.Bytes, password)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, fmt.Errorf("the private key is encrypted in the old way; openssl pkcs8 -topk8 writes PKCS #8: %w", ErrInput)
			}
			defer clear(block.Bytes)
			return privateKeyOf(block.Bytes)
		}
	}
}

func privateKeyOf(der []byte) (crypto.Signer, error) {
	for _, parse := range []func([]byte) (any, error){
		x509.ParsePKCS8PrivateKey,
		func(b []byte) (any, error) { return x509.ParsePKCS1PrivateKey(b) },
		func(b []byte) (any, error) { return x509.ParseECPrivateKey(b) },
	} {
		k, err := parse(der)
		if err != nil {
			continue
		}
		if s, ok := k.(crypto.Signer); ok {
			return s, nil
		}
		return nil, fmt.Errorf("the private key is no RSA, EC or Ed25519 key: %w", ErrInput)
	}
	return nil, fmt.Errorf("the private key cannot be decoded: %w", ErrInput)
}

// parseCertificates reads PEM certificates; none is no error.
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxMaterial {
		return nil, fmt.Errorf("certificates of %d bytes: %w", len(b), ErrInput)
	}
	had := len(bytes.TrimSpace(b)) > 0
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be decoded: %w", len(out)+1, ErrInput)
		}
		if out = append(out, c); len(out) > maxChain {
			return nil, fmt.Errorf("more than %d certificates: %w", maxChain, ErrInput)
		}
	}
	if had && len(out) == 0 {
		return nil, fmt.Errorf("no PEM certificate is there: %w", ErrInput)
	}
	return out, nil
}

// checkChain checks that the first certificate is that of the key, each next one the
// issuer of the one before, and all are valid at now.
func checkChain(chain []*x509.Certificate, spki []byte, now time.Time, allowExpired bool) ([][]byte, error) {
	if !bytes.Equal(chain[0].RawSubjectPublicKeyInfo, spki) {
		return nil, fmt.Errorf("the certificate is of another key: %w", ErrInput)
	}
	var out [][]byte
	for i, c := range chain {
		if !allowExpired && (now.Before(c.NotBefore) || now.After(c.NotAfter)) {
			return nil, fmt.Errorf("certificate %d is valid from %s to %s, not now: %w", i+1,
				c.NotBefore.Format(time.DateTime), c.NotAfter.Format(time.DateTime), ErrInput)
		}
		if i > 0 {
			if err := chain[i-1].CheckSignatureFrom(c); err != nil {
				return nil, fmt.Errorf("certificate %d has not issued certificate %d, the order is leaf to root: %w", i+1, i, ErrInput)
			}
		}
		out = append(out, c.Raw)
	}
	return out, nil
}
