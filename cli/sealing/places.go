package sealing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"inkan/tks/hsm/pkcs11"
	"inkan/tps/seal"
)

// openOne opens the first place that opens.
func (s *Folder) openOne(ctx context.Context) error {
	var errs []error
	for i, b := range s.boxes {
		err := b.open(ctx, s.folder, s.what(i), s.o)
		if err == nil {
			if i > 0 {
				s.o.Log.WarnContext(ctx, "the first key slot does not open, another one does", slog.String("slot", b.at.String()), slog.Any("err", errors.Join(errs...)))
			}
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// what names a PIN to whoever types it.
func (s *Folder) what(i int) string {
	switch p := s.boxes[i].at; {
	case p.URI == "":
		return "Passphrase of the key file"
	case i > 0:
		if u, err := pkcs11.ParseURI(p.URI); err == nil {
			return "PIN of the HSM token " + u.Token
		}
	}
	return "PIN of the HSM token"
}

// first is the place that is in use: the first that is open.
func (s *Folder) first() *box {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.boxes {
		if b.isOpen() {
			return b
		}
	}
	return s.boxes[0]
}

// opened are the places that are open.
func (s *Folder) opened() []*box {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.boxes), func(b *box) bool { return !b.isOpen() })
}

func (s *Folder) openVaults() (out []Vault) {
	for _, b := range s.opened() {
		if b.vault != nil {
			out = append(out, b.vault)
		}
	}
	return out
}

// openKeys are the keys of the places that are open.
func (s *Folder) openKeys(ctx context.Context) (out []seal.WrappingKey, err error) {
	for _, b := range s.opened() {
		k, err := b.key(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// openKeys finds a key in any place that is open.
type openKeys struct{ s *Folder }

func (k openKeys) Key(ctx context.Context, label string, id []byte) (seal.WrappingKey, error) {
	err := error(&seal.Error{Code: seal.KeyMissing, Cause: fmt.Errorf("no place is open that could have key %s", label)})
	for _, b := range k.s.opened() {
		var key seal.WrappingKey
		if key, err = b.keys().Key(ctx, label, id); err == nil {
			return key, nil
		}
	}
	return nil, err
}

// everyKey opens the places that are not open yet: each write is for all of them.
func (s *Folder) everyKey(ctx context.Context) (out []seal.WrappingKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, b := range s.boxes {
		if !b.isOpen() {
			err = b.open(ctx, s.folder, s.what(i), s.o)
		}
		var k seal.WrappingKey
		if err == nil {
			k, err = b.key(ctx)
		}
		if err != nil && len(s.boxes) > 1 {
			return nil, &seal.Error{Code: codeOr(err, seal.HSMUnreachable), Cause: fmt.Errorf("a change is written for every key slot, and %s does not open: %w", b.at, err),
				Hint: "bring it back; or go on without it: inkan config reseal --remove-slot"}
		}
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

func codeOr(err error, c seal.Code) seal.Code {
	if found := seal.CodeOf(err); found != "" {
		return found
	}
	return c
}

// key is the key that is in use.
func (s *Folder) key(ctx context.Context) (seal.WrappingKey, error) { return s.first().key(ctx) }
