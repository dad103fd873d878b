package piv

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"

	"inkan/apdu/piv"
	"inkan/tps/profile"
)

// possession has a new key prove that the card has it: by a certificate request signed
// on the card, which it returns, or by an agreement where the key signs nothing.
func (a *applet) possession(ctx context.Context, k profile.Key, pub crypto.PublicKey) ([]byte, error) {
	if x, ok := pub.(*ecdh.PublicKey); ok {
		return nil, a.agreement(ctx, k, x)
	}
	s := &signer{a: a, ctx: ctx, key: k, pub: pub}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: a.link.Card().CUID.String()}, SignatureAlgorithm: s.algorithm(),
	}, s)
	if err != nil {
		return nil, err
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, err
	}
	return csr, r.CheckSignature()
}

// agreement compares what the card and this side agree on.
func (a *applet) agreement(ctx context.Context, k profile.Key, pub *ecdh.PublicKey) error {
	own, err := pub.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := own.ECDH(pub)
	if err != nil {
		return err
	}
	if err := a.login(ctx, k); err != nil {
		return err
	}
	got, err := piv.Agree(ctx, a.link.Doer(), slotOf(k), algorithms[k.Alg], own.PublicKey().Bytes())
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return errors.New("it agrees on something else")
	}
	return nil
}

var errNoPIN = errors.New("the PIN is not known, which the key needs")

// login verifies the PIN where the key wants it: directly before its use.
func (a *applet) login(ctx context.Context, k profile.Key) error {
	if !a.family.NeedsPIN(k) {
		return nil
	}
	if a.pin.IsZero() {
		return errNoPIN
	}
	return piv.VerifyPIN(ctx, a.link.Doer(), a.pin)
}

// signer is a key on the card as a crypto.Signer.
type signer struct {
	a   *applet
	ctx context.Context // of the one call that it lives for
	key profile.Key
	pub crypto.PublicKey
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.pub }

// algorithm is what a request is signed with.
func (s *signer) algorithm() x509.SignatureAlgorithm {
	switch k := s.pub.(type) {
	case *rsa.PublicKey:
		return x509.SHA256WithRSA
	case ed25519.PublicKey:
		return x509.PureEd25519
	case *ecdsa.PublicKey:
		if k.Curve.Params().BitSize > 256 {
			return x509.ECDSAWithSHA384
		}
		return x509.ECDSAWithSHA256
	}
	return x509.UnknownSignatureAlgorithm
}

// Sign implements crypto.Signer.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	input := digest
	if k, ok := s.pub.(*rsa.PublicKey); ok {
		var err error
		if input, err = padded(k, digest, opts.HashFunc()); err != nil {
			return nil, err
		}
	}
	d, slot, alg := s.a.link.Doer(), slotOf(s.key), algorithms[s.key.Alg]
	switch {
	case !s.a.family.NeedsPIN(s.key):
		return piv.Sign(s.ctx, d, slot, alg, input)
	case s.a.pin.IsZero():
		return nil, errNoPIN
	}
	return piv.SignWithPIN(s.ctx, d, slot, alg, s.a.pin, input)
}

// sha256Info is the DigestInfo of SHA-256 before the digest (RFC 8017 §9.2 note 1).
var sha256Info = []byte{0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}

// padded is EMSA-PKCS1-v1_5 of a digest: the card exponentiates what it is given.
func padded(k *rsa.PublicKey, digest []byte, h crypto.Hash) ([]byte, error) {
	if h != crypto.SHA256 || len(digest) != h.Size() {
		return nil, fmt.Errorf("padding a digest of %v", h)
	}
	b := make([]byte, k.Size())
	info := append(append([]byte{0x00}, sha256Info...), digest...)
	b[1] = 0x01
	for i := 2; i < len(b)-len(info); i++ {
		b[i] = 0xFF
	}
	copy(b[len(b)-len(info):], info)
	return b, nil
}
