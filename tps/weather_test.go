package tps_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"

	"inkan/tks"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/store/storetest"
)

// weather makes one call fail of what a node depends on: its store, its key
// service, its authority.
type weather struct {
	store *storetest.Faults
	wrote int // the write that fails, 0 = none

	mu       sync.Mutex
	n, calls int // of key service and authority together
	after    bool
}

// change lets the next call that fails be any of the many that an operation makes.
func (w *weather) change(rnd *rand.Rand) {
	n, after := 1+rnd.IntN(40), rnd.IntN(2) == 0
	w.clear()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls, w.after = 0, after
	switch rnd.IntN(6) {
	case 0:
		m := storetest.Before
		if after {
			m = storetest.After
		}
		w.wrote = n
		w.store.FailAt(n, m)
	case 1:
		w.n = 1 + n/3
	}
}

// struck reports whether the call has failed.
func (w *weather) struck() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrote > 0 && w.store.Writes() >= w.wrote || w.n > 0 && w.calls >= w.n
}

// clear is good weather.
func (w *weather) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrote, w.n = 0, 0
	w.store.FailAt(0, storetest.Before)
}

// over puts the weather over what a node is configured with.
func (w *weather) over(cfg *tps.Config) {
	cfg.Stores = tps.Stores{Tokens: w.store, Certificates: w.store, Activities: w.store, Journals: w.store, Locks: w.store}
	cfg.Keys = stormyKeys{cfg.Keys, w}
	for name, a := range cfg.Authorities {
		cfg.Authorities[name] = stormyCA{a.(*watchedCA), w}
	}
}

func through[T any](w *weather, unavailable error, call func() (T, error)) (T, error) {
	w.mu.Lock()
	w.calls++
	strikes, after := w.calls == w.n, w.after
	w.mu.Unlock()
	if !strikes {
		return call()
	}
	if after {
		call()
	}
	var zero T
	return zero, fmt.Errorf("bad weather: %w", unavailable)
}

type stormyKeys struct {
	tks.Service
	w *weather
}

func (s stormyKeys) Random(ctx context.Context, n int) ([]byte, error) {
	return through(s.w, tks.ErrUnavailable, func() ([]byte, error) { return s.Service.Random(ctx, n) })
}

func (s stormyKeys) DeriveSession(ctx context.Context, r tks.SessionRequest) (tks.SessionReply, error) {
	return through(s.w, tks.ErrUnavailable, func() (tks.SessionReply, error) { return s.Service.DeriveSession(ctx, r) })
}

func (s stormyKeys) WrapKeySet(ctx context.Context, r tks.KeySetRequest) (tks.KeySetReply, error) {
	return through(s.w, tks.ErrUnavailable, func() (tks.KeySetReply, error) { return s.Service.WrapKeySet(ctx, r) })
}

func (s stormyKeys) Encrypt(ctx context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	return through(s.w, tks.ErrUnavailable, func() (tks.EncryptReply, error) { return s.Service.Encrypt(ctx, r) })
}

type stormyCA struct {
	*watchedCA
	w *weather
}

func (s stormyCA) Ready(ctx context.Context) error {
	_, err := through(s.w, ca.ErrUnavailable, func() (struct{}, error) { return struct{}{}, s.watchedCA.Ready(ctx) })
	return err
}

func (s stormyCA) Issue(ctx context.Context, r ca.Request) (ca.Certificate, error) {
	return through(s.w, ca.ErrUnavailable, func() (ca.Certificate, error) { return s.watchedCA.Issue(ctx, r) })
}

func (s stormyCA) Revoke(ctx context.Context, i ca.Issuer, n ca.Serial, r ca.Reason) error {
	_, err := through(s.w, ca.ErrUnavailable, func() (struct{}, error) { return struct{}{}, s.watchedCA.Revoke(ctx, i, n, r) })
	return err
}

func (s stormyCA) Find(ctx context.Context, id string) (ca.Certificate, error) {
	return through(s.w, ca.ErrUnavailable, func() (ca.Certificate, error) { return s.watchedCA.Find(ctx, id) })
}
