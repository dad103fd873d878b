package realm_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"inkan/tps/realm"
)

const day = 24 * time.Hour

// TestCalendar: the dry run says what then happens, step by step, and itself does nothing.
func TestCalendar(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	start := n.clock.now()
	steps, err := n.Calendar(t.Context(), start.Add(400*day))
	must(t, err)
	if all, _ := n.Keys(t.Context()); len(all) != 1 {
		t.Fatal("the dry run made keys")
	}
	want := []realm.Step{{At: start.Add(89 * day), Action: realm.Create}, {At: start.Add(90 * day), Action: realm.TakeOver},
		{At: start.Add(120 * day), Action: realm.Expire}, {At: start.Add(150 * day), Action: realm.Remove}, {At: start.Add(179 * day), Action: realm.Create}}
	for i, w := range want {
		if d := steps[i].At.Sub(w.At); steps[i].Action != w.Action || d < -time.Second || d > time.Second {
			t.Errorf("step %d: %v %s, want %v %s", i, steps[i].At, steps[i].Action, w.At, w.Action)
		}
	}
	if !slices.IsSortedFunc(steps, func(a, b realm.Step) int { return a.At.Compare(b.At) }) {
		t.Error("not in order")
	}
	other := n.another(t)
	old := n.sign(t, realm.ES256)
	first := n.only(t, realm.Active)
	for i, s := range want[:4] {
		n.clock.add(s.At.Add(time.Second).Sub(n.clock.now()))
		must(t, n.Tend(t.Context()))
		must(t, other.Tend(t.Context())) // another node, and again: nothing more
		must(t, n.Tend(t.Context()))
		k, err := n.Find(t.Context(), string(first.ID))
		must(t, err)
		if got := []realm.State{realm.Active, realm.Passive, realm.Disabled, realm.Deleted}[i]; k.State != got {
			t.Errorf("after %s the first key is %s, want %s", s.Action, k.State, got)
		}
	}
	all, err := n.Keys(t.Context())
	must(t, err)
	if len(all) != 2 || n.vault.Size() != 1 || all[0].State != realm.Active || all[0].Priority != 101 {
		t.Errorf("%d keys, %d in the vault, %+v", len(all), n.vault.Size(), all[0])
	}
	refused(t, "a token of the deleted key", n.verify(t, old, realm.ES256), realm.ErrToken)
}

// TestPublishedAhead: a pending key is in the JWKS and verifies before it signs.
func TestPublishedAhead(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.clock.add(89*day + time.Minute)
	must(t, n.Tend(t.Context()))
	b, err := n.JWKS(t.Context())
	must(t, err)
	if next := n.only(t, realm.Pending); !strings.Contains(string(b), next.KID) || !next.Scheduled {
		t.Errorf("the next key is not published: %s", b)
	}
	_, _, err = n.Rotate(t.Context(), realm.ForSessions, realm.ES256, "test") // by hand, in the meantime
	must(t, err)
	n.clock.add(2 * day)
	must(t, n.Tend(t.Context()))
	all, _ := n.Keys(t.Context())
	states := map[realm.State]int{}
	for _, k := range all {
		states[k.State]++
	}
	if states[realm.Active] != 1 || states[realm.Passive] != 1 || states[realm.Disabled] != 1 {
		t.Errorf("%v", states)
	}
}

// TestByHandIsLeftAlone: what people made passive or disabled stays, and with the
// policy off everything.
func TestByHandIsLeftAlone(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, s := range []realm.State{realm.Passive, realm.Disabled} {
		k, err := n.Add(t.Context(), realm.NewKey{Provider: realm.Generated, Name: string(s)}, "test")
		must(t, err)
		_, err = n.SetState(t.Context(), k.KID, s, "test")
		must(t, err)
	}
	off := n.another(t, func(c *realm.Config) { c.Policy.Off = true })
	n.clock.add(80 * day)
	must(t, n.Tend(t.Context()))
	for _, s := range []realm.State{realm.Passive, realm.Disabled} {
		if k, err := n.Find(t.Context(), string(s)); err != nil || k.State != s {
			t.Errorf("%s became %s, %v", s, k.State, err)
		}
	}
	n.clock.add(100 * day)
	must(t, off.Tend(t.Context()))
	steps, err := off.Calendar(t.Context(), n.clock.now().Add(400*day))
	if all, _ := n.Keys(t.Context()); len(all) != 3 || len(steps) != 0 || err != nil {
		t.Errorf("%d keys, steps %v, %v", len(all), steps, err)
	}
}

// TestCompromised: every old token is refused from that second, a new one is good,
// and what was interrupted is finished by the same command or by the policy.
func TestCompromised(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	_, err := n.Add(ctx, realm.NewKey{Provider: realm.Generated, Algorithm: realm.ES384, Priority: 7000}, "test")
	must(t, err)
	old, other := n.sign(t, realm.ES256), n.sign(t, realm.ES384)
	k := n.only(t, realm.Active)
	if k.Algorithm != realm.ES256 {
		k, err = n.Find(ctx, kidOf(t, old))
		must(t, err)
	}
	n.vault.Keep(errors.New("the HSM is gone"))
	if _, err := n.Compromised(ctx, k.KID, "ada"); err == nil {
		t.Error("the private half stayed, and nobody says so")
	}
	for what, text := range map[string]string{"of the key": old, "of another key": other} {
		refused(t, what, n.verify(t, text, realm.ES256, realm.ES384), realm.ErrToken)
	}
	n.vault.Keep(nil)
	out, err := n.Compromised(ctx, k.KID, "ada")
	must(t, err)
	if out.Gone.State != realm.Disabled || out.Gone.Material != "" || out.Made.ID != "" || n.vault.Size() != 2 {
		t.Errorf("finished: %+v, %d keys in the vault", out, n.vault.Size())
	}
	fresh := n.sign(t, realm.ES256)
	must(t, n.verify(t, fresh, realm.ES256))
	if n.clock.now().Before(out.NotBefore) {
		t.Error("it did not wait out the second")
	}
	_, err = n.SetState(ctx, k.KID, realm.Active, "test")
	refused(t, "activating it again", err, realm.ErrRefused)
	doc, err := n.Revocation(ctx)
	must(t, err)
	again, err := n.Revocation(ctx)
	must(t, err)
	if doc != again {
		t.Error("the document is signed anew each time")
	}
	var c struct {
		NotBefore map[string]int64 `json:"not_before"`
		Revoked   []string         `json:"revoked_kids"`
	}
	payload(t, n, doc, &c)
	if c.NotBefore["sig"] != out.NotBefore.Unix() || len(c.Revoked) != 1 || c.Revoked[0] != k.KID {
		t.Errorf("%+v", c)
	}
}

func kidOf(t *testing.T, text string) string {
	t.Helper()
	obj, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256, jose.ES384})
	must(t, err)
	return obj.Signatures[0].Header.KeyID
}

// payload verifies a JWS by the published keys, as a client does.
func payload(t *testing.T, n *node, text string, v any) {
	t.Helper()
	b, err := n.JWKS(t.Context())
	must(t, err)
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(b, &set))
	obj, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	must(t, err)
	body, err := obj.Verify(set)
	must(t, err)
	must(t, json.Unmarshal(body, v))
}

// TestPush: clients are told by a request that the new key signed, again until they
// answer; who never does, and who cannot be told, is named.
func TestPush(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	bodies := make(chan string, 10)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch {
		case strings.HasPrefix(r.URL.Path, "/down/"), strings.HasPrefix(r.URL.Path, "/slow/") && calls.Add(1) < 3:
			w.WriteHeader(http.StatusBadGateway)
		default:
			bodies <- r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(b)
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // dials that lost a race
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	n := newNode(t, func(c *realm.Config) {
		c.HTTP = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
		c.Clients = []realm.Client{{ID: "console", AdminURL: s.URL + "/slow/"}, {ID: "dead", AdminURL: s.URL + "/down"}, {ID: "poller"},
			{ID: "adapter", AdminURL: s.URL, Keycloak: true}}
	})
	out, err := n.Compromised(t.Context(), n.only(t, realm.Active).KID, "ada")
	must(t, err)
	want := []realm.Push{{Client: "console", Result: realm.PushDone, Tries: 3}, {Client: "dead", Result: realm.PushFailed, Tries: 4},
		{Client: "poller", Result: realm.PullOnly}, {Client: "adapter", Result: realm.PushDone, Tries: 1}}
	for i, w := range want {
		g := out.Pushes[i]
		if g.Client != w.Client || g.Result != w.Result || g.Tries != w.Tries || (g.Result == realm.PushFailed) != (g.Err != "") {
			t.Errorf("%+v, want %+v", g, w)
		}
	}
	for range 2 {
		path, rest, _ := strings.Cut(<-bodies, " ")
		media, text, _ := strings.Cut(rest, " ")
		var c struct {
			Audience  string   `json:"aud"`
			Action    string   `json:"action"`
			NotBefore int64    `json:"not_before"`
			Theirs    int64    `json:"notBefore"`
			Resource  string   `json:"resource"`
			Revoked   []string `json:"revoked_kids"`
			Issued    int64    `json:"iat"`
			Expires   int64    `json:"exp"`
		}
		payload(t, n, text, &c)
		if c.Action != "PUSH_NOT_BEFORE" || max(c.NotBefore, c.Theirs) != out.NotBefore.Unix() || c.Expires-c.Issued != 30 {
			t.Errorf("%s: %+v", path, c)
		}
		switch path {
		case "/slow/tms/v1/not-before":
			if media != "application/jwt" || c.Audience != "console" || len(c.Revoked) != 1 {
				t.Errorf("%s %+v", media, c)
			}
		case "/k_push_not_before":
			if c.Resource != "adapter" {
				t.Errorf("%+v", c)
			}
		default:
			t.Errorf("called %s", path)
		}
	}
}

// TestRotateRace: of many nodes that tend at once each step is taken once, and no
// key that nobody has is left in the vault.
func TestRotateRace(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.clock.add(89*day + time.Minute)
	var all sync.WaitGroup
	for range 8 {
		r := n.another(t)
		all.Go(func() { r.Tend(t.Context()) }) // who loses the race has an error, and nothing to do
	}
	all.Wait()
	must(t, n.Tend(t.Context()))
	keys, err := n.Keys(t.Context())
	must(t, err)
	if len(keys) != 2 || n.vault.Size() != 2 {
		t.Errorf("%d keys, %d in the vault", len(keys), n.vault.Size())
	}
}
