package tps_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/fixtures"
	"inkan/sim"
	"inkan/tks"
	"inkan/tks/hsm/softkey"
	"inkan/tks/local"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/coolkey"
	"inkan/tps/profile"
	"inkan/tps/store"
	"inkan/tps/token"
)

// site is everything a TPS needs, in process and in a temporary folder. Key
// sets: "site" (AES-128, version 2), "wide" (AES-256, version 3), "des" (DES3,
// version 2), and for changes "other", "narrow" and "later".
type site struct {
	t      testing.TB
	db     *store.DB
	keys   tks.Service
	local  *local.Service
	ca     ca.Authority
	audit  audit.Log
	people *people
	stores tps.Stores
	kinds  profile.Store // db's profiles, decoded once for all engines
	log    *slog.Logger
	lab    bool
	noSim  bool
	start  string // of this process, part of the boots' names
	boot   int
	close  func()
	adjust func(*tps.Config) // of every engine; nil = nothing
	batch  bool              // clients take batches
	cards  string            // PIN that cards have, where they are asked for it
}

// people is an authenticator that answers at once.
type people struct {
	mu  sync.Mutex
	all map[string]auth.Person
}

func (p *people) Form(string) auth.Form {
	return auth.Form{Title: "Log in", Fields: []auth.Field{{ID: "UID", Name: "User"}, {ID: "PASSWORD", Name: "Password", Secret: true}}}
}

func (p *people) Check(_ context.Context, a auth.Answers) (auth.Person, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.all[string(a["UID"].Bytes())]
	if !ok || string(a["PASSWORD"].Bytes()) != "right" {
		return auth.Person{}, auth.ErrBadCredentials
	}
	return who, nil
}

// memoryAudit keeps events.
type memoryAudit struct {
	mu     sync.Mutex
	events []audit.Event
}

func (m *memoryAudit) Record(_ context.Context, e audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, e)
	return nil
}

// newSite is a site in a folder of its own, with the profile "test".
func newSite(t testing.TB) *site {
	t.Helper()
	v, err := sharedVault()
	must(t, err)
	dir := t.TempDir()
	s := siteOver(t, dir, openRecords(t, dir), v)
	t.Cleanup(s.close)
	return s
}

// siteIn opens the site in a folder, and makes it where there is none.
func siteIn(t testing.TB, dir string) *site {
	t.Helper()
	return siteOn(t, dir, openRecords(t, dir))
}

// newRecords is a database file without records: making its tables takes longer than
// many a test.
var newRecords = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "inkan-tps")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "inkan.db")
	db, err := store.Open(context.Background(), path)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// openRecords opens the database of a folder, and makes it where there is none.
func openRecords(t testing.TB, dir string) *store.DB {
	t.Helper()
	path := filepath.Join(dir, "inkan.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		b, err := newRecords()
		must(t, err)
		must(t, os.WriteFile(path, b, 0o600))
	}
	db, err := store.Open(context.Background(), path)
	must(t, err)
	return db
}

// siteOn is siteIn with the records elsewhere.
func siteOn(t testing.TB, dir string, db *store.DB) *site {
	t.Helper()
	v, err := openVault(filepath.Join(dir, "keystore"))
	must(t, err)
	s := siteOver(t, dir, db, v)
	whole := s.close
	s.close = func() { whole(); must(t, v.Close()) }
	return s
}

// siteOver is siteOn over a key file that outlives the site.
func siteOver(t testing.TB, dir string, db *store.DB, v *softkey.Store) *site {
	t.Helper()
	ledger, err := local.OpenLedger(filepath.Join(dir, "ledger"))
	must(t, err)
	svc, err := local.New(local.Config{Vault: v, Ledger: ledger})
	must(t, err)
	s := &site{
		t: t, db: db, keys: svc, local: svc, audit: &memoryAudit{}, lab: true, start: token.NewID(),
		kinds:  profile.Remember(db),
		stores: tps.Stores{Tokens: db, Certificates: db, Activities: db, Journals: db, Locks: db},
		people: &people{all: map[string]auth.Person{
			"ada":  {ID: "ada", Name: "Ada Lovelace", Mail: "ada@example.org", UPN: "ada@corp.example.org"},
			"bob":  {ID: "bob", Name: "Bob Byte", Mail: "bob@example.org"},
			"olga": {ID: "olga", Name: "Olga Operator", Roles: []auth.Role{auth.Operator}},
		}},
		log:   slog.New(slog.DiscardHandler),
		cards: "8402716",
		close: func() { must(t, errors.Join(ledger.Close(), db.Close())) },
	}
	s.ca = openAuthority(t, dir, db.Authority("embedded"))
	if _, err := db.Profile(context.Background(), "test"); errors.Is(err, token.ErrNotFound) {
		s.put(ecProfile("test", nil))
	}
	return s
}

// openAuthority opens the authority of a folder, key and certificate in a file.
func openAuthority(t testing.TB, dir string, issued ca.Store) ca.Authority {
	t.Helper()
	path := filepath.Join(dir, "ca.pem")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b = newAuthority(t)
		err = os.WriteFile(path, b, 0o600)
	}
	must(t, err)
	first, rest := pem.Decode(b)
	second, _ := pem.Decode(rest)
	key, err := x509.ParseECPrivateKey(first.Bytes)
	must(t, err)
	a, err := ca.Open(ca.Config{Signer: key, Certificate: second.Bytes, Store: issued})
	must(t, err)
	return a
}

func newAuthority(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := ca.Create(context.Background(), ca.RootConfig{Signer: key, Subject: pkix.Name{CommonName: "Test CA"}})
	must(t, err)
	priv, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	return append(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: priv}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}

// ecProfile is userKey with EC keys, on the synthetic applet, changed by edits.
func ecProfile(name string, edits map[string]string) string {
	doc := `
name = "` + name + `"
title = "Test profile"
family = "coolkey"
operations = ["format", "enroll", "renew", "pin-reset", "key-changeover"]
[card]
allow_unknown = "anyone"
[keys]
set = "site"
version = 2
change_on = ["key-changeover"]
[applet]
version = "1.4.66000001"
issuer_url = "https://tps.example.org:8443/tps/phoneHome"
[renewal]
enabled = true
[[key]]
type = "signing"
cert = 1
alg = "p256"
ca_profile = "signing"
label = "signing key for $userid$"
private = ["sign", "sensitive", "private", "token"]
public = ["verify", "token"]
[[key]]
type = "encryption"
cert = 2
alg = "p256"
ca_profile = "encryption"
label = "encryption key for $userid$"
private = ["derive", "sensitive", "private", "token"]
public = ["derive", "token"]
`
	for _, old := range slices.Sorted(maps.Keys(edits)) {
		if !strings.Contains(doc, old) {
			panic("profile has no " + old)
		}
		doc = strings.ReplaceAll(doc, old, edits[old])
	}
	return doc
}

// put stores a profile document.
func (s *site) put(doc string) {
	s.t.Helper()
	p, err := profile.Decode([]byte(doc))
	must(s.t, err)
	have, err := s.db.Profile(context.Background(), p.Name)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		s.t.Fatal(err)
	}
	_, err = s.db.PutProfile(context.Background(), profile.Record{Name: p.Name, Revision: have.Revision, State: profile.Enabled, Document: doc})
	must(s.t, err)
}

// engine is a node that has just started: locks of the one before are void.
func (s *site) engine() *tps.Engine {
	s.t.Helper()
	s.boot++
	cfg := tps.Config{
		Stores: s.stores, Profiles: s.kinds, Keys: s.keys, Authorities: map[string]ca.Authority{"embedded": s.ca},
		Authenticators: map[string]auth.Authenticator{"local": s.people}, Families: []tps.Family{coolkey.Family{Applets: applets()}, s.piv()},
		Audit: s.audit, Log: s.log, Node: "node", Boot: fmt.Sprint(s.start, "-", s.boot), DefaultProfile: "test", AllowSimulator: !s.noSim, Lab: s.lab,
	}
	if s.adjust != nil {
		s.adjust(&cfg)
	}
	e, err := tps.New(cfg)
	must(s.t, err)
	return e
}

// applets is the folder of load files: the synthetic ones.
func applets() fs.FS {
	folder, err := fs.Sub(fixtures.Applets, "applets")
	if err != nil {
		panic(err)
	}
	return folder
}

// client is a card with a person in front of it.
type client struct {
	apdu.Card
	user, password string
	pins           []string    // given one after the other; the last one again
	cardPINs       []string    // likewise
	asks           []auth.Form // for the card's PIN
	asked          int
	logins         int
	tasks          []string
	percents       []int
	invalid        bool // the last form said so
}

func (c *client) Login(_ context.Context, f auth.Form) (auth.Answers, error) {
	if f.Fields[0].ID == tps.FieldCardPIN {
		c.asks = append(c.asks, f)
		pin := c.cardPINs[min(len(c.asks), len(c.cardPINs))-1]
		return auth.Answers{tps.FieldCardPIN: secret.New([]byte(pin))}, nil
	}
	c.logins++
	c.invalid = f.Invalid
	return auth.Answers{"UID": secret.New([]byte(c.user)), "PASSWORD": secret.New([]byte(c.password))}, nil
}

func (c *client) NewPIN(context.Context, int, int) (secret.PIN, error) {
	pin := c.pins[min(c.asked, len(c.pins)-1)]
	c.asked++
	return secret.NewPIN([]byte(pin))
}

func (c *client) Progress(_ context.Context, percent int, task string) error {
	c.percents, c.tasks = append(c.percents, percent), append(c.tasks, task)
	return nil
}

func newCard(t testing.TB, model string) *sim.Card {
	t.Helper()
	c, err := sim.New(sim.Config{Model: model})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// run runs an operation as ada with a good password and PIN.
func (s *site) run(op tps.Operation, card apdu.Card, edit ...func(*client, *tps.Request)) (*client, error) {
	s.t.Helper()
	c := &client{Card: card, user: "ada", password: "right", pins: []string{"7351924"}, cardPINs: []string{s.cards}}
	req := tps.Request{Operation: op, Client: "192.0.2.1", Forms: true}
	for _, e := range edit {
		e(c, &req)
	}
	var cl tps.Client = c
	if s.batch {
		cl = batching{c}
	}
	return c, s.engine().Run(s.t.Context(), req, cl)
}

// batching is a client that takes lists of commands. Like the one of tps/wire it
// tells nothing of a list in whose middle the card left.
type batching struct{ *client }

// MaxFrames is small, so that lists are cut.
func (batching) MaxFrames() int { return 16 }

// TransmitAll implements apdu.FrameTransmitter.
func (b batching) TransmitAll(ctx context.Context, frames []apdu.Frame) ([][]byte, error) {
	var answers [][]byte
	for _, f := range frames {
		a, err := b.whole(ctx, f.Cmd)
		if err != nil {
			return nil, err
		}
		answers = append(answers, a)
		if !f.Anyway && string(a[len(a)-2:]) != "\x90\x00" {
			break
		}
	}
	return answers, nil
}

// whole fetches what is left of an answer, as clients that take lists do (61xx).
func (b batching) whole(ctx context.Context, cmd []byte) (all []byte, err error) {
	for {
		a, err := b.Transmit(ctx, cmd)
		if err != nil || len(a) < 2 {
			return a, err
		}
		all = append(all, a...)
		n := len(all)
		if all[n-2] != 0x61 {
			return all, nil
		}
		all, cmd = all[:n-2], []byte{cmd[0] &^ 0x1C, 0xC0, 0x00, 0x00, all[n-1]}
	}
}

// as runs it as somebody else.
func as(user string) func(*client, *tps.Request) {
	return func(c *client, _ *tps.Request) { c.user = user }
}

// with asks for a profile.
func with(name string) func(*client, *tps.Request) {
	return func(_ *client, r *tps.Request) { r.TokenType = name }
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantStatus(t testing.TB, err error, want tps.Status) {
	t.Helper()
	if got := tps.StatusOf(err); err == nil || got != want {
		t.Fatalf("error %v, status %d, want status %d", err, got, want)
	}
}
