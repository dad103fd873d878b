package tps_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/store"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

// pair are two nodes with one database, each with a connection of its own.
type pair struct {
	first, second *cutter
	silence       func() // the first one has not been heard of for long
}

// onFile are two nodes on one SQLite file.
func onFile(t *testing.T, c cutCase) pair {
	dir := t.TempDir()
	open := func() *store.DB {
		db, err := store.Open(t.Context(), filepath.Join(dir, "inkan.db"))
		must(t, err)
		return db
	}
	p := newPair(t, dir, c, open(), open())
	p.silence = func() {
		p.second.adjust = func(c *tps.Config) {
			second(c)
			c.Now = func() time.Time { return time.Now().Add(time.Minute) }
		}
	}
	return p
}

func second(c *tps.Config) { c.Node = "second" }

func newPair(t *testing.T, dir string, c cutCase, here, there *store.DB) pair {
	t.Helper()
	s := siteOn(t, dir, here)
	t.Cleanup(s.close)
	t.Cleanup(func() { there.Close() })
	s.put(ecProfile("test", map[string]string{"[applet]": "[enroll]\nseveral_active = true\n[applet]"}))
	watched := &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	s.ca = watched
	beside := *s
	beside.db, beside.start = there, token.NewID()
	beside.ca = &watchedCA{Authority: openAuthority(t, dir, there.Authority("embedded")), valid: watched.valid}
	beside.adjust = second
	p := pair{first: &cutter{site: s, family: coolkeyCuts, cutCase: c, model: "gp-scp03"}, second: &cutter{site: &beside, family: coolkeyCuts, cutCase: c, model: "gp-scp03"}}
	p.second.whole(p.second.ca)
	return p
}

// mortal is a card at a node that may be dead.
type mortal struct {
	apdu.Card
	node *storetest.Faults
}

var errDead = fmt.Errorf("the node is dead: %w", apdu.ErrCardRemoved)

func (m mortal) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if m.node.Dead() {
		return nil, errDead
	}
	return m.Card.Transmit(ctx, cmd)
}

// dieAt has the first node die at a write of the operation on a new card.
func (p pair) dieAt(t *testing.T, n int, m storetest.Moment) (card *sim.Card, died bool) {
	t.Helper()
	x := p.first
	card = x.prepared(t)
	t.Cleanup(func() { card.Close() })
	f := storetest.NewFaults(x.db)
	x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: f, Journals: f, Locks: f}
	f.DieAt(n, m)
	_, err := x.run(x.op, mortal{card, f})
	x.whole(x.ca)
	if died = f.Dead(); !died {
		must(t, err)
	}
	return card, died
}

// finishes has the second node finish what the first one began when it died: not
// while it may be alive; then what needs no card without the card, and the rest
// when it is there.
func (p pair) finishes(t *testing.T, card *sim.Card) error {
	x, ctx := p.second, t.Context()
	cuid := cuidOf(t, card)
	open := x.openOn(t, cuid)
	must(t, x.engine().Sweep(ctx))
	if now := x.openOn(t, cuid); open != nil && (now == nil || now.Revision != open.Revision) {
		return fmt.Errorf("the sweeper took the journal of a living node: %+v", now)
	}
	_, err := x.run(x.op, card)
	if locked := errors.Is(err, token.ErrLocked); !locked && (open != nil || err != nil) {
		return fmt.Errorf("while the other node may be alive: %w", err)
	}
	p.silence()
	must(t, x.engine().Sweep(ctx))
	if _, err := x.run(x.op, card); err != nil {
		return fmt.Errorf("after the other node was silent: %w", err)
	}
	return x.check(t, card)
}

// TestNodeFinishesForAnother kills a node at every write of an enrollment, a format
// and a key changeover; another node on the same database finishes it.
func TestNodeFinishesForAnother(t *testing.T) {
	t.Parallel()
	for _, c := range cutCases {
		t.Run("operation="+c.name, func(t *testing.T) {
			t.Parallel()
			nodeDies(t, onFile(t, c))
		})
	}
}

func nodeDies(t *testing.T, p pair) {
	tried := 0
	for n := 1; ; n++ {
		moment := storetest.Moment(1 + n%2)
		p.second.adjust = second
		card, died := p.dieAt(t, n, moment)
		if !died {
			break
		}
		tried++
		if err := p.finishes(t, card); err != nil {
			t.Errorf("killed at write %d, %v: %v", n, moment, err)
		}
	}
	if tried < 4 {
		t.Errorf("%d writes were killed", tried)
	}
}

// countedCA counts how often each certificate is revoked.
type countedCA struct {
	ca.Authority
	mu    sync.Mutex
	times map[ca.Serial]int
}

func (c *countedCA) Revoke(ctx context.Context, i ca.Issuer, s ca.Serial, r ca.Reason) error {
	c.mu.Lock()
	c.times[s]++
	c.mu.Unlock()
	return c.Authority.Revoke(ctx, i, s, r)
}

// sweepTogether leaves certificates behind that nobody confirmed, and has two nodes
// sweep at once.
func sweepTogether(t *testing.T, p pair) {
	x := p.first
	exchanges := x.exchanges(t)
	for range 4 {
		x.cutCard(t, exchanges*3/4, sim.After)
	}
	far := func(node string) func(*tps.Config) {
		return func(c *tps.Config) {
			c.Node, c.Now = node, func() time.Time { return time.Now().Add(25 * time.Hour) }
		}
	}
	left, err := x.db.Unsettled(t.Context(), time.Now().Add(time.Hour))
	must(t, err)
	if len(left) < 4 {
		t.Fatalf("%d certificates are unconfirmed", len(left))
	}
	counted := &countedCA{Authority: x.ca, times: map[ca.Serial]int{}}
	p.first.ca, p.second.ca = counted, counted
	p.first.adjust, p.second.adjust = far("node"), far("second")
	var wg sync.WaitGroup
	for _, e := range []*tps.Engine{p.first.engine(), p.second.engine()} {
		wg.Go(func() {
			for range 3 {
				if err := e.Sweep(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range left {
		if n := counted.times[ca.Serial(c.Serial)]; n != 1 {
			t.Errorf("certificate %s was revoked %d times", c.Serial, n)
		}
	}
	if left, err = x.db.Unsettled(t.Context(), time.Now().Add(time.Hour)); err != nil || len(left) > 0 {
		t.Errorf("%d certificates are left (%v)", len(left), err)
	}
}

// TestNodesSweepTogether: what two sweepers find at once is done once.
func TestNodesSweepTogether(t *testing.T) {
	t.Parallel()
	sweepTogether(t, onFile(t, cutCases[1]))
}
