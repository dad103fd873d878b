package local

import (
	"context"

	"inkan/apdu/secret"
	"inkan/securechannel/primitive"
	"inkan/securechannel/scp03"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// session03 is an opening of SCP03: session keys are CMACs under the static
// keys, inside the vault.
type session03 struct {
	proofOf tks.CardProof
	work    hsm.Work
	static  static
	mac     hsm.Key // static MAC key
	smac    secret.Secret
}

func newSession03(p tks.CardProof, w hsm.Work, key static) *session03 {
	return &session03{proofOf: p, work: w, static: key}
}

func (s *session03) wipe() { s.smac.Wipe() }

// derive is KDF03 with the static key inside the vault.
func (s *session03) derive(ctx context.Context, k hsm.Key, d scp03.Derivation) (secret.Secret, error) {
	n := k.Type().Size()
	var before [15]byte // label (11 × 00, constant), separator, L in bits
	before[11] = byte(d)
	before[13], before[14] = byte(n*8>>8), byte(n*8)
	prf := func(parts ...[]byte) ([]byte, error) {
		var msg []byte
		for _, p := range parts {
			msg = append(msg, p...)
		}
		return s.work.CMAC(ctx, k, msg)
	}
	out, err := primitive.CounterKDF(prf, before[:], scp03.Context(s.proofOf.HostChallenge, s.proofOf.CardChallenge), n)
	if err != nil {
		return secret.Secret{}, err
	}
	return secret.New(out), nil
}

func (s *session03) proof(ctx context.Context) ([]byte, error) {
	var err error
	if s.mac, err = s.static(ctx, kdf.MAC); err != nil {
		return nil, err
	}
	if s.smac, err = s.derive(ctx, s.mac, scp03.SMAC); err != nil {
		return nil, err
	}
	return scp03.CardCryptogram(s.smac.Bytes(), s.proofOf.HostChallenge, s.proofOf.CardChallenge)
}

func (s *session03) all(ctx context.Context) (tks.SessionReply, error) {
	enc, err := s.static(ctx, kdf.ENC)
	if err != nil {
		return tks.SessionReply{}, err
	}
	reply := tks.SessionReply{MAC: s.smac.Clone()}
	if reply.ENC, err = s.derive(ctx, enc, scp03.SENC); err != nil {
		return reply, err
	}
	if scp03.Option(s.proofOf.Option)&scp03.RMAC != 0 {
		reply.RMAC, err = s.derive(ctx, s.mac, scp03.SRMAC)
	}
	return reply, err
}

// kek is the static DEK.
func (s *session03) kek(ctx context.Context) (hsm.Key, error) { return s.static(ctx, kdf.DEK) }

func (s *session03) encrypt(ctx context.Context, data []byte) ([]byte, error) {
	k, err := s.kek(ctx)
	if err != nil {
		return nil, err
	}
	return s.work.Encrypt(ctx, k, data)
}
