package local

import (
	"context"
	"fmt"
	"slices"

	"inkan/apdu/secret"
	"inkan/securechannel/scp02"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// session02 is an opening of SCP02: session keys are 3DES-CBC under the static
// keys, inside the vault.
type session02 struct {
	proofOf tks.CardProof
	work    hsm.Work
	static  static
	senc    secret.Secret
}

func newSession02(p tks.CardProof, w hsm.Work, key static) *session02 {
	return &session02{proofOf: p, work: w, static: key}
}

func (s *session02) wipe() { s.senc.Wipe() }

func (s *session02) data(c scp02.Constant) []byte {
	d := scp02.DerivationData(c, [2]byte(s.proofOf.Counter))
	return d[:]
}

// derive computes a session key from static key slot.
func (s *session02) derive(ctx context.Context, slot kdf.Slot, cs ...scp02.Constant) ([]secret.Secret, error) {
	k, err := s.static(ctx, slot)
	if err != nil {
		return nil, err
	}
	var out []secret.Secret
	for _, c := range cs {
		b, err := s.work.Encrypt(ctx, k, s.data(c))
		if err != nil {
			return nil, fmt.Errorf("deriving SCP02 session key: %w", err)
		}
		out = append(out, secret.New(b))
	}
	return out, nil
}

func (s *session02) proof(ctx context.Context) ([]byte, error) {
	k, err := s.derive(ctx, kdf.ENC, scp02.SENC)
	if err != nil {
		return nil, err
	}
	s.senc = k[0]
	p := s.proofOf
	return scp02.CardCryptogram(s.senc.Bytes(), p.HostChallenge, slices.Concat([]byte(p.Counter), []byte(p.CardChallenge)))
}

func (s *session02) all(ctx context.Context) (tks.SessionReply, error) {
	want := []scp02.Constant{scp02.SMAC}
	if scp02.Option(s.proofOf.Option)&scp02.RMAC != 0 {
		want = append(want, scp02.SRMAC)
	}
	k, err := s.derive(ctx, kdf.MAC, want...)
	if err != nil {
		return tks.SessionReply{}, err
	}
	reply := tks.SessionReply{ENC: s.senc.Clone(), MAC: k[0]}
	if len(k) > 1 {
		reply.RMAC = k[1]
	}
	return reply, nil
}

// kek is the session DEK, as an object of the vault.
func (s *session02) kek(ctx context.Context) (hsm.Key, error) {
	dek, err := s.static(ctx, kdf.DEK)
	if err != nil {
		return nil, err
	}
	return s.work.Derive(ctx, dek, kdf.Derivation{Method: kdf.CBC, Input: s.data(scp02.SDEK), Cipher: kdf.DES, Length: 16})
}

// encrypt is 3DES-ECB under the session DEK.
func (s *session02) encrypt(ctx context.Context, data []byte) ([]byte, error) {
	k, err := s.kek(ctx)
	if err != nil {
		return nil, err
	}
	return encryptECB(ctx, s.work, k, data)
}
