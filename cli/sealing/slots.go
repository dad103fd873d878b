package sealing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/tks/hsm"
	"inkan/tks/hsm/pkcs11"
	"inkan/tps/seal"
)

// AddSlot makes a key in another place and writes every sealed file of a folder for
// that too: a second HSM, or a credential. p names no key. A cut call leaves what
// opens; run it again to finish. No node may have the folder open.
func AddSlot(ctx context.Context, folder string, p seal.Place, o Options) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := change(ctx, folder, o, eventReseal, map[string]string{"add_slot": p.String()}, func(s *Folder) error {
		if slices.ContainsFunc(s.boot.Places(), p.Same) {
			return fmt.Errorf("%s is a key slot already: inkan config status shows them", p)
		}
		if p.Credential == "" {
			label, err := s.freeLabel()
			if err != nil {
				return err
			}
			p.Key = label
		}
		boot := s.boot
		boot.Slots = append(slices.Clone(boot.Slots), p)
		if err := boot.Check(); err != nil {
			return err
		}
		return s.addSlot(ctx, boot, out)
	})
	return out, err
}

func (s *Folder) addSlot(ctx context.Context, boot seal.Bootstrap, out map[string]uint64) (err error) {
	old, err := s.everyKey(ctx)
	if err != nil {
		return err
	}
	b := &box{at: boot.Slots[len(boot.Slots)-1]}
	next := s.with(boot, append(slices.Clone(s.boxes), b)...)
	if err := b.open(ctx, s.folder, next.what(len(next.boxes)-1), s.o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	s.o.Step("", "generate")
	key, _, err := b.makeKey(ctx, true)
	if err != nil {
		return err
	}
	return s.move(ctx, next, out, old, append(slices.Clone(old), key))
}

// freeLabel is that of a key which no place has: two HSMs do not have two keys of one
// name.
func (s *Folder) freeLabel() (string, error) {
	next := hsm.WrapperID{Instance: [4]byte(s.boot.Instance[:4])}
	for _, p := range s.boot.Places() {
		if p.Key == "" {
			continue
		}
		id, err := hsm.ParseWrapperLabel(p.Key)
		if err != nil {
			return "", err
		}
		next.Version = max(next.Version, id.Version)
	}
	if next.Version == 255 {
		return "", errors.New("the instance has had 255 keys")
	}
	next.Version++
	return next.Label(), nil
}

// RemoveSlot writes every sealed file of a folder without one of its places: the URI
// or label of a token, or cred:NAME. The last place, and the last HSM, stay. It works
// where the place is lost and another one opens. The key is not destroyed: older
// backups need it.
func RemoveSlot(ctx context.Context, folder, name string, o Options) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := change(ctx, folder, o, eventReseal, map[string]string{"remove_slot": name}, func(s *Folder) error {
		i, err := s.slotNamed(name)
		if err != nil {
			return err
		}
		all := s.boot.Places()
		rest := slices.Delete(slices.Clone(all), i, i+1)
		isHSM := func(p seal.Place) bool { return p.URI != "" }
		switch {
		case len(rest) == 0:
			return errors.New("it is the last key slot: without it nothing opens; inkan config disable goes back to plain files")
		case isHSM(all[i]) && !slices.ContainsFunc(rest, isHSM):
			return errors.New("it is the last key slot in an HSM: add another one first, or leave the HSM by inkan config disable")
		}
		boot := s.boot
		boot.SetFirst(rest[0])
		boot.Slots = rest[1:]
		if err := boot.Check(); err != nil {
			return err
		}
		return s.removeSlot(ctx, s.with(boot, slices.Delete(slices.Clone(s.boxes), i, i+1)...), out)
	})
	return out, err
}

// removeSlot proves that everything opens in the places that stay before seal.toml
// names only those.
func (s *Folder) removeSlot(ctx context.Context, next *Folder, out map[string]uint64) error {
	keys, err := next.everyKey(ctx)
	if err != nil {
		return err
	}
	if err := next.openAll(ctx); err != nil {
		return fmt.Errorf("trying what stays: %w", err)
	}
	next.o.Step("", "bootstrap")
	if err := next.boot.Write(next.folder); err != nil {
		return err
	}
	return next.resealAll(ctx, nil, out, keys...)
}

// openAll opens every role, and keeps nothing.
func (s *Folder) openAll(ctx context.Context) error {
	for _, r := range s.boot.Roles {
		o, err := s.Open(ctx, r)
		if unmade(r, err) {
			continue
		}
		if err != nil {
			return err
		}
		o.Wipe()
	}
	return nil
}

// slotNamed finds the place that a person means.
func (s *Folder) slotNamed(name string) (int, error) {
	found, names := []int{}, []string{}
	for i, p := range s.boot.Places() {
		names = append(names, p.String())
		u, err := pkcs11.ParseURI(p.URI)
		if p.String() == name || p.URI != "" && err == nil && (u.Token == name || u.Serial == name) {
			found = append(found, i)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d key slots are called %q, want one of %q, or the label of its token", len(found), name, names)
	}
	return found[0], nil
}
