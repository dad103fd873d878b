package store

import (
	"context"
	"fmt"
	"io/fs"
	"time"
)

// LimitSize keeps the file from growing beyond that many pages, as a full disk does.
func (db *DB) LimitSize(ctx context.Context, pages int) error {
	_, err := db.write.ExecContext(ctx, fmt.Sprint("PRAGMA max_page_count = ", pages))
	return err
}

// Pragma returns what both kinds of connections are set to.
func (db *DB) Pragma(ctx context.Context, name string) (write, read string, err error) {
	if err := db.write.QueryRowContext(ctx, "PRAGMA "+name).Scan(&write); err != nil {
		return "", "", err
	}
	err = db.read.QueryRowContext(ctx, "PRAGMA "+name).Scan(&read)
	return write, read, err
}

// Exec runs any statement on the writing connection.
func (db *DB) Exec(ctx context.Context, statement string) error {
	_, err := db.write.ExecContext(ctx, statement)
	return err
}

// SetNow replaces the clock.
func (db *DB) SetNow(now func() time.Time) { db.now = now }

// Migrations are the embedded files.
var Migrations fs.FS = migrations
