package realm_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/realm/realmtest"
)

// loggedIn is a node on which ada may log in.
func loggedIn(t *testing.T, edit ...func(*realm.Config)) (*node, *realm.Logins) {
	t.Helper()
	n := newNode(t, edit...)
	_, err := n.db.CreateUser(t.Context(), auth.User{ID: "ada", Roles: []auth.Role{auth.Agent}, Hash: "hash"})
	must(t, err)
	return n, realm.NewLogins(n.Realm, n.db, n.db, nil)
}

// TestSession: tokens name the person, are renewed by a token that is good once, and
// a second use of one ends the session.
func TestSession(t *testing.T) {
	t.Parallel()
	n, l := loggedIn(t)
	ctx := t.Context()
	g, err := l.Login(ctx, "ada", "192.0.2.1")
	must(t, err)
	p, err := l.Person(ctx, g.Access, realm.Connection{})
	if err != nil || p.ID != "ada" || !p.Is(auth.Agent) || g.Expires != 5*time.Minute {
		t.Fatalf("%+v, %v", p, err)
	}
	n.clock.add(6 * time.Minute)
	_, err = l.Person(ctx, g.Access, realm.Connection{})
	refused(t, "after five minutes", err, realm.ErrToken)
	next, err := l.Refresh(ctx, g.Refresh, realm.Connection{})
	must(t, err)
	_, err = l.Person(ctx, next.Access, realm.Connection{})
	must(t, err)
	_, err = l.Refresh(ctx, g.Refresh, realm.Connection{})
	refused(t, "used again", err, realm.ErrToken)
	_, err = l.Refresh(ctx, next.Refresh, realm.Connection{})
	refused(t, "the session of it", err, realm.ErrToken)

	g, err = l.Login(ctx, "ada", "")
	must(t, err)
	must(t, l.Logout(ctx, g.Refresh))
	_, err = l.Refresh(ctx, g.Refresh, realm.Connection{})
	refused(t, "after the logout", err, realm.ErrToken)
	for _, bad := range []string{"", "x", ".", "x.y", strings.Repeat("a", 300)} {
		_, err := l.Refresh(ctx, secret.New([]byte(bad)), realm.Connection{})
		refused(t, bad, err, realm.ErrToken)
	}
	if _, err := l.Login(ctx, "nobody", ""); err == nil {
		t.Error("nobody logged in")
	}
	other, err := n.Sign(ctx, realm.Type{Name: "at+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, time.Hour, &realm.Claims{Subject: "ada", Audience: "somebody else"})
	must(t, err)
	_, err = l.Person(ctx, other, realm.Connection{})
	refused(t, "for somebody else", err, realm.ErrToken)
}

// TestSessionEnds: by time, with the password, with the person, by a compromise.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(t *testing.T, n *node){
		"time": func(_ *testing.T, n *node) { n.clock.add(8*time.Hour + time.Second) },
		"password": func(t *testing.T, n *node) {
			u, err := n.db.User(t.Context(), "ada")
			must(t, err)
			u.Hash = "other"
			_, err = n.db.ReplaceUser(t.Context(), u)
			must(t, err)
		},
		"person": func(t *testing.T, n *node) { must(t, n.db.DeleteUser(t.Context(), "ada")) },
		"compromise": func(t *testing.T, n *node) {
			_, err := n.Compromised(t.Context(), n.only(t, realm.Active).KID, "test")
			must(t, err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, l := loggedIn(t)
			g, err := l.Login(t.Context(), "ada", "")
			must(t, err)
			end(t, n)
			_, err = l.Refresh(t.Context(), g.Refresh, realm.Connection{})
			refused(t, name, err, realm.ErrToken)
			if name == "compromise" {
				_, err = l.Person(t.Context(), g.Access, realm.Connection{})
				refused(t, "access", err, realm.ErrToken)
				g, err = l.Login(t.Context(), "ada", "")
				must(t, err)
				_, err = l.Refresh(t.Context(), g.Refresh, realm.Connection{})
				must(t, err)
			}
		})
	}
}

// TestSessionOverRotation: a session goes on over rotation, and its next token is
// signed by the new key.
func TestSessionOverRotation(t *testing.T) {
	t.Parallel()
	n, l := loggedIn(t)
	ctx := t.Context()
	g, err := l.Login(ctx, "ada", "")
	must(t, err)
	made, before, err := n.Rotate(ctx, realm.ForSessions, realm.ES256, "test")
	must(t, err)
	_, err = l.Person(ctx, g.Access, realm.Connection{})
	must(t, err)
	next, err := l.Refresh(ctx, g.Refresh, realm.Connection{})
	must(t, err)
	if kidOf(t, g.Access) != before.KID || kidOf(t, next.Access) != made.KID {
		t.Error("not signed by the key of its time")
	}
	_, err = n.Delete(ctx, before.KID, "test")
	must(t, err)
	_, err = l.Person(ctx, g.Access, realm.Connection{})
	refused(t, "the token of the deleted key", err, realm.ErrToken)
	_, err = l.Person(ctx, next.Access, realm.Connection{})
	must(t, err)
}

// TestNoSecretInRecords: neither token nor random part of it is stored.
func TestNoSecretInRecords(t *testing.T) {
	t.Parallel()
	n, l := loggedIn(t)
	g, err := l.Login(t.Context(), "ada", "")
	must(t, err)
	id, random, _ := bytes.Cut(g.Refresh.Bytes(), []byte("."))
	s, err := n.db.Session(t.Context(), realm.SessionID(id))
	must(t, err)
	b, err := json.Marshal(s)
	must(t, err)
	if bytes.Contains(b, random) || s.User != "ada" {
		t.Errorf("%s", b)
	}
	forged := make([]byte, len(random))
	rand.Read(forged)
	_, err = l.Refresh(t.Context(), secret.New(append(append(id, '.'), forged...)), realm.Connection{})
	refused(t, "forged", err, realm.ErrToken)
}

// noCurves is a vault that makes RSA keys only.
type noCurves struct{ *realmtest.Vault }

func (v noCurves) Generate(ctx context.Context, name string, k realm.Kind) (crypto.Signer, error) {
	if k != "rsa-3072" {
		return nil, fmt.Errorf("kind %s: %w", k, realm.ErrKind)
	}
	return rsaKey(), v.Import(ctx, name, rsaKey())
}

// TestVaultWithoutCurves: people log in where the HSM has no elliptic curves.
func TestVaultWithoutCurves(t *testing.T) {
	t.Parallel()
	n, l := loggedIn(t, func(c *realm.Config) { c.Vault = noCurves{c.Vault.(*realmtest.Vault)} })
	keys, err := n.Keys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].Algorithm != realm.RS256 {
		t.Fatalf("%v, %v", keys, err)
	}
	g, err := l.Login(t.Context(), "ada", "")
	must(t, err)
	if p, err := l.Person(t.Context(), g.Access, realm.Connection{}); err != nil || p.ID != "ada" {
		t.Errorf("%v, %v", p, err)
	}
	_, err = l.Refresh(t.Context(), g.Refresh, realm.Connection{})
	must(t, err)
}
