//go:build unix

package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/fixtures"
	"inkan/sim"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tks/remote"
	"inkan/tks/remote/remotetest"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/wire"
)

// testArray is an array whose nodes run in this process.
type testArray struct {
	t  *testing.T
	ca *remotetest.Array

	mu    sync.Mutex
	roles map[string][]config.Role
	at    map[string]string // peer ports
}

func newArray(t *testing.T) *testArray {
	return &testArray{t: t, ca: remotetest.NewArray(t), roles: map[string][]config.Role{}, at: map[string]string{}}
}

// seat is a node's place in the array.
type seat struct {
	a      *testArray
	name   string
	client *http.Client
}

// TKSNodes lists the other nodes with keys.
func (s seat) TKSNodes() []remote.Node {
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	var out []remote.Node
	for name, at := range s.a.at {
		if name != s.name && slices.Contains(s.a.roles[name], config.RoleTKS) {
			out = append(out, remote.Node{Name: name, URL: "https://" + at, Client: s.client})
		}
	}
	slices.SortFunc(out, func(a, b remote.Node) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Identify believes the certificate.
func (s seat) Identify(r *http.Request) (server.Member, error) {
	name, err := remotetest.NameOf(r)
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	roles, known := s.a.roles[name]
	if err == nil && !known {
		err = fmt.Errorf("%s is no node of the array", name)
	}
	return server.Member{Name: name, Roles: roles}, err
}

// Joined is true: the seat is there.
func (s seat) Joined() bool { return true }

// Serve serves the peer port.
func (s seat) Serve(ctx context.Context, port net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { srv.Shutdown(context.WithoutCancel(ctx)) })()
	if err := srv.Serve(port); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Listen opens the peer port.
func (s seat) Listen(context.Context) (net.Listener, error) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", s.a.ca.TLS(s.name))
	if err != nil {
		return nil, err
	}
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	s.a.at[s.name] = ln.Addr().String()
	return ln, nil
}

// arrayNode is a node of an array that runs.
type arrayNode struct {
	*server.Node
	at   server.Listener
	seat seat
	log  *output
	stop func()
}

// folderFor prepares the folder of a node with roles. Its profiles give cards the
// keys of the site.
func (a *testArray) folderFor(name string, roles ...config.Role) string {
	a.t.Helper()
	cfg := config.Default()
	cfg.Node = config.Node{Name: name, Lab: true, Roles: roles}
	cfg.TPS.AllowSimulator = true
	cfg.Listen = config.Listen{Address: "127.0.0.1:0", Names: []string{"localhost"}, URL: "https://localhost:8443"}
	cfg.CA.URL = cfg.Listen.URL
	folder := a.t.TempDir()
	must(a.t, server.Create(a.t.Context(), folder, server.Answers{Config: cfg, KeyParams: softkeytest.Cheap(), PasswordCost: cheap,
		Admin: auth.User{ID: "admin", Name: "Ada Lovelace", Mail: "ada@example.org", Roles: auth.Roles}, AdminPassword: secret.New([]byte("analytical"))}))
	return folder
}

// start runs a node until the test or the caller stops it.
func (a *testArray) start(name, folder string, roles ...config.Role) *arrayNode {
	a.t.Helper()
	a.mu.Lock()
	a.roles[name] = roles
	a.mu.Unlock()
	n := &arrayNode{seat: seat{a, name, a.ca.Client(name)}, log: &output{}}
	var err error
	n.Node, err = server.OpenIn(a.t.Context(), folder, server.Options{Log: slog.New(slog.NewTextHandler(n.log, nil))}, n.seat)
	must(a.t, err)
	ctx, cancel := context.WithCancel(a.t.Context())
	ready, ended := make(chan server.Listener, 1), make(chan error, 1)
	go func() { ended <- n.Serve(ctx, func(l server.Listener) { ready <- l }) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.t.Errorf("%s: serving: %v", name, err)
		}
		if err := n.Close(); err != nil {
			a.t.Errorf("%s: closing: %v", name, err)
		}
	})
	a.t.Cleanup(n.stop)
	select {
	case n.at = <-ready:
	case err := <-ended:
		ended <- err
		a.t.Fatalf("%s: serving: %v", name, err)
	}
	return n
}

// siteProfile makes cards of people with keys on a curve, bound to the site's keys.
func siteProfile(t *testing.T, n *server.Node) {
	t.Helper()
	for _, r := range profile.Shipped(false) {
		if r.Name != "userKey" {
			continue
		}
		doc := strings.NewReplacer(`name = "userKey"`, `name = "site"`, `allow_unknown = "operator"`, `allow_unknown = "anyone"`,
			`"1.4.58768072"`, fmt.Sprintf("%q", fixtures.DefaultApplet), `issuer_url = ""`, `issuer_url = "https://localhost:8443/tps/phoneHome"`,
			`"rsa-2048"`, `"p256"`, `, "signRecover"`, ``, `, "verifyRecover"`, ``, `"decrypt", "unwrap"`, `"derive"`, `"encrypt", "wrap"`, `"derive"`).Replace(r.Document)
		_, err := n.DB.PutProfile(t.Context(), profile.Record{Name: "site", State: profile.Enabled, Document: doc})
		must(t, err)
	}
}

// ada stands at a card.
type ada struct{}

// Login implements wire.Prompter.
func (ada) Login(context.Context, auth.Form) (auth.Answers, error) {
	return auth.Answers{"UID": secret.New([]byte("admin")), "PASSWORD": secret.New([]byte("analytical"))}, nil
}

// NewPIN implements wire.Prompter.
func (ada) NewPIN(context.Context, int, int) (secret.PIN, error) {
	return secret.NewPIN([]byte("7351924"))
}

// Progress implements wire.Prompter.
func (ada) Progress(int, string) {}

// newCard is a software card with the factory's keys.
func newCard(t *testing.T) *sim.Card {
	t.Helper()
	c, err := sim.New(sim.Config{Model: "gp-scp03"})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// operate runs operations on a card through a node.
func (n *arrayNode) operate(t *testing.T, card *sim.Card, ops ...wire.Operation) error {
	t.Helper()
	trust := wire.CertificateTrust(n.Authority.Certificate())
	trust.ServerName = "localhost"
	cl := &wire.Client{BaseURL: "https://" + n.at.Address, TLS: trust, Timeout: time.Minute}
	for _, op := range ops {
		begin := wire.Begin{Operation: op, Profile: "site", Batch: wire.DefaultBatch}
		if _, err := wire.Run(t.Context(), cl, begin, card, ada{}); err != nil {
			return err
		}
	}
	return nil
}

// copyFolder copies the files of a folder that no node has open.
func copyFolder(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(from)))
	for _, name := range []string{"inkan.toml", "passphrase", "keys/keystore"} {
		must(t, os.Chmod(filepath.Join(to, name), 0o600))
	}
	return to
}

// edit changes a folder's configuration.
func edit(t *testing.T, folder, old, new string) {
	t.Helper()
	path := filepath.Join(folder, "inkan.toml")
	doc, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Contains(doc, []byte(old)) {
		t.Fatalf("%s has no %q:\n%s", path, old, doc)
	}
	must(t, os.WriteFile(path, bytes.Replace(doc, []byte(old), []byte(new), 1), 0o600))
}
