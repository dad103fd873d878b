// Package store keeps Inkan's records in a database: [Open] gives a [DB] on an
// SQLite file, [OpenPostgres] one on a PostgreSQL server that several nodes share.
// It implements the store interfaces of tps/token, tps/auth, tps/profile and
// tps/realm, and through [DB.Authority] the one of tps/ca. One file per role.
//
// A write has happened durably when its method returns nil (SQLite: WAL,
// synchronous FULL; PostgreSQL: synchronous_commit, which [OpenPostgres] insists
// on). Errors wrap token.ErrNotFound or token.ErrConflict; whatever else goes
// wrong wraps token.ErrUnavailable. Times are stored in UTC with nanoseconds.
// Slices passed in are not retained, slices returned belong to the caller.
//
// The statements are one set of plain SQL that both databases take. What they
// differ in is in sqlite.go and postgres.go; package storetest is the suite that
// every database has to pass.
package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// engine is a database under a DB.
type engine interface {
	querier // reads
	// snapshot runs f, which only reads, on one moment.
	snapshot(ctx context.Context, f func(querier) error) error
	// do makes a write. Its f may be run again after everything it did was undone.
	do(ctx context.Context, t *write) error
	// clock is the time by which nodes judge each other: given, a node's own, where
	// there is one node; the server's where several share it.
	clock(ctx context.Context, q querier, given time.Time) (time.Time, error)
	// watch has tell told of changes from now on until ctx ends.
	watch(ctx context.Context, tell func(Topic))
	close() error
}

// DB is an open database. It is safe for concurrent use. On SQLite writes go one
// after the other through one connection, those that wait for the same flush to
// disk together; reads run beside them. On PostgreSQL writes and reads run beside
// each other on a pool of connections, and those of other nodes too.
type DB struct {
	engine engine
	read   querier // the engine
	now    func() time.Time
	boots  sync.Map // by node{name, boot}: those that began here
}

func newDB(e engine) *DB { return &DB{engine: e, read: e, now: time.Now} }

var (
	_ token.Tokens       = (*DB)(nil)
	_ token.Certificates = (*DB)(nil)
	_ token.Activities   = (*DB)(nil)
	_ token.Locks        = (*DB)(nil)
	_ token.Journals     = (*DB)(nil)
	_ auth.Users         = (*DB)(nil)
	_ profile.Store      = (*DB)(nil)
	_ profile.Resolvers  = (*DB)(nil)
	_ ca.Store           = (*Authority)(nil)
	_ realm.Store        = (*DB)(nil)
	_ realm.Sessions     = (*DB)(nil)
	_ realm.Spent        = (*DB)(nil)
	_ audit.Heads        = (*DB)(nil)
)

// Close waits for running statements and closes the database.
func (db *DB) Close() error { return db.engine.close() }

// Ready says whether the database answers.
func (db *DB) Ready(ctx context.Context) error {
	if _, err := queryOne(ctx, db.read, scanInt, "SELECT COUNT(*) FROM nodes"); err != nil {
		return fmt.Errorf("asking the database: %w", err)
	}
	return nil
}
