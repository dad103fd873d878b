package ca_test

import (
	"path/filepath"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
	"inkan/tps/store"
)

func openSQLite(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "inkan.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestStoreSQLite(t *testing.T) {
	t.Parallel()
	catest.TestStore(t, func(t *testing.T) ca.Store { return openSQLite(t).Authority("embedded") })
}

// TestOnSQLite runs one certificate's life on the store of a node.
func TestOnSQLite(t *testing.T) {
	t.Parallel()
	db := openSQLite(t)
	a := newAuthority(t, func(c *ca.Config) { c.Store = db.Authority("embedded") })
	other := newAuthority(t, func(c *ca.Config) { c.Store = db.Authority("other") })
	c, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
	other.issue(t, request("j1", "signing", rsaKey().Public()))
	a.revoke(t, c, ca.ReasonCertificateHold)
	first, l := a.list(t)
	if len(l.RevokedCertificateEntries) != 1 || first.Number != 1 {
		t.Errorf("list %d with %d entries", first.Number, len(l.RevokedCertificateEntries))
	}
	if _, l := other.list(t); len(l.RevokedCertificateEntries) != 0 {
		t.Error("the other authority lists it too")
	}
	a.revoke(t, c, ca.ReasonRemoveFromCRL)
	a.clock.Advance(time.Hour)
	second, l := a.list(t)
	if len(l.RevokedCertificateEntries) != 0 || second.Number != 2 {
		t.Errorf("list %d with %d entries", second.Number, len(l.RevokedCertificateEntries))
	}
}
