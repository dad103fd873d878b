package realm_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
)

// TestNodesAreTold: a compromise is pushed to the other nodes, which have destroyed what
// they have to, and have a new key, when they answer; nobody else is listened to.
func TestNodesAreTold(t *testing.T) {
	t.Parallel()
	own := func(c *realm.Config) { c.Own = true }
	var server *httptest.Server
	a := newNode(t, named("a"), own, func(c *realm.Config) {
		c.Nodes = func(context.Context) []realm.Client {
			return []realm.Client{{ID: "b", AdminURL: server.URL, HTTP: server.Client()}, {ID: "c"}}
		}
		c.Clients = []realm.Client{{ID: "poller"}}
	})
	b := &node{db: a.db, vault: &realmtest.Vault{}, audit: a.audit, clock: a.clock}
	b.Realm = b.another(t, named("b"), own)
	must(t, b.Prepare(t.Context()))
	told := realm.Told(b.Realm)
	server = httptest.NewTLSServer(told)
	t.Cleanup(server.Close)

	old := b.sign(t, realm.ES256)
	out, err := a.Compromised(t.Context(), kidOf(t, old), "test")
	must(t, err)
	if len(out.Pushes) != 3 || out.Pushes[0].Result != realm.PushDone || !out.Pushes[0].Node || out.Pushes[1].Result != realm.PullOnly || out.Pushes[2].Node {
		t.Fatalf("%+v", out.Pushes)
	}
	if k, err := a.Find(t.Context(), string(out.Gone.ID)); err != nil || k.Material != "" || b.vault.Size() != 1 {
		t.Errorf("the private half is still there: %v, %d keys", err, b.vault.Size())
	}
	nodes, err := a.Nodes(t.Context())
	must(t, err)
	if len(nodes) != 1 || nodes[0].Node != "b" || nodes[0].State != realm.Converged || nodes[0].Signing["sig ES256"] == out.Gone.KID {
		t.Errorf("%+v", nodes)
	}
	must(t, a.verify(t, b.sign(t, realm.ES256), realm.ES256))

	push := func(audience, action string) string {
		text, err := a.Sign(t.Context(), realm.PushType(), time.Minute, &realm.NotBefore{Claims: realm.Claims{Audience: audience}, Action: action})
		must(t, err)
		return text
	}
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"nothing": {"", http.StatusUnauthorized}, "no token": {"a.b.c", http.StatusUnauthorized}, "a login": {a.sign(t, realm.ES256), http.StatusUnauthorized},
		"for another node": {push("c", realm.PushAction), http.StatusUnauthorized}, "something else": {push("b", "LOGOUT"), http.StatusUnauthorized},
		"by the key that was given up": {old, http.StatusUnauthorized}, "long": {strings.Repeat("a", 17<<10), http.StatusUnauthorized},
		"a push": {push("b", realm.PushAction), http.StatusNoContent},
	} {
		w := httptest.NewRecorder()
		told.ServeHTTP(w, httptest.NewRequest(http.MethodPost, realm.NotBeforePath, strings.NewReader(c.body)))
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", name, w.Code, c.want)
		}
	}
}
