package sim_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/securechannel"
	"inkan/sim"
)

// TestChaos lives through a card's life under many kinds of trouble.
func TestChaos(t *testing.T) {
	for seed := range uint64(25) {
		m := models[seed%uint64(len(models))]
		level := m.levels[seed%uint64(len(m.levels))]
		t.Run(fmt.Sprintf("seed=%d/model=%s/level=%02X", seed, m.name, level), func(t *testing.T) {
			t.Parallel()
			card := newCard(t, sim.Config{Model: m.name, Chaos: &sim.Chaos{Seed: seed, MaxDelay: 50 * time.Microsecond}})
			live(t, card, m.name, m.keys(t), level)
		})
	}
}

// TestChaosDoesSomething counts what a disturbed card answers.
func TestChaosDoesSomething(t *testing.T) {
	card := newCard(t, sim.Config{Chaos: &sim.Chaos{Seed: 1}})
	seen := map[byte]int{}
	for range 200 {
		b, err := card.Transmit(t.Context(), []byte{0x80, 0xCA, 0x00, 0x66, 0x00})
		if err != nil {
			t.Fatal(err)
		}
		seen[b[len(b)-2]]++
	}
	for _, sw1 := range []byte{0x61, 0x6C, 0x90} {
		if seen[sw1] == 0 {
			t.Errorf("no answer %02X in %v", sw1, seen)
		}
	}
}

func TestChaosRemoval(t *testing.T) {
	card := newCard(t, sim.Config{Chaos: &sim.Chaos{Seed: 3, Remove: 0.1}})
	pulled := 0
	for range 1000 {
		_, err := format(t.Context(), t, card)
		if err == nil {
			if pulled == 0 {
				t.Error("the card was never pulled")
			}
			return
		}
		if !errors.Is(err, apdu.ErrCardRemoved) {
			t.Fatal(err)
		}
		pulled++
		card.Insert()
	}
	t.Fatal("the format never came to its end")
}

// TestThousandsOfCards holds many cards in one process.
func TestThousandsOfCards(t *testing.T) {
	const n, limit = 2000, 16 << 10 // cards, bytes each
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	cards := make([]*sim.Card, n)
	for i := range cards {
		cards[i] = newCard(t, sim.Config{Serial: uint64(i) + 1})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
	t.Logf("%d bytes per card", each)
	if each > limit {
		t.Errorf("%d bytes per card, at most %d", each, limit)
	}
	seen := map[string]bool{}
	for _, c := range cards {
		mustOpen(t, apdu.NewConn(c), factoryKeys(t), request(0, securechannel.LevelCMAC)).Close()
		seen[c.Info().CUID.String()] = true
	}
	if len(seen) != n {
		t.Errorf("%d different CUIDs", len(seen))
	}
}
