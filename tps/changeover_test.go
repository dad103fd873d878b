package tps_test

import (
	"fmt"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/store/storetest"
)

// widening is a card with the site's keys whose profile asks for longer ones: the
// new set is put beside the old one, which is then deleted.
func widening(t *testing.T) *cutter {
	x := newCutter(t, "gp-scp03", cutCase{"key-changeover", tps.OpKeyChangeover, []tps.Operation{tps.OpEnroll, tps.OpKeyChangeover}}, nil)
	x.put(ecProfile("wide", map[string]string{
		`set = "site"`: `set = "wide"`, "\nversion = 2\n": "\nversion = 3\n", "[applet]": "[enroll]\nseveral_active = true\n[applet]",
	}))
	return x
}

func versionsOf(t *testing.T, card *sim.Card) []gp.KeyVersion {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	_, err := gp.Select(t.Context(), conn, apdu.AID{})
	must(t, err)
	keys, err := gp.ReadKeyInfo(t.Context(), conn)
	must(t, err)
	return gp.KeyVersions(keys)
}

// pulled is a prepared card on which the changeover to "wide" was cut.
func (x *cutter) pulled(t *testing.T, n int, when sim.When) *sim.Card {
	t.Helper()
	card := x.prepared(t)
	t.Cleanup(func() { card.Close() })
	card.Cut(n, when)
	if _, err := x.run(x.op, card, with("wide")); err == nil {
		t.Fatalf("exchange %d %s: the cut was not noticed", n, when)
	}
	card.Insert()
	return card
}

// changes is how many exchanges the changeover to "wide" takes.
func (x *cutter) changes(t *testing.T) int {
	t.Helper()
	card := x.prepared(t)
	defer card.Close()
	before := card.Exchanges()
	_, err := x.run(x.op, card, with("wide"))
	must(t, err)
	n := card.Exchanges() - before
	if got := versionsOf(t, card); !slices.Equal(got, []gp.KeyVersion{3}) {
		t.Fatalf("uncut: the card has the key versions %v", got)
	}
	return n
}

// TestOldKeysGo cuts a changeover that puts new keys beside the old ones. Whatever
// comes next, the same again after yet another failure or another operation, the
// old keys do not stay on the card.
func TestOldKeysGo(t *testing.T) {
	t.Parallel()
	for _, then := range []struct {
		name string
		do   func(*cutter, *sim.Card) error
	}{
		{"twice failed", func(x *cutter, card *sim.Card) error {
			for n := range 4 {
				f := storetest.NewFaults(x.db)
				f.FailAt(n+1, storetest.Before)
				x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: f, Journals: f, Locks: f}
				_, _ = x.run(x.op, card, with("wide"))
				x.whole(x.ca)
			}
			_, err := x.run(x.op, card, with("wide"))
			return err
		}},
		{"another operation", func(x *cutter, card *sim.Card) error {
			if _, err := x.run(tps.OpPINReset, card, with("wide")); err != nil {
				return err
			}
			if got := versionsOf(t, card); len(got) != 1 {
				return fmt.Errorf("after the PIN reset: key versions %v", got)
			}
			_, err := x.run(x.op, card, with("wide"))
			return err
		}},
		{"another operation, resumed", func(x *cutter, card *sim.Card) error {
			_, err := x.run(tps.OpPINReset, card, with("wide"), func(_ *client, r *tps.Request) { r.Resume = true })
			if err != nil || x.openOn(x.t, cuidOf(x.t, card)) != nil {
				return err
			}
			_, err = x.run(x.op, card, with("wide"))
			return err
		}},
	} {
		t.Run("then="+then.name, func(t *testing.T) {
			t.Parallel()
			x := widening(t)
			n := x.changes(t)
			for _, i := range places(n) {
				for _, when := range []sim.When{sim.Before, sim.After} {
					card := x.pulled(t, i, when)
					if err := then.do(x, card); err != nil {
						t.Errorf("exchange %d %s: %v", i, when, err)
						continue
					}
					if got := versionsOf(t, card); !slices.Equal(got, []gp.KeyVersion{3}) {
						t.Errorf("exchange %d %s: the card has the key versions %v", i, when, got)
					}
					x.op = tps.OpEnroll // its checks, and its PIN
					_, err := x.run(x.op, card, with("wide"))
					must(t, err)
					if err := x.check(t, card); err != nil {
						t.Errorf("exchange %d %s: %v", i, when, err)
					}
					x.op = tps.OpKeyChangeover
				}
			}
		})
	}
}

// TestSameVersion cuts a changeover between two key sets that have the same
// version number: which of them the card has is known by the cryptogram only.
func TestSameVersion(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"key-changeover", tps.OpKeyChangeover, []tps.Operation{tps.OpEnroll, tps.OpKeyChangeover}}, nil)
	x.put(ecProfile("wide", map[string]string{`set = "site"`: `set = "other"`}))
	card := x.prepared(t)
	before := card.Exchanges()
	_, err := x.run(x.op, card, with("wide"))
	must(t, err)
	for _, i := range places(card.Exchanges() - before) {
		for _, when := range []sim.When{sim.Before, sim.After} {
			card := x.pulled(t, i, when)
			if _, err := x.run(x.op, card, with("wide")); err != nil {
				t.Errorf("exchange %d %s: %v", i, when, err)
				continue
			}
			if rec, err := x.db.Token(t.Context(), cuidOf(t, card)); err != nil || rec.KeySet != "other" {
				t.Errorf("exchange %d %s: record %+v (%v)", i, when, rec, err)
			}
			if err := x.check(t, card); err != nil {
				t.Errorf("exchange %d %s: %v", i, when, err)
			}
		}
	}
}

// TestRevisedKeys finishes a changeover to one key set and goes on, in the same
// session, with the newer revision of the profile, which asks for another.
func TestRevisedKeys(t *testing.T) {
	t.Parallel()
	x := widening(t)
	n := x.changes(t)
	var cards []*sim.Card
	for _, i := range places(n) {
		cards = append(cards, x.pulled(t, i, sim.After))
	}
	x.put(ecProfile("wide", map[string]string{
		`set = "site"`: `set = "narrow"`, "\nversion = 2\n": "\nversion = 4\n", `change_on = ["key-changeover"]`: `change_on = ["format"]`,
	}))
	for i, card := range cards {
		if _, err := x.run(tps.OpFormat, card, with("wide"), func(_ *client, r *tps.Request) { r.Resume = true }); err != nil {
			t.Errorf("place %d: %v", i+1, err)
		}
		if got := versionsOf(t, card); !slices.Equal(got, []gp.KeyVersion{4}) {
			t.Errorf("place %d: the card has the key versions %v", i+1, got)
		}
	}
}
