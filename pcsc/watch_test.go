package pcsc_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"inkan/pcsc"
)

// watched collects what a watch reports, as text.
type watched struct {
	lines chan string
	done  chan struct{}
}

func watchFake(t *testing.T, ctx context.Context, s *pcsc.Service) *watched {
	t.Helper()
	w := &watched{lines: make(chan string, 100), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for e, err := range s.Watch(ctx) {
			switch {
			case errors.Is(err, pcsc.ErrNoService):
				w.lines <- "no service"
			case err != nil:
				w.lines <- err.Error()
			case e.Kind == pcsc.CardInserted:
				w.lines <- e.Kind.String() + " " + e.Reader + " " + e.ATR.String()
			default:
				w.lines <- e.Kind.String() + " " + e.Reader
			}
		}
	}()
	return w
}

// take returns what has been reported once everything has come to rest.
func (w *watched) take() []string {
	time.Sleep(3 * time.Second) // of the bubble's time: longer than any round
	synctest.Wait()
	var out []string
	for {
		select {
		case l := <-w.lines:
			out = append(out, l)
		default:
			return out
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := pcsc.NewFake()
		f.AddReader("A")
		f.Insert("A", atr)
		s := openFake(t, f)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := watchFake(t, ctx, s)
		for _, tc := range []struct {
			name string
			act  func()
			want []string
		}{
			{"start", func() {}, []string{"reader added A", "card inserted A 3B800181"}},
			{"silence", func() { time.Sleep(time.Minute) }, nil},
			{"use", func() { f.MarkExclusive("A") }, nil},
			{"remove", func() { f.Remove("A") }, []string{"card removed A"}},
			{"reader", func() { f.AddReader("B") }, []string{"reader added B"}},
			{"insert", func() { f.Insert("B", atr) }, []string{"card inserted B 3B800181"}},
			{"swap", func() { f.Do(func() {}); f.Remove("B"); f.Insert("B", atr) }, []string{"card removed B", "card inserted B 3B800181"}},
			{"unplug", func() { f.RemoveReader("B") }, []string{"card removed B", "reader removed B"}},
			{"mute", func() { f.Insert("A", nil) }, []string{"card does not answer A"}},
			{"mute out", func() { f.Remove("A") }, []string{"card removed A"}},
			{"service down", func() { f.Down(true); time.Sleep(time.Minute) }, []string{"reader removed A", "no service"}},
			{"service up", func() { f.Down(false) }, []string{"reader added A"}},
			{"no readers", func() { f.RemoveReader("A"); time.Sleep(time.Minute) }, []string{"reader removed A"}},
			{"reader again", func() { f.AddReader("A") }, []string{"reader added A"}},
		} {
			tc.act()
			if got := w.take(); !slices.Equal(got, tc.want) {
				t.Errorf("%s: reported %q, want %q", tc.name, got, tc.want)
			}
		}
		began := time.Now()
		cancel()
		<-w.done
		if d := time.Since(began); d > 200*time.Millisecond {
			t.Errorf("the watch took %s to end", d)
		}
	})
}

func TestWatchLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := pcsc.NewFake()
		f.AddReader("A")
		f.Insert("A", atr)
		s := openFake(t, f)
		n := 0
		for range s.Watch(t.Context()) {
			n++
			break
		}
		f.Down(true)
		for _, err := range s.Watch(t.Context()) {
			wantError(t, err, pcsc.ErrNoService)
			n++
			break
		}
		if n != 2 {
			t.Errorf("%d rounds", n)
		}
	})
}
