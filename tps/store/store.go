// Package store keeps Inkan's records in a database: [Open] gives a [DB] on an
// SQLite file, which implements the store interfaces of tps/token, tps/auth,
// tps/profile and tps/realm, and through [DB.Authority] the one of tps/ca. One file per role.
//
// A write has happened durably when its method returns nil (WAL, synchronous
// FULL). Errors wrap token.ErrNotFound or token.ErrConflict; whatever else goes
// wrong wraps token.ErrUnavailable. Times are stored in UTC with nanoseconds.
// Slices passed in are not retained, slices returned belong to the caller.
//
// The statements are plain SQL that PostgreSQL takes as well; package storetest
// is the suite that every database has to pass.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // driver "sqlite"

	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// DB is an open database. It is safe for concurrent use. Writes go one after
// the other through one connection, those that wait for the same flush to disk
// together; reads run beside them.
type DB struct {
	write *writer
	read  *reader
	now   func() time.Time
	path  string // absolute
}

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
)

// busyTimeout is how long a statement waits for another process's lock, in milliseconds.
const busyTimeout = "5000"

// Open opens the database file at path, creates it with mode 0600 if it is not
// there, and brings its tables up to date. It fails with [ErrNewer] if a newer
// program wrote it.
func Open(ctx context.Context, path string) (*DB, error) {
	db, err := open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", path, err)
	}
	return db, nil
}

func open(ctx context.Context, path string) (*DB, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(abs, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	db := &DB{now: time.Now, path: abs}
	pool, err := sql.Open("sqlite", dsn(abs, "_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	db.write = &writer{pool: pool}
	if err := migrate(ctx, pool); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if pool, err = sql.Open("sqlite", dsn(abs, "_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	db.read = newReader(pool)
	if err := db.Ready(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// dsn names the file abs to the driver. Every connection writes ahead, flushes
// at each commit and checks foreign keys.
func dsn(abs, more string) string {
	p := filepath.ToSlash(abs)
	if !strings.HasPrefix(p, "/") { // C:/inkan.db
		p = "/" + p
	}
	u := url.URL{Scheme: "file", Path: p}
	return u.String() + "?_pragma=busy_timeout(" + busyTimeout + ")&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&" + more
}

// Close waits for running statements and closes the file.
func (db *DB) Close() error {
	var errs []error
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	return errors.Join(append(errs, db.write.close())...) // the last one out empties the log
}

// Ready says whether the database answers.
func (db *DB) Ready(ctx context.Context) error {
	var n int64
	err := db.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM nodes").Scan(&n)
	return wrap("asking the database", err)
}

// CopyTo writes a copy of one moment of the database to a new file, while others go
// on reading and writing.
func (db *DB) CopyTo(ctx context.Context, path string) error {
	own, err := sql.Open("sqlite", dsn(db.path, "")) // it may be in no transaction, and not be query_only
	if err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	_, err = own.ExecContext(ctx, "VACUUM INTO ?", path)
	return errors.Join(wrap("copying the database", err), own.Close())
}
