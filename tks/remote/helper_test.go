package remote_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tks/local"
	"inkan/tks/remote"
	"inkan/tks/remote/remotetest"
	"inkan/tks/tkstest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t testing.TB) *softkey.Store {
	t.Helper()
	s, err := softkey.Create(filepath.Join(t.TempDir(), "keystore"), secret.New([]byte("passphrase")), softkeytest.Cheap())
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newLedger(t testing.TB) *local.FileLedger {
	t.Helper()
	l, err := local.OpenLedger(filepath.Join(t.TempDir(), "ledger"))
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l
}

// newLocal is the service that another node serves.
func newLocal(t testing.TB, v hsm.Vault, cfg local.Config) *local.Service {
	t.Helper()
	cfg.Vault = v
	if cfg.Ledger == nil {
		cfg.Ledger = newLedger(t)
	}
	if cfg.KeySets == nil {
		cfg.KeySets = &tkstest.Retirements{}
	}
	cfg.Peer = func(ctx context.Context) string {
		c, _ := remote.CallerOf(ctx)
		return c.Name
	}
	s, err := local.New(cfg)
	must(t, err)
	return s
}

// everything is the grant of a peer that may do all.
func everything() remote.Grant {
	return remote.Grant{Methods: remote.Methods(), KeySets: []tks.KeySetName{remote.AnyKeySet}}
}

// granting identifies peers by their certificates and gives all of them one grant.
func granting(g remote.Grant) func(*http.Request) (remote.Caller, error) {
	return func(r *http.Request) (remote.Caller, error) {
		name, err := remotetest.NameOf(r)
		return remote.Caller{Name: name, Grant: g}, err
	}
}

func newHandler(t testing.TB, cfg remote.HandlerConfig) *remote.Handler {
	t.Helper()
	if cfg.Identify == nil {
		cfg.Identify = granting(everything())
	}
	h, err := remote.NewHandler(cfg)
	must(t, err)
	return h
}

// newClient is a client of nodes with patience.
func newClient(t testing.TB, cfg remote.Config, nodes ...remote.Node) *remote.Client {
	t.Helper()
	if cfg.Nodes == nil {
		cfg.Nodes = func() []remote.Node { return nodes }
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = time.Minute
	}
	c, err := remote.New(cfg)
	must(t, err)
	return c
}

// fixture is a client of a node that serves the vault, with the key sets of the suite.
func fixture(t *testing.T, v hsm.Vault) tkstest.Fixture {
	s := newLocal(t, v, local.Config{})
	for _, k := range tkstest.Versions() {
		_, err := s.CreateKeySet(t.Context(), k.Set, k.Version, k.Type)
		must(t, err)
	}
	a := remotetest.NewArray(t)
	server := a.Serve("tks1", newHandler(t, remote.HandlerConfig{Service: s}))
	return tkstest.Fixture{
		Service: newClient(t, remote.Config{}, remote.Node{Name: "tks1", URL: server.URL, Client: a.Client("tps1")}),
		Release: func(ctx context.Context, kdd gp.KDD) error { return s.Release(ctx, kdd, "agent") },
		Retire: func(ctx context.Context, set tks.KeySetName, v gp.KeyVersion) error {
			return s.Retire(ctx, set, v, "admin")
		},
	}
}
