package piv

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"

	"inkan/apdu/piv"
	"inkan/tps"
	"inkan/tps/profile"
)

// possession has a new key prove that the card has it: by a certificate request signed
// on the card, which it returns, or by an agreement where the key signs nothing.
func (a *applet) possession(ctx context.Context, k profile.Key, pub crypto.PublicKey) ([]byte, error) {
	if _, ok := pub.(*ecdh.PublicKey); ok {
		if err := a.login(ctx, k); err != nil {
			return nil, err
		}
		return nil, tps.FinalIf(piv.Key{Slot: slotOf(k), Public: pub}.ProveAgreement(ctx, a.link.Doer()), piv.ErrNotPossessed)
	}
	s := &signer{a: a, ctx: ctx, key: k, pub: pub}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{ // verifies what was signed
		Subject: pkix.Name{CommonName: a.link.Card().CUID.String()}, SignatureAlgorithm: s.algorithm(),
	}, s)
	if err != nil && s.signed { // something else than the key signs
		err = tps.Final(err)
	}
	return csr, err
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

	signed bool // the card has given a signature
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
	sig, err := s.sign(digest, opts)
	s.signed = err == nil
	return sig, err
}

func (s *signer) sign(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	input, err := piv.Key{Slot: slotOf(s.key), Public: s.pub}.Input(opts.HashFunc(), digest)
	if err != nil {
		return nil, err
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
