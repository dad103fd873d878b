package tps_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tks/hsm"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// chaosSeed is the environment variable that repeats one seed of TestChaos.
const chaosSeed = "INKAN_CHAOS_SEED"

// Seeds that TestChaos runs by default, and with INKAN_REAL=1.
const fewSeeds, allSeeds = 5, 100

// TestChaos runs random lives of cards that answer as the standards allow and
// hosts seldom expect, and that are pulled at random moments, through the client
// protocol, in batches and one command at a time. A person comes back until each
// operation is done; then card, record, authority and key service agree and the
// card works. Nothing but a pulled card, and the session of it that is still
// ending, may keep an operation from being done.
func TestChaos(t *testing.T) {
	seeds := chosenSeeds(t)
	var operations, removals, converged atomic.Int64
	t.Cleanup(func() {
		fmt.Printf("chaos seeds=%d operations=%d removals=%d converged=%d\n", len(seeds), operations.Load(), removals.Load(), converged.Load())
	})
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			c := newChaos(t, seed)
			defer func() {
				operations.Add(int64(c.operations))
				removals.Add(int64(c.removals))
				if t.Failed() {
					t.Logf("%s; again with %s=%d", c, chaosSeed, seed)
				}
			}()
			c.live(t)
			converged.Add(1)
		})
	}
}

func chosenSeeds(t *testing.T) (seeds []uint64) {
	t.Helper()
	if one := os.Getenv(chaosSeed); one != "" {
		n, err := strconv.ParseUint(one, 10, 64)
		must(t, err)
		return []uint64{n}
	}
	n := fewSeeds
	if everything {
		n = allSeeds
	}
	for i := range n {
		seeds = append(seeds, uint64(i+1))
	}
	return seeds
}

// chaosLine is a kind of card with the key sets that its life goes through.
type chaosLine struct {
	model string
	sets  []keySetOf
}

// keySetOf is a key set and its version.
type keySetOf struct {
	name    string
	version int
}

// chaosLines are those of cutSites, and a card of every way to answer.
var chaosLines = []chaosLine{
	{"gp-scp01", []keySetOf{{"des", 2}, {"later", 5}}},
	{"gp-scp02", []keySetOf{{"des", 2}, {"later", 5}}},
	{"gp-scp02-rmac", []keySetOf{{"des", 2}, {"later", 5}}},
	{"gp-t0", []keySetOf{{"des", 2}, {"later", 5}}},
	{"gp-scp03", []keySetOf{{"site", 2}, {"wide", 3}}},
	{"gp-scp03-s16", []keySetOf{{"site", 2}, {"wide", 3}}},
	{"gp-scp03-plain", []keySetOf{{"wide", 3}, {"site", 2}}},
}

// chaos is the life of one card in unsteady hands.
type chaos struct {
	*cutter
	line  chaosLine
	trait sim.Chaos
	batch int // commands per round trip, 0 = one
	card  *sim.Card
	cl    *wire.Client
	rnd   *rand.Rand

	mu     sync.Mutex
	failed []error // what the server said in this try, and of the one before it

	engine     *tps.Engine
	set        int  // of line.sets that the profile names
	changed    bool // the card has the keys of that set
	enrolled   bool
	pin        string
	done       []string
	operations int
	removals   int
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0x6368616F73))
	c := &chaos{
		rnd: rnd, line: chaosLines[rnd.IntN(len(chaosLines))],
		trait: sim.Chaos{Seed: seed, MaxDelay: 50 * time.Microsecond, Remove: []float64{0.01, 0.03, 0.06}[rnd.IntN(3)]},
	}
	if rnd.IntN(2) == 0 {
		c.batch = 1 + rnd.IntN(wire.DefaultBatch)
	}
	s := newSite(t)
	if _, err := s.local.CreateKeySet(t.Context(), "later", apduVersion(5), hsm.DES3); err != nil {
		t.Fatal(err)
	}
	s.ca = &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	c.cutter = &cutter{site: s, model: c.line.model}
	c.putProfile()
	var err error
	c.card, err = sim.New(sim.Config{Model: c.model, Chaos: &c.trait})
	must(t, err)
	t.Cleanup(func() { c.card.Close() })
	c.engine = s.engine()
	c.cl = s.serve(t, c.engine, func(_ wire.Operation, err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.failed = append(c.failed, err)
	})
	return c
}

// String describes the life so far.
func (c *chaos) String() string {
	return fmt.Sprintf("model %s, batches of %d, pulled in %g of exchanges, %v", c.model, c.batch, c.trait.Remove, c.done)
}

// putProfile stores the profile with the key set that is due.
func (c *chaos) putProfile() {
	k := c.line.sets[c.set]
	c.put(ecProfile("test", map[string]string{
		`set = "site"`: fmt.Sprintf("set = %q", k.name), "\nversion = 2\n": fmt.Sprintf("\nversion = %d\n", k.version),
		"[applet]": "[enroll]\nseveral_active = true\n[applet]",
	}))
}

// lifeLength is how many operations a card goes through.
const lifeLength = 6

func (c *chaos) live(t *testing.T) {
	for range lifeLength {
		op := c.next()
		c.operations++
		if op = c.carryOut(t, op); t.Failed() {
			return
		}
		c.done = append(c.done, string(operations[op]))
		if err := c.agreed(t.Context()); err != nil {
			t.Fatalf("after %v: %v", op, err)
		}
	}
}

// next chooses an operation that the card's state allows.
func (c *chaos) next() wire.Operation {
	free := []wire.Operation{wire.Format, wire.Enroll}
	if len(c.done) > 0 {
		free = append(free, wire.KeyChangeover)
	}
	if c.enrolled {
		free = append(free, wire.ResetPIN)
	}
	op := free[c.rnd.IntN(len(free))]
	if op == wire.KeyChangeover && c.changed { // from published keys only to those of the first try
		c.set, c.changed = (c.set+1)%len(c.line.sets), false
		c.putProfile()
	}
	return op
}

// pins keep the rules of the profile.
var pins = []string{"9518402", "7351924", "8402951", "6284071", "5093817", "2749163"}

// patience bounds how long a person comes back for one operation.
const patience = time.Minute

// carryOut has the person come back until an operation is done; now and then they
// want another one instead. It returns the one that was done.
func (c *chaos) carryOut(t *testing.T, op wire.Operation) wire.Operation {
	t.Helper()
	pin := pins[c.rnd.IntN(len(pins))]
	for end := time.Now().Add(patience); ; {
		err := c.try(t.Context(), op, pin)
		switch {
		case err == nil:
			c.note(op, pin)
			return op
		case time.Now().After(end):
			t.Fatalf("%v is not done after %v: %v", op, patience, err)
		case c.card.Inserted() && c.busy():
			continue
		case c.card.Inserted():
			t.Fatalf("%v failed, the card in the reader: %v; the server: %v", op, err, c.failed)
		}
		c.removals++
		c.card.Insert()
		if c.rnd.IntN(8) == 0 {
			op = []wire.Operation{wire.Format, wire.Enroll}[c.rnd.IntN(2)]
		}
		if c.rnd.IntN(4) == 0 {
			must(t, c.engine.Sweep(t.Context()))
		}
	}
}

func (c *chaos) try(ctx context.Context, op wire.Operation, pin string) error {
	c.mu.Lock()
	c.failed = nil
	c.mu.Unlock()
	_, err := wire.Run(ctx, c.cl, wire.Begin{Operation: op, Batch: c.batch}, c.card, holder{pin})
	return err
}

// note keeps what an operation that is done did.
func (c *chaos) note(op wire.Operation, pin string) {
	switch op {
	case wire.Enroll:
		c.enrolled, c.pin = true, pin
	case wire.ResetPIN:
		c.pin = pin
	case wire.Format:
		c.enrolled = false
	case wire.KeyChangeover:
		c.changed = true
	}
}

// busy reports that the session in which the card was pulled is still ending.
func (c *chaos) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.failed, func(err error) bool { return errors.Is(err, token.ErrLocked) })
}

// holder is the person with the card.
type holder struct{ pin string }

func (holder) Login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	return atDesk{}.Login(ctx, f)
}

func (h holder) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.NewPIN([]byte(h.pin))
}

func (holder) Progress(int, string) {}

// agreed compares card, records, authority and key service, and uses the card. A
// card that is pulled meanwhile is put back.
func (c *chaos) agreed(ctx context.Context) error {
	for {
		err := c.compare(ctx)
		if !errors.Is(err, apdu.ErrCardRemoved) {
			return err
		}
		c.card.Insert()
	}
}

func (c *chaos) compare(ctx context.Context) error {
	conn := apdu.NewConn(c.card)
	if err := conn.Reset(ctx); err != nil {
		return err
	}
	cuid := c.card.Info().CUID
	rec, err := c.db.Token(ctx, cuid)
	if err != nil {
		return err
	}
	if _, err := c.db.OpenJournal(ctx, cuid); !errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("the journal is still open: %v", err)
	}
	if err := c.checkKeys(ctx, conn, rec); err != nil {
		return err
	}
	recorded, err := c.recordedCerts(ctx, cuid)
	if err != nil {
		return err
	}
	if err := c.checkAuthority(cuid, recorded); err != nil {
		return err
	}
	if !c.enrolled {
		if rec.State != token.Formatted || rec.UserID != "" || len(recorded) != 0 {
			return fmt.Errorf("formatted card: record %+v with certificates %v", rec, recorded)
		}
		return checkEmpty(ctx, conn)
	}
	if rec.State != token.Active || rec.UserID != "ada" || len(recorded) != 2 {
		return fmt.Errorf("enrolled card: record %+v with certificates %v", rec, recorded)
	}
	return checkUsable(ctx, conn, c.pin, recorded)
}
