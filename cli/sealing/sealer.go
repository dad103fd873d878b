package sealing

import (
	"errors"
	"slices"

	"inkan/tps/seal"
)

// with is the folder with other places, and what was asked for.
func (s *Folder) with(boot seal.Bootstrap, boxes ...*box) *Folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Folder{folder: s.folder, boot: boot, o: s.o, more: s.more, seen: s.seen, boxes: boxes, words: s.words}
}

// openers are of every place that is open.
func (s *Folder) openers() []seal.Opener {
	out := slices.Clone(s.more)
	for _, b := range s.opened() {
		out = append(out, seal.With(b.keys()))
	}
	return out
}

// sealer is over the folder; it writes for these keys and with these slots.
func (s *Folder) sealer(keys []seal.WrappingKey, slots ...seal.Protector) *seal.Sealer {
	return seal.New(seal.Config{Dir: s.folder, Instance: s.boot.Instance, Openers: s.openers(),
		Slots: slots, Anchor: s.anchor(keys...), AnchorName: s.boot.Anchor, Program: s.o.Program, Step: s.o.Step})
}

// reader opens and removes.
func (s *Folder) reader() *seal.Sealer { return s.sealer(nil) }

// writer writes a role for these keys, and the recovery slot.
func (s *Folder) writer(r seal.Role, keys ...seal.WrappingKey) (*seal.Sealer, error) {
	slots, err := s.slots(r, keys...)
	if err != nil {
		return nil, err
	}
	return s.sealer(keys, slots...), nil
}

// slots are what a role is written with: the key, and the recovery slot.
func (s *Folder) slots(r seal.Role, keys ...seal.WrappingKey) ([]seal.Protector, error) {
	var out []seal.Protector
	for _, k := range keys {
		out = append(out, seal.Under(k))
	}
	if roles[r].remade || s.boot.Recipient == "" {
		return out, nil
	}
	p, err := s.recovery()
	return append(out, p), err
}

func (s *Folder) recovery() (seal.Protector, error) {
	if s.boot.Recipient != seal.RecoveryPassphrase {
		return seal.ForAge(s.boot.Recipient)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.words != nil {
		return s.words, nil
	}
	if s.o.Recovery == nil {
		return nil, errors.New("a change needs the recovery passphrase, and nobody can be asked")
	}
	p, err := s.o.Recovery()
	if err != nil {
		return nil, err
	}
	s.words, err = seal.ForPassphrase(p, s.o.RecoveryCost)
	return s.words, err
}
