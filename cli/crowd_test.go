//go:build unix

package cli_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/sim"
	"inkan/tps/auth"
	"inkan/tps/store"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// crowd are people who make one card after the other, through haproxy.
type crowd struct {
	t       *testing.T
	client  *wire.Client
	roots   *x509.CertPool
	ended   atomic.Bool
	serial  atomic.Uint64
	seen    atomic.Int64 // commands to cards
	workers sync.WaitGroup

	mu   sync.Mutex
	made []*member
}

// member is a card that was made.
type member struct {
	*sim.Card
	crowd  *crowd
	owner  owner
	failed []error // tries that did not end well
}

func newCrowd(t *testing.T, f *fleet, b *balancer) *crowd {
	t.Helper()
	ca := filepath.Join(f.nodes[0].data, "ca", "ca.pem")
	trust, err := wire.FileTrust(ca)
	if err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, client: &wire.Client{BaseURL: b.url, TLS: trust, Timeout: time.Minute}, roots: x509.NewCertPool()}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	c.roots.AppendCertsFromPEM(pem)
	t.Cleanup(c.end)
	return c
}

// start has so many people begin. Their passwords cost little to check.
func (c *crowd) start(t *testing.T, db *store.DB, people int) {
	t.Helper()
	for i := range people {
		p := owner{fmt.Sprintf("person%d", i), fmt.Sprintf("Copper-Lantern-%d", i), fmt.Sprintf("735192%d", i)}
		hash, err := auth.HashPassword(secret.New([]byte(p.password)), cheap)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.CreateUser(t.Context(), auth.User{ID: token.UserID(p.user), Name: "Person " + p.user, Hash: hash}); err != nil {
			t.Fatal(err)
		}
		c.workers.Go(func() {
			for !c.ended.Load() && !c.t.Failed() {
				c.makeCard(p)
			}
		})
	}
}

func (c *crowd) end() {
	c.ended.Store(true)
	c.workers.Wait()
}

// step waits until everybody goes on: two cards more are made, and then some commands
// more are sent.
func (c *crowd) step(t *testing.T) {
	t.Helper()
	cards := len(c.all()) + 2
	c.until(t, "cards are made", func() bool { return len(c.all()) >= cards })
	commands := c.seen.Load() + rand.Int64N(100)
	c.until(t, "commands are sent", func() bool { return c.seen.Load() >= commands })
}

func (c *crowd) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if t.Failed() || time.Now().After(end) {
			t.Fatalf("no longer true that %s", what)
		}
	}
}

func (c *crowd) all() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// makeCard formats and enrolls a new card.
func (c *crowd) makeCard(p owner) {
	card, err := sim.New(sim.Config{Model: "gp-scp03", Serial: c.serial.Add(1)})
	if err != nil {
		c.t.Error(err)
		return
	}
	m := &member{Card: card, crowd: c, owner: p}
	for _, op := range []wire.Operation{wire.Format, wire.Enroll} {
		if err := m.carryOut(op); err != nil {
			c.t.Errorf("%v of card %v did not end well: %v", op, card.Info().CUID, err)
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, m)
}

// carryOut tries until the operation ends well, as a person does who sees that it did
// not.
func (m *member) carryOut(op wire.Operation) error {
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		begin := wire.Begin{Operation: op, Profile: crowdProfile, Batch: 16}
		_, err := wire.Run(m.crowd.t.Context(), m.crowd.client, begin, m, m.owner)
		if err == nil {
			return nil
		}
		m.failed = append(m.failed, fmt.Errorf("%v: %w", op, err))
		if time.Now().After(end) || m.crowd.t.Context().Err() != nil {
			return errors.Join(m.failed...)
		}
		if err := m.Reset(m.crowd.t.Context()); err != nil {
			return err
		}
	}
}

// Transmit counts, and takes a moment, as a card does.
func (m *member) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	m.crowd.seen.Add(1)
	time.Sleep(5 * time.Millisecond)
	return m.Card.Transmit(ctx, cmd)
}

func (c *crowd) counts() (first, retried int) {
	for _, m := range c.made {
		if len(m.failed) == 0 {
			first++
		} else {
			retried++
		}
	}
	return first, retried
}

// check compares every card with its records, and returns how many are half done.
func (c *crowd) check(t *testing.T, db *store.DB) (halfDone int) {
	t.Helper()
	for _, m := range c.made {
		if err := m.whole(t.Context(), db); err != nil {
			t.Errorf("card %v, after %v: %v", m.Info().CUID, m.failed, err)
			halfDone++
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	all, err := db.Tokens(t.Context(), token.Filter{Limit: 1000})
	if err != nil || len(all) != len(c.made) {
		t.Errorf("%d tokens for %d cards, %v", len(all), len(c.made), err)
	}
	certs, err := db.Certificates(t.Context(), token.Filter{Limit: 1000})
	if err != nil || len(certs) < 2*len(c.made) {
		t.Errorf("%d certificates for %d cards, %v", len(certs), len(c.made), err)
	}
	return halfDone
}

// whole reports what is not as it should be with an enrolled card.
func (m *member) whole(ctx context.Context, db *store.DB) error {
	cuid := m.Info().CUID
	tok, err := db.Token(ctx, cuid)
	if err != nil || tok.State != token.Active || string(tok.UserID) != m.owner.user || tok.KeySet != "site" {
		return fmt.Errorf("record %+v, %w", tok, err)
	}
	certs, err := db.CertificatesOf(ctx, cuid)
	if err != nil {
		return err
	}
	var active, onCard []string
	for _, c := range certs {
		switch c.State {
		case token.CertActive:
			active = append(active, c.Serial)
		case token.CertRevoked:
		default:
			return fmt.Errorf("certificate %s is %s", c.Serial, c.State)
		}
	}
	info, err := station.Describe(ctx, m.Card)
	if err != nil {
		return err
	}
	for _, c := range info.Applet.Certificates {
		onCard = append(onCard, c.Serial)
	}
	slices.Sort(active)
	slices.Sort(onCard)
	if len(active) != 2 || !slices.Equal(active, onCard) {
		return fmt.Errorf("active certificates %v, on the card %v", active, onCard)
	}
	pin, err := secret.NewPIN([]byte(m.owner.pin))
	if err != nil {
		return err
	}
	used, err := station.Use(ctx, m.Card, pin, m.crowd.roots)
	if err == nil && len(used) != 2 {
		err = fmt.Errorf("used %+v", used)
	}
	return err
}
