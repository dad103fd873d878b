package vpcdtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"inkan/sim/vpcd"
)

// pollEvery is how often pcscd asks a slot for its card (two polls see a removal
// for certain).
const pollEvery = 400 * time.Millisecond

// Plug inserts a card into a slot and returns when the reader has powered it. The
// function it returns pulls the card and returns when pcscd has seen that; the end
// of the test pulls it too.
func (d *Daemon) Plug(t testing.TB, slot int, card vpcd.Card) (unplug func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	powered, ended := make(chan struct{}), make(chan error, 1)
	var once, first sync.Once
	c := &vpcd.Client{Addr: d.Addr(slot), Card: card, Powered: func() { first.Do(func() { close(powered) }) }}
	go func() { ended <- c.Run(ctx) }()
	stop := func(wait time.Duration) {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("software card in slot %d: %v", slot, err)
			}
			time.Sleep(wait)
		})
	}
	t.Cleanup(func() { stop(0) })
	select {
	case <-powered:
	case err := <-ended:
		ended <- nil
		t.Fatalf("software card in slot %d: %v", slot, err)
	case <-time.After(readyIn):
		t.Fatalf("software card in slot %d was not powered within %v", slot, readyIn)
	}
	return func() { stop(2*pollEvery + pollEvery/4) }
}
