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
	ctx := t.Context()
	mine := token.Lock{CUID: cuid(1), Node: "n1", Boot: "b1", Session: "s1", Since: at(0)}
	is(t, "lock", s.Records.Lock(ctx, mine), nil)
	is(t, "heartbeat", s.Records.Heartbeat(ctx, "n1", "b1", at(20)), nil)
	other := token.Lock{CUID: cuid(1), Node: "n2", Boot: "b7", Session: "s9", Since: at(20).Add(30*time.Second - 1)}
	is(t, "before 30 s of silence", s.Records.Lock(ctx, other), token.ErrLocked)
	other.Since = at(20).Add(30 * time.Second)
	is(t, "after 30 s of silence", s.Records.Lock(ctx, other), nil)
	mine.Since = other.Since
	is(t, "its old owner", s.Records.Lock(ctx, mine), token.ErrLocked)
	is(t, "unlock by its old owner", s.Records.Unlock(ctx, mine), nil)
	is(t, "its old owner again", s.Records.Lock(ctx, mine), token.ErrLocked)

	is(t, "the node starts again", s.Records.Heartbeat(ctx, "n2", "b8", other.Since), nil)
	is(t, "after that", s.Records.Lock(ctx, mine), nil)

	again := token.Lock{CUID: cuid(1), Node: "n1", Boot: "b2", Session: "s1", Since: mine.Since}
	is(t, "the own node starts again", s.Records.Lock(ctx, again), nil)
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
