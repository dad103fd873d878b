package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/tps/audit"
	"inkan/tps/realm"
	"inkan/tps/realm/client"
	"inkan/tps/realm/realmtest"
	"inkan/tps/store"
)

type noAudit struct{}

func (noAudit) Record(context.Context, audit.Event) error { return nil }

// issuer is a realm behind HTTPS, and how often its keys were asked for.
type issuer struct {
	*realm.Realm
	server  *httptest.Server
	fetched atomic.Int32
	down    atomic.Bool
}

func newIssuer(t *testing.T, clients ...realm.Client) *issuer {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "inkan.db"))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	i := &issuer{}
	var wellKnown http.Handler
	i.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if i.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if strings.HasSuffix(r.URL.Path, "jwks.json") {
			i.fetched.Add(1)
		}
		wellKnown.ServeHTTP(w, r)
	}))
	t.Cleanup(i.server.Close)
	i.Realm, err = realm.New(realm.Config{Store: db, Vault: &realmtest.Vault{}, Audit: noAudit{}, Issuer: i.server.URL, Clients: clients, HTTP: i.server.Client()})
	must(t, err)
	wellKnown = realm.WellKnown(i.Realm, "/token")
	must(t, i.Prepare(t.Context()))
	return i
}

func (i *issuer) client(now func() time.Time) *client.Client {
	c := client.New(client.Config{Issuer: i.server.URL, ID: "console", HTTP: i.server.Client()})
	c.SetClock(now)
	return c
}

var kind = realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}

func (i *issuer) sign(t *testing.T, audience string) string {
	t.Helper()
	text, err := i.Sign(t.Context(), kind, time.Hour, &realm.Claims{Subject: "ada", Audience: audience})
	must(t, err)
	return text
}

func verify(t *testing.T, c *client.Client, text string) error {
	t.Helper()
	var claims realm.Claims
	return c.Verify(t.Context(), text, kind, &claims)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, realm.ErrToken) {
		t.Errorf("%s: %v", what, err)
	}
}

// TestUnknownKid: a key that is not known yet is a reason to read the keys again, every
// ten seconds at most, whatever strangers send and however many at once.
func TestUnknownKid(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	now := time.Now()
	c := i.client(func() time.Time { return now })
	must(t, verify(t, c, i.sign(t, "console")))
	_, _, err := i.Rotate(t.Context(), realm.ForSessions, realm.ES256, "test")
	must(t, err)
	text := i.sign(t, "console")
	refused(t, "too early for another reading", verify(t, c, text))
	now = now.Add(11 * time.Second)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if err := verify(t, c, text); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	stranger := newIssuer(t)
	for range 5 {
		refused(t, "of a stranger", verify(t, c, stranger.sign(t, "console")))
	}
	if n := i.fetched.Load(); n != 2 {
		t.Errorf("the keys were read %d times", n)
	}
	i.down.Store(true)
	now = now.Add(time.Hour - 20*time.Second)
	must(t, verify(t, c, text)) // by what is known
	now = now.Add(24 * time.Hour)
	if err := verify(t, c, text); err == nil || errors.Is(err, realm.ErrToken) {
		t.Errorf("by keys of yesterday: %v", err)
	}
}

// TestRefused: for others, of another type, use or algorithm, or torn.
func TestRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	c := i.client(time.Now)
	must(t, verify(t, c, i.sign(t, "console")))
	refused(t, "for another client", verify(t, c, i.sign(t, "other")))
	text := i.sign(t, "console")
	refused(t, "torn", verify(t, c, text[:len(text)-3]))
	refused(t, "nothing", verify(t, c, ""))
	var claims realm.Claims
	refused(t, "of another type", c.Verify(t.Context(), text, realm.IDTokenType(), &claims))
	refused(t, "of another algorithm", c.Verify(t.Context(), text, realm.Type{Name: kind.Name, Use: kind.Use, Algorithms: []realm.Algorithm{realm.RS256}}, &claims))
	refused(t, "of another use", c.Verify(t.Context(), text, realm.Type{Name: kind.Name, Use: realm.ForTickets, Algorithms: kind.Algorithms}, &claims))
	late := i.client(func() time.Time { return time.Now().Add(2 * time.Hour) })
	refused(t, "expired", verify(t, late, text))
}

// TestCompromise: a client learns by a push at once, or by its next poll, that nothing
// from before counts.
func TestCompromise(t *testing.T) {
	t.Parallel()
	var told *client.Client
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { told.ServeHTTP(w, r) }))
	t.Cleanup(receiver.Close)
	i := newIssuer(t, realm.Client{ID: "console", AdminURL: receiver.URL, HTTP: receiver.Client()}, realm.Client{ID: "poller"})
	var ahead time.Duration
	clock := func() time.Time { return time.Now().Add(ahead) }
	told = i.client(clock)
	polls := i.client(clock)
	old := i.sign(t, "console")
	for _, c := range []*client.Client{told, polls} {
		must(t, verify(t, c, old))
	}
	ahead = 11 * time.Second // the keys were read a while ago
	keys, err := i.Keys(t.Context())
	must(t, err)
	out, err := i.Compromised(t.Context(), keys[0].KID, "test")
	must(t, err)
	if len(out.Pushes) != 2 || out.Pushes[0].Result != realm.PushDone || out.Pushes[1].Result != realm.PullOnly {
		t.Fatalf("%+v", out.Pushes)
	}
	refused(t, "after the push", verify(t, told, old))
	must(t, polls.Poll(t.Context()))
	refused(t, "after the poll", verify(t, polls, old))
	must(t, verify(t, told, i.sign(t, "console")))
	for _, body := range []string{"", "a.b.c", i.sign(t, "console")} {
		w := httptest.NewRecorder()
		told.ServeHTTP(w, httptest.NewRequest("POST", realm.NotBeforePath, strings.NewReader(body)))
		if w.Code != http.StatusUnauthorized {
			t.Errorf("push %q: %d", body, w.Code)
		}
	}
}
