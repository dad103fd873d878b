package local_test

import (
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
)

func newStore(t testing.TB) *softkey.Store {
	t.Helper()
	s, err := softkey.Create(filepath.Join(t.TempDir(), "keystore"), secret.New([]byte("passphrase")), softkeytest.Cheap())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newLedger(t testing.TB) *local.FileLedger {
	t.Helper()
	l, err := local.OpenLedger(filepath.Join(t.TempDir(), "ledger"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func newService(t testing.TB, cfg local.Config) *local.Service {
	t.Helper()
	if cfg.Vault == nil {
		cfg.Vault = newStore(t)
	}
	if cfg.Ledger == nil {
		cfg.Ledger = newLedger(t)
	}
	s, err := local.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCreateListTest(t *testing.T) {
	t.Parallel()
	s := newService(t, local.Config{})
	for i, kt := range hsm.KeyTypes() {
		v := 2 + i
		info, err := s.CreateKeySet(t.Context(), "site", gp.KeyVersion(v), kt)
		if err != nil {
			t.Fatal(err)
		}
		if info.Type != kt || info.Level != "D" || info.Origin != hsm.Generated || time.Since(info.Created) > time.Hour {
			t.Errorf("info %+v", info)
		}
		if err := s.TestKeySet(t.Context(), "site", gp.KeyVersion(v)); err != nil {
			t.Error(err)
		}
	}
	sets, err := s.KeySets(t.Context())
	if err != nil || len(sets) != len(hsm.KeyTypes()) {
		t.Errorf("%+v, %v", sets, err)
	}
	if err := s.TestKeySet(t.Context(), tks.KeySetName("none"), 1); err == nil {
		t.Error("tested a key set that is not there")
	}
}
