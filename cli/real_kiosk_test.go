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
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/cli/station"
	"inkan/fixtures"
	"inkan/sim"
	"inkan/sim/vpcd/vpcdtest"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// The work of TestKioskRealReaders.
const (
	kioskCards   = 20
	kioskReaders = 3
	kioskSeed    = 20261122
	columnWidth  = 42
)

// TestKioskRealReaders has one person enroll twenty cards in three readers of a
// real pcscd. Every third card is pulled at a moment that a seed chooses: at an
// exchange with the card, or while the person is asked something. It is put in
// again and finished. At the end every card is used. After everything that happens
// the kiosk has to react within kioskBound; the longest time is logged.
func TestKioskRealReaders(t *testing.T) {
	t.Parallel()
	pcscd := vpcdtest.Start(t, kioskReaders)
	dir := t.TempDir()
	url, _ := startLab(t, filepath.Join(dir, "data"), func(n *server.Node) { staff(t, n) })
	ca := filepath.Join(dir, "data", "ca", "ca.pem")
	k := &counter{t: t, random: rand.New(rand.NewPCG(kioskSeed, 0)), pcscd: pcscd, roots: rootsOf(t, ca)}
	args := []string{"--server", url, "--trust", ca, "--profile", deskProfile}
	for i, name := range pcscd.Readers { // two readers come with each driver: one is left alone
		args = append(args, "--reader", name)
		k.places = append(k.places, &place{number: i})
	}
	k.desk = openDesk(t, 24, kioskReaders*columnWidth, pcscd.Env(), args...)
	began := time.Now()
	k.run()
	t.Logf("%d cards, %d pulled %d times, in %.1f s; longest reaction %.1f s", k.finished, k.pulledCards, k.pulls, time.Since(began).Seconds(), k.longest.Seconds())
	if k.finished != kioskCards || k.pulledCards < kioskCards/3 {
		t.Errorf("%d cards are finished, %d were pulled", k.finished, k.pulledCards)
	}
	pcscd.Close()
	k.desk.await(t, "No card reader can be reached:", "This screen goes on by itself")
	k.desk.press(t, ctrlC)
	k.desk.end(t)
}

// TestKioskWaitsForService starts the kiosk where there is no PC/SC service.
func TestKioskWaitsForService(t *testing.T) {
	t.Parallel()
	vpcdtest.Need(t)
	dir := t.TempDir()
	url := serveLab(t, filepath.Join(dir, "data"))
	nowhere := "PCSCLITE_CSOCK_NAME=" + filepath.Join(dir, "nobody")
	d := openDesk(t, 24, 80, []string{nowhere}, "--server", url, "--trust", filepath.Join(dir, "data", "ca", "ca.pem"))
	d.await(t, "No card reader can be reached: No PC/SC service")
	d.press(t, ctrlC)
	d.end(t)
}

const deskProfile = "deskKey"

// staff adds a profile with quick keys, and a person for each card.
func staff(t *testing.T, n *server.Node) {
	t.Helper()
	doc := strings.NewReplacer("NAME", deskProfile, "SET", "site", "KEYVERSION", "0", "ALG", "p256",
		"APPLET", fixtures.DefaultApplet, "DECRYPT", `"derive"`).Replace(profileDocument)
	if _, err := n.DB.PutProfile(t.Context(), profile.Record{Name: deskProfile, State: profile.Enabled, Document: doc}); err != nil {
		t.Fatal(err)
	}
	hash, err := auth.HashPassword(secret.New([]byte(staffPassword)), cheap)
	if err != nil {
		t.Fatal(err)
	}
	for i := range kioskCards {
		id := staffID(i)
		u := auth.User{ID: token.UserID(id), Name: "Person " + id, Roles: []auth.Role{auth.Operator}, Hash: hash}
		if _, err := n.DB.CreateUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
}

const staffPassword = "Desk-Password-7"

func staffID(card int) string { return fmt.Sprintf("staff%02d", card) }

func rootsOf(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	return roots
}

// counter is the counter with the kiosk on it, and the person behind it.
type counter struct {
	t      *testing.T
	random *rand.Rand
	pcscd  *vpcdtest.Daemon
	roots  *x509.CertPool
	desk   *desk
	places []*place
	goesTo *place // whose pane is to get the focus before anything else is typed

	given, finished, pulledCards, pulls int
	longest                             time.Duration
}

// place is one reader and what the person has in mind there.
type place struct {
	number  int
	slot    carrier
	plugged bool

	card   *sim.Card
	index  int    // of the card and its person
	pull   moment // when it is going to be pulled
	pulled bool   // it has been, once

	seen   string // what the reader's pane showed when the person acted last
	since  time.Time
	last   string // what it showed when the person looked last
	steady time.Time
}

// aGlance is how long a pane has to stay as it is to be read.
const aGlance = 30 * time.Millisecond

// moment is when a card is pulled.
type moment int

const (
	never moment = iota
	atExchange
	atLogin
	atPIN
)

// run works until every card is finished. Each turn looks at the screen and does
// the next thing that a person would.
func (k *counter) run() {
	for k.finished < kioskCards {
		acted := false
		for _, p := range k.places {
			acted = k.serve(p) || acted
			if k.t.Failed() {
				return
			}
		}
		if acted {
			continue
		}
		select {
		case <-k.desk.screen.changed:
		case <-time.After(20 * time.Millisecond): // a card may have been cut
		case err := <-k.desk.done:
			k.desk.done <- err
			k.t.Fatalf("the kiosk ended: %v", err)
		}
	}
}

// serve does what the pane of a reader asks for, and reports that it did something.
func (k *counter) serve(p *place) bool {
	if !p.plugged && p.card == nil {
		if k.given == kioskCards {
			return false
		}
		k.next(p)
		return true
	}
	pane := k.pane(p)
	if p.seen != "" && pane == p.seen {
		if time.Since(p.since) > kioskBound {
			k.t.Errorf("reader %d: nothing has happened for %v:\n%s", p.number+1, kioskBound, pane)
		}
		return false
	}
	if pane != p.last { // perhaps only half drawn
		p.last, p.steady = pane, time.Now()
		return false
	}
	if time.Since(p.steady) < aGlance {
		return false
	}
	if p.seen != "" {
		k.longest = max(k.longest, time.Since(p.since))
	}
	if time.Since(p.since) > kioskBound && p.card != nil {
		k.t.Errorf("reader %d: the card is not finished after %v:\n%s", p.number+1, kioskBound, pane)
	}
	return k.react(p, pane)
}

func (k *counter) react(p *place, pane string) bool {
	switch {
	case p.card == nil: // it was taken out: the next one, when the reader is ready
		if strings.Contains(pane, "Insert a card") && k.given < kioskCards {
			k.next(p)
			return true
		}
		return false
	case !p.card.Inserted():
		if !strings.Contains(pane, "Insert a card") {
			return false
		}
		k.back(p)
		return true
	case strings.Contains(pane, "What shall be done"):
		return k.enter(p, pane, enterKey)
	case strings.Contains(pane, "Log in") && strings.Contains(pane, "▸ User name  ▏"):
		return k.asked(p, pane, atLogin, staffID(p.index), enterKey, staffPassword, enterKey)
	case strings.Contains(pane, "Choose a PIN") && strings.Contains(pane, "▸ New PIN    ▏"):
		return k.asked(p, pane, atPIN, pinOf(p.index), enterKey, pinOf(p.index), enterKey)
	case strings.Contains(pane, "may be taken out") && strings.Contains(pane, "The card of"):
		k.take(p)
		return true
	}
	return false
}

func pinOf(card int) string { return fmt.Sprintf("Quartz-%02d", 7*card%100) }

// next gives the reader a new card. Every third is to be pulled.
func (k *counter) next(p *place) {
	model := []string{"gp-scp03", "gp-scp02", "gp-scp01"}[k.given/kioskReaders%3]
	card, err := sim.New(sim.Config{Model: model})
	if err != nil {
		k.t.Fatal(err)
	}
	p.card, p.index, p.pull, p.pulled = card, k.given, never, false
	if k.given%3 == 1 {
		p.pull = []moment{atExchange, atExchange, atExchange, atLogin, atPIN}[k.random.IntN(5)]
		if p.pull == atExchange {
			card.Cut(1+k.random.IntN(fewestExchanges), []sim.When{sim.Before, sim.After}[k.random.IntN(2)])
		}
		k.pulledCards++
	}
	k.given++
	p.slot.put(card)
	if !p.plugged {
		k.pcscd.Plug(k.t, p.number, &p.slot)
		p.plugged = true
	}
	p.acted(k.pane(p))
}

// fewestExchanges is less than any enrollment takes with what comes before it.
const fewestExchanges = 68

func (p *place) acted(pane string) { p.seen, p.since = pane, time.Now() }

// back puts a card in again that was pulled.
func (k *counter) back(p *place) {
	k.pulls++
	p.pulled = true
	p.acted(k.pane(p))
	p.card.Insert()
}

// asked answers a question, or pulls the card instead.
func (k *counter) asked(p *place, pane string, m moment, keys ...string) bool {
	if p.pull == m && !p.pulled {
		p.pulled = true
		p.card.Remove()
		p.acted(pane)
		return true
	}
	return k.enter(p, pane, keys...)
}

// enter types into the pane of a reader; it gets the focus first, and nobody types
// elsewhere before the screen shows that it has it.
func (k *counter) enter(p *place, pane string, keys ...string) bool {
	if k.goesTo != nil && k.goesTo != p {
		return false
	}
	if !strings.Contains(pane, fmt.Sprintf("▸ %d  ", p.number+1)) {
		if k.goesTo == p {
			return false
		}
		k.goesTo = p
		k.desk.press(k.t, fmt.Sprintf("\x1bO%c", 'P'+p.number))
		return true
	}
	k.goesTo = nil
	k.desk.press(k.t, keys...)
	p.acted(pane)
	return true
}

// take takes a finished card out and uses it.
func (k *counter) take(p *place) {
	card, shown := p.card, k.pane(p)
	p.slot.put(nil)
	p.card = nil
	p.acted(k.pane(p))
	if p.pull != never && !p.pulled {
		k.t.Errorf("card %d was not pulled", p.index)
	}
	card.Cut(0, sim.After)
	if err := card.Reset(k.t.Context()); err != nil {
		k.t.Error(err)
	}
	used, err := station.Use(k.t.Context(), card, secret.PIN{Secret: secret.New([]byte(pinOf(p.index)))}, k.roots)
	if err != nil || len(used) != 2 || !used[0].Trusted || !used[1].Trusted {
		k.t.Errorf("card %d (%s): %+v, %v; the kiosk showed\n%s", p.index, card.Info().Model, used, err, shown)
	}
	k.finished++
	card.Close()
}

// pane is what the screen shows of a reader.
func (k *counter) pane(p *place) string {
	var lines []string
	for _, l := range strings.Split(k.desk.screen.text(), "\n") {
		r := []rune(l)
		from, to := min(p.number*columnWidth, len(r)), min((p.number+1)*columnWidth, len(r))
		lines = append(lines, string(r[from:to]))
	}
	return strings.Join(lines, "\n")
}

// carrier is a reader's slot into which one card after the other is put: a
// vpcd.Card that is out of the reader while it has none.
type carrier struct {
	mu   sync.Mutex
	card *sim.Card
}

func (c *carrier) put(card *sim.Card) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.card = card
}

func (c *carrier) current() *sim.Card {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.card
}

var errNoCard = fmt.Errorf("%w: the reader is empty", apdu.ErrCardRemoved)

// Transmit implements apdu.Card.
func (c *carrier) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	card := c.current()
	if card == nil {
		return nil, errNoCard
	}
	return card.Transmit(ctx, cmd)
}

// ATR implements vpcd.Card.
func (c *carrier) ATR() apdu.ATR {
	if card := c.current(); card != nil {
		return card.ATR()
	}
	return nil
}

// Reset implements vpcd.Card.
func (c *carrier) Reset(ctx context.Context) error {
	card := c.current()
	if card == nil {
		return errNoCard
	}
	err := card.Reset(ctx)
	if errors.Is(err, apdu.ErrCardRemoved) || err == nil {
		return err
	}
	return fmt.Errorf("resetting the card in the slot: %w", err)
}

// Inserted is what vpcd asks for.
func (c *carrier) Inserted() bool {
	card := c.current()
	return card != nil && card.Inserted()
}
