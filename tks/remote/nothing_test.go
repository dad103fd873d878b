package remote_test

import (
	"context"

	"inkan/apdu"
	"inkan/tks"
)

// nothing is a key service that can do nothing.
type nothing struct{}

func (nothing) Random(context.Context, int) ([]byte, error) { return nil, apdu.ErrUnsupported }

func (nothing) DeriveSession(context.Context, tks.SessionRequest) (tks.SessionReply, error) {
	return tks.SessionReply{}, apdu.ErrUnsupported
}

func (nothing) WrapKeySet(context.Context, tks.KeySetRequest) (tks.KeySetReply, error) {
	return tks.KeySetReply{}, apdu.ErrUnsupported
}

func (nothing) Encrypt(context.Context, tks.EncryptRequest) (tks.EncryptReply, error) {
	return tks.EncryptReply{}, apdu.ErrUnsupported
}

func (nothing) CardSecret(context.Context, tks.SecretRequest) (tks.SecretReply, error) {
	return tks.SecretReply{}, apdu.ErrUnsupported
}
