//go:build unix

package tps_test

import (
	"context"
	"testing"

	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
)

// onPostgres are two nodes on one PostgreSQL database.
func onPostgres(t *testing.T, c cutCase) pair {
	t.Helper()
	url := pgtest.Database(t)
	open := func() *store.DB {
		db, err := store.OpenPostgres(context.Background(), store.Postgres{URL: url})
		must(t, err)
		return db
	}
	p := newPair(t, t.TempDir(), c, open(), open())
	p.silence = func() {
		pgtest.Shared(t).ExecIn(t, url, "UPDATE nodes SET seen = '2026-01-01T00:00:00.000000000Z' WHERE node = 'node'")
	}
	return p
}

// TestPostgresNodeFinishesForAnother is TestNodeFinishesForAnother for enrollments
// on a real server, whose clock alone says which node is silent.
func TestPostgresNodeFinishesForAnother(t *testing.T) {
	t.Parallel()
	nodeDies(t, onPostgres(t, cutCases[1]))
}

// TestPostgresNodesSweepTogether: what two sweepers find at once is done once.
func TestPostgresNodesSweepTogether(t *testing.T) {
	t.Parallel()
	sweepTogether(t, onPostgres(t, cutCases[1]))
}

// TestPostgresCuts cuts an enrollment at every exchange with the card and fails every
// write and call, on records in PostgreSQL.
func TestPostgresCuts(t *testing.T) {
	t.Parallel()
	x := onPostgres(t, cutCases[1]).first
	x.all(t)
	if x.tried != x.converged || x.tried == 0 {
		t.Errorf("%d of %d cuts converged", x.converged, x.tried)
	}
	t.Logf("cuts operation=enroll database=postgres tried=%d converged=%d", x.tried, x.converged)
}
