package realm_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// cards knows ada's certificate.
type cards struct {
	whose token.UserID
	err   error
}

func (c *cards) Login(ctx context.Context, chain []*x509.Certificate, _ string) (auth.Person, error) {
	return c.Check(ctx, chain)
}

func (c *cards) Check(_ context.Context, chain []*x509.Certificate) (auth.Person, error) {
	if len(chain) == 0 || string(chain[0].Raw) != "ada's" {
		return auth.Person{}, auth.ErrBadCredentials
	}
	return auth.Person{ID: c.whose}, c.err
}

// over is a connection that shows a certificate; empty: none.
func over(raw string) realm.Connection {
	if raw == "" {
		return realm.Connection{Address: "192.0.2.1"}
	}
	return realm.Connection{Address: "192.0.2.1", Chain: []*x509.Certificate{{Raw: []byte(raw)}}}
}

// byCard is a session of ada's that her card began.
func byCard(t *testing.T) (*node, *realm.Logins, *cards, realm.Grant) {
	t.Helper()
	n, _ := loggedIn(t)
	c := &cards{whose: "ada"}
	l := realm.NewLogins(n.Realm, n.db, n.db, c)
	g, err := l.LoginCard(t.Context(), over("ada's"))
	must(t, err)
	return n, l, c, g
}

// TestBound: tokens that a certificate was shown for are good where it is shown, and
// nowhere else.
func TestBound(t *testing.T) {
	t.Parallel()
	n, l, _, g := byCard(t)
	ctx := t.Context()
	var claims struct {
		Confirmation map[string]string `json:"cnf"`
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(g.Access, ".")[1])
	must(t, err)
	must(t, json.Unmarshal(b, &claims))
	sum := sha256.Sum256([]byte("ada's"))
	if claims.Confirmation["x5t#S256"] != base64.RawURLEncoding.EncodeToString(sum[:]) {
		t.Errorf("claims %s", b)
	}
	p, err := l.Person(ctx, g.Access, over("ada's"))
	if err != nil || p.ID != "ada" || !p.Is(auth.Agent) || g.Person().ID != "ada" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, stolen := range []string{"", "bob's"} {
		_, err := l.Person(ctx, g.Access, over(stolen))
		refused(t, "access over "+stolen, err, realm.ErrBound)
		refused(t, "access over "+stolen, err, realm.ErrToken)
		_, err = l.Refresh(ctx, g.Refresh, over(stolen))
		refused(t, "refresh over "+stolen, err, realm.ErrBound)
	}
	next, err := l.Refresh(ctx, g.Refresh, over("ada's")) // the thief has not ended it
	must(t, err)
	_, err = l.Person(ctx, next.Access, over(""))
	refused(t, "after a refresh", err, realm.ErrBound)
	_, err = realm.NewLogins(n.Realm, n.db, n.db, nil).Person(ctx, next.Access, over("ada's"))
	refused(t, "where no cards are taken", err, realm.ErrToken)
	must(t, l.Logout(ctx, next.Refresh))
	_, err = l.Refresh(ctx, next.Refresh, over("ada's"))
	refused(t, "after the logout", err, realm.ErrToken)

	free, err := l.Login(ctx, "ada", "")
	must(t, err)
	for _, c := range []string{"", "bob's", "ada's"} {
		if _, err := l.Person(ctx, free.Access, over(c)); err != nil {
			t.Errorf("a password's token over %q: %v", c, err)
		}
	}
}

// TestBoundEnds: with the certificate, with its card, with whose it is; not because
// nobody can be asked.
func TestBoundEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit  func(*cards)
		stays bool
	}{
		"revoked":         {edit: func(c *cards) { c.err = fmt.Errorf("revoked: %w", auth.ErrBadCredentials) }},
		"somebody else's": {edit: func(c *cards) { c.whose = "bob" }},
		"database":        {edit: func(c *cards) { c.err = token.ErrUnavailable }, stays: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, l, known, g := byCard(t)
			was := *known
			c.edit(known)
			_, err := l.Person(t.Context(), g.Access, over("ada's"))
			_, rerr := l.Refresh(t.Context(), g.Refresh, over("ada's"))
			if errors.Is(err, realm.ErrToken) == c.stays || errors.Is(rerr, realm.ErrToken) == c.stays || errors.Is(err, realm.ErrBound) {
				t.Errorf("access %v, refresh %v", err, rerr)
			}
			*known = was
			_, rerr = l.Refresh(t.Context(), g.Refresh, over("ada's"))
			if (rerr == nil) != c.stays {
				t.Errorf("afterwards: %v", rerr)
			}
		})
	}
}

// TestNoLoginCard: by nobody whom the cards do not know, and where there are none.
func TestNoLoginCard(t *testing.T) {
	t.Parallel()
	n, l, known, _ := byCard(t)
	for _, c := range []string{"", "bob's"} {
		_, err := l.LoginCard(t.Context(), over(c))
		refused(t, c, err, auth.ErrBadCredentials)
	}
	known.whose = "eve" // not a user
	if _, err := l.LoginCard(t.Context(), over("ada's")); err == nil {
		t.Error("nobody logged in")
	}
	_, err := realm.NewLogins(n.Realm, n.db, n.db, nil).LoginCard(t.Context(), over("ada's"))
	refused(t, "no cards", err, auth.ErrBadCredentials)
	_, err = l.Refresh(t.Context(), secret.New([]byte("x")), over("ada's"))
	refused(t, "no token", err, realm.ErrToken)
}
