//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// session is a session out of the pool. One goroutine has it at a time.
type session struct {
	t      *Token
	c      *conn
	h      p11.SessionHandle
	spoilt bool   // an operation may be unfinished: never use it again
	hangs  bool   // a call is still in it: not even closing it is safe
	watch  *watch // calls are made in this goroutine; nil: each in its own
}

// borrow takes a session, waiting for one where all are in use, but no longer than
// a call may take.
func (t *Token) borrow(ctx context.Context) (*session, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	s, err := t.open(ctx)
	if err != nil {
		<-t.workers
		return nil, err
	}
	return s, nil
}

// enter waits for its turn to use a session.
func (t *Token) enter(ctx context.Context) error {
	select {
	case t.workers <- struct{}{}:
		return nil
	default: // so that a timer is made only for who has to wait
	}
	wait := time.NewTimer(t.cfg.OpTimeout)
	defer wait.Stop()
	select {
	case t.workers <- struct{}{}:
		return nil
	case <-wait.C:
		return fmt.Errorf("all %d sessions of the HSM are busy: %w", cap(t.workers), hsm.ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open takes an idle session that is alive, or opens one. What died while idle
// (token pulled, module restarted) shows here, so a connection is tried twice.
func (t *Token) open(ctx context.Context) (*session, error) {
	var err error
	for range 3 {
		var c *conn
		if c, err = t.current(ctx); err != nil {
			return nil, err
		}
		if t.recycle(ctx, c) {
			continue
		}
		var h p11.SessionHandle
		if h, err = t.sessionOf(ctx, c); err == nil {
			return &session{t: t, c: c, h: h}, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		t.lost(ctx, c, err)
	}
	return nil, fmt.Errorf("opening a session: %s: %w", rv(err), hsm.ErrUnavailable)
}

// fresh is how long a session that worked is taken to be alive. One that died since
// fails at its first call, as it would a moment later.
const fresh = time.Second

// idleSession is one that nobody has.
type idleSession struct {
	h    p11.SessionHandle
	used time.Time
}

func (t *Token) sessionOf(ctx context.Context, c *conn) (p11.SessionHandle, error) {
	c.mu.Lock()
	var h p11.SessionHandle
	idle := len(c.idle) > 0
	if idle {
		last := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		if h = last.h; time.Since(last.used) < fresh {
			c.mu.Unlock()
			return h, ctx.Err()
		}
	}
	c.mu.Unlock()
	return call(ctx, t.mod, c.gen, t.cfg.OpTimeout, func(m *p11.Ctx) (p11.SessionHandle, error) {
		var err error
		if !idle {
			if h, err = m.OpenSession(c.slot, sessionFlags); err != nil {
				return 0, err
			}
		}
		i, err := m.GetSessionInfo(h)
		if err != nil {
			return 0, err
		}
		const loggedIn = 3 // CKS_RW_USER_FUNCTIONS
		if i.State != loggedIn {
			return 0, p11.Error(p11.CKR_USER_NOT_LOGGED_IN)
		}
		return h, nil
	})
}

// lost declares a connection dead: the next caller connects again.
func (t *Token) lost(ctx context.Context, c *conn, err error) {
	if !c.dead.Swap(true) {
		t.cfg.Log.WarnContext(ctx, "HSM connection lost", slog.String("token", c.info.Label), slog.String("err", rv(err)))
	}
}

// recycle gives a connection up that has made too many objects for its library,
// when nobody else is in it, or at last anyway. It reports whether it did.
func (t *Token) recycle(ctx context.Context, c *conn) bool {
	limit := t.cfg.RecycleAfter
	if limit == 0 && c.softHSM() {
		limit = defaultRecycle
	}
	n := c.created.Load()
	if limit <= 0 || n < limit || len(t.workers) > 1 && n < 2*limit || c.dead.Swap(true) {
		return false
	}
	t.cfg.Log.InfoContext(ctx, "restarting the PKCS #11 module after many objects", slog.Int64("objects", n))
	return true
}

// giveBack returns the session to the pool, or closes it.
func (s *session) giveBack() {
	defer func() { <-s.t.workers }()
	if !s.spoilt && !s.c.dead.Load() {
		s.c.mu.Lock()
		s.c.idle = append(s.c.idle, idleSession{s.h, time.Now()})
		s.c.mu.Unlock()
		return
	}
	if s.hangs {
		return
	}
	// The session may be gone already; nobody uses it again.
	_, _ = call(context.Background(), s.t.mod, s.c.gen, s.t.cfg.OpTimeout, func(m *p11.Ctx) (struct{}, error) {
		return struct{}{}, m.CloseSession(s.h)
	})
}

// do runs f in the session and turns its error into one of ours; doing says what
// was being done.
func do[T any](ctx context.Context, s *session, doing string, f func(raw) (T, error)) (T, error) {
	in := func(m *p11.Ctx) (T, error) { return f(raw{m, s.h, s.c.in}) }
	var v T
	var err error
	if s.watch != nil {
		v, err = here(ctx, s.watch, s.t.mod, s.c.gen, in)
	} else {
		v, err = call(ctx, s.t.mod, s.c.gen, s.t.cfg.OpTimeout, in)
	}
	if err == nil {
		return v, nil
	}
	return v, s.explain(ctx, doing, err)
}

// explain classifies an error (hsm.md §16).
func (s *session) explain(ctx context.Context, doing string, err error) error {
	if _, isReturnValue := asRV(err); !isReturnValue {
		if ctx.Err() == nil {
			s.spoilt = true
		}
		s.hangs = s.hangs || errors.Is(err, errHangs)
		if isUnavailable(err) {
			s.t.lost(ctx, s.c, err)
		}
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch classOf(err) {
	case classCaller:
		s.spoilt = true // an operation may have been begun
		return fmt.Errorf("%s: token %s: %s", doing, s.c.name(), rv(err))
	case classProbe:
		s.spoilt = true
		if s.alive() {
			return fmt.Errorf("%s: token %s: %s", doing, s.c.name(), rv(err))
		}
	}
	s.spoilt = true
	s.t.lost(ctx, s.c, err)
	return fmt.Errorf("%s: token %s: %s: %w", doing, s.c.name(), rv(err), hsm.ErrUnavailable)
}

// alive asks the token and the session how they are.
func (s *session) alive() bool {
	_, err := call(context.Background(), s.t.mod, s.c.gen, s.t.cfg.OpTimeout, func(m *p11.Ctx) (struct{}, error) {
		if _, err := m.GetTokenInfo(s.c.slot); err != nil {
			return struct{}{}, err
		}
		_, err := m.GetSessionInfo(s.h)
		return struct{}{}, err
	})
	return err == nil
}
