//go:build unix

package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
	"inkan/tps/token"
)

// writers write until they are stopped, and remember what was acknowledged.
type writers struct {
	acknowledged, refused atomic.Int64

	mu   sync.Mutex
	said []apdu.CUID
	last error // of the last refusal
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func write(t *testing.T, db *store.DB, n int) *writers {
	w := &writers{}
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	for i := range n {
		w.wg.Go(func() {
			for k := uint32(0); ctx.Err() == nil; k++ {
				c := apdu.CUID{1, byte(i)}
				binary.BigEndian.PutUint32(c[6:], k)
				_, err := db.CreateToken(context.WithoutCancel(ctx), token.Token{CUID: c})
				if err == nil { // and a transaction
					err = db.Lock(context.WithoutCancel(ctx), token.Lock{CUID: c, Node: "n", Boot: "b", Session: "s"})
				}
				if err != nil {
					if !errors.Is(err, token.ErrUnavailable) {
						t.Errorf("%s: %v", c, err)
					}
					w.mu.Lock()
					w.last = err
					w.mu.Unlock()
					w.refused.Add(1)
					continue
				}
				w.mu.Lock()
				w.said = append(w.said, c)
				w.mu.Unlock()
				w.acknowledged.Add(1)
			}
		})
	}
	return w
}

// reason is the text of the last refusal.
func (w *writers) reason() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint(w.last)
}

// more waits until n more writes were acknowledged.
func (w *writers) more(t *testing.T, n int64) {
	t.Helper()
	want := w.acknowledged.Load() + n
	for deadline := time.Now().Add(time.Minute); w.acknowledged.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d writes were acknowledged within a minute", w.acknowledged.Load(), want)
		}
	}
}

// check ends the writers and looks for everything that was acknowledged.
func (w *writers) check(t *testing.T, db *store.DB) {
	t.Helper()
	w.stop()
	w.wg.Wait()
	for _, c := range w.said {
		if _, err := db.Token(t.Context(), c); err != nil {
			t.Errorf("%s was acknowledged: %v", c, err)
		}
		err := db.Lock(t.Context(), token.Lock{CUID: c, Node: "m", Boot: "b", Session: "s"})
		if !errors.Is(err, token.ErrLocked) {
			t.Errorf("the lock of %s was acknowledged: %v", c, err)
		}
	}
	t.Logf("%d writes acknowledged, %d refused", w.acknowledged.Load(), w.refused.Load())
}

// TestPostgresKilled: the server is killed in the middle of writes and begins
// again: what it had acknowledged is there, and the work goes on by itself.
func TestPostgresKilled(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	db := openPostgres(t, s.Database(t))
	w := write(t, db, 4)
	for _, end := range []func(testing.TB){s.Kill, s.Stop, s.Kill} {
		w.more(t, 40)
		end(t)
		s.Begin(t)
	}
	w.more(t, 40)
	w.check(t, db)
}

// TestPostgresCut: connections are dropped in the middle of writes, for a moment
// and for longer.
func TestPostgresCut(t *testing.T) {
	t.Parallel()
	p := pgtest.NewProxy(t, pgtest.Shared(t).Address())
	url := p.URL(t, pgtest.Database(t))
	db := openPostgres(t, url)
	w := write(t, db, 4)
	for range 10 {
		w.more(t, 20)
		p.Drop()
	}
	p.Cut()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(w.reason(), "cannot be reached"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("while it was cut: %s", w.reason())
		}
	}
	if strings.Contains(w.reason(), "\n") {
		t.Errorf("several lines: %s", w.reason())
	}
	p.Mend()
	w.more(t, 20)
	w.check(t, db)
}

// TestPostgresRestart: a restart that is over before patience ends is not noticed by
// who reads or runs a transaction.
func TestPostgresRestart(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	db := openPostgres(t, s.Database(t))
	for range 3 {
		s.Stop(t)
		s.Begin(t)
		if _, err := db.Token(t.Context(), apdu.CUID{}); !errors.Is(err, token.ErrNotFound) {
			t.Errorf("reading: %v", err)
		}
		if err := db.Lock(t.Context(), token.Lock{Node: "n", Boot: "b", Session: "s"}); err != nil {
			t.Errorf("locking: %v", err)
		}
	}
}
