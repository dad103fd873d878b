package ca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"time"
)

// RootConfig describes a self-signed authority to [Create].
type RootConfig struct {
	Signer   crypto.Signer    // RSA of 3072 or 4096 bits, or EC on P-256 or P-384
	Subject  pkix.Name        // at least a common name or an organization
	Validity time.Duration    // 0 = ten years
	Now      func() time.Time // nil = time.Now
}

const rootValidity = 3652 * day

// Create makes the certificate of a root authority, and returns it as DER. It
// issues to end entities, and to the next generation of its own key ([CrossCertify]). Nothing is stored: Config.Certificate
// of [Open] takes it.
func Create(ctx context.Context, cfg RootConfig) ([]byte, error) {
	if cfg.Signer == nil {
		return nil, errors.New("creating an authority: no signer")
	}
	if err := checkRootKey(cfg.Signer.Public()); err != nil {
		return nil, fmt.Errorf("creating an authority: %w", err)
	}
	if cfg.Subject.CommonName == "" && len(cfg.Subject.Organization) == 0 {
		return nil, errors.New("creating an authority: its subject has neither common name nor organization")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Validity <= 0 {
		cfg.Validity = rootValidity
	}
	template, err := rootTemplate(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating an authority: %w", err)
	}
	tbs, err := toBeSigned(template, template, cfg.Signer.Public(), cfg.Signer.Public())
	if err != nil {
		return nil, fmt.Errorf("creating an authority: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	der, err := signTBS(cfg.Signer, tbs)
	if err != nil {
		return nil, fmt.Errorf("creating an authority: signing its certificate: %w", err)
	}
	if err := checkSelfSigned(der); err != nil {
		return nil, fmt.Errorf("creating an authority: %w", err)
	}
	return der, nil
}

func rootTemplate(cfg RootConfig) (*x509.Certificate, error) {
	id, err := keyID(cfg.Signer.Public())
	if err != nil {
		return nil, err
	}
	notBefore := cfg.Now().UTC().Truncate(time.Second).Add(-backdate)
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               cfg.Subject,
		NotBefore:             notBefore,
		NotAfter:              notBefore.Add(cfg.Validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1, // room for a cross-certificate: verifiers in Go count those of the same name too
		SubjectKeyId:          id,
		AuthorityKeyId:        id,
		PublicKey:             cfg.Signer.Public(),
	}, nil
}

func checkSelfSigned(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("decoding its certificate: %w", err)
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return fmt.Errorf("checking its signature: %w", err)
	}
	return nil
}

func checkRootKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits != 3072 && bits != 4096 {
			return fmt.Errorf("%w: RSA key of %d bits, want 3072 or 4096", ErrRefused, bits)
		}
		return checkRSA(k, 3072)
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fmt.Errorf("%w: curve of the EC key is neither P-256 nor P-384", ErrRefused)
		}
		return checkEC(k)
	}
	return fmt.Errorf("%w: key of type %T, want RSA or EC", ErrRefused, pub)
}
