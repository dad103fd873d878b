package softkey

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"inkan/apdu/secret"
	"inkan/securechannel/primitive"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// work holds the keys of one request in memory until Close wipes them.
type work struct {
	store  *Store
	keys   []*key
	closed bool
}

// key is one of them.
type key struct {
	t     hsm.KeyType
	value secret.Secret
	in    *work
}

// Type implements hsm.Key.
func (k *key) Type() hsm.KeyType { return k.t }

// Work implements hsm.Cards.
func (s *Store) Work(ctx context.Context) (hsm.Work, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, errClosed
	}
	return &work{store: s}, nil
}

// Close wipes every key.
func (w *work) Close() error {
	w.closed = true
	for _, k := range w.keys {
		k.value.Wipe()
	}
	w.keys = nil
	return nil
}

// Derive implements hsm.KeyMaker.
func (w *work) Derive(_ context.Context, from hsm.Key, d kdf.Derivation) (hsm.Key, error) {
	var value []byte
	err := w.use(from, func(base []byte) (err error) {
		value, err = d.Apply(from.Type().Cipher(), base)
		return err
	})
	if err != nil {
		return nil, err
	}
	t, err := hsm.KeyTypeOf(d.Cipher, len(value))
	if err != nil {
		clear(value)
		return nil, err
	}
	return w.keep(t, value), nil
}

// Import implements hsm.KeyMaker.
func (w *work) Import(_ context.Context, t hsm.KeyType, value secret.Secret) (hsm.Key, error) {
	if !t.Valid() || value.Len() != t.Size() {
		return nil, fmt.Errorf("importing %v: %d bytes, want %d", t, value.Len(), t.Size())
	}
	return w.keep(t, append([]byte(nil), value.Bytes()...)), nil
}

// Encrypt implements hsm.KeyUser.
func (w *work) Encrypt(_ context.Context, k hsm.Key, data []byte) ([]byte, error) {
	var out []byte
	err := w.use(k, func(v []byte) error {
		b, err := kdf.NewBlock(k.Type().Cipher(), v)
		if err != nil {
			return err
		}
		if len(data) == 0 || len(data)%b.BlockSize() != 0 {
			return fmt.Errorf("encrypting %d bytes: want blocks of %d", len(data), b.BlockSize())
		}
		out = make([]byte, len(data))
		cipher.NewCBCEncrypter(b, make([]byte, b.BlockSize())).CryptBlocks(out, data)
		return nil
	})
	return out, err
}

// CMAC implements hsm.KeyUser.
func (w *work) CMAC(_ context.Context, k hsm.Key, data []byte) ([]byte, error) {
	if k.Type().Cipher() != kdf.AES {
		return nil, fmt.Errorf("computing AES-CMAC with a key of type %v", k.Type())
	}
	var out []byte
	err := w.use(k, func(v []byte) (err error) {
		out, err = primitive.CMAC(v, data)
		return err
	})
	return out, err
}

// Wrap implements hsm.KeyUser.
func (w *work) Wrap(ctx context.Context, kek, k hsm.Key) ([]byte, error) {
	var plain []byte
	err := w.use(k, func(v []byte) error {
		plain = append(make([]byte, 0, 32), v...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer func() { clear(plain) }()
	if kek.Type().Cipher() == kdf.AES {
		return w.wrapAES(ctx, kek, plain)
	}
	var out []byte
	err = w.use(kek, func(v []byte) (err error) {
		out, err = encryptECB(v, plain)
		return err
	})
	return out, err
}

func (w *work) wrapAES(ctx context.Context, kek hsm.Key, plain []byte) ([]byte, error) {
	if pad := -len(plain) & 15; pad > 0 {
		plain = plain[:len(plain)+pad] // capacity is 32
		rand.Read(plain[len(plain)-pad:])
	}
	return w.Encrypt(ctx, kek, plain)
}

func encryptECB(kek, plain []byte) ([]byte, error) {
	b, err := kdf.NewBlock(kdf.DES, kek)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(plain))
	for i := 0; i < len(plain); i += b.BlockSize() {
		b.Encrypt(out[i:], plain[i:])
	}
	return out, nil
}

func (w *work) keep(t hsm.KeyType, value []byte) *key {
	k := &key{t: t, value: secret.New(value), in: w}
	w.keys = append(w.keys, k)
	return k
}

// use lends the bytes of a key of this work, or of a master key, to f.
func (w *work) use(k hsm.Key, f func([]byte) error) error {
	if w.closed {
		return errors.New("work is closed")
	}
	if m, ok := k.(hsm.Master); ok {
		return w.store.useMaster(m, f)
	}
	own, ok := k.(*key)
	if !ok || own.in != w {
		return errors.New("key is of another work")
	}
	return f(own.value.Bytes())
}

// useMaster keeps Close from wiping the key under f.
func (s *Store) useMaster(m hsm.Master, f func([]byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return errClosed
	}
	id := m.ID()
	for _, r := range s.records {
		if r.Usage == usageMaster && r.Label == m.Label() && string(r.ID) == string(id[:]) {
			if r.Type != m.Kind.String() {
				return fmt.Errorf("master key %s is of type %s, not %v", r.Label, r.Type, m.Kind)
			}
			return f(r.value.Bytes())
		}
	}
	return fmt.Errorf("%s: %w", m.Label(), hsm.ErrNotFound)
}
