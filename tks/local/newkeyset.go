package local

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// NewKeySet is a key set version that is to be.
type NewKeySet struct {
	Name    tks.KeySetName
	Version gp.KeyVersion // 01 to 7F
	Type    hsm.KeyType   // of the master key; des2 and des3 under dogtag-sp800-108 are kept as hmac-sha256
	KDF     kdf.Code      // zero: kdf.Default of the type
}

// Imported is one master key of an import.
type Imported struct {
	Slot  kdf.Slot      // 0: one master for the three keys
	Value secret.Secret // of the length of NewKeySet.Type
	KCV   gp.KCV        // what the custodians agreed on, GlobalPlatform convention
}

// ErrKeySet means that a key set cannot be as it is described. The text says why.
var ErrKeySet = errors.New("no such key set can be")

// CreateKeySet makes a new master key in the vault with the usual diversification:
// KDF3 for AES types, VISA2 for hsm.DES3 and hsm.DES2, over the KDD.
// hsm.ErrExists where the set has that version in whatever form.
func (s *Service) CreateKeySet(ctx context.Context, name tks.KeySetName, v gp.KeyVersion, t hsm.KeyType) (KeySetInfo, error) {
	return s.Create(ctx, NewKeySet{Name: name, Version: v, Type: t})
}

// Create makes a new master key in the vault. [ErrKeySet] where type and
// diversification do not go together, and for kdf.None: no card would get it.
// hsm.ErrExists where the set has that version in whatever form.
func (s *Service) Create(ctx context.Context, k NewKeySet) (KeySetInfo, error) {
	m, err := s.create(ctx, k)
	err = s.record(ctx, Event{Operation: opCreate, KeySet: k.Name, KeyVersion: k.Version, Err: err}, err)
	if err != nil {
		return KeySetInfo{}, fmt.Errorf("creating key set %s version %v: %w", k.Name, k.Version, err)
	}
	return infoOf(m, false), nil
}

func (s *Service) create(ctx context.Context, k NewKeySet) (hsm.Master, error) {
	kept, err := s.prepare(ctx, &k)
	if err != nil {
		return hsm.Master{}, err
	}
	if !k.KDF.Diversified() {
		return hsm.Master{}, fmt.Errorf("%w: a master key made here has to be diversified, no card could get it", ErrKeySet)
	}
	m, err := s.cfg.Vault.GenerateMaster(ctx, k.id(0), kept)
	if err != nil {
		return hsm.Master{}, err
	}
	return m, s.refresh(ctx)
}

// Check fails where Create or Import would, as far as that can be told without a key:
// before people come together to type one. Nothing is changed.
func (s *Service) Check(ctx context.Context, k NewKeySet) error {
	kept, err := s.prepare(ctx, &k)
	if err != nil {
		return fmt.Errorf("checking key set %s version %v: %w", k.Name, k.Version, err)
	}
	for _, c := range ciphers(hsm.Master{MasterID: k.id(0), Kind: kept}) {
		if err := hsm.SelfTest(ctx, s.cfg.Vault, c); err != nil {
			return fmt.Errorf("checking key set %s version %v: %w", k.Name, k.Version, err)
		}
	}
	return nil
}

// Import stores master keys that come from elsewhere: one, or one each for
// kdf.Slots, all of them or none. [ErrKeySet] where type and diversification do not
// go together, where a value does not have the check value that it is said to have,
// and for keys that everybody knows. hsm.ErrExists where the set has that version in
// whatever form. The values are not retained.
func (s *Service) Import(ctx context.Context, k NewKeySet, keys ...Imported) ([]KeySetInfo, error) {
	masters, err := s.importKeys(ctx, k, keys)
	err = s.record(ctx, Event{Operation: opImport, KeySet: k.Name, KeyVersion: k.Version, Err: err}, err)
	if err != nil {
		return nil, fmt.Errorf("importing key set %s version %v: %w", k.Name, k.Version, err)
	}
	var out []KeySetInfo
	for _, m := range masters {
		out = append(out, infoOf(m, false))
	}
	return out, nil
}

func (s *Service) importKeys(ctx context.Context, k NewKeySet, keys []Imported) ([]hsm.Master, error) {
	kept, err := s.prepare(ctx, &k)
	if err != nil {
		return nil, err
	}
	if err := checkSlots(keys); err != nil {
		return nil, err
	}
	var values []hsm.MasterValue
	for _, i := range keys {
		if err := i.check(k.Type); err != nil {
			return nil, err
		}
		value := keep(i.Value, k.Type, kept)
		defer value.Wipe()
		values = append(values, hsm.MasterValue{ID: k.id(i.Slot), Type: kept, Value: value})
	}
	masters, err := s.cfg.Vault.ImportMasters(ctx, values)
	if err != nil {
		return nil, err
	}
	return masters, s.refresh(ctx)
}

func (k NewKeySet) id(slot kdf.Slot) hsm.MasterID {
	return hsm.MasterID{Set: k.Name, Version: k.Version, Slot: slot, KDF: k.KDF}
}

// prepare fills in the diversification and checks that the version can be and is
// not there. kept is the type under which the vault has the master.
func (s *Service) prepare(ctx context.Context, k *NewKeySet) (kept hsm.KeyType, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if k.KDF == 0 {
		k.KDF = kdf.Default(k.Type.Cipher())
	}
	kept = k.Type
	if k.KDF&^kdf.UseCUID == kdf.DogtagSP800 && k.Type.Cipher() == kdf.DES {
		kept = hsm.HMACKey
	}
	if _, err := kdf.Sample(k.KDF, kdf.Master{Cipher: kept.Cipher(), Size: kept.Size()}); err != nil {
		return 0, fmt.Errorf("%w: %v with a master key of type %v: %w", ErrKeySet, k.KDF, k.Type, err)
	}
	p := s.cfg.Vault.Protection(k.KDF, kept)
	if err := s.protected(p); err != nil {
		return 0, fmt.Errorf("%w. %s", err, remedy(p.Level))
	}
	if err := s.refresh(ctx); err != nil {
		return 0, err
	}
	if s.hasAny(k.Name, k.Version) {
		return 0, hsm.ErrExists
	}
	return kept, nil
}

// checkSlots wants one key without a slot, or the three in PUT KEY order.
func checkSlots(keys []Imported) error {
	slots := kdf.Slots()
	switch {
	case len(keys) == 1 && keys[0].Slot == 0:
		return nil
	case len(keys) == len(slots):
		for i, k := range keys {
			if k.Slot != slots[i] {
				return fmt.Errorf("%w: key %d is for slot %v, want %v", ErrKeySet, i+1, k.Slot, slots[i])
			}
		}
		return nil
	}
	return fmt.Errorf("%w: %d keys, want one for all or one each for enc, mac and dek", ErrKeySet, len(keys))
}

// check compares a key with its check value, and refuses what is no secret.
func (i Imported) check(t hsm.KeyType) error {
	if i.Value.Len() != t.Size() {
		return fmt.Errorf("%w: a key of %d bytes, %v has %d", ErrKeySet, i.Value.Len(), t, t.Size())
	}
	kcv, err := kdf.KCV(t.Cipher(), i.Value.Bytes())
	if err != nil {
		return err
	}
	if kcv != i.KCV {
		return fmt.Errorf("%w: the key's check value is %v, not %v", ErrKeySet, kcv, i.KCV)
	}
	for _, known := range []string{strings.Repeat("\x00", 16), published} {
		if alike([]byte(known), i.Value.Bytes()[:16]) {
			return fmt.Errorf("%w: this master key is published; cards that have the published keys are of the key set %s", ErrKeySet, tks.Factory)
		}
	}
	return nil
}

// alike compares keys but for the bit of each byte that is parity in DES.
func alike(known, value []byte) bool {
	a, b := secret.New(known), secret.New(value).Clone()
	defer b.Wipe()
	kdf.OddParity(a.Bytes())
	kdf.OddParity(b.Bytes())
	return a.Equal(b)
}

// keep is the value as the vault has it: a DES key that is one of HMAC has the
// parity that Dogtag's token gave it, and zeros behind it.
func keep(value secret.Secret, t, kept hsm.KeyType) secret.Secret {
	out := secret.New(make([]byte, kept.Size()))
	copy(out.Bytes(), value.Bytes())
	if t.Cipher() == kdf.DES {
		kdf.OddParity(out.Bytes()[:t.Size()])
	}
	return out
}

func (s *Service) hasAny(name tks.KeySetName, v gp.KeyVersion) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.masters {
		if m.Set == name && m.Version == v {
			return true
		}
	}
	return false
}
