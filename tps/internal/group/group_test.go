package group_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"inkan/tps/internal/group"
)

// TestTogether: calls that come during a run are served by one run, in order, and
// none is served twice or left out.
func TestTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g group.Group[int]
		var runs [][]int
		gate := make(chan struct{})
		run := func(vs []int) {
			runs = append(runs, slices.Clone(vs))
			<-gate
		}
		var wg sync.WaitGroup
		for i := range 600 {
			wg.Go(func() {
				if err := g.Do(t.Context(), i, run); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		var served []int
		for _, r := range runs {
			served = append(served, r...)
		}
		if len(runs) != 4 || len(runs[0]) != 1 || len(runs[1]) != 256 || len(served) != 600 || !slices.IsSorted(served) {
			t.Errorf("%d runs of %d calls, the first of %d", len(runs), len(served), len(runs[0]))
		}
	})
}

// TestLeaving: whose context ends before a run takes them is not served, also the
// one whose turn it would have been.
func TestLeaving(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g group.Group[int]
		var served []int
		gate := make(chan struct{})
		run := func(vs []int) {
			served = append(served, vs...)
			<-gate
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i, c := range []context.Context{t.Context(), ctx, t.Context(), ctx} {
			wg.Go(func() {
				err := g.Do(c, i, run)
				if wanted := i%2 == 1; wanted != errors.Is(err, context.Canceled) {
					t.Errorf("call %d: %v", i, err)
				}
			})
			synctest.Wait()
		}
		cancel()
		synctest.Wait()
		close(gate)
		wg.Wait()
		if !slices.Equal(served, []int{0, 2}) {
			t.Errorf("served %v", served)
		}
		if err := g.Do(ctx, 9, run); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	})
}

// TestPanic: a run that panics does so in one goroutine, tells the others, and does
// not hold up who comes after.
func TestPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g group.Group[int]
		gate := make(chan struct{})
		run := func(vs []int) {
			<-gate
			if slices.Contains(vs, 1) {
				panic("broken")
			}
		}
		var wg sync.WaitGroup
		panics, aborted := 0, 0
		for i := range 3 {
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						panics++
					}
				}()
				if err := g.Do(t.Context(), i, run); errors.Is(err, group.ErrAborted) {
					aborted++
				} else if err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
		if panics != 1 || aborted != 1 {
			t.Errorf("%d panics, %d told", panics, aborted)
		}
		if err := g.Do(t.Context(), 0, run); err != nil {
			t.Error(err)
		}
	})
}
