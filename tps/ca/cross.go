package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// CrossCertify lets one generation of an authority vouch for the key of another
// (RFC 4210 §4.4): the certificate, DER, of subject's key under issuer's, whose
// private key is signer. Who trusts issuer then trusts what subject's key has
// signed. Both have the same name; the certificate is valid while both are.
func CrossCertify(ctx context.Context, signer crypto.Signer, issuer, subject []byte, now func() time.Time) ([]byte, error) {
	from, err := x509.ParseCertificate(issuer)
	if err != nil {
		return nil, fmt.Errorf("cross-certifying: decoding the issuer: %w", err)
	}
	to, err := x509.ParseCertificate(subject)
	if err != nil {
		return nil, fmt.Errorf("cross-certifying: decoding the subject: %w", err)
	}
	for _, c := range []struct {
		cert *x509.Certificate
		key  crypto.PublicKey
	}{{from, signer.Public()}, {to, to.PublicKey}} {
		if err := checkAuthority(c.cert, c.key); err != nil {
			return nil, fmt.Errorf("cross-certifying: %w", err)
		}
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		RawSubject:            to.RawSubject,
		NotBefore:             latest(now().UTC().Truncate(time.Second).Add(-backdate), latest(from.NotBefore, to.NotBefore)),
		NotAfter:              earliest(from.NotAfter, to.NotAfter),
		KeyUsage:              to.KeyUsage,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		SubjectKeyId:          to.SubjectKeyId,
		AuthorityKeyId:        from.SubjectKeyId, // taken from here where issuer and subject have one name
	}
	switch {
	case !bytes.Equal(from.RawSubject, to.RawSubject):
		return nil, errors.New("cross-certifying: two authorities of different names")
	case samePublicKey(from.PublicKey, to.PublicKey):
		return nil, errors.New("cross-certifying: both have the same key")
	case !template.NotBefore.Before(template.NotAfter):
		return nil, errors.New("cross-certifying: one of them has expired")
	}
	tbs, err := toBeSigned(template, from, to.PublicKey, signer.Public())
	if err != nil {
		return nil, fmt.Errorf("cross-certifying: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	der, err := signTBS(signer, tbs)
	if err != nil {
		return nil, fmt.Errorf("cross-certifying: signing: %w", err)
	}
	cross, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cross-certifying: decoding the certificate: %w", err)
	}
	if err := cross.CheckSignatureFrom(from); err != nil {
		return nil, fmt.Errorf("cross-certifying: checking the signature: %w", err)
	}
	return der, nil
}
