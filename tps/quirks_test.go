package tps_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"inkan/apdu/gp"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/wire"
)

// TestOddCards takes cards of every model, those that deviate from the norm too,
// through all operations, one command at a time and in batches: after each one
// card, records, authority and key service agree, and the card works.
func TestOddCards(t *testing.T) {
	t.Parallel()
	for _, model := range sim.Models() {
		switch model {
		case "gp-no-cplc", "gp-scp03-aes256": // not ours to serve: see TestNoCPLC, and keys that nobody imported
			continue
		case "piv", "yubikey-5.4", "yubikey-5.7": // cards of another applet: see TestNoManager
			continue
		}
		for _, batch := range []int{0, wire.DefaultBatch} {
			t.Run(fmt.Sprintf("model=%s/batch=%d", model, batch), func(t *testing.T) {
				t.Parallel()
				i := slices.IndexFunc(lines, func(l line) bool { return l.model == model })
				if i < 0 {
					t.Fatal("no life for this model")
				}
				l := &life{line: lines[i], batch: batch, rnd: rand.New(rand.NewPCG(1, 1))}
				l.begin(t)
				for _, op := range []wire.Operation{
					wire.Format, wire.Enroll, wire.ResetPIN, wire.KeyChangeover, wire.ResetPIN, wire.Enroll, wire.Format,
				} {
					l.carryOut(t, op)
					if err := l.agreed(t.Context()); err != nil {
						t.Fatalf("after %v: %v", op, err)
					}
				}
				l.onlyKeys(t)
			})
		}
	}
}

// onlyKeys wants the card to have the keys of the changeover and no others, where
// it tells.
func (l *life) onlyKeys(t *testing.T) {
	t.Helper()
	if l.line.model == "gp-bare" {
		return
	}
	if got, want := versionsOf(t, l.card), gp.KeyVersion(l.sets[l.set].version); !slices.Equal(got, []gp.KeyVersion{want}) {
		t.Errorf("the card has key versions %v, want %v", got, want)
	}
}

// TestNoCPLC: a card that nothing tells from another is refused in a sentence.
func TestNoCPLC(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.run(tps.OpFormat, newCard(t, "gp-no-cplc"))
	wantStatus(t, err, tps.StatusSecureChannel)
	if !strings.Contains(err.Error(), "the card has no CPLC, so nothing tells it from another") {
		t.Errorf("got %v", err)
	}
}

// TestNoManager: a card without a card manager is refused before anything happens to it.
func TestNoManager(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"yubikey-5.4", "yubikey-5.7"} {
		s := newSite(t)
		_, err := s.run(tps.OpFormat, newCard(t, model))
		wantStatus(t, err, tps.StatusNoCardManager)
		t.Log(err)
	}
}

// TestCounterNotDeclared: the profile of a card that counts commands with data
// alone does not say so. What fails tells what to do, and the card is not lost.
func TestCounterNotDeclared(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-counter", cutCase{op: tps.OpKeyChangeover, given: []tps.Operation{tps.OpEnroll}}, nil)
	card := x.prepared(t)
	t.Cleanup(func() { card.Close() })
	_, err := x.run(x.op, card)
	wantStatus(t, err, tps.StatusKeyChangeover)
	if !strings.Contains(err.Error(), "needs [compat] data_counter = true") {
		t.Errorf("got %v", err)
	}
	x.put(ecProfile("test", map[string]string{"[applet]": "[compat]\ndata_counter = true\n[enroll]\nseveral_active = true\n[applet]"}))
	for _, op := range []tps.Operation{tps.OpPINReset, tps.OpKeyChangeover} {
		if _, err := x.run(op, card, func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} }); err != nil {
			t.Fatalf("declared: %s: %v", op, err)
		}
	}
	must(t, x.check(t, card))
}
