package sealing

import (
	"context"
	"errors"
	"fmt"
	"os"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// Disable makes the plain files count again and removes the sealed ones. The key
// stays in the HSM: older backups need it. A cut call leaves what opens; run it again
// to finish.
func Disable(ctx context.Context, folder string, o Options) error {
	boot, err := Prepared(folder)
	if err != nil {
		return err
	}
	if boot.Phase == seal.Disabling || boot.Phase == seal.Enabling {
		return finishDisable(ctx, folder, o)
	}
	return change(ctx, folder, o, eventDisable, map[string]string{"to": "plain"}, func(s *Folder) error {
		for _, r := range s.boot.Roles {
			if err := s.lay(ctx, r); err != nil {
				return err
			}
		}
		s.boot.Phase = seal.Disabling
		s.o.Step("", "disabling")
		if err := s.boot.Write(s.folder); err != nil {
			return err
		}
		return s.drop(ctx)
	})
}

// lay writes the plain file of a role.
func (s *Folder) lay(ctx context.Context, r seal.Role) error {
	o, err := s.Open(ctx, r)
	if unmade(r, err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer o.Wipe()
	s.o.Step(r, "lay")
	return coded(WriteFile(plainFile(s.folder, r), o.Bytes(), roles[r].mode))
}

// drop removes the sealed files and, last, seal.toml.
func (s *Folder) drop(ctx context.Context) error {
	for _, r := range s.boot.Roles {
		if err := s.reader().Drop(ctx, r); err != nil {
			return err
		}
	}
	s.o.Step("", "forget")
	if err := seal.RemoveAnchor(s.folder); err != nil {
		return err
	}
	return durable.Remove(Within(s.folder, seal.BootstrapFile))
}

// finishDisable ends an interrupted change after which the plain files count.
func finishDisable(ctx context.Context, folder string, o Options) error {
	boot, lock, err := LockPrepared(folder)
	if err != nil {
		return err
	}
	defer lock.Release()
	if boot.Phase != seal.Enabling && boot.Phase != seal.Disabling { // somebody else was at it
		return ErrNotSealed
	}
	now, err := readPlainConfig(folder)
	if err != nil {
		return err
	}
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return err
	}
	defer s.Close()
	return audited(ctx, folder, now.Config, eventDisable, map[string]string{"to": "plain", "phase": string(boot.Phase)}, func() error { return s.drop(ctx) })
}

// DisableToKeyFile moves the sealed files from the HSM to a key in the folder's key
// file, which is made where there is none. passphrase opens it; pinSource says where
// later starts get it. A cut call leaves what opens; run it again to finish.
func DisableToKeyFile(ctx context.Context, folder string, passphrase secret.Secret, pinSource string, params *softkey.Params, o Options) (Rotation, error) {
	out := Rotation{Generations: map[string]uint64{}}
	err := change(ctx, folder, o, eventDisable, map[string]string{"to": "key file"}, func(s *Folder) error {
		if s.boot.KeyFile != "" { // an interrupted call has come so far
			return s.endKeyFile(ctx, &out)
		}
		if s.Has(RolePassphrase) {
			if err := s.checkPassphrase(ctx, passphrase); err != nil {
				return err
			}
		}
		v, err := makeKeyFile(folder, passphrase, params)
		if err != nil {
			return err
		}
		b := &box{at: seal.Place{KeyFile: KeyFile, PINSource: pinSource, Key: s.boot.Key}, vault: v}
		defer v.Close()
		if b.at.Key == "" { // a credential had none
			b.at.Key = hsm.WrapperID{Instance: [4]byte(s.boot.Instance[:4]), Version: 1}.Label()
		}
		boot := s.boot
		boot.SetFirst(b.at)
		boot.Slots = nil
		next := s.with(boot, b)
		return s.toKeyFile(ctx, next, &out)
	})
	return out, err
}

// endKeyFile seals under the key file alone what is also open to the HSM's key.
func (s *Folder) endKeyFile(ctx context.Context, out *Rotation) error {
	key, err := s.key(ctx)
	if err != nil {
		return err
	}
	out.Old, out.New = s.boot.Key, s.boot.Key
	if err := s.resealAll(ctx, nil, out.Generations, key); err != nil || s.Has(RolePassphrase) {
		return err
	}
	return s.reader().Drop(ctx, RolePassphrase)
}

// checkPassphrase compares with the sealed one, which cannot be sealed under the key
// file that it opens and has to be known otherwise from now on.
func (s *Folder) checkPassphrase(ctx context.Context, passphrase secret.Secret) error {
	o, err := s.Open(ctx, RolePassphrase)
	if err != nil {
		return err
	}
	defer o.Wipe()
	if !secret.New(trimNewline(o.Bytes())).Equal(passphrase) {
		return fmt.Errorf("it is not the passphrase of the key file: %w", hsm.ErrPIN)
	}
	return nil
}

func (s *Folder) toKeyFile(ctx context.Context, next *Folder, out *Rotation) error {
	old, err := s.openKeys(ctx)
	if err != nil {
		return err
	}
	fresh, _, err := next.first().makeKey(ctx, true)
	if err != nil {
		return err
	}
	out.Old, out.New = s.boot.Key, next.boot.Key
	// From here on the passphrase is no role: whoever starts the node gives it.
	keep := []seal.Role{}
	for _, r := range s.boot.Roles {
		if r != RolePassphrase {
			keep = append(keep, r)
		}
	}
	next.boot.Roles = keep
	if err := s.move(ctx, next, out.Generations, old, []seal.WrappingKey{fresh}); err != nil {
		return err
	}
	if s.Has(RolePassphrase) {
		return s.reader().Drop(ctx, RolePassphrase)
	}
	return nil
}

// Destroy removes the sealed files of a folder, its seal.toml and the generations in
// the HSM; with the key, which no backup then opens, where withKey is set.
func Destroy(ctx context.Context, folder string, withKey bool, o Options) error {
	boot, err := PhaseOf(folder)
	if err != nil {
		return err
	}
	if boot.Phase == "" {
		return ErrNotSealed
	}
	lock, err := Lock(Within(folder, LockFile))
	if err != nil {
		return err
	}
	defer lock.Release()
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return err
	}
	defer s.Close()
	c, err := s.peek(ctx)
	if err != nil { // an interrupted call, or what cannot be opened: it goes all the same
		c = config.Default()
	}
	return audited(ctx, folder, c, eventDestroy, map[string]string{"with_key": fmt.Sprint(withKey)}, func() error {
		if err := s.drop(ctx); err != nil || !withKey {
			return err
		}
		return s.destroyKeys(ctx)
	})
}

// destroyKeys removes every key of the instance.
func (s *Folder) destroyKeys(ctx context.Context) error {
	for _, v := range s.openVaults() {
		all, err := v.Wrappers(ctx)
		if err != nil {
			return coded(err)
		}
		for _, id := range all {
			if id.Instance == [4]byte(s.boot.Instance[:4]) {
				if err := v.DestroyWrapper(ctx, id); err != nil {
					return coded(err)
				}
			}
		}
	}
	return nil
}

// Export writes the plain text of a role to a new file, mode 0600: encrypt, if not
// nil, makes what is written of it. The audit record has its SHA-256.
func Export(ctx context.Context, folder string, r seal.Role, to string, encrypt func([]byte) ([]byte, error), o Options) error {
	return withLocked(ctx, folder, o, func(s *Folder) error { // the lock is for the audit record
		c, opened, err := s.Config(ctx)
		if err != nil {
			return err
		}
		opened.Wipe()
		out, err := s.Open(ctx, r)
		if err != nil {
			return err
		}
		defer out.Wipe()
		b := out.Bytes()
		if encrypt != nil {
			if b, err = encrypt(b); err != nil {
				return err
			}
		}
		fields := map[string]string{"role": string(r), "path": to, "sha256": hexSum(b), "encrypted": fmt.Sprint(encrypt != nil)}
		return audited(ctx, folder, c, eventExport, fields, func() error { return writeOnce(to, b) })
	})
}

// writeOnce writes a new file; one that is there stays as it is.
func writeOnce(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Adopted is a role whose file was ahead of the HSM.
type Adopted struct {
	Role     seal.Role `json:"Role"`
	Anchor   uint64    `json:"Anchor"` // before
	Accepted uint64    `json:"Accepted"`
}

// AheadOfAnchor lists what Adopt would accept, and changes nothing.
func AheadOfAnchor(ctx context.Context, folder string, o Options) (out []Adopted, err error) {
	err = withSealing(ctx, folder, o, func(s *Folder) error {
		for _, r := range s.boot.Roles {
			st, err := s.reader().State(ctx, r)
			if unmade(r, err) {
				continue
			}
			if err != nil {
				return err
			}
			if st.Generation > st.Anchor {
				out = append(out, Adopted{r, st.Anchor, st.Generation})
			}
		}
		return nil
	})
	return out, err
}

// Adopt accepts files that are ahead of the HSM: it was restored from an old backup.
func Adopt(ctx context.Context, folder string, o Options) (out []Adopted, err error) {
	list, err := AheadOfAnchor(ctx, folder, o)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	err = withSealing(ctx, folder, o, func(s *Folder) error {
		lock, err := Lock(Within(folder, LockFile))
		if err != nil {
			return err
		}
		defer lock.Release()
		fields := map[string]string{}
		for _, a := range list {
			fields[string(a.Role)] = fmt.Sprintf("%d over %d", a.Accepted, a.Anchor)
		}
		c, err := s.peek(ctx)
		if err != nil {
			return err
		}
		return audited(ctx, folder, c, eventAdopt, fields, func() error {
			for _, a := range list {
				was, now, err := s.reader().Adopt(ctx, a.Role)
				if err != nil {
					return err
				}
				out = append(out, Adopted{a.Role, was, now})
			}
			return nil
		})
	})
	return out, err
}

// peek decodes the configuration whatever the anchor says: to know where the audit
// log is.
func (s *Folder) peek(ctx context.Context) (config.Config, error) {
	o, err := s.reader().Peek(ctx, RoleConfig, RoleConfig.File())
	if err != nil {
		return config.Config{}, err
	}
	defer o.Wipe()
	c, err := decodeSealed(o.Bytes())
	if err == nil {
		s.seen.set(c)
	}
	return c, err
}

// withSealing runs do with the sealing of a folder, without its lock.
func withSealing(ctx context.Context, folder string, o Options, do func(*Folder) error) error {
	boot, err := Prepared(folder)
	if err != nil {
		return err
	}
	if boot.Phase != seal.Sealed {
		return ErrNotSealed
	}
	s, err := Open(ctx, folder, boot, o)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}
