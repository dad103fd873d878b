package sealing

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/tks/hsm"
	"inkan/tps/seal"
)

// Retirement says what RetireKeys did.
type Retirement struct {
	Destroyed []string            `json:"Destroyed"`
	Kept      map[string][]string `json:"Kept,omitempty"` // by label: the backups that need the key
}

// RetireKeys destroys the sealing keys of a folder that RotateKey has replaced. One
// that a remembered backup was written for is kept. The keys are set aside first:
// every file has to open without them. No node may have the folder open.
func RetireKeys(ctx context.Context, folder string, o Options) (Retirement, error) {
	out := Retirement{Kept: map[string][]string{}}
	err := change(ctx, folder, o, eventRetire, nil, func(s *Folder) error {
		if _, err := s.everyKey(ctx); err != nil {
			return err
		}
		needed, err := needs(folder)
		if err != nil {
			return err
		}
		for _, b := range s.opened() {
			if b.vault == nil {
				continue
			}
			if err := s.retire(ctx, b, needed, &out); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// needs are the backups that need each key, by its label.
func needs(folder string) (map[string][]string, error) {
	all, err := Backups(folder)
	out := map[string][]string{}
	for _, b := range all {
		for _, k := range b.Keys {
			out[k] = append(out[k], b.Path)
		}
	}
	return out, err
}

// retire destroys the replaced keys of one place.
func (s *Folder) retire(ctx context.Context, b *box, needed map[string][]string, out *Retirement) error {
	all, err := b.vault.Wrappers(ctx)
	if err != nil {
		return coded(err)
	}
	var old []hsm.WrapperID
	for _, id := range all {
		switch label := id.Label(); {
		case id.Instance != [4]byte(s.boot.Instance[:4]) || label == b.at.Key:
		case len(needed[label]) > 0:
			out.Kept[label] = needed[label]
		default:
			old = append(old, id)
		}
	}
	if err := s.opensWithout(ctx, b, old); err != nil {
		return fmt.Errorf("no key is destroyed, a file does not open without those that were replaced: %w", err)
	}
	for _, id := range old {
		s.o.Step("", "retire")
		if err := b.vault.DestroyWrapper(ctx, id); err != nil {
			return coded(err)
		}
		out.Destroyed = append(out.Destroyed, id.Label())
	}
	return nil
}

// opensWithout opens every file, and the one before it, by the keys of one place but
// for some.
func (s *Folder) opensWithout(ctx context.Context, b *box, aside []hsm.WrapperID) error {
	keys := remaining{b.keys(), nil}
	for _, id := range aside {
		keys.aside = append(keys.aside, id.Label())
	}
	only := seal.New(seal.Config{Dir: s.folder, Instance: s.boot.Instance, Openers: []seal.Opener{seal.With(keys)}})
	for _, r := range s.boot.Roles {
		for _, name := range []string{r.File(), r.Prev()} {
			o, err := only.Peek(ctx, r, name)
			if unmade(r, err) || name == r.Prev() && errors.Is(err, seal.SealedMissing) {
				continue
			}
			if err != nil {
				return err
			}
			o.Wipe()
		}
	}
	return nil
}

// remaining finds keys but for those that are set aside.
type remaining struct {
	seal.Keys
	aside []string
}

func (k remaining) Key(ctx context.Context, label string, id []byte) (seal.WrappingKey, error) {
	if slices.Contains(k.aside, label) {
		return nil, &seal.Error{Code: seal.KeyMissing, Cause: fmt.Errorf("key %s is set aside", label)}
	}
	return k.Keys.Key(ctx, label, id)
}
