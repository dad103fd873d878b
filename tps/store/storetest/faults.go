package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"inkan/tps/token"
)

// ErrFault is in the error of a write that [Faults] made fail.
var ErrFault = errors.New("write was made to fail")

// Moment says when a write fails.
type Moment int

// Moments: before the write is persisted, or after it, so that only the answer is lost.
const (
	Before Moment = iota + 1
	After
)

// Faults is a store one of whose writes fails with token.ErrUnavailable. It
// counts the writes of all roles together, heartbeats excepted: those come by
// the clock. It is safe for concurrent use.
type Faults struct {
	Records

	mu     sync.Mutex
	writes int
	fail   int
	moment Moment
	dies   bool
}

// NewFaults returns a store over r in which nothing fails until FailAt.
func NewFaults(r Records) *Faults { return &Faults{Records: r} }

// FailAt has the n-th write from now on (1 is the next) fail, once; 0 = none.
func (f *Faults) FailAt(n int, m Moment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes, f.fail, f.moment, f.dies = 0, n, m, false
}

// DieAt is FailAt for a node that is killed at the n-th write: nothing that it
// writes afterwards is stored.
func (f *Faults) DieAt(n int, m Moment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes, f.fail, f.moment, f.dies = 0, n, m, true
}

// Dead says whether DieAt's write has come.
func (f *Faults) Dead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dies && f.writes >= f.fail
}

// Writes is how many writes there were since FailAt, or NewFaults.
func (f *Faults) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// next counts a write and says how it is to fail, 0 = not.
func (f *Faults) next() (int, Moment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	switch {
	case f.writes == f.fail:
		return f.writes, f.moment
	case f.dies && f.writes > f.fail:
		return f.writes, Before
	}
	return f.writes, 0
}

// faulty runs a write that returns what it stored.
func faulty[T any](f *Faults, name string, write func() (T, error)) (T, error) {
	var zero T
	n, m := f.next()
	if m == Before {
		return zero, fmt.Errorf("%w: %w: %s, write %d, nothing was stored", token.ErrUnavailable, ErrFault, name, n)
	}
	v, err := write()
	if m == After && err == nil {
		return zero, fmt.Errorf("%w: %w: %s, write %d, it was stored", token.ErrUnavailable, ErrFault, name, n)
	}
	return v, err
}

func faultyOnly(f *Faults, name string, write func() error) error {
	_, err := faulty(f, name, func() (struct{}, error) { return struct{}{}, write() })
	return err
}

// CreateToken implements token.Tokens.
func (f *Faults) CreateToken(ctx context.Context, t token.Token) (token.Token, error) {
	return faulty(f, "CreateToken", func() (token.Token, error) { return f.Records.CreateToken(ctx, t) })
}

// ReplaceToken implements token.Tokens.
func (f *Faults) ReplaceToken(ctx context.Context, t token.Token) (token.Token, error) {
	return faulty(f, "ReplaceToken", func() (token.Token, error) { return f.Records.ReplaceToken(ctx, t) })
}

// CreateCertificate implements token.Certificates.
func (f *Faults) CreateCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	return faulty(f, "CreateCertificate", func() (token.Certificate, error) { return f.Records.CreateCertificate(ctx, c) })
}

// ReplaceCertificate implements token.Certificates.
func (f *Faults) ReplaceCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	return faulty(f, "ReplaceCertificate", func() (token.Certificate, error) { return f.Records.ReplaceCertificate(ctx, c) })
}

// AddActivity implements token.Activities.
func (f *Faults) AddActivity(ctx context.Context, a token.Activity) error {
	return faultyOnly(f, "AddActivity", func() error { return f.Records.AddActivity(ctx, a) })
}

// BeginJournal implements token.Journals.
func (f *Faults) BeginJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	return faulty(f, "BeginJournal", func() (token.Journal, error) { return f.Records.BeginJournal(ctx, j) })
}

// ReplaceJournal implements token.Journals.
func (f *Faults) ReplaceJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	return faulty(f, "ReplaceJournal", func() (token.Journal, error) { return f.Records.ReplaceJournal(ctx, j) })
}

// Lock implements token.Locks.
func (f *Faults) Lock(ctx context.Context, l token.Lock) error {
	return faultyOnly(f, "Lock", func() error { return f.Records.Lock(ctx, l) })
}

// Unlock implements token.Locks.
func (f *Faults) Unlock(ctx context.Context, l token.Lock) error {
	return faultyOnly(f, "Unlock", func() error { return f.Records.Unlock(ctx, l) })
}
