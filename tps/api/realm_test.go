package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/realm"
)

// TestRealm goes through the resources of realm keys.
func TestRealm(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	must(t, n.realm.Prepare(t.Context()))
	first := decode[api.List[api.RealmKey]](n.do("GET", "/realm/keys", "").want(200)).Entries[0]
	if !first.Signing || !first.Active || !first.Enabled || first.Algorithm != "ES256" || !strings.HasPrefix(first.Certificates, "-----BEGIN CERTIFICATE-----\n") {
		t.Errorf("%+v", first)
	}
	second := decode[api.RealmKey](n.do("POST", "/realm/keys", `{"Provider":"generated","Priority":50,"Name":"second","material":""}`).want(201))
	if second.Signing || second.State != "active" {
		t.Errorf("%+v", second)
	}
	n.do("POST", "/realm/keys", `{"Provider":"pem","material":"text"}`).want(400, "no PEM private key")
	n.do("POST", "/realm/keys", `{"Provider":"java-keystore","material":"***"}`).want(400, "base64")
	n.do("POST", "/realm/keys", `{"Provider":"generated","Algorithm":"HS256"}`).want(400, "HS256")
	n.do("PATCH", "/realm/keys/second", `{"Priority":500}`).want(200, `"Signing": true`)
	n.do("PATCH", "/realm/keys/second", `{"State":"passive"}`).want(200, `"Active": false`, `"Enabled": true`)
	n.do("PATCH", "/realm/keys/second", `{"State":"disabled"}`).want(200, `"Enabled": false`)
	n.do("PATCH", "/realm/keys/second", `{"State":"disabled","Priority":1}`).want(400, "one of them")
	n.do("PATCH", "/realm/keys/second", `{"Certificates":"x"}`).want(400, "no PEM certificate")
	n.do("PATCH", "/realm/keys/"+first.KID, `{"State":"passive"}`).want(409, "no signing key for ES256")
	n.do("DELETE", "/realm/keys/nobody", "").want(404, "nobody")
	n.do("DELETE", "/realm/keys/second", "").want(204)
	if l := decode[api.List[api.RealmKey]](n.do("GET", "/realm/keys?deleted=true", "").want(200)); len(l.Entries) != 2 {
		t.Errorf("%d keys with the deleted one", len(l.Entries))
	}
	rotated := decode[api.RealmRotation](n.do("POST", "/realm/rotate", `{"Algorithm":"ES256"}`).want(201))
	if rotated.Before.ID != first.ID || rotated.Before.State != "passive" || !rotated.Made.Signing {
		t.Errorf("%+v", rotated)
	}
	n.do("POST", "/realm/rotate", `{"Algorithm":"RS256"}`).want(503, "RS256")
	n.do("GET", "/realm/calendar?days=100", "").want(200, `"Action": "create"`, `"Action": "disable"`)
	n.do("GET", "/realm/calendar?days=0", "").want(400)
	out := decode[api.RealmCompromise](n.do("POST", "/realm/keys/"+rotated.Made.ID+"/compromised", "").want(200))
	if out.Gone.State != "disabled" || out.Gone.PrivateHalf || out.Made == nil || !out.Made.Signing || out.NotBefore == 0 {
		t.Errorf("%+v", out)
	}
	s := decode[api.RealmStatus](n.do("GET", "/realm", "").want(200))
	if len(s.Signing) != 1 || s.Signing[0].ID != out.Made.ID || s.NotBefore["sig"] != out.NotBefore || s.Next == nil {
		t.Errorf("%+v", s)
	}
	for _, route := range []string{"GET /realm", "GET /realm/keys", "POST /realm/rotate", "DELETE /realm/keys/second"} {
		method, path, _ := strings.Cut(route, " ")
		n.as(api.Caller{Name: "olga", Roles: []auth.Role{auth.Agent, auth.Operator}}, method, path, "").want(403)
	}
}

// front is a node behind logins.
func front(t *testing.T) (*node, func(method, path, token, body string) answer) {
	t.Helper()
	n := newNode(t)
	must(t, n.realm.Prepare(t.Context()))
	_, err := auth.Create(t.Context(), n.db, auth.User{ID: "ada", Roles: []auth.Role{auth.Operator}}, secret.New([]byte("grace hopper")))
	must(t, err)
	h, err := api.NewLogin(api.LoginConfig{API: n.handler, Authenticator: auth.NewLocal(n.db), Logins: realm.NewLogins(n.realm, n.db, n.db, nil), Audit: n.audit})
	must(t, err)
	return n, func(method, path, token, body string) answer {
		r := httptest.NewRequest(method, api.Base+path, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return answer{t, w.Code, w.Header(), w.Body.String()}
	}
}

// granted is what a client reads.
type granted struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Type    string `json:"token_type"`
	Seconds int    `json:"expires_in"`
}

// TestLogin: a password gives tokens, a token may do what its person may, a refresh
// token goes on, a logout ends it; all of it is audited and nothing of it logged.
func TestLogin(t *testing.T) {
	t.Parallel()
	n, do := front(t)
	do("GET", "/tokens", "", "").want(http.StatusUnauthorized, "nobody is logged in")
	do("GET", "/tokens", "x.y.z", "").want(http.StatusUnauthorized, "not accepted")
	do("POST", api.TokenPath, "", `{"UserID":"ada","password":"wrong"}`).want(http.StatusUnauthorized, "wrong user name or password")
	do("POST", api.TokenPath, "", `{"UserID":"eve","password":"wrong"}`).want(http.StatusUnauthorized, "wrong user name or password")
	do("POST", api.TokenPath, "", `{"refresh_token":"x"}`).want(http.StatusUnauthorized, "log in again")
	a := do("POST", api.TokenPath, "", `{"UserID":"ada","password":"grace hopper"}`).want(http.StatusOK)
	g := decode[granted](a)
	if g.Type != "Bearer" || g.Seconds != 300 || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v", g)
	}
	do("GET", "/tokens", g.Access, "").want(http.StatusOK)
	do("GET", "/realm/keys", g.Access, "").want(http.StatusForbidden, "admin")
	do("GET", "/tokens", g.Refresh, "").want(http.StatusUnauthorized)
	next := decode[granted](do("POST", api.TokenPath, "", `{"refresh_token":"`+g.Refresh+`"}`).want(http.StatusOK))
	do("GET", "/tokens", next.Access, "").want(http.StatusOK)
	do("POST", api.LogoutPath, "", `{"refresh_token":"`+next.Refresh+`"}`).want(http.StatusNoContent)
	do("POST", api.TokenPath, "", `{"refresh_token":"`+next.Refresh+`"}`).want(http.StatusUnauthorized, "log in again")
	outcomes := 0
	for _, e := range n.audit.all {
		if e.Name == "AUTH" {
			outcomes++
		}
	}
	if outcomes != 3 || strings.Contains(n.log.String(), "grace") || strings.Contains(n.log.String(), g.Refresh) {
		t.Errorf("%d logins audited; log %s", outcomes, n.log)
	}
}

// TestLoginOverRotation: fifty people go on working while keys are rotated, made
// passive and deleted. No request of a token fails before its key is deleted; after a
// compromise every old token does.
func TestLoginOverRotation(t *testing.T) {
	t.Parallel()
	n, do := front(t)
	logins := realm.NewLogins(n.realm, n.db, n.db, nil)
	const people = 50
	begun, done := make(chan struct{}, people*100), make(chan struct{})
	last := make([]string, people)
	var all sync.WaitGroup
	for i := range people {
		all.Go(func() {
			g, err := logins.Login(t.Context(), "ada", "")
			if err != nil {
				t.Error(err)
				return
			}
			for {
				if a := do("GET", "/tokens", g.Access, ""); a.status != http.StatusOK {
					t.Errorf("person %d: %d %s", i, a.status, a.body)
					return
				}
				last[i] = g.Access
				select {
				case <-done:
					return
				case begun <- struct{}{}:
				default:
				}
				if g, err = logins.Refresh(t.Context(), g.Refresh, realm.Connection{}); err != nil {
					t.Errorf("person %d: %v", i, err)
					return
				}
			}
		})
	}
	var old []realm.Key
	for range 4 {
		for range people { // work goes on between the changes
			<-begun
		}
		_, before, err := n.realm.Rotate(t.Context(), realm.ForSessions, realm.ES256, "test")
		must(t, err)
		old = append(old, before)
	}
	close(done)
	all.Wait()
	gone, err := logins.Login(t.Context(), "ada", "")
	must(t, err)
	for _, k := range old {
		_, err := n.realm.Delete(t.Context(), k.KID, "test")
		must(t, err)
	}
	do("GET", "/tokens", gone.Access, "").want(http.StatusOK) // signed by the key that stays
	active, err := n.realm.Keys(t.Context())
	must(t, err)
	_, err = n.realm.Compromised(t.Context(), active[0].KID, "test")
	must(t, err)
	for _, token := range append(last, gone.Access) {
		do("GET", "/tokens", token, "").want(http.StatusUnauthorized)
	}
	g, err := logins.Login(t.Context(), "ada", "")
	must(t, err)
	do("GET", "/tokens", g.Access, "").want(http.StatusOK)
}
