package softkey

import (
	"context"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"slices"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
)

// wrapper is a wrapping key of the store; it ends with the store.
type wrapper struct {
	store *Store
	info  hsm.WrapperInfo
}

// GenerateWrapper implements hsm.Wrappers. The key is in the file when it returns.
func (s *Store) GenerateWrapper(ctx context.Context, id hsm.WrapperID) (hsm.Wrapper, error) {
	if err := id.Check(); err != nil {
		return nil, fmt.Errorf("generating wrapping key: %w", err)
	}
	ident := id.ID()
	r := record{Label: id.Label(), ID: ident[:], Type: hsm.AES256.String(), Usage: usageWrap, Created: s.now().UTC(), value: secret.Random(hsm.AES256.Size())}
	if err := s.add(r); err != nil {
		r.value.Wipe()
		return nil, fmt.Errorf("generating wrapping key: %w", err)
	}
	return s.Wrapper(ctx, id)
}

// Wrapper implements hsm.Wrappers.
func (s *Store) Wrapper(_ context.Context, id hsm.WrapperID) (hsm.Wrapper, error) {
	w := &wrapper{store: s, info: hsm.WrapperInfo{ID: id}}
	err := s.useRecord(id.Label(), usageWrap, func(key []byte) error {
		b, err := aes.NewCipher(key)
		if err != nil {
			return err
		}
		var zero [16]byte
		b.Encrypt(zero[:], zero[:])
		w.info.KCV = slices.Clone(zero[:3])
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("finding wrapping key: %w", err)
	}
	return w, nil
}

// useRecord lends the value of a record, and keeps Close from wiping it meanwhile.
func (s *Store) useRecord(label, usage string, f func([]byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed
	}
	for _, r := range s.records {
		if r.Usage == usage && r.Label == label {
			return f(r.value.Bytes())
		}
	}
	return fmt.Errorf("%s: %w", label, hsm.ErrNotFound)
}

// Wrappers implements hsm.Wrappers.
func (s *Store) Wrappers(context.Context) ([]hsm.WrapperID, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	var out []hsm.WrapperID
	for _, r := range s.records {
		if r.Usage != usageWrap {
			continue
		}
		id, err := hsm.ParseWrapperID(r.Label, r.ID)
		if err != nil {
			return nil, fmt.Errorf("listing wrapping keys: %w", err)
		}
		out = append(out, id)
	}
	slices.SortFunc(out, hsm.CompareWrappers)
	return out, nil
}

// DestroyWrapper implements hsm.Wrappers.
func (s *Store) DestroyWrapper(_ context.Context, id hsm.WrapperID) error {
	found, err := s.remove(id.Label(), usageWrap)
	if err != nil {
		return fmt.Errorf("destroying wrapping key: %w", err)
	}
	if !found {
		return fmt.Errorf("destroying wrapping key: %s: %w", id.Label(), hsm.ErrNotFound)
	}
	return nil
}

// remove drops a record and writes the file.
func (s *Store) remove(label, usage string) (found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, errClosed
	}
	i := slices.IndexFunc(s.records, func(r record) bool { return r.Label == label && r.Usage == usage })
	if i < 0 {
		return false, nil
	}
	gone := s.records[i]
	if err := s.save(slices.Delete(slices.Clone(s.records), i, i+1)); err != nil {
		return true, err
	}
	gone.value.Wipe()
	return true, nil
}

// Info implements hsm.Wrapper.
func (w *wrapper) Info() hsm.WrapperInfo { return w.info }

// Wrap implements hsm.Wrapper with AES-256-GCM.
func (w *wrapper) Wrap(_ context.Context, key secret.Secret, aad []byte) (hsm.WrappedKey, error) {
	if key.Len() != hsm.WrapperKeySize {
		return hsm.WrappedKey{}, fmt.Errorf("wrapping a key of %d bytes: want %d", key.Len(), hsm.WrapperKeySize)
	}
	out := hsm.WrappedKey{Mechanism: hsm.WrapGCM, Nonce: secret.Random(12).Bytes()}
	err := w.store.useRecord(w.info.ID.Label(), usageWrap, func(kek []byte) error {
		aead, err := newGCM(secret.New(kek))
		if err != nil {
			return err
		}
		out.Data = aead.Seal(nil, out.Nonce, key.Bytes(), aad)
		return nil
	})
	return out, err
}

// Unwrap implements hsm.Wrapper.
func (w *wrapper) Unwrap(_ context.Context, in hsm.WrappedKey, aad []byte) (secret.Secret, error) {
	var out secret.Secret
	err := w.store.useRecord(w.info.ID.Label(), usageWrap, func(kek []byte) error {
		aead, err := newGCM(secret.New(kek))
		if err != nil {
			return err
		}
		if in.Mechanism != hsm.WrapGCM || len(in.Nonce) != aead.NonceSize() {
			return fmt.Errorf("unwrapping a key: mechanism %X with a nonce of %d bytes is not the key file's", in.Mechanism, len(in.Nonce))
		}
		b, err := aead.Open(nil, in.Nonce, in.Data, aad)
		if err != nil {
			return fmt.Errorf("unwrapping a key: authentication failed")
		}
		out = secret.New(b)
		return nil
	})
	return out, err
}

// Counter implements hsm.Counters.
func (s *Store) Counter(_ context.Context, l hsm.CounterLabel) (v uint64, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, errClosed
	}
	for _, r := range s.records {
		if r.Usage == usageCounter && r.Label == string(l) && r.value.Len() == 8 {
			return binary.BigEndian.Uint64(r.value.Bytes()), nil
		}
	}
	return 0, nil
}

// SetCounter implements hsm.Counters. It is in the file when it returns.
func (s *Store) SetCounter(_ context.Context, l hsm.CounterLabel, v uint64) error {
	if err := l.Check(); err != nil {
		return fmt.Errorf("setting counter: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	r := record{Label: string(l), Type: "uint64", Usage: usageCounter, Created: s.now().UTC(), value: secret.New(binary.BigEndian.AppendUint64(nil, v))}
	others := slices.DeleteFunc(slices.Clone(s.records), func(o record) bool { return o.Usage == usageCounter && o.Label == r.Label })
	if err := s.save(append(others, r)); err != nil {
		return fmt.Errorf("setting counter: %w", err)
	}
	return nil
}

// DeleteCounter implements hsm.Counters.
func (s *Store) DeleteCounter(_ context.Context, l hsm.CounterLabel) error {
	if _, err := s.remove(string(l), usageCounter); err != nil {
		return fmt.Errorf("deleting counter: %w", err)
	}
	return nil
}
