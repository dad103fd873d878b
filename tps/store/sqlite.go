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

	"modernc.org/sqlite" // driver "sqlite"
	lib "modernc.org/sqlite/lib"

	"inkan/tps/token"
)

// file is a database in an SQLite file.
type file struct {
	write *writer
	*reader
	path     string // absolute
	watchers watchers
}

var _ engine = (*file)(nil)

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
	e := &file{path: abs}
	pool, err := sql.Open("sqlite", dsn(abs, "_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(1)
	e.write = &writer{pool: pool}
	if err := migrate(ctx, sqliteDialect, pool); err != nil {
		return nil, errors.Join(err, e.close())
	}
	if pool, err = sql.Open("sqlite", dsn(abs, "_pragma=query_only(1)")); err != nil {
		return nil, errors.Join(err, e.close())
	}
	e.reader = newReader(pool)
	db := newDB(e)
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

func (f *file) do(ctx context.Context, t *write) error {
	err := f.write.do(ctx, t)
	if err == nil && t.topic != "" {
		f.watchers.tell(t.topic)
	}
	return err
}

// clock is the caller's: a file has one node.
func (f *file) clock(_ context.Context, _ querier, given time.Time) (time.Time, error) {
	return given, nil
}

func (f *file) watch(ctx context.Context, tell func(Topic)) { f.watchers.watch(ctx, tell) }

func (f *file) close() error {
	var errs []error
	if f.reader != nil {
		errs = append(errs, f.reader.Close())
	}
	return errors.Join(append(errs, f.write.close())...) // the last one out empties the log
}

// ErrNoFile means that the database is none in a file: its own tools copy it.
var ErrNoFile = errors.New("the records are in PostgreSQL, which is backed up by its own means (pg_dump, pg_basebackup)")

// CopyTo writes a copy of one moment of the database to a new file, while others go
// on reading and writing. Of PostgreSQL that is refused with [ErrNoFile].
func (db *DB) CopyTo(ctx context.Context, path string) error {
	f, ok := db.engine.(*file)
	if !ok {
		return fmt.Errorf("copying the database: %w", ErrNoFile)
	}
	own, err := sql.Open("sqlite", dsn(f.path, "")) // it may be in no transaction, and not be query_only
	if err != nil {
		return fmt.Errorf("copying the database: %w", err)
	}
	_, err = own.ExecContext(ctx, "VACUUM INTO ?", path)
	return errors.Join(wrap("copying the database", err), own.Close())
}

// wrapFile turns an error of SQLite into one of tps/token.
func wrapFile(doing string, err *sqlite.Error) error {
	switch err.Code() {
	case lib.SQLITE_CONSTRAINT_UNIQUE, lib.SQLITE_CONSTRAINT_PRIMARYKEY:
		return token.ErrConflict
	case lib.SQLITE_FULL:
		return fmt.Errorf("%w: %s: no space left on the disk, nothing was changed: %w", token.ErrUnavailable, doing, err)
	}
	return fmt.Errorf("%w: %s: %w", token.ErrUnavailable, doing, err)
}
