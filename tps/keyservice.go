package tps

import (
	"context"
	"fmt"

	"inkan/tks"
)

// answering is a key service that takes an answer without content for none: nothing
// that a card proves or is given may rest on it (DEF-67).
type answering struct{ tks.Service }

// Random implements tks.Service.
func (a answering) Random(ctx context.Context, n int) ([]byte, error) {
	b, err := a.Service.Random(ctx, n)
	return b, complete(err, len(b) == n)
}

// DeriveSession implements tks.Service.
func (a answering) DeriveSession(ctx context.Context, r tks.SessionRequest) (tks.SessionReply, error) {
	rep, err := a.Service.DeriveSession(ctx, r)
	return rep, complete(err, rep.ENC.Len() > 0 && rep.MAC.Len() > 0)
}

// WrapKeySet implements tks.Service.
func (a answering) WrapKeySet(ctx context.Context, r tks.KeySetRequest) (tks.KeySetReply, error) {
	rep, err := a.Service.WrapKeySet(ctx, r)
	return rep, complete(err, len(rep.Data) > 0)
}

// Encrypt implements tks.Service.
func (a answering) Encrypt(ctx context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	rep, err := a.Service.Encrypt(ctx, r)
	return rep, complete(err, len(rep.Data) >= r.Data.Len())
}

func complete(err error, whole bool) error {
	if err == nil && !whole {
		return fmt.Errorf("the key service's answer is empty or cut: %w", tks.ErrUnavailable)
	}
	return err
}
