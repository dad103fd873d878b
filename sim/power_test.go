package sim_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"inkan/apdu"
	"inkan/sim"
)

// TestCutAtEveryExchange pulls the card at every exchange of a format, before and
// after the card acted, and formats again.
func TestCutAtEveryExchange(t *testing.T) {
	for _, model := range []string{"gp-scp02", "gp-scp03"} {
		for _, when := range []sim.When{sim.Before, sim.After} {
			t.Run(fmt.Sprintf("model=%s/when=%v", model, when), func(t *testing.T) {
				t.Parallel()
				n := 1
				for cutFormat(t, model, n, when) {
					n++
				}
				if n < 10 {
					t.Errorf("only %d exchanges", n)
				}
			})
		}
	}
}

// cutFormat reports whether the n-th exchange exists.
func cutFormat(t *testing.T, model string, n int, when sim.When) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "card.img")
	card, err := sim.New(sim.Config{Model: model, Serial: 9, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { card.Close() }()
	card.Cut(n, when)
	_, err = format(t.Context(), t, card)
	if err == nil {
		return false
	}
	if !errors.Is(err, apdu.ErrCardRemoved) {
		t.Fatalf("cut %d: %v", n, err)
	}
	if _, err := card.Transmit(t.Context(), []byte{0, 0xA4, 4, 0, 0}); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Fatalf("cut %d: a card that is out answers: %v", n, err)
	}
	if err := card.Reset(t.Context()); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Fatalf("cut %d: reset: %v", n, err)
	}
	card.Close() // the program too
	if card, err = sim.Open(path); err != nil {
		t.Fatal(err)
	}
	if _, err := format(t.Context(), t, card); err != nil {
		t.Fatalf("cut %d: formatting again: %v", n, err)
	}
	mustOpen(t, apdu.NewConn(card), nextKeys(t), request(0x02, 0x03))
	return true
}

func TestCutAndInsert(t *testing.T) {
	card := newCard(t, sim.Config{})
	ctx := t.Context()
	ask := []byte{0, 0xA4, 4, 0, 0}
	card.Cut(2, sim.Before)
	if _, err := card.Transmit(ctx, ask); err != nil {
		t.Fatal(err)
	}
	if _, err := card.Transmit(ctx, ask); !errors.Is(err, apdu.ErrCardRemoved) || card.Inserted() {
		t.Fatalf("second exchange: %v", err)
	}
	card.Insert()
	if _, err := card.Transmit(ctx, ask); err != nil || !card.Inserted() {
		t.Fatalf("after Insert: %v", err)
	}
	card.Cut(1, sim.After)
	card.Cut(0, sim.After)
	if _, err := card.Transmit(ctx, ask); err != nil {
		t.Fatalf("after taking the cut back: %v", err)
	}
}
