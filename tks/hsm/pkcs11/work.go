//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// work holds a session and the objects that it made in it.
type work struct {
	s       *session
	objects []p11.ObjectHandle
	closed  bool
	left    bool // to a call that hangs: nothing of it is touched any more
}

// key is a key that a work may use: an object of its session, or a master key.
type key struct {
	t  hsm.KeyType
	o  p11.ObjectHandle
	in *work

	// How to make the object again with another template.
	value secret.Secret  // imported keys
	base  *key           // derived keys
	from  kdf.Derivation // derived keys

	derive way       // what deriving from this key has to use
	mask   *[16]byte // CMAC term K1, once it was needed
}

// Type implements hsm.Key.
func (k *key) Type() hsm.KeyType { return k.t }

// Work implements hsm.Cards.
func (t *Token) Work(ctx context.Context) (hsm.Work, error) {
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("using the HSM: %w", err)
	}
	return &work{s: s}, nil
}

// Close destroys the objects and gives the session back.
func (w *work) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	if w.left {
		<-w.s.t.workers
		return nil
	}
	w.destroy()
	w.s.giveBack()
	return nil
}

// destroy destroys the objects.
func (w *work) destroy() {
	if len(w.objects) > 0 && !w.s.spoilt && !w.s.c.dead.Load() {
		_, err := do(context.Background(), w.s, "destroying card keys", func(r raw) (struct{}, error) {
			var err error
			for _, o := range w.objects {
				err = errors.Join(err, r.c.DestroyObject(r.h, o))
			}
			return struct{}{}, err
		})
		w.s.spoilt = w.s.spoilt || err != nil // the objects end with the session
	}
	w.objects = nil
}

// Together implements the ability that hsm.Together asks for: f, and the destruction
// of what it made, in one goroutine whose calls are watched, instead of a goroutine
// for every call. The objects made so far are gone behind it.
func (w *work) Together(ctx context.Context, f func() error) error {
	if w.closed {
		return errClosedWork
	}
	left, err := w.s.watched(func() error {
		defer w.destroy()
		return f()
	})
	if left {
		w.left = true
		w.s.t.lost(ctx, w.s.c, err)
	}
	return err
}

// make runs f, which makes an object, and keeps it for Close.
func (w *work) make(ctx context.Context, doing string, f func(raw) (p11.ObjectHandle, error)) (p11.ObjectHandle, error) {
	o, err := do(ctx, w.s, doing, f)
	if err != nil {
		return 0, err
	}
	w.s.c.created.Add(1)
	w.objects = append(w.objects, o)
	return o, nil
}

// Import implements hsm.KeyMaker.
func (w *work) Import(ctx context.Context, t hsm.KeyType, value secret.Secret) (hsm.Key, error) {
	if w.closed {
		return nil, errClosedWork
	}
	if !t.Valid() || value.Len() != t.Size() {
		return nil, fmt.Errorf("importing %v: %d bytes, want %d", t, value.Len(), t.Size())
	}
	if o := opImport.with(t.Cipher()); w.s.c.ways[o] == 0 {
		return nil, w.s.c.missing(o)
	}
	own := value.Clone()
	o, err := w.create(ctx, t, own, hidden)
	if err != nil {
		return nil, err
	}
	return &key{t: t, o: o, in: w, value: own, derive: w.s.c.ways[opDerive.with(t.Cipher())]}, nil
}

func (w *work) create(ctx context.Context, t hsm.KeyType, value secret.Secret, e exposure) (p11.ObjectHandle, error) {
	return w.make(ctx, "importing a key", func(r raw) (p11.ObjectHandle, error) { return r.create(t, value.Bytes(), e) })
}

var (
	errClosedWork = errors.New("work is closed")
	errForeignKey = errors.New("key is of another work")
)

// own finds what a caller's key refers to.
func (w *work) own(ctx context.Context, k hsm.Key) (*key, error) {
	if w.closed {
		return nil, errClosedWork
	}
	if m, ok := k.(hsm.Master); ok {
		h, err := w.s.master(ctx, m)
		if err != nil {
			return nil, err
		}
		return &key{t: m.Kind, o: h.o, in: w, derive: h.derive, mask: h.mask.Load()}, nil
	}
	own, ok := k.(*key)
	if !ok || own.in != w {
		return nil, errForeignKey
	}
	return own, nil
}

// Encrypt implements hsm.KeyUser.
func (w *work) Encrypt(ctx context.Context, k hsm.Key, data []byte) ([]byte, error) {
	own, err := w.own(ctx, k)
	if err != nil {
		return nil, err
	}
	c := own.t.Cipher()
	if c == kdf.HMAC {
		return nil, fmt.Errorf("encrypting with a key of type %v", own.t)
	}
	if _, iv := cbc(c); len(data) == 0 || len(data)%len(iv) != 0 {
		return nil, fmt.Errorf("encrypting %d bytes: want blocks of %d", len(data), len(iv))
	}
	if w.s.c.ways[opEncrypt.with(c)] == 0 {
		return nil, w.s.c.missing(opEncrypt.with(c))
	}
	return do(ctx, w.s, "encrypting with a card key", func(r raw) ([]byte, error) { return r.encrypt(c, own.o, data) })
}

// CMAC implements hsm.KeyUser.
func (w *work) CMAC(ctx context.Context, k hsm.Key, data []byte) ([]byte, error) {
	own, err := w.own(ctx, k)
	if err != nil {
		return nil, err
	}
	if own.t.Cipher() != kdf.AES {
		return nil, fmt.Errorf("computing AES-CMAC with a key of type %v", own.t)
	}
	way := w.s.c.ways[opCMAC]
	if way == 0 {
		return nil, w.s.c.missing(opCMAC)
	}
	return do(ctx, w.s, "computing a CMAC with a card key", func(r raw) ([]byte, error) {
		if way == byCBC {
			return r.cmacByCBC(own.o, data)
		}
		return r.sign(p11.CKM_AES_CMAC, nil, own.o, data)
	})
}
