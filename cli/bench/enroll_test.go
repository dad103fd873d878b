//go:build cgo && linux

package bench_test

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// measureEnroll enrolls many cards at once, with two keys on P-256 each; they were
// formatted before and belong to one person each. The processor time is the
// server's alone, TLS, database and signatures included; the rate is that of
// server and cards together on one machine.
func measureEnroll(t *testing.T, s size, r results) {
	n := startNode(t, "enroll", 0)
	cl := n.client(n.Address)
	var rates, costs []float64
	for range s.rounds {
		all := formatted(t, cl, "gp-scp03", profileEC, s.cards*s.each)
		before, start := n.now(t), time.Now()
		atOnce(s.cards, len(all), func(i int) { run(t, cl, wire.Enroll, profileEC, all[i]) })
		took, after := time.Since(start), n.now(t)
		rates = append(rates, float64(len(all))/took.Seconds())
		costs = append(costs, (after.CPU-before.CPU).Seconds()*1000/float64(len(all)))
		for _, c := range all {
			must(t, c.Close())
		}
	}
	r.put("enroll_per_s", "%.0f", median(rates))
	r.put("cpu_ms_per_enroll", "%.2f", median(costs))
}

// formatted are new cards of a model that were formatted.
func formatted(t *testing.T, cl *wire.Client, model, profile string, n int) []*sim.Card {
	t.Helper()
	all := make([]*sim.Card, n)
	for i := range all {
		var err error
		all[i], err = sim.New(sim.Config{Model: model})
		must(t, err)
	}
	atOnce(16, n, func(i int) { run(t, cl, wire.Format, profile, all[i]) })
	return all
}

// run is one operation for a person of its own.
func run(t *testing.T, cl *wire.Client, op wire.Operation, profile string, card *sim.Card) {
	begin := wire.Begin{Operation: op, TokenType: profile, Batch: wire.DefaultBatch}
	if _, err := wire.Run(t.Context(), cl, begin, card, person{rand.Text()}); err != nil {
		t.Error(err)
	}
}

// atOnce does f(0) to f(n-1), so many at a time.
func atOnce(workers, n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// measureSessions has many people stand before the login at once. What counts is
// the resident memory of the server's process, as its operator sees it: live and
// dead heap, stacks, buffers.
func measureSessions(t *testing.T, s size, r results) {
	n := startNode(t, "sessions", 0)
	cl := n.client(n.Address)
	run(t, cl, wire.Format, profileEC, formatted(t, cl, "gp-scp03", profileEC, 1)[0])
	before := n.now(t)

	ctx, leave := context.WithCancel(t.Context())
	var arrived, gone sync.WaitGroup
	arrived.Add(s.sessions)
	turn := make(chan struct{}, 32) // so many come in at a time
	for range s.sessions {
		gone.Go(func() {
			turn <- struct{}{}
			there := sync.OnceFunc(func() { <-turn; arrived.Done() })
			defer there()
			card, err := sim.New(sim.Config{Model: "gp-scp03"})
			if err != nil {
				t.Error(err)
				return
			}
			defer card.Close()
			begin := wire.Begin{Operation: wire.Enroll, TokenType: profileEC, Batch: wire.DefaultBatch}
			if _, err := wire.Run(ctx, cl, begin, card, waiting{there}); ctx.Err() == nil {
				t.Errorf("a session ended while its person was waited for: %v", err)
			}
		})
	}
	arrived.Wait()
	after := n.now(t)
	leave()
	gone.Wait()
	r.put("session_kib", "%.1f", float64(after.RSS-before.RSS)/1024/float64(s.sessions))
}

// waiting is a person who is asked to log in, and takes long.
type waiting struct{ asked func() }

// Login implements wire.Prompter.
func (w waiting) Login(ctx context.Context, _ auth.Form) (auth.Answers, error) {
	w.asked()
	<-ctx.Done()
	return nil, ctx.Err()
}

// NewPIN implements wire.Prompter.
func (waiting) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.PIN{}, context.Canceled
}

// Progress implements wire.Prompter.
func (waiting) Progress(int, string) {}
