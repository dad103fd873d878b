//go:build cgo && !windows

package pkcs11

import (
	"context"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"
)

// watch knows since when a goroutine has been in a call. A goroutine for every call,
// which is what bounds them elsewhere, costs as much as the call where the token is
// a library on this machine.
type watch struct {
	since atomic.Int64 // when the running call began, in nanoseconds since start; 0: none runs
	start time.Time
	left  atomic.Bool // nobody waits any more
}

// watched runs f, whose calls into the session are made in the goroutine of f. It
// returns when f does, or, with left, when one call has taken too long: then f and
// the session are left to themselves.
func (s *session) watched(f func() error) (left bool, err error) {
	w := &watch{start: time.Now()}
	s.watch = w
	done := make(chan error, 1)
	go func() { done <- f() }()
	limit := s.t.cfg.OpTimeout
	for t := time.NewTimer(limit); ; {
		select {
		case err := <-done:
			t.Stop()
			s.watch = nil
			return false, err
		case <-t.C:
		}
		wait := limit
		if since := w.since.Load(); since != 0 {
			wait -= time.Since(w.start) - time.Duration(since)
		}
		if wait <= 0 {
			w.left.Store(true)
			return true, errHangs
		}
		t.Reset(wait)
	}
}

// here makes one call in the present goroutine.
func here[T any](ctx context.Context, w *watch, m *module, gen uint64, f func(*p11.Ctx) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if w.left.Load() {
		return none, errHangs
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.gen != gen {
		return none, errStale
	}
	w.since.Store(int64(time.Since(w.start)) + 1)
	v, err := f(m.ctx)
	w.since.Store(0)
	if w.left.Load() {
		return none, errHangs
	}
	return v, err
}
