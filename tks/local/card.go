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

func (c *card) close() error {
	c.session.wipe()
	return c.work.Close()
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
func (s *Service) serve(ctx context.Context, op Operation, p tks.CardProof, f func(context.Context, *card) error) error {
	err := s.run(ctx, p, f)
	e := newEvent(op, p, err)
	return s.record(ctx, e, err)
}

// run asks once more where the HSM lost its session in the middle: every request
// is the same when repeated.
func (s *Service) run(ctx context.Context, p tks.CardProof, f func(context.Context, *card) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.limits.allow(s.cfg.Peer(ctx), p.CUID); err != nil {
		return err
	}
	err := s.once(ctx, p, f)
	if errors.Is(err, hsm.ErrUnavailable) && ctx.Err() == nil {
		err = s.once(ctx, p, f)
	}
	return err
}

func (s *Service) once(ctx context.Context, p tks.CardProof, f func(context.Context, *card) error) (err error) {
	c, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.verify(ctx); err != nil {
		return err
	}
	if c.keys.identifies() {
		// The card has the keys that a grant was for: that grant is used up.
		if err := s.cfg.Ledger.Complete(ctx, p.KDD, Target{p.KeySet, p.KeyVersion}); err != nil {
			return err
		}
	}
	return f(ctx, c)
}
