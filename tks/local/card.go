package local

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// card is a card that has proved itself, for the time of one request.
type card struct {
	tks.CardProof
	work    hsm.Work
	keys    keySet
	session session
}

// session computes what one opening of a channel leads to.
type session interface {
	// proof is what the card must have answered.
	proof(ctx context.Context) ([]byte, error)
	// all are the session keys.
	all(ctx context.Context) (tks.SessionReply, error)
	// kek is the key that wraps new keys of the card.
	kek(ctx context.Context) (hsm.Key, error)
	// encrypt is encryption of sensitive data.
	encrypt(ctx context.Context, data []byte) ([]byte, error)
	// wipe forgets what proof and all have computed and not handed out.
	wipe()
}

// static gives the card's static keys to a session.
type static func(ctx context.Context, slot kdf.Slot) (hsm.Key, error)

// open checks the form of a proof and begins its session.
func (s *Service) open(ctx context.Context, p tks.CardProof) (*card, error) {
	if err := checkProtocol(p.Protocol); err != nil {
		return nil, err
	}
	if err := checkName(p.KeySet); err != nil {
		return nil, err
	}
	if err := checkShape(p); err != nil {
		return nil, err
	}
	keys, err := s.keySet(ctx, p.KeySet, p.KeyVersion, p.Protocol)
	if err != nil {
		return nil, err
	}
	w, err := s.cfg.Vault.Work(ctx)
	if err != nil {
		return nil, err
	}
	id := kdf.Identity{KDD: p.KDD, CUID: p.CUID}
	key := func(ctx context.Context, slot kdf.Slot) (hsm.Key, error) { return keys.key(ctx, w, slot, id) }
	c := &card{CardProof: p, work: w, keys: keys}
	switch p.Protocol {
	case securechannel.SCP01:
		c.session = newSession01(p, w, key)
	case securechannel.SCP02:
		c.session = newSession02(p, w, key)
	default:
		c.session = newSession03(p, w, key)
	}
	return c, nil
}

// verify compares the card's cryptogram in constant time.
func (c *card) verify(ctx context.Context) error {
	want, err := c.session.proof(ctx)
	if err != nil {
		return err
	}
	if !secret.New(want).Equal(secret.New(c.CardCryptogram)) {
		return fmt.Errorf("card under key set %s version %v: %w", c.KeySet, c.KeyVersion, tks.ErrCryptogram)
	}
	return nil
}

// serve runs f for a card that has proved itself, and records the request.
func serve[T any](ctx context.Context, s *Service, op Operation, p tks.CardProof, f func(context.Context, *card) (T, error)) (T, error) {
	v, err := run(ctx, s, p, f)
	return v, s.record(ctx, newEvent(op, p, err), err)
}

// run asks once more where the HSM lost its session in the middle: every request
// is the same when repeated.
func run[T any](ctx context.Context, s *Service, p tks.CardProof, f func(context.Context, *card) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := s.limits.allow(s.cfg.Peer(ctx), p.CUID); err != nil {
		return none, err
	}
	v, err := once(ctx, s, p, f)
	if errors.Is(err, hsm.ErrUnavailable) && ctx.Err() == nil {
		v, err = once(ctx, s, p, f)
	}
	return v, err
}

func once[T any](ctx context.Context, s *Service, p tks.CardProof, f func(context.Context, *card) (T, error)) (v T, err error) {
	c, err := s.open(ctx, p)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, c.work.Close()) }()
	found := new(T) // read only when all is well: see hsm.Together
	err = hsm.Together(ctx, c.work, func() error {
		defer c.session.wipe()
		if err := s.proved(ctx, c); err != nil {
			return err
		}
		got, err := f(ctx, c)
		*found = got
		return err
	})
	if err != nil {
		return v, err
	}
	return *found, nil
}

// proved has the card's cryptogram verified, and notes which card that proves it to be.
func (s *Service) proved(ctx context.Context, c *card) error {
	if err := c.verify(ctx); err != nil {
		return err
	}
	if c.keys.identifies() {
		// The card has the keys that a grant was for: that grant is used up.
		return s.cfg.Ledger.Complete(ctx, c.KDD, Target{c.KeySet, c.KeyVersion})
	}
	return nil
}
