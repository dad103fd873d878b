package softkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"slices"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
)

// signer is a key pair of the store; it ends with the store.
type signer struct {
	store *Store
	label string
	inner crypto.Signer
}

// Public implements crypto.Signer.
func (g *signer) Public() crypto.PublicKey { return g.inner.Public() }

// Sign implements crypto.Signer.
func (g *signer) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := hsm.CheckDigest(g.Public(), digest, opts); err != nil {
		return nil, err
	}
	g.store.mu.RLock()
	defer g.store.mu.RUnlock()
	if g.store.closed {
		return nil, errClosed
	}
	if !slices.ContainsFunc(g.store.records, func(r record) bool { return r.Label == g.label }) {
		return nil, fmt.Errorf("signing with %s: %w", g.label, hsm.ErrNotFound)
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
	return s.addSigner(l, a, inner, "")
}

// ImportSigner implements hsm.Signers. The key is in the file when it returns.
func (s *Store) ImportSigner(_ context.Context, l hsm.SignerLabel, key crypto.Signer) (crypto.Signer, error) {
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("importing key pair: %w", err)
	}
	a, err := hsm.AlgorithmOf(key.Public())
	if err != nil {
		return nil, fmt.Errorf("importing key pair: %w", err)
	}
	return s.addSigner(l, a, key, hsm.Imported)
}

// DestroySigner implements hsm.Signers. The key has left the file when it returns.
func (s *Store) DestroySigner(_ context.Context, l hsm.SignerLabel) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	i := slices.IndexFunc(s.records, func(r record) bool { return r.Usage == usageSign && r.Label == string(l) })
	if i < 0 {
		return fmt.Errorf("destroying key pair %s: %w", l, hsm.ErrNotFound)
	}
	gone := s.records[i]
	if err := s.save(slices.Delete(slices.Clone(s.records), i, i+1)); err != nil {
		return fmt.Errorf("destroying key pair %s: %w", l, err)
	}
	gone.value.Wipe()
	return nil
}

func (s *Store) addSigner(l hsm.SignerLabel, a hsm.Algorithm, inner crypto.Signer, origin hsm.Origin) (crypto.Signer, error) {
	der, err := x509.MarshalPKCS8PrivateKey(inner)
	if err != nil {
		return nil, fmt.Errorf("adding key pair: %w", err)
	}
	id, err := hsm.PublicKeyID(inner.Public())
	if err != nil {
		return nil, fmt.Errorf("adding key pair: %w", err)
	}
	r := record{Label: string(l), ID: id, Type: string(a), Usage: usageSign, Created: s.now().UTC(), Origin: string(origin), value: secret.New(der)}
	if err := s.add(r); err != nil {
		r.value.Wipe()
		return nil, fmt.Errorf("adding key pair: %w", err)
	}
	k, err := r.signer()
	if err != nil {
		return nil, err
	}
	return &signer{store: s, label: r.Label, inner: k}, nil
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
		inner, err := r.signer()
		if err != nil {
			return nil, err
		}
		return &signer{store: s, label: r.Label, inner: inner}, nil
	}
	return nil, fmt.Errorf("key pair %s: %w", l, hsm.ErrNotFound)
}

// signer is the key pair of a record.
func (r record) signer() (crypto.Signer, error) {
	k, err := x509.ParsePKCS8PrivateKey(r.value.Bytes())
	if err != nil {
		return nil, fmt.Errorf("reading key pair %s: not a PKCS #8 key", r.Label)
	}
	inner, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading key pair %s: %T cannot sign", r.Label, k)
	}
	return inner, nil
}

func generate(a hsm.Algorithm) (crypto.Signer, error) {
	switch a {
	case hsm.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case hsm.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case hsm.P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case hsm.Ed25519:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		return k, err
	case hsm.RSA2048, hsm.RSA3072, hsm.RSA4096:
		return rsa.GenerateKey(rand.Reader, a.Bits())
	}
	_, err := hsm.ParseAlgorithm(string(a))
	return nil, err
}
