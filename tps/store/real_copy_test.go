//go:build unix

package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"inkan/apdu"
	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
	"inkan/tps/token"
)

// TestCopyToPostgres: every column of every table arrives as it was, and nothing is
// copied where something is.
func TestCopyToPostgres(t *testing.T) {
	t.Parallel()
	to := openPostgres(t, pgtest.Database(t))
	from := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	want, err := from.Fill(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := store.CopyToPostgres(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	if len(copied) != len(want) || len(want) < 15 {
		t.Errorf("%d tables were copied of %d", len(copied), len(want))
	}
	for _, c := range copied {
		got, err := to.Dump(t.Context(), c.Table)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want[c.Table]) || c.Rows != 3 {
			t.Errorf("%s, %d rows: got %v, want %v (%v)", c.Table, c.Rows, got, want[c.Table], err)
		}
	}
	if _, err := store.CopyToPostgres(t.Context(), from, to); !errors.Is(err, store.ErrNotEmpty) {
		t.Errorf("again: %v", err)
	}
	if _, err := store.CopyToPostgres(t.Context(), to, from); err == nil {
		t.Error("copied the other way")
	}
}

// TestCopyFails: nothing is in the database after a copy that did not end.
func TestCopyFails(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	to := openPostgres(t, url)
	from := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	for i := range 3 {
		if _, err := from.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{byte(i)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := from.BeginJournal(t.Context(), token.Journal{CUID: apdu.CUID{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Shared(t).ExecIn(t, url, "ALTER TABLE tokens ADD CONSTRAINT one CHECK (cuid < '02')")
	if _, err := store.CopyToPostgres(t.Context(), from, to); !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	for _, table := range []string{"journals", "tokens"} {
		if n, err := to.Count(t.Context(), table); n != 0 || err != nil {
			t.Errorf("%d rows in %s (%v)", n, table, err)
		}
	}
}
