package sealing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// coded gives an error of the HSM the code that tps/seal has for it. One without a
// code stays: what failed is the operation, not the HSM.
func coded(err error) error {
	if err == nil || seal.CodeOf(err) != "" {
		return err
	}
	var mechanism *hsm.MechanismError
	code := seal.Code("")
	switch {
	case errors.Is(err, syscall.ENOSPC):
		code = seal.NoSpace
	case errors.Is(err, hsm.ErrPIN):
		code = seal.PIN
	case errors.Is(err, hsm.ErrModule):
		code = seal.DependencyMissing
	case errors.As(err, &mechanism):
		code = seal.Mechanism
	case errors.Is(err, hsm.ErrNotFound):
		code = seal.KeyMissing
	case errors.Is(err, hsm.ErrUnavailable):
		code = seal.HSMUnreachable
	case errors.Is(err, softkey.ErrInUse):
		return &seal.Error{Code: seal.Locked, Cause: err, Hint: "stop the node (inkan serve), which has the key file open"}
	case errors.Is(err, fs.ErrPermission):
		code = seal.Permission
	case errors.Is(err, fs.ErrNotExist):
		code = seal.DependencyMissing
	default:
		return err
	}
	return &seal.Error{Code: code, Cause: err}
}

// wrappingKey is a key of the vault as tps/seal sees it.
type wrappingKey struct {
	w    hsm.Wrapper
	kind seal.Kind
}

func (k wrappingKey) Describe() seal.KeyDescription {
	i := k.w.Info()
	id := i.ID.ID()
	return seal.KeyDescription{Kind: k.kind, Label: i.ID.Label(), ID: id[:], KCV: i.KCV, Token: i.Token, Serial: i.Serial}
}

func (k wrappingKey) Wrap(ctx context.Context, dataKey secret.Secret, aad []byte) (seal.Wrapped, error) {
	w, err := k.w.Wrap(ctx, dataKey, aad)
	return seal.Wrapped{Mechanism: w.Mechanism, Nonce: w.Nonce, Data: w.Data}, coded(err)
}

func (k wrappingKey) Unwrap(ctx context.Context, w seal.Wrapped, aad []byte) (secret.Secret, error) {
	s, err := k.w.Unwrap(ctx, hsm.WrappedKey{Mechanism: w.Mechanism, Nonce: w.Nonce, Data: w.Data}, aad)
	return s, coded(err)
}

// vaultKeys finds the keys that slots name.
type vaultKeys struct {
	v    Vault
	kind seal.Kind
}

func (k vaultKeys) Key(ctx context.Context, label string, id []byte) (seal.WrappingKey, error) {
	wid, err := hsm.ParseWrapperID(label, id)
	if err != nil {
		return nil, &seal.Error{Code: seal.KeyMissing, Cause: err}
	}
	return k.find(ctx, wid)
}

func (k vaultKeys) find(ctx context.Context, id hsm.WrapperID) (seal.WrappingKey, error) {
	w, err := k.v.Wrapper(ctx, id)
	if errors.Is(err, hsm.ErrNotFound) {
		others := []string{}
		if all, listErr := k.v.Wrappers(ctx); listErr == nil {
			for _, o := range all {
				others = append(others, o.Label())
			}
		}
		ckaID := id.ID()
		return nil, &seal.Error{Code: seal.KeyMissing, Cause: fmt.Errorf("%w (CKA_ID %X); sealing keys there: %q", err, ckaID[:], others)}
	}
	if err != nil {
		return nil, coded(err)
	}
	return wrappingKey{w, k.kind}, nil
}
