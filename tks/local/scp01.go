package local

import (
	"context"
	"fmt"
	"slices"

	"inkan/apdu/secret"
	"inkan/securechannel/scp01"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// session01 is an opening of SCP01: session keys are 3DES-ECB under the static
// keys, inside the vault.
type session01 struct {
	proofOf tks.CardProof
	work    hsm.Work
	static  static
	senc    secret.Secret
}

func newSession01(p tks.CardProof, w hsm.Work, key static) *session01 {
	return &session01{proofOf: p, work: w, static: key}
}

func (s *session01) wipe() { s.senc.Wipe() }

// derive computes the session key of static key slot.
func (s *session01) derive(ctx context.Context, slot kdf.Slot) (secret.Secret, error) {
	data, err := scp01.DerivationData(s.proofOf.HostChallenge, s.proofOf.CardChallenge)
	if err != nil {
		return secret.Secret{}, err
	}
	k, err := s.static(ctx, slot)
	if err != nil {
		return secret.Secret{}, err
	}
	b, err := encryptECB(ctx, s.work, k, data)
	if err != nil {
		return secret.Secret{}, fmt.Errorf("deriving SCP01 session key: %w", err)
	}
	return secret.New(b), nil
}

func (s *session01) proof(ctx context.Context) ([]byte, error) {
	var err error
	if s.senc, err = s.derive(ctx, kdf.ENC); err != nil {
		return nil, err
	}
	return scp01.CardCryptogram(s.senc.Bytes(), s.proofOf.HostChallenge, s.proofOf.CardChallenge)
}

func (s *session01) all(ctx context.Context) (tks.SessionReply, error) {
	mac, err := s.derive(ctx, kdf.MAC)
	if err != nil {
		return tks.SessionReply{}, err
	}
	return tks.SessionReply{ENC: s.senc.Clone(), MAC: mac}, nil
}

// kek is the static DEK.
func (s *session01) kek(ctx context.Context) (hsm.Key, error) { return s.static(ctx, kdf.DEK) }

func (s *session01) encrypt(ctx context.Context, data []byte) ([]byte, error) {
	k, err := s.kek(ctx)
	if err != nil {
		return nil, err
	}
	return encryptECB(ctx, s.work, k, data)
}

// encryptECB is 3DES-ECB over whole blocks: the vault's CBC, block by block.
func encryptECB(ctx context.Context, w hsm.Work, k hsm.Key, data []byte) ([]byte, error) {
	out := make([]byte, 0, len(data))
	for block := range slices.Chunk(data, 8) {
		b, err := w.Encrypt(ctx, k, block)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}
