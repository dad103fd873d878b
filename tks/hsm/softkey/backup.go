package softkey

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tks/hsm"
)

// Checked is the result of [Store.CheckBackup].
type Checked struct {
	Keys  int    // how many keys the backup holds, all of them equal to the live ones
	Label string // of the key that was restored and used
}

// Backup writes an encrypted copy of every key to path, under a passphrase of its
// own. It refuses a file that exists and the folder of the live key file: a
// backup beside the original is none.
func (s *Store) Backup(path string, passphrase secret.Secret) error {
	if err := s.elsewhere(path); err != nil {
		return fmt.Errorf("backing up keys: %w", err)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return fmt.Errorf("backing up keys: %w", errClosed)
	}
	h, kek, err := newHeader(passphrase, s.file.params())
	if err != nil {
		return fmt.Errorf("backing up keys: %w", err)
	}
	defer kek.Wipe()
	h.Gen = s.file.Gen
	b, err := encode(h, kek, keysOf(s.records))
	if err != nil {
		return fmt.Errorf("backing up keys: %w", err)
	}
	if err := durable.ReplaceFile(path, b, 0o600); err != nil {
		return fmt.Errorf("backing up keys: %w", err)
	}
	return nil
}

func (s *Store) elsewhere(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s exists already", path)
	}
	there, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	here, err := os.Stat(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	if os.SameFile(here, there) {
		return fmt.Errorf("%s is in the folder of the key file: choose a place on another disk or medium", path)
	}
	return nil
}

// CheckBackup opens a backup with its passphrase, compares every key with the
// live one and restores one of them into a key file of its own to use it. The
// restored copy is removed again. A backup of no key fails.
func (s *Store) CheckBackup(path string, passphrase secret.Secret) (Checked, error) {
	c, err := load(path, passphrase)
	if err != nil {
		return Checked{}, fmt.Errorf("checking backup: %w", err)
	}
	defer c.wipe()
	if err := s.sameKeys(c); err != nil {
		return Checked{}, fmt.Errorf("checking backup: %w", err)
	}
	label, err := c.tryOne()
	if err != nil {
		return Checked{}, fmt.Errorf("checking backup: %w", err)
	}
	return Checked{Keys: len(c.records), Label: label}, nil
}

// Restore makes a key file out of a backup, under the backup's passphrase. It
// fails where path exists.
func Restore(backup string, passphrase secret.Secret, path string) (*Store, error) {
	c, err := load(backup, passphrase)
	if err != nil {
		return nil, fmt.Errorf("restoring keys: %w", err)
	}
	defer c.wipe()
	p := c.header.params()
	s, err := Create(path, passphrase, &p)
	if err != nil {
		return nil, fmt.Errorf("restoring keys: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.Gen = c.header.Gen
	if err := s.save(c.clone()); err != nil {
		return nil, errors.Join(fmt.Errorf("restoring keys: %w", err), s.lock.Release())
	}
	return s, nil
}

func (s *Store) sameKeys(c content) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed
	}
	keys := keysOf(s.records)
	if len(keys) == 0 {
		return errors.New("there is no key yet")
	}
	held := map[string]record{}
	for _, r := range c.records {
		held[r.Label] = r
	}
	for _, r := range keys {
		b, ok := held[r.Label]
		if !ok {
			return fmt.Errorf("the backup has no key %s: make a new one", r.Label)
		}
		if !b.value.Equal(r.value) || string(b.ID) != string(r.ID) || b.Type != r.Type || b.Usage != r.Usage {
			return fmt.Errorf("key %s of the backup is another key", r.Label)
		}
	}
	return nil
}

// tryOne restores one key, a master key where there is one, and uses it: its
// check value, or a signature's key, must come out again.
func (c content) tryOne() (string, error) {
	pick := c.records[0]
	for _, r := range c.records {
		if r.Usage == usageMaster {
			pick = r
			break
		}
	}
	dir, err := os.MkdirTemp("", "key-check-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	pass := secret.Random(32)
	defer pass.Wipe()
	p := least()
	path := filepath.Join(dir, "keystore")
	s, err := Create(path, pass, &p)
	if err != nil {
		return "", err
	}
	if err := errors.Join(s.add(content{records: []record{pick}}.clone()[0]), s.Close()); err != nil {
		return "", err
	}
	return pick.Label, reopenAndUse(path, pass, pick)
}

func reopenAndUse(path string, pass secret.Secret, want record) error {
	s, err := Open(path, pass)
	if err != nil {
		return err
	}
	defer s.Close()
	switch want.Usage {
	case usageSign:
		return s.trySign(want)
	case usageWrap:
		return s.tryWrap(want)
	}
	was, err := want.master()
	if err != nil {
		return err
	}
	got := s.records[0]
	is, err := got.master()
	if err != nil {
		return err
	}
	if is.KCV != was.KCV {
		return fmt.Errorf("key %s came out of the backup with check value %v instead of %v", want.Label, is.KCV, was.KCV)
	}
	return nil
}

// keysOf are the records that are keys.
func keysOf(records []record) []record {
	return slices.DeleteFunc(slices.Clone(records), func(r record) bool { return r.Usage == usageCounter })
}

func (s *Store) tryWrap(want record) error {
	id, err := hsm.ParseWrapperID(want.Label, want.ID)
	if err != nil {
		return err
	}
	w, err := s.Wrapper(context.Background(), id)
	if err != nil {
		return err
	}
	key := secret.Random(hsm.WrapperKeySize)
	defer key.Wipe()
	wrapped, err := w.Wrap(context.Background(), key, nil)
	if err != nil {
		return err
	}
	aead, err := newGCM(want.value)
	if err != nil {
		return err
	}
	if b, err := aead.Open(nil, wrapped.Nonce, wrapped.Data, nil); err != nil || !secret.New(b).Equal(key) {
		return fmt.Errorf("key %s came out of the backup as another key", want.Label)
	}
	return nil
}

func (s *Store) trySign(want record) error {
	g, err := s.Signer(context.Background(), hsm.SignerLabel(want.Label))
	if err != nil {
		return err
	}
	id, err := hsm.PublicKeyID(g.Public())
	if err != nil {
		return err
	}
	if string(id) != string(want.ID) {
		return fmt.Errorf("key %s came out of the backup as another key", want.Label)
	}
	return nil
}

func (c content) clone() []record {
	out := make([]record, len(c.records))
	for i, r := range c.records {
		r.value = r.value.Clone()
		out[i] = r
	}
	return out
}

func (c content) wipe() {
	c.kek.Wipe()
	for _, r := range c.records {
		r.value.Wipe()
	}
}
