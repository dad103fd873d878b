package realm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"inkan/tps/audit"
	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
	"inkan/tps/store"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// events is an audit log in memory.
type events struct {
	mu   sync.Mutex
	all  []audit.Event
	fail error
}

func (e *events) Record(_ context.Context, ev audit.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail == nil {
		e.all = append(e.all, ev)
	}
	return e.fail
}

// clock is a time that moves when somebody waits.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func (c *clock) wait(ctx context.Context, d time.Duration) error {
	c.add(d)
	return ctx.Err()
}

// node is a realm over a real store.
type node struct {
	*realm.Realm
	db    *store.DB
	vault *realmtest.Vault
	audit *events
	clock *clock
}

// auditHead is signed where any will do.
var auditHead = audit.Head{Seq: 1, Hash: "AB"}

const issuer = "https://tps.example.org:8443"

func newNode(t testing.TB, edit ...func(*realm.Config)) *node {
	t.Helper()
	db, err := store.Open(context.Background(), filepath.Join(t.TempDir(), "inkan.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	n := &node{db: db, vault: &realmtest.Vault{}, audit: &events{}, clock: &clock{t: time.Now().Truncate(time.Second).Add(100 * time.Millisecond)}}
	n.Realm = n.another(t, edit...)
	must(t, n.Prepare(t.Context()))
	return n
}

// another is a second node over the same records and keys.
func (n *node) another(t testing.TB, edit ...func(*realm.Config)) *realm.Realm {
	t.Helper()
	cfg := realm.Config{Store: n.db, Vault: n.vault, Audit: n.audit, Issuer: issuer, Name: "Inkan test"}
	for _, e := range edit {
		e(&cfg)
	}
	r, err := realm.New(cfg)
	must(t, err)
	r.SetClock(n.clock.now, n.clock.wait)
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks what an error is of.
func refused(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// sign makes a token of an algorithm that is good for an hour.
func (n *node) sign(t *testing.T, a realm.Algorithm) string {
	t.Helper()
	s, err := n.Sign(t.Context(), realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{a}}, time.Hour, &realm.Claims{Subject: "ada"})
	must(t, err)
	return s
}

func (n *node) verify(t *testing.T, token string, algorithms ...realm.Algorithm) error {
	t.Helper()
	var c realm.Claims
	err := n.Verify(t.Context(), token, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: algorithms}, &c)
	if err == nil && c.Subject != "ada" {
		t.Errorf("claims %+v", c)
	}
	return err
}

// only is the first key in a state.
func (n *node) only(t *testing.T, s realm.State) realm.Key {
	t.Helper()
	all, err := n.Keys(t.Context())
	must(t, err)
	for _, k := range all {
		if k.State == s {
			return k
		}
	}
	t.Fatalf("no %s key in %+v", s, all)
	return realm.Key{}
}
