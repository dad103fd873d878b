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
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// chaosSeed is the environment variable that repeats one seed of TestChaos.
const chaosSeed = "INKAN_CHAOS_SEED"

// Seeds that TestChaos runs by default, and with INKAN_REAL=1.
const fewSeeds, allSeeds = 5, 100

// TestChaos runs random lives of cards that answer as the standards allow and
// hosts seldom expect, and that are pulled at random moments, through the client
// protocol, in batches and one command at a time, while now and then a call fails of
// the node's store, its key service or its authority. A person comes back until each
// operation is done; then card, record, authority and key service agree and the card
// works. Nothing but a pulled card, the session of it that is still ending, and a
// call that failed may keep an operation from being done.
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
	if everything() {
		n = allSeeds
	}
	for i := range n {
		seeds = append(seeds, uint64(i+1))
	}
	return seeds
}

// line is a kind of card with the key sets that its life goes through.
type line struct {
	model  string
	compat string // table [compat] of the profile that it needs
	sets   []keySetOf
}

// keySetOf is a key set and its version.
type keySetOf struct {
	name    string
	version int
}

// desSets and aesSets are those for 3DES and for AES keys.
var (
	desSets = []keySetOf{{"des", 2}, {"later", 5}}
	aesSets = []keySetOf{{"site", 2}, {"wide", 3}}
)

// lines are the models with published keys that can be told from another.
var lines = []line{
	{model: "gp-scp01", sets: desSets}, {model: "gp-scp02", sets: desSets}, {model: "gp-scp02-rmac", sets: desSets},
	{model: "gp-scp03", sets: aesSets}, {model: "gp-scp03-s16", sets: aesSets}, {model: "gp-scp03-plain", sets: aesSets},
	{model: "gp-t0", sets: desSets}, {model: "gp-legacy", sets: desSets}, {model: "gp-bare", sets: desSets},
	{model: "gp-error-rmac", sets: desSets}, {model: "gp-steps", sets: aesSets}, {model: "gp-keeps-factory", sets: aesSets},
	{model: "gp-counter", compat: "[compat]\ndata_counter = true\n", sets: aesSets},
}

// life is that of one card, through the client protocol.
type life struct {
	*cutter
	line
	chaos    *sim.Chaos
	batch    int // commands per round trip, 0 = one
	card     *sim.Card
	cl       *wire.Client
	rnd      *rand.Rand
	engine   *tps.Engine
	*weather // nil: always good

	mu     sync.Mutex
	failed []error // what the server said in this try, and of the one before it

	set        int  // of the line's, that the profile names
	changed    bool // the card has the keys of that set
	enrolled   bool
	pin        string
	done       []string
	operations int
	removals   int
}

func newChaos(t *testing.T, seed uint64) *life {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0x6368616F73))
	l := &life{
		rnd: rnd, line: lines[rnd.IntN(len(lines))],
		chaos: &sim.Chaos{Seed: seed, MaxDelay: 50 * time.Microsecond, Remove: []float64{0.01, 0.02, 0.04}[rnd.IntN(3)]},
	}
	if rnd.IntN(2) == 0 {
		l.batch = 1 + rnd.IntN(wire.DefaultBatch)
	}
	l.begin(t)
	return l
}

// begin makes the site and the card.
func (l *life) begin(t *testing.T) {
	t.Helper()
	s := newSite(t)
	s.ca = &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	l.cutter = &cutter{site: s, family: coolkeyCuts, model: l.line.model}
	l.putProfile()
	var err error
	l.card, err = sim.New(sim.Config{Model: l.line.model, Chaos: l.chaos})
	must(t, err)
	t.Cleanup(func() { l.card.Close() })
	if l.chaos != nil {
		l.weather = &weather{store: storetest.NewFaults(s.db)}
		s.adjust = l.weather.over
	}
	l.engine = s.engine()
	l.cl = s.serve(t, l.engine, func(_ wire.Operation, err error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failed = append(l.failed, err)
	})
}

// String describes the life so far.
func (l *life) String() string {
	return fmt.Sprintf("model %s, batches of %d, pulled in %g of exchanges, %v", l.line.model, l.batch, l.chaos.Remove, l.done)
}

// putProfile stores the profile with the key set that is due.
func (l *life) putProfile() {
	k := l.sets[l.set]
	l.put(ecProfile("test", map[string]string{
		`set = "site"`: fmt.Sprintf("set = %q", k.name), "\nversion = 2\n": fmt.Sprintf("\nversion = %d\n", k.version),
		"[applet]": l.compat + "[enroll]\nseveral_active = true\n[applet]",
	}))
}

// lifeLength is how many operations a card goes through.
const lifeLength = 6

func (l *life) live(t *testing.T) {
	for range lifeLength {
		op := l.next()
		l.operations++
		if op = l.carryOut(t, op); t.Failed() {
			return
		}
		l.done = append(l.done, string(operations[op]))
		if err := l.agreed(t.Context()); err != nil {
			t.Fatalf("after %v: %v", op, err)
		}
	}
}

// next chooses an operation that the card's state allows.
func (l *life) next() wire.Operation {
	free := []wire.Operation{wire.Format, wire.Enroll}
	if len(l.done) > 0 {
		free = append(free, wire.KeyChangeover)
	}
	if l.enrolled {
		free = append(free, wire.ResetPIN)
	}
	op := free[l.rnd.IntN(len(free))]
	if op == wire.KeyChangeover && l.changed { // from published keys only to those of the first try
		l.set, l.changed = (l.set+1)%len(l.sets), false
		l.putProfile()
	}
	return op
}

// pins keep the rules of the profile.
var pins = []string{"9518402", "7351924", "8402951", "6284071", "5093817", "2749163"}

// patience bounds how long a person comes back for one operation.
const patience = time.Minute

// carryOut has the person come back until an operation is done; now and then they
// want another one instead. It returns the one that was done.
func (l *life) carryOut(t *testing.T, op wire.Operation) wire.Operation {
	t.Helper()
	pin := pins[l.rnd.IntN(len(pins))]
	for end := time.Now().Add(patience); ; {
		if l.weather != nil {
			l.change(l.rnd)
		}
		err := l.try(t.Context(), op, pin)
		switch {
		case err == nil:
			l.note(op, pin)
			if l.weather != nil {
				l.clear()
			}
			return op
		case time.Now().After(end):
			t.Fatalf("%v is not done after %v: %v", op, patience, err)
		case l.card.Inserted() && (l.busy() || l.weather != nil && l.struck()):
			continue
		case l.card.Inserted():
			t.Fatalf("%v failed, the card in the reader: %v; the server: %v", op, err, l.failed)
		}
		l.removals++
		l.card.Insert()
		if l.rnd.IntN(8) == 0 {
			op = []wire.Operation{wire.Format, wire.Enroll}[l.rnd.IntN(2)]
		}
		if l.rnd.IntN(4) == 0 {
			if err := l.engine.Sweep(t.Context()); err != nil && !l.struck() {
				t.Errorf("sweeping: %v", err)
			}
		}
	}
}

func (l *life) try(ctx context.Context, op wire.Operation, pin string) error {
	l.mu.Lock()
	l.failed = nil
	l.mu.Unlock()
	_, err := wire.Run(ctx, l.cl, wire.Begin{Operation: op, Batch: l.batch}, l.card, holder{pin})
	return err
}

// note keeps what an operation that is done did.
func (l *life) note(op wire.Operation, pin string) {
	switch op {
	case wire.Enroll:
		l.enrolled, l.pin = true, pin
	case wire.ResetPIN:
		l.pin = pin
	case wire.Format:
		l.enrolled = false
	case wire.KeyChangeover:
		l.changed = true
	}
}

// busy reports that the session in which the card was pulled is still ending.
func (l *life) busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.failed, func(err error) bool { return errors.Is(err, token.ErrLocked) })
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
func (l *life) agreed(ctx context.Context) error {
	for {
		err := l.compare(ctx)
		if !errors.Is(err, apdu.ErrCardRemoved) {
			return err
		}
		l.card.Insert()
	}
}

func (l *life) compare(ctx context.Context) error {
	conn := apdu.NewConn(l.card)
	if err := conn.Reset(ctx); err != nil {
		return err
	}
	cuid := l.card.Info().CUID
	rec, err := l.db.Token(ctx, cuid)
	if err != nil {
		return err
	}
	if _, err := l.db.OpenJournal(ctx, cuid); !errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("the journal is still open: %v", err)
	}
	if err := l.checkKeys(ctx, conn, rec); err != nil {
		return err
	}
	recorded, err := l.recordedCerts(ctx, cuid)
	if err != nil {
		return err
	}
	if err := l.checkAuthority(cuid, recorded); err != nil {
		return err
	}
	if !l.enrolled {
		if rec.State != token.Formatted || rec.UserID != "" || len(recorded) != 0 {
			return fmt.Errorf("formatted card: record %+v with certificates %v", rec, recorded)
		}
		return checkEmpty(ctx, conn)
	}
	if rec.State != token.Active || rec.UserID != "ada" || len(recorded) != 2 {
		return fmt.Errorf("enrolled card: record %+v with certificates %v", rec, recorded)
	}
	return checkUsable(ctx, conn, l.pin, recorded)
}
