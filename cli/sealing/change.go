package sealing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// Document is the configuration of a folder as its owner wrote it.
type Document struct {
	Text       []byte
	Generation uint64 // 0: a plain file
	Config     config.Config
}

// ReadConfig reads the configuration of a folder, sealed or plain. It takes no lock.
func ReadConfig(ctx context.Context, folder string, o Options) (Document, error) {
	boot, err := Prepared(folder)
	if err != nil {
		return Document{}, err
	}
	if boot.Phase != seal.Sealed {
		return readPlainConfig(folder)
	}
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return Document{}, err
	}
	defer s.Close()
	return s.document(ctx)
}

func readPlainConfig(folder string) (Document, error) {
	path := Within(folder, ConfigFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return Document{}, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := config.Decode(b)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return Document{Text: b, Config: c}, err
}

func (s *Folder) document(ctx context.Context) (Document, error) {
	c, o, err := s.Config(ctx)
	if err != nil {
		return Document{}, err
	}
	return Document{Text: o.Bytes(), Generation: o.Generation(), Config: c}, nil
}

// WriteConfig replaces the configuration of a folder that no node has open. What
// does not decode is refused, and so is a document whose predecessor was not read:
// expect is its generation. The node takes it up at its next start.
func WriteConfig(ctx context.Context, folder string, expect uint64, text []byte, o Options) (uint64, error) {
	return writeConfig(ctx, folder, expect, text, func() error { return nil }, o)
}

// writeConfig is [WriteConfig] that does something else before it writes, while
// no node has the folder open, and writes nothing if that fails.
func writeConfig(ctx context.Context, folder string, expect uint64, text []byte, before func() error, o Options) (uint64, error) {
	c, err := config.Decode(text)
	if err != nil {
		return 0, err
	}
	boot, err := Prepared(folder)
	if err != nil {
		return 0, err
	}
	if boot.Phase != seal.Sealed {
		return 0, replacePlain(ctx, folder, expect, text, before)
	}
	var g uint64
	err = change(ctx, folder, o, eventSave, nil, func(s *Folder) (err error) {
		if err := before(); err != nil {
			return err
		}
		if err := s.carryGenerations(ctx, c); err != nil {
			return err
		}
		g, err = s.Save(ctx, RoleConfig, expect, text)
		return err
	})
	return g, err
}

func replacePlain(ctx context.Context, folder string, expect uint64, text []byte, before func() error) error {
	boot, lock, err := LockPrepared(folder)
	if err != nil {
		return err
	}
	defer lock.Release()
	if expect != 0 || boot.Phase == seal.Sealed {
		return &seal.Error{Code: seal.Conflict, Role: RoleConfig, Cause: errors.New("the folder was sealed, or is not sealed any more")}
	}
	now, err := readPlainConfig(folder)
	if err != nil {
		return err
	}
	return audited(ctx, folder, now.Config, eventSave, nil, func() error {
		if err := before(); err != nil {
			return err
		}
		return WriteFile(Within(folder, ConfigFile), text, 0o600)
	})
}

// change runs do on the sealed files of a folder that no node has open, audited.
func change(ctx context.Context, folder string, o Options, event string, fields map[string]string, do func(*Folder) error) error {
	return withLocked(ctx, folder, o, func(s *Folder) error {
		if err := s.Finish(ctx); err != nil {
			return err
		}
		c, opened, err := s.Config(ctx)
		if err != nil {
			return err
		}
		opened.Wipe()
		return audited(ctx, folder, c, event, fields, func() error { return do(s) })
	})
}

// withLocked runs do with the sealing of a folder, under its lock.
func withLocked(ctx context.Context, folder string, o Options, do func(*Folder) error) error {
	boot, lock, err := LockPrepared(folder)
	if err != nil {
		return err
	}
	defer lock.Release()
	if boot.Phase != seal.Sealed {
		return ErrNotSealed
	}
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return err
	}
	defer s.Close()
	return do(s)
}

// ErrNotSealed means that a folder's files are plain.
var ErrNotSealed = errors.New("the folder is not sealed: inkan config seal does that")

// TakeIn seals a plain configuration that was put beside the sealed one, as its next
// generation, and removes it.
func TakeIn(ctx context.Context, folder string, o Options) (uint64, error) {
	text, err := readPlain(folder, RoleConfig)
	if err != nil {
		return 0, fmt.Errorf("reading the plain configuration: %w", err)
	}
	c, err := config.Decode(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", Within(folder, ConfigFile), err)
	}
	var g uint64
	err = withLocked(ctx, folder, o, func(s *Folder) error {
		was, err := s.Open(ctx, RoleConfig)
		if err != nil {
			return err
		}
		was.Wipe()
		return audited(ctx, folder, c, eventSave, map[string]string{"taken_in": ConfigFile}, func() error {
			if g, err = s.Save(ctx, RoleConfig, was.Generation(), text); err != nil {
				return err
			}
			s.o.Step(RoleConfig, "clear")
			return shred(Within(folder, ConfigFile))
		})
	})
	return g, err
}

// ResealPlan changes what files are sealed with. The zero value writes them again.
type ResealPlan struct {
	// Recovery replaces the recovery slot: an age recipient, passphrase, or none. Empty:
	// as it is.
	Recovery string
	NotAfter time.Time // refuse to open after; zero: never
}

// NoRecovery takes the recovery slot away.
const NoRecovery = "none"

// Reseal writes every sealed file of a folder again: new data keys, next
// generations. No node may have the folder open.
func Reseal(ctx context.Context, folder string, p ResealPlan, o Options) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := change(ctx, folder, o, eventReseal, map[string]string{"recovery": seal.ShortRecipient(p.Recovery)}, func(s *Folder) error {
		before := s.boot.Recipient
		if p.Recovery != "" {
			s.boot.Recipient = p.Recovery
		}
		if p.Recovery == NoRecovery {
			s.boot.Recipient = ""
		}
		keys, err := s.everyKey(ctx)
		if err != nil {
			return err
		}
		if err := s.resealAll(ctx, &p.NotAfter, out, keys...); err != nil {
			return err
		}
		if s.boot.Recipient == before {
			return nil
		}
		s.o.Step("", "bootstrap")
		return s.boot.Write(s.folder)
	})
	return out, err
}

// resealAll writes every role for these keys.
func (s *Folder) resealAll(ctx context.Context, notAfter *time.Time, out map[string]uint64, keys ...seal.WrappingKey) error {
	for _, r := range s.boot.Roles {
		w, err := s.writer(r, keys...)
		if err != nil {
			return err
		}
		g, err := w.Reseal(ctx, r, seal.ResealOptions{NotAfter: notAfter})
		if unmade(r, err) {
			continue
		}
		if err != nil {
			return err
		}
		out[string(r)] = g
	}
	return nil
}

// Rotation says what RotateKey did.
type Rotation struct {
	Old         string            `json:"Old"`
	New         string            `json:"New"`
	Generations map[string]uint64 `json:"Generations"`
}

// RotateKey makes the next sealing key of a folder and moves every file to it: first
// both keys open it, then seal.toml names the new one, then only that opens. A cut at
// any moment leaves what opens; run it again to go on. The old key stays in the HSM:
// older backups need it.
func RotateKey(ctx context.Context, folder string, o Options) (Rotation, error) {
	out := Rotation{Generations: map[string]uint64{}}
	err := change(ctx, folder, o, eventRotate, nil, func(s *Folder) error {
		keys, err := s.everyKey(ctx)
		if err != nil {
			return err
		}
		b := *s.boxes[0]
		if b.cred != nil {
			return errors.New("the key is a credential: make another one, then inkan config reseal --add-slot cred:NEW, and --remove-slot the old")
		}
		id, err := b.id()
		if err != nil {
			return err
		}
		if id.Version == 255 {
			return errors.New("the instance has had 255 keys")
		}
		id.Version++
		b.at.Key = id.Label()
		s.o.Step("", "generate")
		fresh, _, err := b.makeKey(ctx, true)
		if err != nil {
			return err
		}
		boot := s.boot
		boot.Key = b.at.Key
		next := s.with(boot, append([]*box{&b}, s.boxes[1:]...)...)
		out.Old, out.New = s.boot.Key, boot.Key
		return s.move(ctx, next, out.Generations, keys, append([]seal.WrappingKey{fresh}, keys[1:]...))
	})
	return out, err
}

// move takes every file from the keys of s to those of next, which may be in other
// places, without a moment in which neither open.
func (s *Folder) move(ctx context.Context, next *Folder, out map[string]uint64, old, fresh []seal.WrappingKey) error {
	both := slices.Clone(old)
	for _, k := range fresh {
		if !slices.ContainsFunc(old, func(o seal.WrappingKey) bool { return sameKey(o, k) }) {
			both = append(both, k)
		}
	}
	if err := s.resealAll(ctx, nil, out, both...); err != nil {
		return err
	}
	for _, r := range s.boot.Roles { // where generations are kept in a place that s has not
		if g := out[string(r)]; g > 0 && next.boot.Anchor == seal.AnchorHSM {
			next.o.Step(r, "anchor")
			if err := next.anchor().SetGeneration(ctx, next.boot.Instance, r, g); err != nil {
				return err
			}
		}
	}
	next.o.Step("", "bootstrap")
	if err := next.boot.Write(next.folder); err != nil {
		return err
	}
	return next.resealAll(ctx, nil, out, fresh...)
}

// sameKey reports whether two are one key.
func sameKey(a, b seal.WrappingKey) bool {
	x, y := a.Describe(), b.Describe()
	return x.Kind == y.Kind && x.Label == y.Label && x.Serial == y.Serial && bytes.Equal(x.KCV, y.KCV)
}

// makeKeyFile opens the folder's key file, or makes one where its keys are in an HSM.
func makeKeyFile(folder string, passphrase secret.Secret, params *softkey.Params) (Vault, error) {
	path := Within(folder, KeyFile)
	if _, err := os.Stat(path); err == nil {
		v, err := softkey.Open(path, passphrase)
		if err != nil {
			return nil, coded(err)
		}
		return v, nil
	}
	v, err := softkey.Create(path, passphrase, params)
	if err != nil {
		return nil, err
	}
	return v, nil
}
