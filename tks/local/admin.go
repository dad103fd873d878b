package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/hsm"
)

// KeySetInfo describes one version of a key set to an administrator.
type KeySetInfo struct {
	Name    tks.KeySetName `json:"name"`
	Version gp.KeyVersion  `json:"version"`
	Slot    string         `json:"slot,omitempty"` // enc, mac, dek where each has a master key of its own
	Type    hsm.KeyType    `json:"type"`
	KDF     string         `json:"kdf"`
	KCV     string         `json:"kcv"`
	Level   string         `json:"level"`
	Why     string         `json:"why,omitempty"` // the level is not a better one
	Origin  hsm.Origin     `json:"origin"`
	Created time.Time      `json:"created,omitzero"`
	Retired bool           `json:"retired"`
}

// KeySets lists the master keys in the vault by set and version. The factory set
// is not among them.
func (s *Service) KeySets(ctx context.Context) ([]KeySetInfo, error) {
	masters, err := s.cfg.Vault.Masters(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing key sets: %w", err)
	}
	out := make([]KeySetInfo, 0, len(masters))
	for _, m := range masters {
		retired, err := s.retired(ctx, m.Set, m.Version)
		if err != nil {
			return nil, fmt.Errorf("listing key sets: %w", err)
		}
		out = append(out, infoOf(m, retired))
	}
	return out, nil
}

func infoOf(m hsm.Master, retired bool) KeySetInfo {
	info := KeySetInfo{
		Name: m.Set, Version: m.Version, Type: m.Kind, KDF: m.KDF.String(), KCV: m.KCV.String(),
		Level: m.Level.String(), Why: m.Why, Origin: m.Origin, Created: m.Created, Retired: retired,
	}
	if m.Slot != 0 {
		info.Slot = m.Slot.String()
	}
	return info
}

// TestKeySet runs the known answers of the set's cipher and a whole round with the
// key set itself: the keys of a test card are derived, the card's proof is
// computed and verified, and a key set is wrapped for it. Nothing is granted.
func (s *Service) TestKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion) error {
	if err := s.testKeySet(ctx, name, v); err != nil {
		return fmt.Errorf("testing key set %s version %v: %w", name, v, err)
	}
	return nil
}

// Retire makes a version one that no new card gets. Cards that have it go on.
func (s *Service) Retire(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, by string) error {
	err := s.retire(ctx, name, v, by)
	err = s.record(ctx, Event{Operation: opRetire, Peer: by, KeySet: name, KeyVersion: v, Err: err}, err)
	if err != nil {
		return fmt.Errorf("retiring key set %s version %v: %w", name, v, err)
	}
	return nil
}

func (s *Service) retire(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, by string) error {
	if s.cfg.KeySets == nil {
		return errors.New("this key service keeps no record of retired versions")
	}
	if name == tks.Factory {
		return fmt.Errorf("the key set %s is built in: %w", name, apdu.ErrUnsupported)
	}
	if _, err := s.find(ctx, name, v); err != nil {
		return err
	}
	return s.cfg.KeySets.Retire(ctx, name, v, by)
}

func (s *Service) retired(ctx context.Context, name tks.KeySetName, v gp.KeyVersion) (bool, error) {
	if s.cfg.KeySets == nil {
		return false, nil
	}
	r, err := s.cfg.KeySets.Retired(ctx, name, v)
	if err != nil {
		return false, fmt.Errorf("asking whether key set %s version %v is retired: %w: %w", name, v, err, tks.ErrUnavailable)
	}
	return r, nil
}

// Release lets a card that was keyed from a published or undiversified key set be
// keyed from it once more. ErrNotGranted where there is nothing to release.
func (s *Service) Release(ctx context.Context, kdd gp.KDD, by string) error {
	err := s.cfg.Ledger.Release(ctx, kdd, by)
	err = s.record(ctx, Event{Operation: opRelease, Peer: by, KDD: kdd, Err: err}, err)
	if err != nil {
		return fmt.Errorf("releasing card: %w", err)
	}
	return nil
}

// Keying returns the last changeover of a card out of the ledger.
func (s *Service) Keying(ctx context.Context, kdd gp.KDD) (Entry, bool, error) {
	return s.cfg.Ledger.Lookup(ctx, kdd)
}
