package local

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// keySet is one version of a key set as cards of one protocol use it.
type keySet struct {
	name    tks.KeySetName
	version gp.KeyVersion
	kind    hsm.KeyType // of the card keys
	code    kdf.Code
	masters map[kdf.Slot]hsm.Master // one per slot; nil: published keys
}

// identifies reports whether a card's keys out of this set are its own, so that
// its proof says which card it is.
func (k keySet) identifies() bool { return k.masters != nil && k.code.Diversified() }

// published is the value of the three published keys, cut to size.
const published = "\x40\x41\x42\x43\x44\x45\x46\x47\x48\x49\x4A\x4B\x4C\x4D\x4E\x4F"

// cipherOf is the cipher of a protocol's card keys.
func cipherOf(p securechannel.Protocol) kdf.Cipher {
	if p == securechannel.SCP03 {
		return kdf.AES
	}
	return kdf.DES
}

// setKey is what a keySet is found by.
type setKey struct {
	name     tks.KeySetName
	version  gp.KeyVersion
	protocol securechannel.Protocol
}

// keySet finds a version of a key set for cards of a protocol.
func (s *Service) keySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, p securechannel.Protocol) (keySet, error) {
	key := setKey{name, v, p}
	s.mu.RLock()
	sets := s.sets // another one after a refresh
	k, ok := sets[key]
	s.mu.RUnlock()
	if ok {
		return k, nil
	}
	k, err := s.newKeySet(ctx, name, v, p)
	if err == nil {
		s.mu.Lock()
		sets[key] = k
		s.mu.Unlock()
	}
	return k, err
}

func (s *Service) newKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, p securechannel.Protocol) (keySet, error) {
	k := keySet{name: name, version: v}
	if name == tks.Factory {
		k.kind, k.code = hsm.AES128, kdf.None
		if cipherOf(p) == kdf.DES {
			k.kind = hsm.DES2
		}
		return k, nil
	}
	masters, err := s.find(ctx, name, v)
	if err != nil {
		return k, err
	}
	if masters[kdf.ENC].KDF == kdf.PIV {
		return k, fmt.Errorf("key set %s version %v is for the secrets of PIV applets, it has no card manager's keys: %w", name, v, apdu.ErrUnsupported)
	}
	k.masters = masters
	for _, slot := range kdf.Slots() {
		m := masters[slot]
		d, err := kdf.Card(m.KDF, slot, kdf.Identity{}, kdf.Master{Cipher: m.Kind.Cipher(), Size: m.Kind.Size()})
		if err != nil {
			return k, fmt.Errorf("key set %s version %v: %w", name, v, err)
		}
		if d.Cipher != cipherOf(p) {
			return k, fmt.Errorf("key set %s version %v is for %v keys, the card speaks %v: %w", name, v, d.Cipher, p, tks.ErrUnknownKeyVersion)
		}
		if k.kind, err = hsm.KeyTypeOf(d.Cipher, d.Length); err != nil {
			return k, err
		}
		k.code = m.KDF
	}
	return k, nil
}

// find returns the three master keys of a version. What is not known is looked
// for in the vault again: another node may have made it.
func (s *Service) find(ctx context.Context, name tks.KeySetName, v gp.KeyVersion) (map[kdf.Slot]hsm.Master, error) {
	if found := s.known(name, v); found != nil {
		return found, nil
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	if found := s.known(name, v); found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("key set %q version %v: %w", name, v, tks.ErrUnknownKeyVersion)
}

func (s *Service) refresh(ctx context.Context) error {
	masters, err := s.cfg.Vault.Masters(ctx)
	if err != nil {
		return fmt.Errorf("reading key sets: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.masters, s.sets = masters, map[setKey]keySet{}
	return nil
}

// known is nil unless each of the three slots has exactly one master key, and
// all are of one type and diversification.
func (s *Service) known(name tks.KeySetName, v gp.KeyVersion) map[kdf.Slot]hsm.Master {
	s.mu.RLock()
	defer s.mu.RUnlock()
	found := map[kdf.Slot]hsm.Master{}
	for _, m := range s.masters {
		if m.Set != name || m.Version != v {
			continue
		}
		for _, slot := range kdf.Slots() {
			if m.Slot != 0 && m.Slot != slot {
				continue
			}
			if _, twice := found[slot]; twice {
				return nil
			}
			found[slot] = m
		}
	}
	first := found[kdf.ENC]
	for _, slot := range kdf.Slots() {
		if m, ok := found[slot]; !ok || m.Kind != first.Kind || m.KDF != first.KDF {
			return nil
		}
	}
	return found
}

// key brings one key of a card into a work.
func (k keySet) key(ctx context.Context, w hsm.Work, slot kdf.Slot, id kdf.Identity) (hsm.Key, error) {
	if k.masters == nil {
		return w.Import(ctx, k.kind, secret.New([]byte(published)))
	}
	m := k.masters[slot]
	d, err := kdf.Card(m.KDF, slot, id, kdf.Master{Cipher: m.Kind.Cipher(), Size: m.Kind.Size()})
	if err != nil {
		return nil, err
	}
	return w.Derive(ctx, m, d)
}

// checkName refuses names that no key set can have, before anything is asked.
func checkName(name tks.KeySetName) error {
	if _, err := tks.ParseKeySetName(string(name)); err != nil {
		return fmt.Errorf("%w: %w", err, tks.ErrUnknownKeyVersion)
	}
	return nil
}

// checkProtocol refuses what is not implemented, by name.
func checkProtocol(p securechannel.Protocol) error {
	if p != securechannel.SCP01 && p != securechannel.SCP02 && p != securechannel.SCP03 {
		return fmt.Errorf("%v: %w", p, apdu.ErrUnsupported)
	}
	return nil
}
