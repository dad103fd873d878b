package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/tps/token"
)

func testLocks(t *testing.T, s Stores) {
	ctx := t.Context()
	lock := func(what string, l token.Lock, want error) {
		t.Helper()
		is(t, what, s.Records.Lock(ctx, l), want)
	}
	mine := token.Lock{CUID: cuid(1), Node: "n1", Boot: "b1", Session: "s1", Since: at(0)}
	other := token.Lock{CUID: cuid(1), Node: "n1", Boot: "b1", Session: "s2", Since: at(1)}
	elsewhere := token.Lock{CUID: cuid(1), Node: "n2", Boot: "b1", Session: "s1", Since: at(1)}
	is(t, "heartbeat", s.Records.Heartbeat(ctx, "n1", "b1", at(0)), nil)
	lock("first", mine, nil)
	lock("another session", other, token.ErrLocked)
	lock("another node", elsewhere, token.ErrLocked)
	lock("the same session again", mine, nil)
	is(t, "another's unlock", s.Records.Unlock(ctx, other), nil)
	lock("after another's unlock", elsewhere, token.ErrLocked)
	free := other
	free.CUID = cuid(2)
	lock("another card", free, nil)
	is(t, "unlock", s.Records.Unlock(ctx, mine), nil)
	is(t, "unlock again", s.Records.Unlock(ctx, mine), nil)
	lock("after the unlock", elsewhere, nil)
	lock("now the other way round", mine, token.ErrLocked)

	now := token.Lock{CUID: cuid(3), Node: "n3", Boot: "b1", Session: "s1"} // without a time
	lock("without a time", now, nil)
	now.Session = "s2"
	lock("without a time, another session", now, token.ErrLocked)
}

func testVoidLocks(t *testing.T, s Stores) {
	ctx, now := t.Context(), at(0)
	later := func(d time.Duration) {
		now = now.Add(d)
		if s.Later != nil {
			s.Later(t, d)
		}
	}
	lock := func(what string, l token.Lock, want error) {
		t.Helper()
		l.Since = now
		is(t, what, s.Records.Lock(ctx, l), want)
	}
	mine := token.Lock{CUID: cuid(1), Node: "n1", Boot: "b1", Session: "s1"}
	other := token.Lock{CUID: cuid(1), Node: "n2", Boot: "b7", Session: "s9"}
	lock("lock", mine, nil)
	later(20 * time.Second)
	is(t, "heartbeat", s.Records.Heartbeat(ctx, "n1", "b1", now), nil)
	later(30*time.Second - margin(s))
	lock("before 30 s of silence", other, token.ErrLocked)
	later(margin(s))
	lock("after 30 s of silence", other, nil)
	lock("its old owner", mine, token.ErrLocked)
	is(t, "unlock by its old owner", s.Records.Unlock(ctx, mine), nil)
	lock("its old owner again", mine, token.ErrLocked)

	is(t, "the node starts again", s.Records.Heartbeat(ctx, "n2", "b8", now), nil)
	lock("after that", mine, nil)
	again := mine
	again.Boot = "b2"
	lock("the own node starts again", again, nil)
	later(25 * time.Second)
	lock("a lock counts as a heartbeat", again, nil)
	later(10 * time.Second)
	lock("10 s after that", other, token.ErrLocked)
}

// margin is how far from the 30 s a test has to keep: a clock that goes by itself
// goes on while the test waits for a slow machine.
func margin(s Stores) time.Duration {
	if s.Later != nil {
		return 20 * time.Second
	}
	return 1
}

// testLockRace: of ten sessions one gets the card.
func testLockRace(t *testing.T, s Stores) {
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for n := range 10 {
		wg.Go(func() {
			err := s.Records.Lock(t.Context(), token.Lock{CUID: cuid(1), Node: fmt.Sprint("n", n%2), Boot: "b", Session: fmt.Sprint(n)})
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, token.ErrLocked):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 9 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}
