//go:build unix

package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/store/storetest/pgtest"
)

// site is two nodes on one database, served, and people who are logged in.
type site struct {
	t      *testing.T
	nodes  [2]*server.Node
	urls   [2]string
	client *http.Client
}

func newSite(t *testing.T, database config.Database) *site {
	t.Helper()
	dir := t.TempDir()
	cfg, err := config.Config{Node: config.Node{Name: "node-a", Lab: true}, Database: database,
		Listen: config.Listen{Address: "127.0.0.1:0", Names: []string{"localhost"}, URL: "https://localhost:8443"}}.Complete()
	must(t, err)
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	must(t, server.Create(t.Context(), a, server.Answers{Config: cfg, KeyParams: softkeytest.Cheap(), PasswordCost: cheap, Admin: auth.User{ID: "admin", Roles: auth.Roles},
		AdminPassword: secret.New([]byte("a long password"))}))
	must(t, os.CopyFS(b, os.DirFS(a)))
	for _, name := range []string{"keys/keystore", "passphrase", "keys/ledger"} { // CopyFS adds modes
		if err := os.Chmod(filepath.Join(b, name), 0o600); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	rewrite(t, filepath.Join(b, "inkan.toml"), "node-a", "node-b")
	s := &site{t: t}
	for i, folder := range []string{a, b} {
		s.serve(i, folder)
	}
	roots := x509.NewCertPool()
	for _, c := range authorityOf(t, a) {
		roots.AddCert(c)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}, MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, Timeout: time.Minute}
	return s
}

func (s *site) serve(i int, folder string) {
	s.t.Helper()
	n, err := server.Open(s.t.Context(), folder, server.Options{})
	must(s.t, err)
	ctx, stop := context.WithCancel(context.Background())
	up, done := make(chan server.Listener, 1), make(chan error, 1)
	go func() { done <- n.Serve(ctx, func(l server.Listener) { up <- l }) }()
	select {
	case l := <-up:
		s.nodes[i], s.urls[i] = n, "https://"+l.Address
	case err := <-done:
		s.t.Fatalf("serving: %v", err)
	}
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Errorf("node %d: %v", i, err)
		}
		n.Close()
	})
}

// ask sends a request to a node; out may be nil.
func (s *site) ask(node int, method, path, access string, in, out any) (int, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return 0, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, s.urls[node%2]+api.Base+path, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(b, out)
	}
	return res.StatusCode, err
}

// worker is somebody logged in who works on both nodes and renews the session there.
type worker struct {
	access, refresh string
	renewed         atomic.Int64
	requests        atomic.Int64
}

func (s *site) work(w *worker, first int, done <-chan struct{}) error {
	for i := first; ; i++ {
		select {
		case <-done:
			return nil
		default:
		}
		if status, err := s.ask(i, "GET", "/tokens?size=1", w.access, nil, nil); err != nil || status != http.StatusOK {
			return fmt.Errorf("request %d on node %d: %d %w", i, i%2, status, err)
		}
		var g struct {
			Access  string `json:"access_token"`
			Refresh string `json:"refresh_token"`
		}
		if status, err := s.ask(i+1, "POST", api.TokenPath, "", map[string]string{"refresh_token": w.refresh}, &g); err != nil || status != http.StatusOK {
			return fmt.Errorf("renewal %d on node %d: %d %w", i, (i+1)%2, status, err)
		}
		w.access, w.refresh = g.Access, g.Refresh
		w.renewed.Add(1)
		w.requests.Add(2)
	}
}

// renewedAll waits until everybody has a token that was asked for after now.
func renewedAll(t *testing.T, workers []*worker) {
	t.Helper()
	end := time.Now().Add(2 * time.Minute)
	since := make([]int64, len(workers))
	for i, w := range workers {
		since[i] = w.renewed.Load()
	}
	for i, w := range workers {
		for ; w.renewed.Load() < since[i]+2; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("nobody works any more")
			}
		}
	}
}

// load is how many people work, and how often a key is replaced: without INKAN_REAL
// less, which takes less.
func load() (people, rounds int) {
	if os.Getenv("INKAN_REAL") == "" {
		return 16, 2
	}
	return 50, 4
}

// TestRealmLoad: people, fifty with INKAN_REAL=1, work over TLS on two nodes of one database while keys are
// rotated, made passive, disabled and deleted on either. No request of a token fails
// before its key is deleted; after a compromise every old token fails on both nodes.
func TestRealmLoad(t *testing.T) {
	t.Parallel()
	t.Run("database=sqlite", func(t *testing.T) {
		t.Parallel()
		loaded(t, config.Database{File: filepath.Join(t.TempDir(), "shared.db")})
	})
	t.Run("database=postgresql", func(t *testing.T) {
		t.Parallel()
		pgtest.Need(t)
		loaded(t, config.Database{URL: pgtest.Database(t)})
	})
}

func loaded(t *testing.T, database config.Database) {
	s := newSite(t, database)
	ctx := t.Context()
	people, rounds := load()
	workers := make([]*worker, people)
	for i := range workers {
		g, err := s.nodes[i%2].Logins.Login(ctx, "admin", "192.0.2.1")
		must(t, err)
		workers[i] = &worker{access: g.Access, refresh: string(g.Refresh.Bytes())}
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	for i, w := range workers {
		all.Go(func() {
			if err := s.work(w, i, done); err != nil {
				t.Errorf("person %d: %v", i, err)
			}
		})
	}
	end := sync.OnceFunc(func() { close(done); all.Wait() })
	defer end()
	for round := range rounds {
		s.replaceKey(ctx, workers, round)
		if t.Failed() {
			return
		}
	}
	end()
	s.giveUp(ctx, workers)
}

// replaceKey rotates the key of a node, and deletes the old one when nobody has a token
// by it any more; on the other node the steps between.
func (s *site) replaceKey(ctx context.Context, workers []*worker, round int) {
	s.t.Helper()
	here, there := s.nodes[round%2], s.nodes[(round+1)%2]
	g, err := here.Logins.Login(ctx, "admin", "")
	must(s.t, err)
	_, before, err := here.Realm.Rotate(ctx, realm.ForSessions, realm.ES256, "test")
	must(s.t, err)
	s.everywhere(g.Access, http.StatusOK, "by a passive key")
	renewedAll(s.t, workers)
	if round%2 == 0 {
		_, err = there.Realm.SetState(ctx, before.KID, realm.Disabled, "test")
		must(s.t, err)
		s.everywhere(g.Access, http.StatusUnauthorized, "by a disabled key")
		_, err = there.Realm.SetState(ctx, before.KID, realm.Passive, "test")
		must(s.t, err)
		s.everywhere(g.Access, http.StatusOK, "by a key that verifies again")
	}
	_, err = here.Realm.Delete(ctx, before.KID, "test")
	must(s.t, err)
	s.everywhere(g.Access, http.StatusUnauthorized, "by a deleted key")
	renewedAll(s.t, workers)
}

// everywhere asks both nodes with a token.
func (s *site) everywhere(access string, want int, what string) {
	s.t.Helper()
	for i := range s.nodes {
		if status, err := s.ask(i, "GET", "/tokens?size=1", access, nil, nil); err != nil || status != want {
			s.t.Errorf("token %s on node %d: %d, %v, want %d", what, i, status, err, want)
		}
	}
}

// giveUp tells one node that its key is compromised: no token from before counts on
// either, also those of the other node's key, and no session goes on.
func (s *site) giveUp(ctx context.Context, workers []*worker) {
	t := s.t
	t.Helper()
	keys, err := s.nodes[0].Realm.Keys(ctx)
	must(t, err)
	var kid string
	for _, k := range keys {
		if k.Use == realm.ForSessions && k.Node == "node-a" && realm.Signs(keys, k) {
			kid = k.KID
		}
	}
	out, err := s.nodes[0].Realm.Compromised(ctx, kid, "test")
	must(t, err)
	told := time.Now()
	var requests int64
	for _, w := range workers {
		s.everywhere(w.access, http.StatusUnauthorized, "from before a compromise")
		requests += w.requests.Load()
	}
	took := time.Since(told)
	if status, err := s.ask(1, "POST", api.TokenPath, "", map[string]string{"refresh_token": workers[0].refresh}, nil); err != nil || status != http.StatusUnauthorized {
		t.Errorf("a session from before a compromise: %d, %v", status, err)
	}
	fmt.Printf("realm load people=%d nodes=2 requests=%d failed=0 refused_everywhere=%d in=%s\n", len(workers), requests, 2*len(workers), took.Round(time.Millisecond))
	for i, n := range s.nodes {
		g, err := n.Logins.Login(ctx, "admin", "")
		must(t, err)
		if _, err := n.Logins.Person(ctx, g.Access, realm.Connection{}); err != nil {
			t.Errorf("logging in again on node %d: %v", i, err)
		}
		s.everywhere(g.Access, http.StatusOK, "of a new login")
	}
	if time.Now().Before(out.NotBefore) {
		t.Error("a node signed before the second was over")
	}
}
