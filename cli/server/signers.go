package server

import (
	"context"
	"crypto"
	"errors"

	"inkan/tks/hsm"
	"inkan/tks/remote"
)

// arraySigners are the key pairs of a node with keys that is in an array: its own, and
// those that another node has made for the realm in an HSM that is not this one's.
type arraySigners struct {
	own    hsm.Signers
	others *remote.Signers
}

var _ hsm.Signers = arraySigners{}

// GenerateSigner implements hsm.Signers: here.
func (s arraySigners) GenerateSigner(ctx context.Context, l hsm.SignerLabel, a hsm.Algorithm) (crypto.Signer, error) {
	return s.own.GenerateSigner(ctx, l, a)
}

// ImportSigner implements hsm.Signers: here.
func (s arraySigners) ImportSigner(ctx context.Context, l hsm.SignerLabel, key crypto.Signer) (crypto.Signer, error) {
	return s.own.ImportSigner(ctx, l, key)
}

// Signer implements hsm.Signers.
func (s arraySigners) Signer(ctx context.Context, l hsm.SignerLabel) (crypto.Signer, error) {
	k, err := s.own.Signer(ctx, l)
	if errors.Is(err, hsm.ErrNotFound) && s.others.Reach(l) {
		return s.others.Signer(ctx, l)
	}
	return k, err
}

// DestroySigner implements hsm.Signers: at every node.
func (s arraySigners) DestroySigner(ctx context.Context, l hsm.SignerLabel) error {
	own := s.own.DestroySigner(ctx, l)
	if own != nil && !errors.Is(own, hsm.ErrNotFound) || !s.others.Reach(l) {
		return own
	}
	others := s.others.DestroySigner(ctx, l)
	if own == nil && errors.Is(others, hsm.ErrNotFound) {
		return nil
	}
	return others
}
