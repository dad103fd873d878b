package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"inkan/apdu"
	"inkan/tps/store"
	"inkan/tps/token"
)

func openDB(t *testing.T, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestReopenKeepsRecords(t *testing.T) {
	t.Parallel()
	// Characters that mean something in the address of a database.
	path := filepath.Join(t.TempDir(), "a ?#%41&x=1.db")
	db := openDB(t, path)
	want, err := db.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1}, State: token.Unformatted})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode %o, want 600", got)
	}
	got, err := openDB(t, path).Token(t.Context(), want.CUID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Created.Equal(want.Created) || got.Revision != 1 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOpenFailsWithoutFolder(t *testing.T) {
	t.Parallel()
	if _, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "none", "inkan.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}
