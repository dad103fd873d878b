package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
	"inkan/tks/local"
	"inkan/tps/api"
	"inkan/tps/token"
)

// keySets is the key service as tps/api sees it: tps knows neither tks/local nor
// tks/hsm.
type keySets struct{ s *local.Service }

var _ api.KeySets = keySets{}

// CreateKeySet implements api.KeySets.
func (k keySets) CreateKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, code string) (api.KeySet, error) {
	n, err := newKeySet(name, v, keyType, code)
	if err != nil {
		return api.KeySet{}, err
	}
	info, err := k.s.Create(ctx, n)
	if err != nil {
		return api.KeySet{}, keyError(err)
	}
	return keySetOf(info), nil
}

// CheckKeySet implements api.KeySets.
func (k keySets) CheckKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, code string) error {
	n, err := newKeySet(name, v, keyType, code)
	if err != nil {
		return err
	}
	return keyError(k.s.Check(ctx, n))
}

// ImportKeySet implements api.KeySets.
func (k keySets) ImportKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, keyType, code string, keys []secret.Secret, kcvs []gp.KCV) ([]api.KeySet, error) {
	n, err := newKeySet(name, v, keyType, code)
	if err != nil {
		return nil, err
	}
	var values []local.Imported
	for i, key := range keys {
		one := local.Imported{Value: key, KCV: kcvs[i]}
		if len(keys) > 1 {
			one.Slot = kdf.Slot(i + 1)
		}
		values = append(values, one)
	}
	infos, err := k.s.Import(ctx, n, values...)
	if err != nil {
		return nil, keyError(err)
	}
	return keySetsOf(infos), nil
}

func newKeySet(name tks.KeySetName, v gp.KeyVersion, keyType, code string) (local.NewKeySet, error) {
	n := local.NewKeySet{Name: name, Version: v}
	var err error
	if n.Type, err = hsm.ParseKeyType(keyType); err == nil && code != "" {
		n.KDF, err = kdf.ParseCode(code)
	}
	if err != nil {
		return n, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	return n, nil
}

// KeySets implements api.KeySets.
func (k keySets) KeySets(ctx context.Context) ([]api.KeySet, error) {
	infos, err := k.s.KeySets(ctx)
	if err != nil {
		return nil, keyError(err)
	}
	return keySetsOf(infos), nil
}

func keySetsOf(infos []local.KeySetInfo) []api.KeySet {
	out := make([]api.KeySet, len(infos))
	for i, info := range infos {
		out[i] = keySetOf(info)
	}
	return out
}

// TestKeySet implements api.KeySets.
func (k keySets) TestKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion) error {
	return keyError(k.s.TestKeySet(ctx, name, v))
}

// Retire implements api.KeySets.
func (k keySets) Retire(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, by string) error {
	return keyError(k.s.Retire(ctx, name, v, by))
}

func keySetOf(i local.KeySetInfo) api.KeySet {
	out := api.KeySet{
		ID: string(i.Name) + "/" + i.Version.String(), Name: string(i.Name), Version: i.Version.String(), Slot: i.Slot, Type: i.Type.String(),
		KDF: i.KDF, KCV: i.KCV, Level: i.Level, Why: i.Why, Origin: string(i.Origin), Retired: i.Retired,
	}
	if !i.Created.IsZero() {
		out.Created = api.Millis(i.Created.UnixMilli())
	}
	return out
}

// keyError turns errors of the HSM into ones that tps/api knows.
func keyError(err error) error {
	var missing *hsm.MechanismError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hsm.ErrExists):
		return fmt.Errorf("%w: %w", err, token.ErrConflict)
	case errors.Is(err, local.ErrNotGranted):
		return fmt.Errorf("%w: %w", err, token.ErrNotFound)
	case errors.Is(err, local.ErrKeySet), errors.Is(err, local.ErrProtection):
		return &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	case errors.As(err, &missing):
		return &api.Error{Status: http.StatusNotImplemented, Message: err.Error()}
	}
	return err
}

// keyings is the ledger of the key service as tps/api sees it.
type keyings struct{ s *local.Service }

var _ api.Keyings = keyings{}

// Keying implements api.Keyings.
func (k keyings) Keying(ctx context.Context, kdd gp.KDD) (api.Keying, bool, error) {
	e, ok, err := k.s.Keying(ctx, kdd)
	if err != nil || !ok {
		return api.Keying{}, false, err
	}
	return api.Keying{
		KDD: e.KDD.String(), TokenID: e.CUID.String(), FromKeySet: string(e.From.KeySet), FromVersion: e.From.Version.String(),
		KeySet: string(e.To.KeySet), Version: e.To.Version.String(), Time: api.Millis(e.Time.UnixMilli()), Completed: e.Completed,
	}, true, nil
}

// Release implements api.Keyings.
func (k keyings) Release(ctx context.Context, kdd gp.KDD, by string) error {
	return keyError(k.s.Release(ctx, kdd, by))
}
