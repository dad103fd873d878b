package api_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/tps/api"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// desk is a node behind logins, where ada's card with a certificate is known.
type desk struct {
	*node
	h        http.Handler
	ada, eve *x509.Certificate // eve's is her own work
	card     apdu.CUID
	record   token.Certificate
}

// newDesk gives ada the roles.
func newDesk(t *testing.T, roles ...auth.Role) *desk {
	t.Helper()
	d := &desk{node: newNode(t), card: apdu.CUID{0xFF, 0xFF, 9: 1}}
	ctx := t.Context()
	must(t, d.realm.Prepare(ctx))
	_, err := d.db.CreateUser(ctx, auth.User{ID: "ada", Roles: roles, Hash: "hash"})
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	issue := func(serial int64, name string, above *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
			IsCA: above == nil, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if above == nil {
			above, c.ExtKeyUsage = c, nil
		}
		der, err := x509.CreateCertificate(rand.Reader, c, above, &key.PublicKey, key)
		must(t, err)
		out, err := x509.ParseCertificate(der)
		must(t, err)
		return out
	}
	root := issue(1, "authority", nil)
	d.ada, d.eve = issue(0xADA, "Ada", root), issue(2, "Eve", nil)
	_, err = d.db.CreateToken(ctx, token.Token{CUID: d.card, UserID: "ada", State: token.Active})
	must(t, err)
	d.record, err = d.db.CreateCertificate(ctx, token.Certificate{CUID: d.card, UserID: "ada", State: token.CertActive, Serial: "ADA", DER: d.ada.Raw})
	must(t, err)
	cards, err := auth.NewCards(auth.CardsConfig{Authorities: []*x509.Certificate{root}, Records: d.db,
		NeedsPIN: func(context.Context, token.Certificate) (bool, error) { return true, nil }})
	must(t, err)
	d.h, err = api.NewLogin(api.LoginConfig{API: d.handler, Authenticator: auth.NewLocal(d.db), Logins: realm.NewLogins(d.realm, d.db, d.db, cards), Audit: d.audit})
	must(t, err)
	return d
}

// over sends a request over a connection that shows a certificate, nil for none.
func (d *desk) over(c *x509.Certificate, method, path, access, body string) answer {
	r := httptest.NewRequest(method, "https://tps.example.org"+api.Base+path, strings.NewReader(body))
	if c != nil {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c}}
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return answer{d.t, w.Code, w.Header(), w.Body.String()}
}

// login logs in with a certificate.
func (d *desk) login(c *x509.Certificate) answer {
	return d.over(c, "POST", api.TokenPath, "", `{"certificate":true}`)
}

// audited finds the latest login in the audit record.
func (d *desk) audited() audit.Event {
	d.t.Helper()
	for i := len(d.audit.all) - 1; i >= 0; i-- {
		if e := d.audit.all[i]; e.Name == "AUTH" {
			return e
		}
	}
	d.t.Fatal("no login is audited")
	return audit.Event{}
}

// TestLoginCard: a certificate gives tokens that are good where it is shown alone, with
// the roles of the person that its card is of.
func TestLoginCard(t *testing.T) {
	t.Parallel()
	d := newDesk(t, auth.Operator)
	g := decode[granted](d.login(d.ada).want(http.StatusOK))
	e := d.audited()
	if e.Outcome != audit.Success || e.Subject != "ada" || e.Fields["op"] != "login" || e.Fields["method"] != "certificate" || e.Fields["serial"] != "ADA" || len(e.Fields["certificate"]) != 64 {
		t.Errorf("audited %+v", e)
	}
	d.over(d.ada, "GET", "/tokens", g.Access, "").want(http.StatusOK, d.card.String())
	d.over(d.ada, "POST", "/tokens/"+d.card.String()+"?status=SUSPENDED", g.Access, "").want(http.StatusForbidden, "agent")
	for _, thief := range []*x509.Certificate{nil, d.eve} {
		d.over(thief, "GET", "/tokens", g.Access, "").want(http.StatusUnauthorized, "begun with a certificate")
		if e := d.audited(); e.Outcome != audit.Failure || e.Fields["op"] != "session" || !strings.Contains(e.Fields["info"], "bound") {
			t.Errorf("audited %+v", e)
		}
		d.over(thief, "POST", api.TokenPath, "", `{"refresh_token":"`+g.Refresh+`"}`).want(http.StatusUnauthorized, "begun with a certificate")
	}
	next := decode[granted](d.over(d.ada, "POST", api.TokenPath, "", `{"refresh_token":"`+g.Refresh+`"}`).want(http.StatusOK))
	d.over(d.ada, "GET", "/tokens", next.Access, "").want(http.StatusOK)
	d.over(nil, "POST", api.LogoutPath, "", `{"refresh_token":"`+next.Refresh+`"}`).want(http.StatusNoContent)
	for _, body := range []string{`{"certificate":true,"UserID":"ada"}`, `{"certificate":true,"password":"x"}`, `{"certificate":true,"refresh_token":"x"}`} {
		d.over(d.ada, "POST", api.TokenPath, "", body).want(http.StatusBadRequest, "goes without")
	}
}

// TestNoLoginCard: what is refused is said and audited, and who goes on trying waits.
func TestNoLoginCard(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.login(nil).want(http.StatusUnauthorized, "none was shown")
	huge := *d.eve
	huge.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 100_000)
	for _, stranger := range []*x509.Certificate{d.eve, &huge} {
		d.login(stranger).want(http.StatusUnauthorized, "no authority")
		e := d.audited()
		if e.Outcome != audit.Failure || e.Subject != "" || len(e.Fields["serial"]) > 40 || len(e.Fields["certificate"]) != 64 || !strings.Contains(e.Fields["info"], "no authority") {
			t.Errorf("audited %+v", e)
		}
	}
	g := decode[granted](d.login(d.ada).want(http.StatusOK))
	d.over(d.ada, "GET", "/tokens", g.Access, "").want(http.StatusForbidden, "admin") // ada has no role
	change := func(s token.CertState) {
		t.Helper()
		d.record.State = s
		var err error
		d.record, err = d.db.ReplaceCertificate(t.Context(), d.record)
		must(t, err)
	}
	change(token.CertOnHold)
	d.over(d.ada, "GET", "/tokens", g.Access, "").want(http.StatusUnauthorized, "on hold") // at once
	change(token.CertActive)
	d.over(d.ada, "GET", "/tokens", g.Access, "").want(http.StatusForbidden)
	card, err := d.db.Token(t.Context(), d.card)
	must(t, err)
	card.State = token.Suspended
	_, err = d.db.ReplaceToken(t.Context(), card)
	must(t, err)
	d.over(d.ada, "POST", api.TokenPath, "", `{"refresh_token":"`+g.Refresh+`"}`).want(http.StatusUnauthorized, "temporarily lost")
	var a answer
	for tries := 0; ; tries++ { // the wait doubles, so that a busy machine runs into it as well
		if a = d.login(d.ada); a.status == http.StatusTooManyRequests && tries > 3 || tries == 20 {
			break
		}
		a.want(http.StatusUnauthorized, "temporarily lost")
		if e := d.audited(); e.Outcome != audit.Failure || e.Subject != "ada" || e.Fields["serial"] != "ADA" {
			t.Errorf("audited %+v", e)
		}
	}
	a.want(http.StatusTooManyRequests, "wait")
}
