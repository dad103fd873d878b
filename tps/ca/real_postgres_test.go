//go:build unix

package ca_test

import (
	"testing"

	"inkan/tps/ca"
	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
)

// TestPostgresNodes is TestNodes on a real server.
func TestPostgresNodes(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	open := func() ca.Store {
		db, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return db.Authority("embedded")
	}
	twoNodes(t, open(), open())
}
