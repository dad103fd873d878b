//go:build unix

package cli_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/sim"
	"inkan/sim/vpcd/vpcdtest"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// chaosSeed is the environment variable that repeats one seed of TestRealChaos.
const chaosSeed = "INKAN_CHAOS_SEED"

// realSeeds is how many cards TestRealChaos has, each in a reader of its own.
const realSeeds = 10

// TestRealChaos is the chaos test of package tps with everything real in between:
// the node is a process with its keys in SoftHSM, the cards are in a real pcscd,
// and a card that is pulled leaves its reader. It needs INKAN_REAL=1.
func TestRealChaos(t *testing.T) {
	vpcdtest.Need(t, "go", "softhsm2-util")
	seeds := make([]uint64, realSeeds)
	for i := range seeds {
		seeds[i] = uint64(i + 1)
	}
	if one := os.Getenv(chaosSeed); one != "" {
		n, err := strconv.ParseUint(one, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seeds = []uint64{n}
	}
	s := newSite(t, len(seeds))
	s.pcsc.Setenv(t)
	s.putTossed(t)
	s.serve(t)
	var operations, removals, converged atomic.Int64
	var all sync.WaitGroup // not t.Parallel: they wait for the reader most of the time
	for slot, seed := range seeds {
		all.Go(func() {
			t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
				p := newTossed(t, s, slot, seed)
				defer func() {
					operations.Add(int64(len(p.done)))
					removals.Add(int64(p.removals))
					if t.Failed() {
						t.Logf("model %s, batches of %d, %v; again with %s=%d", p.model, p.batch, p.done, chaosSeed, seed)
					}
				}()
				p.live(t)
				converged.Add(1)
			})
		})
	}
	all.Wait()
	fmt.Printf("chaos real=true seeds=%d operations=%d removals=%d converged=%d\n", len(seeds), operations.Load(), removals.Load(), converged.Load())
	s.stop(t)
	s.checkIssued(t, 2)
}

// tossed is a card in unsteady hands, in a reader of this machine.
type tossed struct {
	*holder
	rnd     *rand.Rand
	card    *sim.Card
	readers *pcsc.Service
	client  *wire.Client
	batch   int // commands per round trip, 0 = one

	version  int // of the keys that the profile names
	enrolled bool
	done     []string
	removals int
}

// tossedProfile is one that lets the owner do everything, with short keys.
func (st story) tossedProfile(version int) string {
	return fmt.Sprintf("%s-tossed-%d", st.name, version)
}

// ownersDocument is a profile whose cards their owner may format, and have several of.
func (st story) ownersDocument(name string, version int) string {
	return strings.Replace(st.document(name, "p256", version), "[pin]", "[card]\nallow_unknown = \"anyone\"\n\n[enroll]\nseveral_active = true\n\n[pin]", 1)
}

func (s *site) putTossed(t *testing.T) {
	t.Helper()
	n, err := server.Open(t.Context(), s.data, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, st := range stories {
		for _, version := range []int{st.first, st.second} {
			name := st.tossedProfile(version)
			if _, err := n.DB.PutProfile(t.Context(), profile.Record{Name: token.ProfileName(name), State: profile.Enabled, Document: st.ownersDocument(name, version)}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func newTossed(t *testing.T, s *site, slot int, seed uint64) *tossed {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 0x7265616C))
	st := stories[int(seed)%len(stories)]
	p := &tossed{holder: &holder{site: s, story: st, slot: slot}, rnd: rnd, version: st.first}
	if seed%2 == 0 {
		p.batch = wire.DefaultBatch
	}
	var err error
	if p.card, err = sim.New(sim.Config{Model: st.model, Chaos: &sim.Chaos{Seed: seed, MaxDelay: time.Millisecond, Remove: 0.015}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.card.Close() })
	p.cuid = p.card.Info().CUID.String()
	if p.readers, err = pcsc.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.readers.Close() })
	trust := station.Server{URL: s.url(), Fingerprint: s.fingerprint, KnownHosts: filepath.Join(t.TempDir(), "known")}
	if p.client, err = trust.Client(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.pcsc.Plug(t, slot, p.card)
	p.await(t, "with its card", pcsc.ReaderState.HasCard)
	return p
}

func (p *tossed) live(t *testing.T) {
	for range 6 {
		free := []wire.Operation{wire.Format}
		if len(p.done) > 0 { // a card with published keys has to be formatted first
			free = append(free, wire.Enroll, wire.Enroll, wire.KeyChangeover)
		}
		if p.enrolled {
			free = append(free, wire.ResetPIN)
		}
		op := free[p.rnd.IntN(len(free))]
		if op == wire.KeyChangeover {
			p.version = p.first + p.second - p.version
		}
		op = p.carryOut(t, op)
		p.done = append(p.done, op.String())
		p.agreed(t)
		if t.Failed() {
			return
		}
	}
}

// patience bounds how long a person comes back for one operation.
const patience = 3 * time.Minute

// carryOut has the person come back until the operation is done; now and then they
// want another one instead.
func (p *tossed) carryOut(t *testing.T, op wire.Operation) wire.Operation {
	t.Helper()
	pin := p.secret(fmt.Sprintf("Toss-%s-%d!", p.name, p.rnd.IntN(1000)))
	pulled := false
	for end := time.Now().Add(patience); ; {
		err := p.try(t.Context(), op, pin)
		var e *wire.EndError
		switch {
		case err == nil:
			p.note(op, pin)
			return op
		case time.Now().After(end):
			t.Fatalf("%v is not done after %v: %v", op, patience, err)
		case !p.card.Inserted():
			pulled = true
			p.putBack(t)
			if len(p.done) > 0 && p.rnd.IntN(8) == 0 {
				op = []wire.Operation{wire.Format, wire.Enroll}[p.rnd.IntN(2)]
			}
		case pulled && errors.As(err, &e) && e.Status == 1: // the session in which it was pulled is still ending
		default:
			t.Fatalf("%v failed, the card in the reader: %v", op, err)
		}
	}
}

func (p *tossed) note(op wire.Operation, pin string) {
	switch op {
	case wire.Enroll:
		p.enrolled, p.pin = true, pin
	case wire.ResetPIN:
		p.pin = pin
	case wire.Format:
		p.enrolled = false
	}
}

// try runs the operation once, through the reader.
func (p *tossed) try(ctx context.Context, op wire.Operation, pin string) error {
	return p.withCard(ctx, func(c station.Card) error {
		begin := wire.Begin{Operation: op, Profile: p.tossedProfile(p.version), Batch: p.batch}
		_, err := wire.Run(ctx, p.client, begin, c, owner{p.user, p.password(p.user), pin})
		return err
	})
}

func (p *tossed) withCard(ctx context.Context, do func(station.Card) error) error {
	c, err := station.OpenCard(ctx, station.Source{Reader: p.reader()})
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.Close())
}

// putBack puts the card into the reader again, once pcscd has seen that it is gone.
func (p *tossed) putBack(t *testing.T) {
	t.Helper()
	p.removals++
	p.await(t, "empty", func(s pcsc.ReaderState) bool { return s == pcsc.Empty })
	p.card.Insert()
	p.await(t, "with its card", pcsc.ReaderState.HasCard)
}

func (p *tossed) await(t *testing.T, what string, is func(pcsc.ReaderState) bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		rs, err := p.readers.Readers(t.Context())
		if err == nil && slices.ContainsFunc(rs, func(r pcsc.Reader) bool { return r.Name == p.reader() && is(r.State) }) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("reader %s is not %s: %v, %v", p.reader(), what, rs, err)
		}
	}
}

// agreed looks at the card through the reader and compares it with the records. A
// card that is pulled meanwhile is put back.
func (p *tossed) agreed(t *testing.T) {
	t.Helper()
	var info station.Info
	var used []station.Used
	for {
		err := p.withCard(t.Context(), func(c station.Card) (err error) {
			if info, err = station.Describe(t.Context(), c); err == nil && p.enrolled {
				used, err = p.use(t.Context(), c)
			}
			return err
		})
		if err == nil {
			break
		}
		if p.card.Inserted() {
			t.Fatalf("looking at the card: %v", err)
		}
		p.putBack(t)
	}
	v, state, user := p.token(t), "FORMATTED", ""
	if p.enrolled {
		state, user = "ACTIVE", p.user
	}
	if v.Token.Status.Name.Name != state || v.Token.UserID != user || v.Unfinished != nil {
		t.Errorf("record %+v, unfinished %v; want %s of %q", v.Token, v.Unfinished, state, user)
	}
	if len(info.Keys) != 1 || info.Keys[0][:2] != v.Token.KeyInfo[:2] {
		t.Errorf("card keys %v, recorded %s", info.Keys, v.Token.KeyInfo)
	}
	var active, onCard []string
	for _, c := range p.certificates(t) {
		if c.Status == "active" {
			active = append(active, c.serial())
		}
	}
	for _, c := range info.Applet.Certificates {
		onCard = append(onCard, c.Serial)
	}
	slices.Sort(active)
	slices.Sort(onCard)
	if !slices.Equal(active, onCard) || len(used) != len(active) || p.enrolled != (len(active) == 2) {
		t.Errorf("active certificates %v, on the card %v, used %+v", active, onCard, used)
	}
}

// use logs in and uses every key.
func (p *tossed) use(ctx context.Context, c station.Card) ([]station.Used, error) {
	pin, err := secret.NewPIN([]byte(p.pin))
	if err != nil {
		return nil, err
	}
	return station.Use(ctx, c, pin, nil)
}

// owner answers what a server asks.
type owner struct{ user, password, pin string }

func (o owner) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{"UID": secret.New([]byte(o.user)), "PASSWORD": secret.New([]byte(o.password))}, nil
}

func (o owner) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.NewPIN([]byte(o.pin))
}

func (owner) Progress(int, string) {}
