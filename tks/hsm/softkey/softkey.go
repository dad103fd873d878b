// Package softkey keeps master keys and signing keys in an encrypted file: the
// vault of laboratories and small sites without an HSM. It implements hsm.Vault
// and hsm.Signers at protection level D: whoever has root on the host, a core
// dump or a copy of its memory has every card key.
//
// [Create] makes the file, [Open] reads it with the passphrase; one process at a
// time. The file is one JSON header and one record per key, each AES-256-GCM
// under a key that Argon2id (RFC 9106) makes of the passphrase; a MAC over the
// whole keeps records from being dropped or swapped. A change writes a new file
// beside it and renames it, so that a cut leaves the old one or the new one.
// [Store.Backup] and [Store.CheckBackup] are the copy elsewhere.
//
// A Store is safe for concurrent use.
package softkey

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"inkan/apdu/durable"
	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Store is an open key file.
type Store struct {
	path string
	lock *durable.Lock
	now  func() time.Time

	mu      sync.RWMutex
	file    header
	kek     secret.Secret
	records []record
	closed  bool
}

// Compile-time proof of the roles.
var (
	_ hsm.Vault    = (*Store)(nil)
	_ hsm.Signers  = (*Store)(nil)
	_ hsm.Wrappers = (*Store)(nil)
	_ hsm.Counters = (*Store)(nil)
)

// ErrInUse: another process has the key file open.
var ErrInUse = durable.ErrInUse

var errClosed = fmt.Errorf("key file is closed: %w", hsm.ErrUnavailable)

// Create makes a new, empty key file of mode 0600, and its folder of mode 0700
// if need be. It fails where the file exists. The passphrase is not retained.
// nil params are [DefaultParams].
func Create(path string, passphrase secret.Secret, params *Params) (*Store, error) {
	p := DefaultParams()
	if params != nil {
		p = *params
	}
	h, kek, err := newHeader(passphrase, p)
	if err != nil {
		return nil, fmt.Errorf("creating key file: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("creating key file: %w", err)
	}
	lock, err := durable.LockBeside(path)
	if err != nil {
		return nil, fmt.Errorf("creating key file: %w", err)
	}
	s := &Store{path: path, lock: lock, now: time.Now, file: h, kek: kek}
	if _, err := os.Lstat(path); err == nil {
		return nil, errors.Join(fmt.Errorf("creating key file: %s exists already", path), s.Close())
	}
	if err := s.save(nil); err != nil {
		return nil, errors.Join(fmt.Errorf("creating key file: %w", err), s.Close())
	}
	return s, nil
}

// Open reads a key file and keeps it locked until Close. A wrong passphrase is
// [hsm.ErrPIN]. It refuses a file that others than its owner may read.
func Open(path string, passphrase secret.Secret) (*Store, error) {
	if _, err := os.Stat(path); err != nil { // no lock file where there is no key file
		return nil, fmt.Errorf("opening key file: %w", err)
	}
	lock, err := durable.LockBeside(path)
	if err != nil {
		return nil, fmt.Errorf("opening key file: %w", err)
	}
	c, err := load(path, passphrase)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening key file: %w", err), lock.Release())
	}
	return &Store{path: path, lock: lock, now: time.Now, file: c.header, kek: c.kek, records: c.records}, nil
}

// Close wipes the keys in memory and releases the file. Signers and Works of the
// store fail from then on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.kek.Wipe()
	for _, r := range s.records {
		r.value.Wipe()
	}
	s.records = nil
	return s.lock.Release()
}

// Path is where the file is.
func (s *Store) Path() string { return s.path }

// protection is that of every key.
var protection = hsm.Protection{Level: hsm.LevelD, Why: "the keys are in an encrypted file and, while the node runs, in its memory: there is no HSM"}

// Protection implements hsm.Masters: level D for every key.
func (s *Store) Protection(kdf.Code, hsm.KeyType) hsm.Protection { return protection }

// Random implements hsm.Randomness with the operating system's generator.
func (s *Store) Random(_ context.Context, n int) ([]byte, error) {
	if n < 1 || n > 1024 {
		return nil, fmt.Errorf("%d random bytes: want 1 to 1024", n)
	}
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b, nil
}

// Masters implements hsm.Masters.
func (s *Store) Masters(context.Context) ([]hsm.Master, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	var out []hsm.Master
	for _, r := range s.records {
		if r.Usage != usageMaster {
			continue
		}
		m, err := r.master()
		if err != nil {
			return nil, fmt.Errorf("listing master keys: %w", err)
		}
		out = append(out, m)
	}
	slices.SortFunc(out, hsm.CompareMasters)
	return out, nil
}

// GenerateMaster implements hsm.Masters. The key is in the file when it returns.
func (s *Store) GenerateMaster(_ context.Context, id hsm.MasterID, t hsm.KeyType) (hsm.Master, error) {
	if err := id.Check(); err != nil {
		return hsm.Master{}, fmt.Errorf("generating master key: %w", err)
	}
	if !t.Valid() {
		return hsm.Master{}, fmt.Errorf("generating master key: no such key type: %v", t)
	}
	value := secret.Random(t.Size())
	if t.Cipher() == kdf.DES {
		kdf.OddParity(value.Bytes())
	}
	r := s.masterRecord(id, t, value)
	if err := s.add(r); err != nil {
		value.Wipe()
		return hsm.Master{}, fmt.Errorf("generating master key: %w", err)
	}
	return r.master()
}

func (s *Store) masterRecord(id hsm.MasterID, t hsm.KeyType, value secret.Secret) record {
	ident := id.ID()
	return record{Label: id.Label(), ID: ident[:], Type: t.String(), Usage: usageMaster, Created: s.now().UTC(), value: value}
}

// ImportMasters implements hsm.Masters. The keys are in the file when it returns.
func (s *Store) ImportMasters(_ context.Context, keys []hsm.MasterValue) ([]hsm.Master, error) {
	if err := hsm.CheckMasterValues(keys); err != nil {
		return nil, fmt.Errorf("importing master keys: %w", err)
	}
	var records []record
	for _, k := range keys {
		value := k.Value.Clone()
		if k.Type.Cipher() == kdf.DES {
			kdf.OddParity(value.Bytes())
		}
		r := s.masterRecord(k.ID, k.Type, value)
		r.Origin = string(hsm.Imported)
		records = append(records, r)
	}
	if err := s.add(records...); err != nil {
		for _, r := range records {
			r.value.Wipe()
		}
		return nil, fmt.Errorf("importing master keys: %w", err)
	}
	var out []hsm.Master
	for _, r := range records {
		m, err := r.master()
		if err != nil {
			return nil, fmt.Errorf("importing master keys: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// add appends records and writes the file, all of them or none.
func (s *Store) add(added ...record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	for _, r := range added {
		if slices.ContainsFunc(s.records, func(o record) bool { return o.Label == r.Label }) {
			return fmt.Errorf("%s: %w", r.Label, hsm.ErrExists)
		}
	}
	return s.save(append(slices.Clone(s.records), added...))
}

// save writes records as the next generation; the caller holds mu.
func (s *Store) save(records []record) error {
	next := s.file
	next.Gen++
	b, err := encode(next, s.kek, records)
	if err != nil {
		return err
	}
	if err := durable.ReplaceFile(s.path, b, 0o600); err != nil {
		return fmt.Errorf("writing key file: %w", err)
	}
	s.file, s.records = next, records
	return nil
}
