//go:build unix

package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/cli/server"
	"inkan/tps"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/realm"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// cardKey is a key on ada's card, and its certificate.
type cardKey struct {
	tls.Certificate
	record token.Certificate
}

// giveCard records an active card of ada's that was enrolled by a shipped profile, with
// the certificates of two of its keys.
func giveCard(t *testing.T, n *server.Node, last byte) (authentication, card cardKey) {
	t.Helper()
	ctx, cuid := t.Context(), apdu.CUID{0xFF, 0xFF, 9: last}
	p, err := n.DB.Profile(ctx, "pivUser")
	must(t, err)
	_, err = n.DB.CreateToken(ctx, token.Token{CUID: cuid, UserID: "ada", Profile: p.Name, State: token.Active})
	must(t, err)
	j, err := n.DB.BeginJournal(ctx, token.Journal{ID: token.NewID(), CUID: cuid, Operation: string(tps.OpEnroll), Profile: p.Name, ProfileRevision: p.Revision, UserID: "ada"})
	must(t, err)
	give := func(kind string, number int) cardKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		c, err := n.Authority.Issue(ctx, ca.Request{ID: j.ID + kind, Profile: ca.ProfileAuthentication, PublicKey: &key.PublicKey, Subject: ca.Subject{UserID: "ada", Name: "Ada"}})
		must(t, err)
		rec, err := n.DB.CreateCertificate(ctx, token.Certificate{CUID: cuid, UserID: "ada", KeyType: kind, Number: number, Profile: p.Name, State: token.CertActive,
			Serial: string(c.Serial), Issuer: c.Issuer.Name, AKI: c.Issuer.KeyID, DER: c.DER, CA: "embedded", Origin: cuid, Operation: j.ID})
		must(t, err)
		return cardKey{tls.Certificate{Certificate: [][]byte{c.DER}, PrivateKey: key}, rec}
	}
	return give("authentication", 0), give("card", 3)
}

// shown is a client that shows a certificate to whoever asks for one.
type shown struct {
	*http.Client
	at string
}

func (p *plainNode) showing(t *testing.T, version uint16, c *tls.Certificate) shown {
	t.Helper()
	trust := wire.CertificateTrust(p.Authority.Certificate())
	trust.ServerName, trust.MaxVersion, trust.ClientSessionCache = "localhost", version, tls.NewLRUClientSessionCache(4)
	if c != nil {
		trust.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	return shown{&http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}, "https://" + p.at.Address}
}

// ask sends a request and reads the answer into out, if that is something.
func (s shown) ask(t *testing.T, method, path, access, body string, out any) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.at+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Content-Type", "application/json")
	if access != "" {
		r.Header.Set("Authorization", "Bearer "+access)
	}
	res, err := s.Do(r)
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	if res.TLS.DidResume {
		t.Error("the connection is a resumed one")
	}
	if out != nil && res.StatusCode == http.StatusOK {
		must(t, json.Unmarshal(b, out))
	}
	return res.StatusCode, string(b)
}

// TestLoginByCard: over TLS 1.2 and 1.3 somebody logs in with the certificate on their
// card, until it is revoked, and never with that of the key that needs no PIN. Those of
// strangers are refused at that login, and get in nobody's way elsewhere.
func TestLoginByCard(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := ca.Create(t.Context(), ca.RootConfig{Signer: key, Subject: p.Authority.Certificate().Subject}) // of the same name
	must(t, err)
	stranger := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	const tokens, login, byCard = api.Base + "/tokens", api.Base + api.TokenPath, `{"certificate":true}`
	u, err := p.DB.User(t.Context(), "ada")
	must(t, err)
	u.Roles = []auth.Role{auth.Agent}
	_, err = p.DB.ReplaceUser(t.Context(), u)
	must(t, err)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		a, c := giveCard(t, p.Node, byte(version))
		var g struct {
			Access string `json:"access_token"`
		}
		mine := p.showing(t, version, &a.Certificate)
		if status, text := mine.ask(t, "POST", login, "", byCard, &g); status != http.StatusOK {
			t.Fatalf("TLS %04X: %d %s", version, status, text)
		}
		if status, text := mine.ask(t, "GET", tokens, g.Access, "", nil); status != http.StatusOK || !strings.Contains(text, a.record.CUID.String()) {
			t.Errorf("TLS %04X: %d %s", version, status, text)
		}
		for name, other := range map[string]*tls.Certificate{"none was shown": nil, "without the PIN": &c.Certificate, "no authority": stranger} {
			s := p.showing(t, version, other)
			if status, text := s.ask(t, "POST", login, "", byCard, nil); status != http.StatusUnauthorized || !strings.Contains(text, name) {
				t.Errorf("%s: %d %s", name, status, text)
			}
			if status, text := s.ask(t, "GET", tokens, g.Access, "", nil); status != http.StatusUnauthorized || !strings.Contains(text, "begun with a certificate") {
				t.Errorf("a stolen token, %s: %d %s", name, status, text)
			}
			if status, _ := s.ask(t, "GET", "/tps/phoneHome", "", "", nil); status != http.StatusOK {
				t.Errorf("a card client, %s: %d", name, status)
			}
		}
		_, err := p.Engine.ChangeCertificate(t.Context(), tps.CertificateChange{ID: a.record.ID, Action: tps.ActionRevoke, By: "test"})
		must(t, err)
		for _, q := range [][]string{{"GET", tokens, g.Access, ""}, {"POST", login, "", byCard}} {
			if status, text := mine.ask(t, q[0], q[1], q[2], q[3], nil); status != http.StatusUnauthorized || !strings.Contains(text, "revoked") {
				t.Errorf("%s after the revocation: %d %s", q[1], status, text)
			}
		}
	}
	var g struct {
		Access string `json:"access_token"`
	}
	if status, text := p.showing(t, 0, stranger).ask(t, "POST", login, "", `{"UserID":"ada","password":"analytical"}`, &g); status != http.StatusOK {
		t.Fatalf("with a password: %d %s", status, text)
	}
	if status, text := p.showing(t, 0, nil).ask(t, "GET", tokens, g.Access, "", nil); status != http.StatusOK {
		t.Errorf("with a password: %d %s", status, text)
	}
}

// TestNoLoginByCard: where the configuration says so nobody is asked for a certificate,
// and whoever wants to log in with one is told. Passwords are taken as ever.
func TestNoLoginByCard(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "", `cards = "on"`, `cards = "off"`)
	a, _ := giveCard(t, p.Node, 1)
	s := p.showing(t, 0, &a.Certificate)
	asked := false
	over := s.Transport.(*http.Transport).TLSClientConfig
	over.ClientSessionCache = nil
	over.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked = true
		return &a.Certificate, nil
	}
	const login = api.Base + api.TokenPath
	if status, text := s.ask(t, "POST", login, "", `{"certificate":true}`, nil); status != http.StatusUnauthorized || !strings.Contains(text, "nobody logs in with a card at this node") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := s.ask(t, "POST", login, "", `{"UserID":"ada","password":"analytical"}`, nil); status != http.StatusOK {
		t.Errorf("with a password: %d %s", status, text)
	}
	if asked {
		t.Error("a certificate was asked for")
	}
	if text := p.log.String(); !strings.Contains(text, "card_logins=off") {
		t.Errorf("logged %s", text)
	}
}

// TestLoginAuthorities: certificates of a further authority are taken that the
// configuration names, for cards that are known here.
func TestLoginAuthorities(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	edit(t, folder, "[auth]", "[auth]\nauthorities = [\"agency.pem\"]")
	file := filepath.Join(folder, "agency.pem")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := ca.Create(t.Context(), ca.RootConfig{Signer: key, Subject: pkix.Name{CommonName: "Agency"}})
	must(t, err)
	root, err := x509.ParseCertificate(der)
	must(t, err)
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: root.SerialNumber, NotAfter: root.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, root, &key.PublicKey, key)
	must(t, err)
	inPEM := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	for why, content := range map[string][]byte{"agency.pem": nil, "no PEM certificate": []byte("text"), "not an authority's": inPEM(leaf), "decoding certificate 2": append(inPEM(der), inPEM([]byte{1})...)} {
		if content != nil {
			must(t, os.WriteFile(file, content, 0o600))
		}
		if _, err := server.Open(t.Context(), folder, server.Options{}); err == nil || !strings.Contains(err.Error(), "[auth] authorities") || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want %q", err, why)
		}
	}
	must(t, os.WriteFile(file, bytes.Repeat(inPEM(der), 2), 0o600))
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	defer n.Close()
	_, err = n.DB.CreateUser(t.Context(), auth.User{ID: "ada", Hash: "hash"})
	must(t, err)
	c, err := x509.ParseCertificate(leaf)
	must(t, err)
	on := realm.Connection{Chain: []*x509.Certificate{c}}
	if _, err := n.Logins.LoginCard(t.Context(), on); !errors.Is(err, auth.ErrBadCredentials) || !strings.Contains(err.Error(), "on no card") {
		t.Errorf("without a record: %v", err)
	}
	a, _ := giveCard(t, n, 1)
	a.record.DER, a.record.Serial = leaf, strings.ToUpper(c.SerialNumber.Text(16))
	a.record, err = n.DB.ReplaceCertificate(t.Context(), a.record)
	must(t, err)
	if g, err := n.Logins.LoginCard(t.Context(), on); err != nil || g.Person().ID != "ada" {
		t.Errorf("%+v, %v", g.Person(), err)
	}
	a.record.KeyType = "gone"
	_, err = n.DB.ReplaceCertificate(t.Context(), a.record)
	must(t, err)
	if _, err := n.Logins.LoginCard(t.Context(), on); !errors.Is(err, auth.ErrBadCredentials) {
		t.Errorf("of a key that its profile does not have: %v", err)
	}
}

// TestLoginRenewed: the key of a renewed certificate needs the PIN as it was made, whatever
// the profile says since then.
func TestLoginRenewed(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	_, err := n.DB.CreateUser(t.Context(), auth.User{ID: "ada", Hash: "hash"})
	must(t, err)
	for i, change := range []string{`pin_policy = "never"`, `pin_policy = "always"`} {
		p, err := n.DB.Profile(t.Context(), "pivUser")
		must(t, err)
		was := p.Document
		p.Document = strings.Replace(was, `pin_policy = "once"`, change, 1)
		p, err = n.DB.PutProfile(t.Context(), p)
		must(t, err)
		a, _ := giveCard(t, n, byte(i))
		p.Document = was
		p, err = n.DB.PutProfile(t.Context(), p)
		must(t, err)
		x, err := x509.ParseCertificate(a.record.DER)
		must(t, err)
		j, err := n.DB.BeginJournal(t.Context(), token.Journal{ID: token.NewID(), CUID: apdu.CUID{0xFF, 0xFE, 9: byte(i)}, Operation: string(tps.OpRenew), Profile: p.Name, ProfileRevision: p.Revision, UserID: "ada"})
		must(t, err)
		c, err := n.Authority.Issue(t.Context(), ca.Request{ID: j.ID, Profile: ca.ProfileAuthentication, PublicKey: x.PublicKey, Subject: ca.Subject{UserID: "ada", Name: "Ada"}})
		must(t, err)
		next := a.record
		next.ID, next.Serial, next.DER, next.Operation = "", string(c.Serial), c.DER, j.ID
		_, err = n.DB.CreateCertificate(t.Context(), next)
		must(t, err)
		x, err = x509.ParseCertificate(c.DER)
		must(t, err)
		_, err = n.Logins.LoginCard(t.Context(), realm.Connection{Chain: []*x509.Certificate{x}})
		if refused := errors.Is(err, auth.ErrBadCredentials) && strings.Contains(err.Error(), "without the PIN"); refused != (i == 0) || err != nil && !refused {
			t.Errorf("%s: %v", change, err)
		}
	}
}
