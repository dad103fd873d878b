package local

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// CardSecret implements tks.Service: the management key or the PUK of a PIV applet,
// out of a key set that was made for them (diversification piv). Every other key set,
// the published one among them, is tks.ErrDenied: what it leads to is the key of a
// card manager, or known to everybody.
func (s *Service) CardSecret(ctx context.Context, req tks.SecretRequest) (tks.SecretReply, error) {
	op := opManagement
	if req.Use == tks.PUK {
		op = opPUK
	}
	v, err := s.cardSecret(ctx, req)
	err = s.record(ctx, Event{Operation: op, KeySet: req.KeySet, KeyVersion: req.KeyVersion, CUID: req.CUID, Err: err}, err)
	if err != nil {
		v.Wipe()
		return tks.SecretReply{}, fmt.Errorf("deriving a card secret: %w", err)
	}
	return tks.SecretReply{Secret: v}, nil
}

// cardSecret asks once more where the HSM lost its session in the middle.
func (s *Service) cardSecret(ctx context.Context, req tks.SecretRequest) (secret.Secret, error) {
	if err := ctx.Err(); err != nil {
		return secret.Secret{}, err
	}
	if err := s.limits.allow(s.cfg.Peer(ctx), req.CUID); err != nil {
		return secret.Secret{}, err
	}
	m, err := s.secretMaster(ctx, req)
	if err != nil {
		return secret.Secret{}, err
	}
	v, err := s.secretOf(ctx, m, req)
	if errors.Is(err, hsm.ErrUnavailable) && ctx.Err() == nil {
		v, err = s.secretOf(ctx, m, req)
	}
	return v, err
}

// secretMaster finds the master key of a request.
func (s *Service) secretMaster(ctx context.Context, req tks.SecretRequest) (hsm.Master, error) {
	if req.KeySet == tks.Factory {
		return hsm.Master{}, fmt.Errorf("the key set %s is published: %w", tks.Factory, tks.ErrDenied)
	}
	if err := checkName(req.KeySet); err != nil {
		return hsm.Master{}, err
	}
	masters, err := s.find(ctx, req.KeySet, req.KeyVersion)
	if err != nil {
		return hsm.Master{}, err
	}
	m := masters[kdf.ENC]
	if m.KDF != kdf.PIV || m.Slot != 0 {
		return m, fmt.Errorf("key set %s version %v is not for the secrets of PIV applets: %w", req.KeySet, req.KeyVersion, tks.ErrDenied)
	}
	return m, nil
}

// secretOf derives a secret and gives it its form.
func (s *Service) secretOf(ctx context.Context, m hsm.Master, req tks.SecretRequest) (secret.Secret, error) {
	switch req.Use {
	case tks.PUK:
		raw, err := s.derived(ctx, m, kdf.PIVPUK(req.CUID))
		if err != nil {
			return secret.Secret{}, err
		}
		defer raw.Wipe()
		return secret.New(kdf.PUKDigits(raw.Bytes())), nil
	case tks.ManagementKey:
		d, err := kdf.PIVManagementKey(req.Algorithm, req.CUID)
		if err != nil {
			return secret.Secret{}, err
		}
		v, err := s.derived(ctx, m, d)
		if err != nil {
			return secret.Secret{}, err
		}
		return v, kdf.FinishManagementKey(req.Algorithm, v.Bytes())
	}
	return secret.Secret{}, fmt.Errorf("a card secret for %q: %w", req.Use, apdu.ErrUnsupported)
}

// derived has the vault derive a key and takes its value out, the way that every
// vault has for it: wrapped for a card, under a key that was drawn for this once.
func (s *Service) derived(ctx context.Context, m hsm.Master, d kdf.Derivation) (v secret.Secret, err error) {
	w, err := s.cfg.Vault.Work(ctx)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	found := new([]byte) // read only when all is well: see hsm.Together
	once := secret.Random(16)
	err = hsm.Together(ctx, w, func() error {
		kek, err := w.Import(ctx, hsm.AES128, once)
		if err != nil {
			return err
		}
		k, err := w.Derive(ctx, m, d)
		if err != nil {
			return err
		}
		wrapped, err := w.Wrap(ctx, kek, k)
		*found = wrapped
		return err
	})
	if err != nil {
		return v, err // once may still be in use
	}
	defer once.Wipe()
	return unwrap(once, *found, d.Length)
}

// unwrap is the other side of hsm.KeyUser.Wrap under an AES key.
func unwrap(kek secret.Secret, wrapped []byte, n int) (secret.Secret, error) {
	b, err := aes.NewCipher(kek.Bytes())
	if err != nil {
		return secret.Secret{}, err
	}
	if len(wrapped) < n || len(wrapped)%b.BlockSize() != 0 {
		return secret.Secret{}, fmt.Errorf("the HSM wrapped a key into %d bytes", len(wrapped))
	}
	cipher.NewCBCDecrypter(b, make([]byte, b.BlockSize())).CryptBlocks(wrapped, wrapped)
	defer clear(wrapped[n:])
	return secret.New(wrapped[:n:n]), nil
}

// testSecrets derives the secrets of a card that nobody has, and one of them twice.
func (s *Service) testSecrets(ctx context.Context, m hsm.Master) error {
	var puk [2]secret.Secret
	for i := range puk {
		v, err := s.secretOf(ctx, m, tks.SecretRequest{CUID: apdu.CUID(testCard), Use: tks.PUK})
		if err != nil {
			return err
		}
		defer v.Wipe()
		puk[i] = v
	}
	if !puk[0].Equal(puk[1]) {
		return errors.New("the same PUK was derived as two")
	}
	for _, alg := range []byte{0x08, 0x0A, 0x0C} {
		v, err := s.secretOf(ctx, m, tks.SecretRequest{CUID: apdu.CUID(testCard), Use: tks.ManagementKey, Algorithm: alg})
		if err != nil {
			return err
		}
		v.Wipe()
	}
	return nil
}
