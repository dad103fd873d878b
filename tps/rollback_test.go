package tps_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// everything has the long tests try all they could. It is asked while they run, so
// that the result of a sample is never taken for theirs out of the cache.
func everything() bool { return os.Getenv("INKAN_REAL") != "" }

// newCutter is a site whose authority is watched, with the profile "test" changed
// by edits.
func newCutter(t testing.TB, model string, c cutCase, edits map[string]string) *cutter {
	s := newSite(t)
	s.ca = &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	all := map[string]string{"[applet]": "[enroll]\nseveral_active = true\n[applet]"}
	for old, new := range edits {
		all[old] = new
	}
	s.put(ecProfile("test", all))
	return &cutter{site: s, family: coolkeyCuts, model: model, cutCase: c}
}

// exchanges is how many exchanges the operation takes on a prepared card.
func (x *cutter) exchanges(t testing.TB) int {
	t.Helper()
	card := x.prepared(t.(*testing.T))
	defer card.Close()
	before := card.Exchanges()
	_, err := x.run(x.op, card)
	must(t, err)
	return card.Exchanges() - before
}

// cutCard is a prepared card on which the operation was cut, and is back in the reader.
func (x *cutter) cutCard(t *testing.T, n int, when sim.When) *sim.Card {
	t.Helper()
	card := x.prepared(t)
	t.Cleanup(func() { card.Close() })
	card.Cut(n, when)
	if _, err := x.run(x.op, card); err == nil {
		t.Fatalf("exchange %d %s: the cut was not noticed", n, when)
	}
	card.Insert()
	return card
}

// openOn is the unfinished operation on a card, nil if there is none.
func (s *site) openOn(t testing.TB, cuid apdu.CUID) *token.Journal {
	t.Helper()
	j, err := s.db.OpenJournal(context.Background(), cuid)
	if errors.Is(err, token.ErrNotFound) {
		return nil
	}
	must(t, err)
	return &j
}

// began reports whether a journal has an entry of a step, or of one that begins so.
func began(j *token.Journal, steps ...tps.StepName) bool {
	if j == nil {
		return false
	}
	for _, e := range j.Entries {
		for _, s := range steps {
			if e.Step == string(s) || strings.HasPrefix(e.Step, string(s)+" ") {
				return true
			}
		}
	}
	return false
}

// rollbackCase is an operation that is cut, and the state of the card before.
type rollbackCase struct {
	name  string
	op    tps.Operation
	given []tps.Operation
	edits map[string]string
}

var rollbackCases = []rollbackCase{
	{name: "enroll", op: tps.OpEnroll},
	{name: "re-enroll", op: tps.OpEnroll, given: []tps.Operation{tps.OpEnroll}},
	{name: "renew", op: tps.OpRenew, given: []tps.Operation{tps.OpEnroll}},
	{name: "format", op: tps.OpFormat, given: []tps.Operation{tps.OpEnroll}},
	{name: "enroll-with-keys", op: tps.OpEnroll, edits: map[string]string{`change_on = ["key-changeover"]`: `change_on = ["enroll", "key-changeover"]`}},
}

// TestRollback cuts an operation at every exchange; then the same person asks for
// another one. The open one is rolled back, or finished first where the request
// says so; the new one runs or is refused with the right status; then the card is
// enrolled and works.
func TestRollback(t *testing.T) {
	t.Parallel()
	for _, c := range rollbackCases {
		for _, resume := range []bool{false, true} {
			t.Run(fmt.Sprintf("cut=%s/resume=%v", c.name, resume), func(t *testing.T) {
				t.Parallel()
				x := newCutter(t, "gp-scp03", cutCase{c.name, c.op, c.given}, c.edits)
				n, turn := x.exchanges(t), 0
				for i := 1; i <= n; i++ {
					for _, when := range []sim.When{sim.Before, sim.After} {
						others := otherOperations(c.op)
						if turn++; !everything() { // one of them at every fifth side, in turn
							if turn%5 != 0 {
								continue
							}
							others = others[turn/5%len(others):][:1]
						}
						for _, next := range others {
							if err := x.another(t, i, when, next, resume); err != nil {
								t.Errorf("exchange %d %s, then %s: %v", i, when, next, err)
							}
						}
					}
				}
			})
		}
	}
}

func otherOperations(op tps.Operation) []tps.Operation {
	var out []tps.Operation
	for _, o := range []tps.Operation{tps.OpFormat, tps.OpPINReset, tps.OpKeyChangeover, tps.OpEnroll} {
		if o != op {
			out = append(out, o)
		}
	}
	return out
}

// another cuts, asks for the operation next, and enrolls.
func (x *cutter) another(t *testing.T, n int, when sim.When, next tps.Operation, resume bool) error {
	cut := x.op
	defer func() { x.op = cut }()
	card := x.cutCard(t, n, when)
	cuid := cuidOf(t, card)
	open := x.openOn(t, cuid)
	want := x.wanted(t, cuid, open, next, resume)
	_, err := x.run(next, card, func(c *client, r *tps.Request) { r.Resume, c.pins = resume, []string{"6284051"} })
	if got := tps.StatusOf(err); (err == nil) != (want == tps.StatusOK) || err != nil && got != want {
		return fmt.Errorf("error %v, want status %d", err, want)
	}
	leaves := next == tps.OpPINReset || next == tps.OpKeyChangeover
	finished := resume || cut == tps.OpRenew && leaves && began(open, tps.StepWrite)
	if err := x.settledAs(t, cuid, open, finished); err != nil {
		return err
	}
	if cut == tps.OpRenew && next == tps.OpPINReset {
		if err := x.carriesLast(t, card, "6284051"); err != nil {
			return err
		}
	}
	x.op = tps.OpEnroll
	if _, err := x.run(x.op, card); err != nil {
		return fmt.Errorf("then enrolling: %w", err)
	}
	return x.check(t, card)
}

// wanted is the status that the operation next gets, from what the journal says
// was begun and what the record was.
func (x *cutter) wanted(t *testing.T, cuid apdu.CUID, open *token.Journal, next tps.Operation, resume bool) tps.Status {
	rec, err := x.db.Token(t.Context(), cuid)
	known := err == nil
	switch next {
	case tps.OpKeyChangeover:
		if !known {
			return tps.StatusUnknownToken
		}
	case tps.OpPINReset:
		switch {
		case !known:
			return tps.StatusUnknownToken
		case open != nil && resume:
			if x.op == tps.OpFormat {
				return tps.StatusNotPINResettable // it is formatted by then
			}
		case x.op == tps.OpRenew: // its keys are all there
		case rec.State != token.Active, began(open, tps.StepPrepare, tps.StepGenerateKey, tps.StepWrite):
			return tps.StatusNotPINResettable
		}
	}
	return tps.StatusOK
}

// settledAs looks at what became of the operation that was open, and that no
// certificate is valid and not recorded.
func (x *cutter) settledAs(t *testing.T, cuid apdu.CUID, open *token.Journal, resume bool) error {
	if j := x.openOn(t, cuid); j != nil {
		return fmt.Errorf("an open journal is left: %+v", j)
	}
	if open != nil {
		want := "rolled-back"
		if resume {
			want = "done"
		}
		j, err := x.db.Journal(t.Context(), open.ID)
		if err != nil || j.Result != want {
			return fmt.Errorf("the open journal ended as %q (%v), want %q", j.Result, err, want)
		}
	}
	recorded, err := x.recordedCerts(t.Context(), cuid)
	if err != nil {
		return err
	}
	if valid := x.ca.(*watchedCA).of(cuid); fmt.Sprint(valid) != fmt.Sprint(recorded) {
		return fmt.Errorf("the authority has %v valid, the records %v active", valid, recorded)
	}
	rec, err := x.db.Token(t.Context(), cuid)
	if errors.Is(err, token.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if owned := rec.State == token.Active; owned != (rec.UserID == "ada") || owned != (len(recorded) > 0) {
		return fmt.Errorf("record %s of %q with certificates %v", rec.State, rec.UserID, recorded)
	}
	return nil
}

// cuidOf reads a card's CUID as a client would.
func cuidOf(t testing.TB, card *sim.Card) apdu.CUID {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(context.Background()))
	cplc, err := gp.ReadCPLC(context.Background(), conn)
	must(t, err)
	return cplc.CUID()
}
