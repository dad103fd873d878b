package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
)

// errCaptured stops x509.CreateCertificate where it would sign.
var errCaptured = errors.New("captured")

// capture is a signer that keeps the message instead of signing it.
type capture struct {
	pub crypto.PublicKey
	msg []byte
}

var _ crypto.MessageSigner = (*capture)(nil)

func (c *capture) Public() crypto.PublicKey { return c.pub }

func (c *capture) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("asked for the signature of a digest")
}

func (c *capture) SignMessage(_ io.Reader, msg []byte, _ crypto.SignerOpts) ([]byte, error) {
	c.msg = msg
	return nil, errCaptured
}

// toBeSigned returns the TBSCertificate of a template, DER.
func toBeSigned(template, parent *x509.Certificate, pub, signer crypto.PublicKey) ([]byte, error) {
	if k, ok := pub.(*ecdh.PublicKey); ok {
		return agreementTBS(template, parent, k, signer)
	}
	c := &capture{pub: signer}
	if _, err := x509.CreateCertificate(rand.Reader, template, parent, pub, c); !errors.Is(err, errCaptured) {
		return nil, fmt.Errorf("building a certificate: %w", err)
	}
	return c.msg, nil
}

// agreementTBS is toBeSigned for X25519, which crypto/x509 makes no certificates for: the
// key stands as one of Ed25519, which has the same form (RFC 8410 §4), until it is in.
func agreementTBS(template, parent *x509.Certificate, pub *ecdh.PublicKey, signer crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("building a certificate: %w", err)
	}
	stand := ed25519.PublicKey(pub.Bytes())
	as, err := x509.MarshalPKIXPublicKey(stand)
	if err != nil || len(as) != len(spki) {
		return nil, fmt.Errorf("building a certificate for a key of %d bytes: %w", len(spki), err)
	}
	tbs, err := toBeSigned(template, parent, stand, signer)
	if err != nil {
		return nil, err
	}
	if bytes.Count(tbs, as) != 1 {
		return nil, errors.New("building a certificate: its public key is not found")
	}
	return bytes.Replace(tbs, as, spki, 1), nil
}

// signatureHashes are the algorithms an authority of ours signs with.
var signatureHashes = map[string]crypto.Hash{
	"1.2.840.113549.1.1.11": crypto.SHA256, // sha256WithRSAEncryption
	"1.2.840.113549.1.1.12": crypto.SHA384,
	"1.2.840.113549.1.1.13": crypto.SHA512,
	"1.2.840.10045.4.3.2":   crypto.SHA256, // ecdsa-with-SHA256
	"1.2.840.10045.4.3.3":   crypto.SHA384,
	"1.2.840.10045.4.3.4":   crypto.SHA512,
}

// signTBS signs a TBSCertificate with the algorithm it names and returns the certificate.
func signTBS(signer crypto.Signer, tbs []byte) ([]byte, error) {
	algorithm, hash, err := signatureAlgorithm(tbs)
	if err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(signer, rand.Reader, tbs, hash)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
}

func signatureAlgorithm(tbs []byte) (pkix.AlgorithmIdentifier, crypto.Hash, error) {
	var outer asn1.RawValue
	if rest, err := asn1.Unmarshal(tbs, &outer); err != nil || len(rest) > 0 {
		return pkix.AlgorithmIdentifier{}, 0, errors.New("stored certificate body is damaged")
	}
	var (
		version   asn1.RawValue
		serial    asn1.RawValue
		algorithm pkix.AlgorithmIdentifier
		rest      = outer.Bytes
	)
	for _, field := range []any{&version, &serial, &algorithm} {
		var err error
		if rest, err = asn1.Unmarshal(rest, field); err != nil {
			return pkix.AlgorithmIdentifier{}, 0, fmt.Errorf("stored certificate body is damaged: %w", err)
		}
	}
	hash, known := signatureHashes[algorithm.Algorithm.String()]
	if !known {
		return pkix.AlgorithmIdentifier{}, 0, fmt.Errorf("stored certificate body names signature algorithm %s", algorithm.Algorithm)
	}
	return algorithm, hash, nil
}
