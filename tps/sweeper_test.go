package tps_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

// later has the site's nodes live in the future.
func (s *site) later(d time.Duration) {
	s.adjust = func(c *tps.Config) { c.Now = func() time.Time { return time.Now().Add(d) } }
}

// TestSweepSettles: operations whose cards are done get their records without the
// card, once.
func TestSweepSettles(t *testing.T) {
	t.Parallel()
	for _, c := range cutCases {
		t.Run("operation="+c.name, func(t *testing.T) {
			t.Parallel()
			x := newCutter(t, "gp-scp03", c, nil)
			card, cuid := x.unrecorded(t)
			open := x.openOn(t, cuid)
			if open == nil {
				t.Fatal("nothing is open")
			}
			card.Remove() // it is not needed
			must(t, x.engine().Sweep(t.Context()))
			j, err := x.db.Journal(t.Context(), open.ID)
			must(t, err)
			if j.Result != "done" || j.Ended.IsZero() {
				t.Errorf("journal %+v", j)
			}
			n := countActivities(t, x.site)
			must(t, x.engine().Sweep(t.Context()))
			if again := countActivities(t, x.site); again != n {
				t.Errorf("a second sweep left %d activities", again-n)
			}
			card.Insert()
			if err := x.check(t, card); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSweepWaitsForTheCard: an operation whose card is not done is left alone.
func TestSweepWaitsForTheCard(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCases[1], nil)
	for _, n := range places(x.exchanges(t)) {
		card := x.cutCard(t, n, sim.After)
		open := x.openOn(t, cuidOf(t, card))
		must(t, x.engine().Sweep(t.Context()))
		if open == nil {
			continue
		}
		if j := x.openOn(t, open.CUID); j == nil || j.Revision != open.Revision {
			t.Errorf("exchange %d: the journal became %+v", n, j)
		}
	}
}

// silentCA is ready and issues, but does not answer revocations.
type silentCA struct {
	ca.Authority
	asked atomic.Int32
}

func (d *silentCA) Revoke(context.Context, ca.Issuer, ca.Serial, ca.Reason) error {
	d.asked.Add(1)
	return fmt.Errorf("no answer: %w", ca.ErrUnavailable)
}

// TestDEF14RevocationsAreEvaluated: what the authority did not answer is asked again until it does.
func TestDEF14RevocationsAreEvaluated(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCases[0], nil)
	card := x.prepared(t)
	defer card.Close()
	watched, silent := x.ca, &silentCA{Authority: x.ca}
	x.ca = silent
	_, err := x.run(tps.OpFormat, card)
	if !errors.Is(err, ca.ErrUnavailable) {
		t.Fatalf("format: %v", err)
	}
	wantStatus(t, err, tps.StatusRevocationFailed)
	cuid := cuidOf(t, card)
	for range 2 {
		asked := silent.asked.Load()
		if err := x.engine().Sweep(t.Context()); !errors.Is(err, ca.ErrUnavailable) || silent.asked.Load() == asked {
			t.Errorf("sweeping: %v, asked %d times", err, silent.asked.Load()-asked)
		}
		certs, err := x.db.CertificatesOf(t.Context(), cuid)
		must(t, err)
		for _, c := range certs {
			if c.State == token.CertRevoked {
				t.Errorf("recorded as revoked and is not: %+v", c)
			}
		}
	}
	x.ca = watched
	must(t, x.engine().Sweep(t.Context()))
	must(t, x.check(t, card))
}

// TestSweepOldCertificates: an enrolled card is ACTIVE although the authority does
// not answer for the certificates it had before; however long that takes, the new
// ones stay.
func TestSweepOldCertificates(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, []tps.Operation{tps.OpEnroll}}, nil)
	card := x.prepared(t)
	defer card.Close()
	watched := x.ca
	x.ca = &silentCA{Authority: watched}
	if _, err := x.run(x.op, card); !errors.Is(err, ca.ErrUnavailable) {
		t.Fatalf("enrolling: %v", err)
	}
	if rec, err := x.db.Token(t.Context(), cuidOf(t, card)); err != nil || rec.State != token.Active {
		t.Errorf("record %+v (%v)", rec, err)
	}
	x.later(25 * time.Hour)
	if err := x.engine().Sweep(t.Context()); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("sweeping: %v", err)
	}
	x.ca = watched
	must(t, x.engine().Sweep(t.Context()))
	must(t, x.check(t, card))
}

// TestDEF33OrphansAreRevoked: certificates that no card confirmed are revoked after
// OrphanAfter, not before.
func TestDEF33OrphansAreRevoked(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCases[1], nil)
	card := x.cutCard(t, x.exchanges(t), sim.Before)
	cuid := cuidOf(t, card)
	for _, c := range []struct {
		after   time.Duration
		revoked bool
	}{{0, false}, {time.Hour, false}, {23 * time.Hour, false}, {25 * time.Hour, true}, {48 * time.Hour, true}} {
		x.later(c.after)
		must(t, x.engine().Sweep(t.Context()))
		certs, err := x.db.CertificatesOf(t.Context(), cuid)
		must(t, err)
		for _, cert := range certs {
			if (cert.State == token.CertRevoked) != c.revoked {
				t.Errorf("after %s a certificate is %s", c.after, cert.State)
			}
			if c.revoked && cert.Reason != int(ca.ReasonCessationOfOperation) {
				t.Errorf("reason %d", cert.Reason)
			}
		}
		if valid := x.ca.(*watchedCA).of(cuid); len(certs) != 2 || (len(valid) == 0) != c.revoked {
			t.Errorf("after %s: %d certificates, valid %v", c.after, len(certs), valid)
		}
	}
	x.adjust = func(c *tps.Config) { c.OrphanAfter = time.Nanosecond }
	other := x.cutCard(t, x.exchanges(t), sim.Before)
	must(t, x.engine().Sweep(t.Context()))
	if valid := x.ca.(*watchedCA).of(cuidOf(t, other)); len(valid) != 0 {
		t.Errorf("OrphanAfter is not heeded: valid %v", valid)
	}
}

// TestSweepLeavesLocked: what a session works on is none of the sweeper's business.
func TestSweepLeavesLocked(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCases[1], nil)
	done, doneID := x.unrecorded(t)
	orphan := x.cutCard(t, x.exchanges(t), sim.Before)
	orphanID := cuidOf(t, orphan)
	x.later(25 * time.Hour)
	e := x.engine()
	held := []token.Lock{{CUID: doneID}, {CUID: orphanID}}
	for i := range held {
		held[i].Node, held[i].Boot, held[i].Session, held[i].Since = "another", "boot", "s", time.Now().Add(25*time.Hour)
		must(t, x.db.Lock(t.Context(), held[i]))
	}
	must(t, e.Sweep(t.Context()))
	if x.openOn(t, doneID) == nil {
		t.Error("settled under a session's hands")
	}
	if valid := x.ca.(*watchedCA).of(orphanID); len(valid) != 2 {
		t.Errorf("revoked under a session's hands: valid %v", valid)
	}
	for _, l := range held {
		must(t, x.db.Unlock(t.Context(), l))
	}
	must(t, e.Sweep(t.Context()))
	if valid := x.ca.(*watchedCA).of(orphanID); x.openOn(t, doneID) != nil || len(valid) != 0 {
		t.Errorf("left although nobody works on them: valid %v", valid)
	}
	must(t, x.db.Lock(t.Context(), token.Lock{CUID: doneID, Node: "another", Boot: "boot", Session: "s"})) // the sweeper freed it
	must(t, x.check(t, done))
}

// quiet are stores without records: nothing to sweep, and no database, whose
// goroutines a synctest bubble would wait for.
type quiet struct {
	storetest.Records
	beats, sweeps atomic.Int32
	slow          time.Duration // what a sweep takes
}

func (q *quiet) OpenJournals(context.Context) ([]token.Journal, error) {
	q.sweeps.Add(1)
	time.Sleep(q.slow)
	return nil, nil
}

func (q *quiet) Unsettled(context.Context, time.Time) ([]token.Certificate, error) { return nil, nil }

func (q *quiet) Lock(context.Context, token.Lock) error   { return nil }
func (q *quiet) Unlock(context.Context, token.Lock) error { return nil }

func (q *quiet) Heartbeat(context.Context, string, string, time.Time) error {
	q.beats.Add(1)
	return nil
}

// tending is a node that tends to q.
func tending(t *testing.T, q *quiet) (stop func()) {
	t.Helper()
	e, err := tps.New(tps.Config{
		Stores:   tps.Stores{Tokens: q, Certificates: q, Activities: q, Journals: q, Locks: q},
		Profiles: struct{ profile.Store }{}, Keys: struct{ tks.Service }{}, Audit: &memoryAudit{},
		Families: []tps.Family{struct{ named }{}}, Node: "node", Boot: "boot",
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		e.Tend(ctx, time.Minute)
		close(ended)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// TestTend: a node heartbeats every five seconds, sweeps at start and then as told,
// and stops with its context.
func TestTend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{}
		stop := tending(t, q)
		synctest.Wait()
		if q.beats.Load() != 1 || q.sweeps.Load() != 1 {
			t.Errorf("at start %d heartbeats, %d sweeps", q.beats.Load(), q.sweeps.Load())
		}
		time.Sleep(3*time.Minute + time.Second)
		synctest.Wait()
		if q.sweeps.Load() != 4 || q.beats.Load() != 37 {
			t.Errorf("after three minutes %d heartbeats, %d sweeps", q.beats.Load(), q.sweeps.Load())
		}
		stop()
		beats := q.beats.Load()
		time.Sleep(time.Minute)
		if q.beats.Load() != beats {
			t.Error("heartbeats after the end")
		}
	})
}

// TestTendSlowly: the heartbeat does not wait for a sweep; without it other nodes
// would take this one's cards.
func TestTendSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{slow: 10 * time.Minute}
		stop := tending(t, q)
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		if q.sweeps.Load() != 1 || q.beats.Load() != 61 {
			t.Errorf("within a sweep of ten minutes %d heartbeats, %d sweeps", q.beats.Load(), q.sweeps.Load())
		}
		stop()
	})
}

// named is a family with a name.
type named struct{ tps.Family }

func (named) Name() tps.FamilyName { return "none" }
