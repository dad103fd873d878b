package catest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// When says on which side of a call's effect a fault strikes.
type When int

// Sides.
const (
	Before When = iota + 1 // the call does nothing
	After                  // the call has acted, its answer is lost
)

// String names the side.
func (w When) String() string {
	if w == Before {
		return "before"
	}
	return "after"
}

// Faults lets one call of all that pass through it fail. It is safe for concurrent use.
type Faults struct {
	n    int
	when When

	mu    sync.Mutex
	calls int
}

// NewFaults returns faults that strike once, at the n-th call (from 1; 0 = never,
// which only counts).
func NewFaults(n int, when When) *Faults { return &Faults{n: n, when: when} }

// Calls returns how many calls there have been.
func (f *Faults) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Struck reports whether the fault has happened.
func (f *Faults) Struck() bool { return f.n > 0 && f.Calls() >= f.n }

// do counts a call and runs act, unless the fault strikes before it.
func (f *Faults) do(unavailable error, act func() error) error {
	f.mu.Lock()
	f.calls++
	strike := f.calls == f.n
	f.mu.Unlock()
	if !strike {
		return act()
	}
	if f.when == After {
		_ = act() // whatever it says never arrives
	}
	return fmt.Errorf("injected fault %s call %d: %w", f.when, f.n, unavailable)
}

// Authority returns a with the faults: a call that fails returns ca.ErrUnavailable.
func (f *Faults) Authority(a ca.Authority) ca.Authority { return &authority{a, f} }

type authority struct {
	ca.Authority
	f *Faults
}

func (a *authority) Ready(ctx context.Context) error {
	return a.f.do(ca.ErrUnavailable, func() error { return a.Authority.Ready(ctx) })
}

func (a *authority) Issue(ctx context.Context, req ca.Request) (c ca.Certificate, err error) {
	err = a.f.do(ca.ErrUnavailable, func() (err error) {
		c, err = a.Authority.Issue(ctx, req)
		return err
	})
	if err != nil {
		return ca.Certificate{}, err
	}
	return c, nil
}

func (a *authority) Revoke(ctx context.Context, issuer ca.Issuer, serial ca.Serial, reason ca.Reason) error {
	return a.f.do(ca.ErrUnavailable, func() error { return a.Authority.Revoke(ctx, issuer, serial, reason) })
}

// Store returns s with the faults: a call that fails returns token.ErrUnavailable.
func (f *Faults) Store(s ca.Store) ca.Store { return &store{s, f} }

type store struct {
	ca.Store
	f *Faults
}

func (s *store) Issued(ctx context.Context, id string) (i ca.Issued, err error) {
	err = s.f.do(token.ErrUnavailable, func() (err error) { i, err = s.Store.Issued(ctx, id); return err })
	return i, err
}

func (s *store) IssuedBySerial(ctx context.Context, serial ca.Serial) (i ca.Issued, err error) {
	err = s.f.do(token.ErrUnavailable, func() (err error) { i, err = s.Store.IssuedBySerial(ctx, serial); return err })
	return i, err
}

func (s *store) CreateIssued(ctx context.Context, i ca.Issued) error {
	return s.f.do(token.ErrUnavailable, func() error { return s.Store.CreateIssued(ctx, i) })
}

func (s *store) CompleteIssued(ctx context.Context, id string, der []byte) error {
	return s.f.do(token.ErrUnavailable, func() error { return s.Store.CompleteIssued(ctx, id, der) })
}

func (s *store) SetRevocation(ctx context.Context, serial ca.Serial, r ca.Revocation) error {
	return s.f.do(token.ErrUnavailable, func() error { return s.Store.SetRevocation(ctx, serial, r) })
}

func (s *store) Revoked(ctx context.Context, since time.Time) (out []ca.Revoked, change int64, err error) {
	err = s.f.do(token.ErrUnavailable, func() (err error) { out, change, err = s.Store.Revoked(ctx, since); return err })
	return out, change, err
}

func (s *store) LatestCRL(ctx context.Context) (c ca.CRL, change int64, err error) {
	err = s.f.do(token.ErrUnavailable, func() (err error) { c, change, err = s.Store.LatestCRL(ctx); return err })
	return c, change, err
}

func (s *store) PutCRL(ctx context.Context, c ca.CRL) error {
	return s.f.do(token.ErrUnavailable, func() error { return s.Store.PutCRL(ctx, c) })
}
