package local

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel"
	"inkan/securechannel/keyset"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// WrapKeySet implements tks.Service.
func (s *Service) WrapKeySet(ctx context.Context, req tks.KeySetRequest) (tks.KeySetReply, error) {
	reply, err := run(ctx, s, req.CardProof, func(ctx context.Context, c *card) (reply tks.KeySetReply, err error) {
		to, err := s.target(ctx, c, req)
		if err != nil {
			return reply, err
		}
		if reply, err = c.payload(ctx, to); err != nil {
			return reply, err
		}
		return reply, s.grant(ctx, c, to)
	})
	e := newEvent(opWrap, req.CardProof, err)
	e.NewKeySet, e.NewKeyVersion = req.NewKeySet, req.NewKeyVersion
	if err := s.record(ctx, e, err); err != nil {
		return tks.KeySetReply{}, fmt.Errorf("wrapping a key set: %w", err)
	}
	return reply, nil
}

// target finds the key set that the card is to get, and refuses what no card gets.
func (s *Service) target(ctx context.Context, c *card, req tks.KeySetRequest) (keySet, error) {
	if err := checkName(req.NewKeySet); err != nil {
		return keySet{}, err
	}
	if v := req.NewKeyVersion; v < 0x01 || v > 0x7F {
		return keySet{}, fmt.Errorf("new key version %v: want 01 to 7F: %w", v, tks.ErrUnknownKeyVersion)
	}
	to, err := s.keySet(ctx, req.NewKeySet, req.NewKeyVersion, c.Protocol)
	if err != nil || to.masters == nil {
		return to, err
	}
	retired, err := s.retired(ctx, to.name, to.version)
	if err != nil {
		return keySet{}, err
	}
	if retired {
		return keySet{}, fmt.Errorf("key set %s version %v is retired, no card gets it: %w", to.name, to.version, tks.ErrDenied)
	}
	switch {
	case !to.code.Diversified():
		return keySet{}, fmt.Errorf("key set %s version %v is not diversified: its master key would leave: %w", to.name, to.version, tks.ErrDenied)
	case !to.code.ByCUID() && c.KDD.IsZero():
		return keySet{}, fmt.Errorf("card has no key diversification data (ten bytes 00): all such cards would get the same keys: %w", tks.ErrDenied)
	case to.code.ByCUID() && !c.keys.identifies():
		// The ledger counts KDDs; the CUID is a claim that nothing proves.
		return keySet{}, fmt.Errorf("keying a card by its CUID from key set %s: %w", c.keys.name, apdu.ErrUnsupported)
	}
	return to, nil
}

// grant asks the ledger where the card's proof says nothing about which card it is.
func (s *Service) grant(ctx context.Context, c *card, to keySet) error {
	if c.keys.identifies() || to.masters == nil {
		return nil
	}
	err := s.cfg.Ledger.Grant(ctx, Grant{
		KDD: c.KDD, CUID: c.CUID, From: Target{c.KeySet, c.KeyVersion}, To: Target{to.name, to.version}, Time: s.cfg.Now().UTC(),
	})
	if errors.Is(err, ErrGranted) {
		return fmt.Errorf("%w: %w", err, tks.ErrDenied)
	}
	return err
}

// payload is the data field of PUT KEY. No key of it is in memory here.
func (c *card) payload(ctx context.Context, to keySet) (tks.KeySetReply, error) {
	kek, err := c.session.kek(ctx)
	if err != nil {
		return tks.KeySetReply{}, err
	}
	var reply tks.KeySetReply
	var blocks [3]keyset.Block
	for i, slot := range kdf.Slots() {
		k, err := to.key(ctx, c.work, slot, kdf.Identity{KDD: c.KDD, CUID: c.CUID})
		if err != nil {
			return tks.KeySetReply{}, err
		}
		if reply.KCVs[i], err = hsm.CheckValue(ctx, c.work, k); err != nil {
			return tks.KeySetReply{}, err
		}
		ct, err := c.work.Wrap(ctx, kek, k)
		if err != nil {
			return tks.KeySetReply{}, err
		}
		blocks[i] = keyset.Block{Type: blockType(k.Type(), c.Protocol), Length: k.Type().Size(), Cryptogram: ct, KCV: reply.KCVs[i]}
	}
	reply.Data, err = keyset.Encode(to.version, blocks[:]...)
	return reply, err
}

// blockType is how a card of a protocol wants keys of a type called (secure-channel.md §7.2).
func blockType(t hsm.KeyType, p securechannel.Protocol) keyset.Type {
	switch {
	case t.Cipher() == kdf.AES:
		return keyset.AES
	case p == securechannel.SCP01:
		return keyset.DESLegacy
	}
	return keyset.DES
}
