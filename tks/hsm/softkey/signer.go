package softkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
)

// signer is a key pair of the store; it ends with the store.
type signer struct {
	store *Store
	inner crypto.Signer
}

// Public implements crypto.Signer.
func (g *signer) Public() crypto.PublicKey { return g.inner.Public() }

// Sign implements crypto.Signer.
func (g *signer) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := hsm.CheckDigest(digest, opts); err != nil {
		return nil, err
	}
	g.store.mu.RLock()
	defer g.store.mu.RUnlock()
	if g.store.closed {
		return nil, errClosed
	}
	return g.inner.Sign(r, digest, opts)
}

// GenerateSigner implements hsm.Signers. The key is in the file when it returns.
func (s *Store) GenerateSigner(ctx context.Context, l hsm.SignerLabel, a hsm.Algorithm) (crypto.Signer, error) {
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	inner, err := generate(a)
	if err != nil {
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(inner)
	if err != nil {
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	id, err := hsm.PublicKeyID(inner.Public())
	if err != nil {
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	r := record{Label: string(l), ID: id, Type: string(a), Usage: usageSign, Created: s.now().UTC(), value: secret.New(der)}
	if err := s.add(r); err != nil {
		r.value.Wipe()
		return nil, fmt.Errorf("generating key pair: %w", err)
	}
	return &signer{store: s, inner: inner}, nil
}

// Signer implements hsm.Signers.
func (s *Store) Signer(_ context.Context, l hsm.SignerLabel) (crypto.Signer, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	for _, r := range s.records {
		if r.Usage != usageSign || r.Label != string(l) {
			continue
		}
		k, err := x509.ParsePKCS8PrivateKey(r.value.Bytes())
		if err != nil {
			return nil, fmt.Errorf("reading key pair %s: not a PKCS #8 key", l)
		}
		inner, ok := k.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("reading key pair %s: %T cannot sign", l, k)
		}
		return &signer{store: s, inner: inner}, nil
	}
	return nil, fmt.Errorf("key pair %s: %w", l, hsm.ErrNotFound)
}

func generate(a hsm.Algorithm) (crypto.Signer, error) {
	switch a {
	case hsm.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case hsm.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case hsm.RSA2048, hsm.RSA3072, hsm.RSA4096:
		return rsa.GenerateKey(rand.Reader, a.Bits())
	}
	_, err := hsm.ParseAlgorithm(string(a))
	return nil, err
}
