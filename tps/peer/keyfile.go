package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"inkan/apdu/secret"
)

// KeyFile keeps the node's private key, PEM text, where the caller wants it, so that
// nobody else reads it. Save replaces the whole and is durable when it returns.
type KeyFile interface {
	// Load returns fs.ErrNotExist where nothing was saved yet.
	Load(ctx context.Context) (secret.Secret, error)
	Save(ctx context.Context, pem secret.Secret) error
}

// newKey makes a key of a peer: P-256.
func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// loadKeys reads the keys: the one of the certificate and, during a renewal, the next.
func (n *Node) loadKeys(ctx context.Context) ([]*ecdsa.PrivateKey, error) {
	s, err := n.cfg.Key.Load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the peer key: %w", err)
	}
	defer s.Wipe()
	var keys []*ecdsa.PrivateKey
	for rest := s.Bytes(); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		clear(block.Bytes)
		ec, ok := k.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("peer key is %w", ErrDamaged)
		}
		keys = append(keys, ec)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("peer key is %w", ErrDamaged)
	}
	return keys, nil
}

// saveKeys keeps these keys and no others.
func (n *Node) saveKeys(ctx context.Context, keys ...*ecdsa.PrivateKey) error {
	var text []byte
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return fmt.Errorf("encoding the peer key: %w", err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
		clear(der)
	}
	s := secret.New(text)
	defer s.Wipe()
	if err := n.at("peer key: before"); err != nil {
		return err
	}
	if err := n.cfg.Key.Save(ctx, s); err != nil {
		return fmt.Errorf("keeping the peer key: %w", err)
	}
	return n.at("peer key: after")
}

// keyOf finds the key of a certificate.
func keyOf(keys []*ecdsa.PrivateKey, c *x509.Certificate) *ecdsa.PrivateKey {
	for _, k := range keys {
		if k.PublicKey.Equal(c.PublicKey) {
			return k
		}
	}
	return nil
}
