package tps_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"inkan/tps"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

// busy is whether a session of another node finds the card locked.
func (s *site) busy(t *testing.T, c token.Token) bool {
	t.Helper()
	l := token.Lock{CUID: c.CUID, Node: "another", Boot: "1", Session: token.NewID(), Since: time.Now()}
	err := s.db.Lock(t.Context(), l)
	if err != nil && !errors.Is(err, token.ErrLocked) {
		t.Fatal(err)
	}
	if err == nil {
		must(t, s.db.Unlock(t.Context(), l))
	}
	return err != nil
}

// TestLockFreedLater: the store fails where a session frees its card's lock, or
// right where it took it. The card is not busy until the node is started anew: the
// next session frees the lock, or the node does when its store answers again.
func TestLockFreedLater(t *testing.T) {
	t.Parallel()
	for name, tended := range map[string]bool{"next session": false, "by itself": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCutter(t, "gp-scp03", cutCase{op: tps.OpPINReset, given: []tps.Operation{tps.OpEnroll}}, nil)
			card := x.prepared(t)
			t.Cleanup(func() { card.Close() })
			f := storetest.NewFaults(x.db)
			x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: f, Journals: f, Locks: f}
			e := x.engine()
			reset := func() error {
				c := &client{Card: card, user: "ada", password: "right", pins: []string{"9518402"}}
				return e.Run(t.Context(), tps.Request{Operation: tps.OpPINReset}, c)
			}
			must(t, reset())
			freeing := f.Writes() // the last one
			ts, err := x.db.Tokens(t.Context(), token.Filter{})
			must(t, err)
			for what, at := range map[string]struct {
				n int
				m storetest.Moment
			}{"freeing": {freeing, storetest.Before}, "taking": {1, storetest.After}} {
				f.FailAt(at.n, at.m)
				if err := reset(); (err == nil) != (what == "freeing") {
					t.Fatalf("%s: %v", what, err)
				}
				if !x.busy(t, ts[0]) {
					t.Fatalf("%s: the lock is not left over", what)
				}
				if !tended {
					if err := reset(); err != nil {
						t.Errorf("%s: the next session: %v", what, err)
					}
					continue
				}
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { e.Tend(ctx, time.Hour); close(done) }()
				for end := time.Now().Add(time.Minute); x.busy(t, ts[0]); time.Sleep(5 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s: the lock is never freed", what)
					}
				}
				stop()
				<-done
			}
		})
	}
}
