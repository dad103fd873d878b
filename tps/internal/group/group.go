// Package group lets callers share what is slow and serial: a flush to disk. Who
// comes while it runs waits, and all who wait are served by the next run.
package group

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
)

// maxRun is how many calls one run serves at most.
const maxRun = 256

// ErrAborted means that the run that served a call panicked in another goroutine.
var ErrAborted = errors.New("shared run was aborted")

// Group serves calls in the order they come, as many at once as have come while
// the run before was busy. A run is made by one of the callers it serves. The zero
// value is ready; a Group is safe for concurrent use.
type Group[T any] struct {
	mu      sync.Mutex
	waiting []*call[T]
	busy    bool
}

type call[T any] struct {
	v     T
	lead  chan struct{} // this one makes the next run
	done  chan struct{} // served
	err   error
	begun bool
}

// Do has run serve v, alone or with others, and returns when that is done. Every
// call of a Group brings the same run; runs never overlap. An error is that of ctx,
// which ended before a run took v, or ErrAborted: run did not serve v, or not to its
// end. What run has to say of v it says through v.
func (g *Group[T]) Do(ctx context.Context, v T, run func([]T)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call[T]{v: v}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if !g.busy {
		g.busy = true
		g.mu.Unlock()
		g.run(run)
		return c.err
	}
	c.lead, c.done = make(chan struct{}), make(chan struct{})
	g.mu.Unlock()
	select {
	case <-c.lead:
		g.run(run)
		return c.err
	case <-c.done:
		return c.err
	case <-ctx.Done():
	}
	return g.leave(ctx, c, run)
}

// leave takes back a call that no run has begun.
func (g *Group[T]) leave(ctx context.Context, c *call[T], run func([]T)) error {
	g.mu.Lock()
	if i := slices.Index(g.waiting, c); i >= 0 && !c.begun {
		g.waiting = slices.Delete(g.waiting, i, i+1)
		g.mu.Unlock()
		return ctx.Err()
	}
	g.mu.Unlock()
	select {
	case <-c.lead:
		g.run(run)
	case <-c.done:
	}
	return c.err
}

// run serves those who wait, the first of whom is the caller, and hands on.
func (g *Group[T]) run(run func([]T)) {
	g.gather()
	g.mu.Lock()
	n := min(len(g.waiting), maxRun)
	batch := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	g.mu.Unlock()
	all := make([]T, n)
	for i, c := range batch {
		all[i], c.err = c.v, ErrAborted
	}
	defer g.hand(batch)
	run(all)
	for _, c := range batch {
		c.err = nil
	}
}

// gather lets come along who is about to come in, as long as there are more of them;
// it costs nothing where nobody is.
func (g *Group[T]) gather() {
	for had, n := -1, 0; n > had && n < maxRun; {
		had = n
		runtime.Gosched()
		g.mu.Lock()
		n = len(g.waiting)
		g.mu.Unlock()
	}
}

// hand wakes whom a run has served, and makes the first who waits the next to run.
func (g *Group[T]) hand(served []*call[T]) {
	for _, c := range served {
		if c.done != nil {
			close(c.done)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.busy = len(g.waiting) > 0; g.busy {
		g.waiting[0].begun = true // it cannot leave any more
		close(g.waiting[0].lead)
	}
}
