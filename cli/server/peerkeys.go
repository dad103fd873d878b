package server

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/tks/hsm"
	"inkan/tps/peer"
)

// peerKey keeps the private key of the node's peer certificate.
func (n *Node) peerKey() peer.KeyFile {
	return n.sealing.File(n.Folder, sealing.RolePeerKey)
}

// peerCAKeys keep the keys of the array's CA: where the node's other keys are. One
// without the role tks has no HSM, and keeps them as it keeps its peer key.
func (n *Node) peerCAKeys() peer.CAKeys {
	if n.hasKeys() {
		return vaultCAKeys{n.vault}
	}
	return &fileCAKeys{file: n.sealing.File(n.Folder, sealing.RolePeerCA)}
}

// vaultCAKeys are in the HSM or key file. No other node gets at them: see tks/remote.
type vaultCAKeys struct{ v hsm.Signers }

// Generate implements peer.CAKeys: P-256, or RSA where the HSM has no curves.
func (k vaultCAKeys) Generate(ctx context.Context, label string) (crypto.Signer, error) {
	s, err := k.v.GenerateSigner(ctx, hsm.SignerLabel(label), hsm.P256)
	if missing := (*hsm.MechanismError)(nil); errors.As(err, &missing) {
		s, err = k.v.GenerateSigner(ctx, hsm.SignerLabel(label), hsm.RSA3072)
	}
	return s, keyError(err)
}

// Signer implements peer.CAKeys.
func (k vaultCAKeys) Signer(ctx context.Context, label string) (crypto.Signer, error) {
	s, err := k.v.Signer(ctx, hsm.SignerLabel(label))
	return s, keyError(err)
}

// Destroy implements peer.CAKeys.
func (k vaultCAKeys) Destroy(ctx context.Context, label string) error {
	if err := k.v.DestroySigner(ctx, hsm.SignerLabel(label)); !errors.Is(err, hsm.ErrNotFound) {
		return keyError(err)
	}
	return nil
}

// fileCAKeys are in a file of their own, one PEM block each.
type fileCAKeys struct {
	mu   sync.Mutex
	file sealing.RoleFile
}

// caKeyLabel is the PEM header with a key's label.
const caKeyLabel = "Label"

// Generate implements peer.CAKeys.
func (k *fileCAKeys) Generate(ctx context.Context, label string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	err = k.change(ctx, func(blocks []*pem.Block) ([]*pem.Block, error) {
		for _, b := range blocks {
			if b.Headers[caKeyLabel] == label {
				return nil, fmt.Errorf("key %s: %w", label, hsm.ErrExists)
			}
		}
		return append(blocks, &pem.Block{Type: "PRIVATE KEY", Headers: map[string]string{caKeyLabel: label}, Bytes: der}), nil
	})
	return key, err
}

// Signer implements peer.CAKeys.
func (k *fileCAKeys) Signer(ctx context.Context, label string) (crypto.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	blocks, err := k.load(ctx)
	if err != nil {
		return nil, err
	}
	defer wipeBlocks(blocks)
	for _, b := range blocks {
		if b.Headers[caKeyLabel] != label {
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
		s, ok := key.(crypto.Signer)
		if err != nil || !ok {
			return nil, fmt.Errorf("key %s in %s is damaged: restore the file from a backup", label, sealing.PeerCAFile)
		}
		return s, nil
	}
	return nil, fmt.Errorf("key %s: %w", label, hsm.ErrNotFound)
}

// Destroy implements peer.CAKeys.
func (k *fileCAKeys) Destroy(ctx context.Context, label string) error {
	return k.change(ctx, func(blocks []*pem.Block) ([]*pem.Block, error) {
		kept := blocks[:0:0]
		for _, b := range blocks {
			if b.Headers[caKeyLabel] != label {
				kept = append(kept, b)
			}
		}
		if len(kept) == len(blocks) {
			return nil, nil
		}
		return kept, nil
	})
}

// change replaces the file by what f makes of it; nil: it stays.
func (k *fileCAKeys) change(ctx context.Context, f func([]*pem.Block) ([]*pem.Block, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	blocks, err := k.load(ctx)
	if err != nil {
		return err
	}
	defer wipeBlocks(blocks)
	blocks, err = f(blocks)
	if err != nil || blocks == nil {
		return err
	}
	text := []byte("Keys of the array's CA\n")
	for _, b := range blocks {
		text = append(text, pem.EncodeToMemory(b)...)
	}
	s := secret.New(text)
	defer s.Wipe()
	return k.file.Save(ctx, s)
}

func (k *fileCAKeys) load(ctx context.Context) ([]*pem.Block, error) {
	s, err := k.file.Load(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the array CA's keys: %w", err)
	}
	defer s.Wipe()
	var out []*pem.Block
	for rest := s.Bytes(); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return out, nil
		}
		out = append(out, b)
	}
}

func wipeBlocks(blocks []*pem.Block) {
	for _, b := range blocks {
		clear(b.Bytes)
	}
}
