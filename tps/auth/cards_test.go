package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inkan/apdu"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// issuer is an authority.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newIssuer makes an authority, by itself or under another one.
func newIssuer(t *testing.T, name string, above *issuer) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	i := &issuer{key: key, cert: &x509.Certificate{Subject: pkix.Name{CommonName: name}}}
	if above == nil {
		above = i
	}
	i.cert = above.issue(t, &key.PublicKey, func(c *x509.Certificate) {
		c.Subject, c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = i.cert.Subject, true, true, x509.KeyUsageCertSign, nil
	})
	return i
}

// issue makes a certificate that is good for logins, unless edit has it otherwise.
func (i *issuer) issue(t *testing.T, pub *ecdsa.PublicKey, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(0xABCDEF), Subject: pkix.Name{CommonName: "Alice"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if edit != nil {
		edit(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, i.cert, pub, i.key)
	must(t, err)
	out, err := x509.ParseCertificate(der)
	must(t, err)
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// desk is a CardRecords in memory, with a card of alice's.
type desk struct {
	people
	certs  []token.Certificate
	tokens map[apdu.CUID]token.Token
	pin    bool // the key needs the PIN
	pinErr error
	down   error
}

func (d *desk) Certificates(_ context.Context, f token.Filter) ([]token.Certificate, error) {
	var out []token.Certificate
	for _, c := range d.certs {
		if c.Serial == f.Serial {
			out = append(out, c)
		}
	}
	return out, d.down
}

func (d *desk) Token(_ context.Context, cuid apdu.CUID) (token.Token, error) {
	t, ok := d.tokens[cuid]
	if !ok {
		return t, token.ErrNotFound
	}
	return t, nil
}

func (d *desk) needsPIN(context.Context, token.Certificate) (bool, error) { return d.pin, d.pinErr }

var card1, card2 = apdu.CUID{9: 1}, apdu.CUID{9: 2}

// newDesk has the record of a certificate, whose card is active.
func newDesk(c *x509.Certificate) *desk {
	return &desk{
		people: people{all: map[token.UserID]auth.User{"alice": {ID: "alice", Name: "Alice Ayer", Roles: []auth.Role{auth.Agent}}}},
		certs:  []token.Certificate{{CUID: card1, UserID: "alice", State: token.CertActive, Serial: "ABCDEF", DER: c.Raw}},
		tokens: map[apdu.CUID]token.Token{card1: {CUID: card1, UserID: "alice", State: token.Active}},
		pin:    true,
	}
}

// cards is an authenticator over a desk.
func (d *desk) cards(t *testing.T, authorities ...*x509.Certificate) *auth.Cards {
	t.Helper()
	c, err := auth.NewCards(auth.CardsConfig{Authorities: authorities, Records: d, NeedsPIN: d.needsPIN})
	must(t, err)
	return c
}

// TestCards: a certificate is accepted where everything about it is as it should be, and
// every single thing that is not refuses it, with the reason.
func TestCards(t *testing.T) {
	t.Parallel()
	ours, other := newIssuer(t, "ours", nil), newIssuer(t, "ours", nil)
	below := newIssuer(t, "below", ours)
	pub := &ours.key.PublicKey
	one := func(i *issuer, edit func(*x509.Certificate)) []*x509.Certificate {
		return []*x509.Certificate{i.issue(t, pub, edit)}
	}
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	tests := []struct {
		name  string
		chain []*x509.Certificate // nil: a good one
		edit  func(d *desk)
		why   string // empty: accepted
		user  token.UserID
		later bool // Check accepts it all the same
	}{
		{name: "good"},
		{name: "an authority between", chain: append(one(below, nil), below.cert)},
		{name: "the authority between is not shown", chain: one(below, nil), why: "no authority"},
		{name: "none", chain: []*x509.Certificate{}, why: "none was shown"},
		{name: "stranger", chain: one(other, nil), why: "no authority"},
		{name: "stranger with its authority", chain: append(one(other, nil), other.cert), why: "no authority"},
		{name: "the authority itself", chain: []*x509.Certificate{ours.cert}, why: "clientAuth"},
		{name: "expired", chain: one(ours, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), why: "only"},
		{name: "not yet", chain: one(ours, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), why: "only"},
		{name: "for mail", chain: one(ours, usage(x509.ExtKeyUsageEmailProtection)), why: "clientAuth"},
		{name: "for anything", chain: one(ours, usage(x509.ExtKeyUsageAny)), why: "clientAuth"},
		{name: "for nothing in particular", chain: one(ours, usage()), why: "clientAuth"},
		{name: "critical extension", chain: one(ours, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}), why: "does not verify"},
		{name: "no record", edit: func(d *desk) { d.certs = nil }, why: "on no card"},
		{name: "record of another with its number", edit: func(d *desk) { d.certs[0].DER = other.cert.Raw }, why: "on no card"},
		{name: "unfinished", edit: func(d *desk) { d.certs[0].State = token.CertUninitialized }, why: "has not ended", user: "alice"},
		{name: "held", edit: func(d *desk) { d.certs[0].State = token.CertOnHold }, why: "on hold", user: "alice"},
		{name: "revoked", edit: func(d *desk) { d.certs[0].State = token.CertRevoked }, why: "revoked", user: "alice"},
		{name: "marked expired", edit: func(d *desk) { d.certs[0].State = token.CertExpired }, why: "expired", user: "alice"},
		{name: "the authority is to be told", edit: func(d *desk) { d.certs[0].Pending = "revoke" }, why: "being revoked", user: "alice"},
		{name: "no card", edit: func(d *desk) { d.tokens = nil }, why: "not known", user: "alice"},
		{name: "suspended", edit: func(d *desk) { d.tokens[card1] = token.Token{UserID: "alice", State: token.Suspended} }, why: "temporarily lost", user: "alice"},
		{name: "lost", edit: func(d *desk) { d.tokens[card1] = token.Token{UserID: "alice", State: token.PermLost} }, why: "Permanently lost", user: "alice"},
		{name: "formatted", edit: func(d *desk) { d.tokens[card1] = token.Token{UserID: "alice", State: token.Formatted} }, why: "Formatted", user: "alice"},
		{name: "card of another", edit: func(d *desk) { d.tokens[card1] = token.Token{UserID: "bob", State: token.Active} }, why: "somebody else's", user: "alice"},
		{name: "no user", edit: func(d *desk) { d.all = nil }, why: "not a user", user: "alice"},
		{name: "without the PIN", edit: func(d *desk) { d.pin = false }, why: "without the PIN", user: "alice", later: true},
		{name: "of an unknown key", edit: func(d *desk) { d.pinErr = token.ErrNotFound }, why: "nothing is known", user: "alice", later: true},
		{name: "on a second card", edit: func(d *desk) {
			second := d.certs[0]
			d.certs[0].State, second.CUID = token.CertRevoked, card2
			d.certs = append(d.certs, second)
			d.tokens[card2] = token.Token{UserID: "alice", State: token.Active}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			chain := tt.chain
			if chain == nil {
				chain = one(ours, nil)
			}
			d := newDesk(ours.cert)
			if len(chain) > 0 {
				d = newDesk(chain[0])
			}
			if tt.edit != nil {
				tt.edit(d)
			}
			c := d.cards(t, ours.cert)
			p, err := c.Login(t.Context(), chain, "192.0.2.1")
			later, lerr := c.Check(t.Context(), chain)
			if tt.why == "" {
				if err != nil || lerr != nil || p.ID != "alice" || !p.Is(auth.Agent) || later.ID != "alice" {
					t.Fatalf("%+v, %v, later %+v, %v", p, err, later, lerr)
				}
				return
			}
			var refused *auth.CertificateError
			if !errors.As(err, &refused) || !errors.Is(err, auth.ErrBadCredentials) || !strings.Contains(refused.Reason, tt.why) || refused.User != tt.user || p.ID != "" {
				t.Errorf("%+v, %v, want %q of %q", p, err, tt.why, tt.user)
			}
			if tt.later != (lerr == nil) || !tt.later && lerr.Error() != err.Error() {
				t.Errorf("later: %v", lerr)
			}
		})
	}
}

// TestCardsUnavailable: records that do not answer are no fault of the certificate, and
// slow nobody down.
func TestCardsUnavailable(t *testing.T) {
	t.Parallel()
	ours := newIssuer(t, "ours", nil)
	chain := []*x509.Certificate{ours.issue(t, &ours.key.PublicKey, nil)}
	d := newDesk(chain[0])
	c := d.cards(t, ours.cert)
	d.down = token.ErrUnavailable
	for range 10 {
		if _, err := c.Login(t.Context(), chain, ""); !errors.Is(err, token.ErrUnavailable) || errors.Is(err, auth.ErrBadCredentials) {
			t.Fatal(err)
		}
	}
	d.down, d.people.err = nil, token.ErrUnavailable
	if _, err := c.Check(t.Context(), chain); !errors.Is(err, token.ErrUnavailable) {
		t.Error(err)
	}
	d.people.err, d.pinErr = nil, token.ErrUnavailable
	if _, err := c.Login(t.Context(), chain, ""); !errors.Is(err, token.ErrUnavailable) || errors.Is(err, auth.ErrBadCredentials) {
		t.Error(err)
	}
	d.pinErr = nil
	if _, err := c.Login(t.Context(), chain, ""); err != nil {
		t.Error(err)
	}
}

// TestCardsThrottle: who tries a certificate again that is not accepted waits; strangers
// wait by where they are, and stand in nobody else's way.
func TestCardsThrottle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, throttledCards)
}

func throttledCards(t *testing.T) {
	ours, other := newIssuer(t, "ours", nil), newIssuer(t, "other", nil)
	good := []*x509.Certificate{ours.issue(t, &ours.key.PublicKey, nil)}
	lost := []*x509.Certificate{ours.issue(t, &ours.key.PublicKey, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) })}
	d := newDesk(good[0])
	c := d.cards(t, ours.cert)
	try := func(chain []*x509.Certificate, address string) error {
		_, err := c.Login(t.Context(), chain, address)
		return err
	}
	for i := range 4 {
		stranger := []*x509.Certificate{other.issue(t, &other.key.PublicKey, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(int64(i + 1)) })}
		for _, chain := range [][]*x509.Certificate{stranger, lost} {
			if err := try(chain, "192.0.2.1"); !errors.Is(err, auth.ErrBadCredentials) {
				t.Fatalf("try %d: %v", i+1, err)
			}
		}
	}
	for name, c := range map[string]struct {
		chain   []*x509.Certificate
		address string
		want    error
	}{
		"the lost card, from elsewhere": {lost, "192.0.2.2", auth.ErrThrottled},
		"a stranger there":              {[]*x509.Certificate{other.cert}, "192.0.2.1", auth.ErrThrottled},
		"a stranger elsewhere":          {[]*x509.Certificate{other.cert}, "192.0.2.2", auth.ErrBadCredentials},
		"a good card there":             {good, "192.0.2.1", nil},
	} {
		if err := try(c.chain, c.address); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Check(t.Context(), lost); errors.Is(err, auth.ErrThrottled) {
		t.Error("a session waits")
	}
}

func TestNewCards(t *testing.T) {
	t.Parallel()
	d := &desk{}
	ours := []*x509.Certificate{newIssuer(t, "ours", nil).cert}
	for _, cfg := range []auth.CardsConfig{{}, {Records: d, NeedsPIN: d.needsPIN}, {Authorities: ours, NeedsPIN: d.needsPIN}, {Authorities: ours, Records: d}} {
		if _, err := auth.NewCards(cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}
