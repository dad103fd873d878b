package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// LimitSize keeps the file from growing beyond that many pages, as a full disk does.
func (db *DB) LimitSize(ctx context.Context, pages int) error {
	return db.Exec(ctx, fmt.Sprint("PRAGMA max_page_count = ", pages))
}

// Pragma returns what both kinds of connections are set to.
func (db *DB) Pragma(ctx context.Context, name string) (write, read string, err error) {
	err = db.tx(ctx, func(q querier) error { return q.QueryRowContext(ctx, "PRAGMA "+name).Scan(&write) })
	if err != nil {
		return "", "", err
	}
	err = db.read.QueryRowContext(ctx, "PRAGMA "+name).Scan(&read)
	return write, read, err
}

// Exec runs any statement on the writing connection.
func (db *DB) Exec(ctx context.Context, statement string) error {
	_, err := db.exec(ctx, statement)
	return err
}

// SetNow replaces the clock.
func (db *DB) SetNow(now func() time.Time) { db.now = now }

// Migrations are the embedded files.
var Migrations fs.FS = migrations

// Broken runs a statement in a transaction that then panics.
func (db *DB) Broken(ctx context.Context, statement string) {
	db.tx(ctx, func(q querier) error {
		exec(ctx, q, statement)
		panic("broken")
	})
}

// Count is the number of rows of a table.
func (db *DB) Count(ctx context.Context, table string) (int64, error) {
	return queryOne(ctx, db.read, scanInt, "SELECT COUNT(*) FROM "+table)
}

// Searches are statements for few of many records, by the index each is to use.
var Searches = map[string]string{"tokens_kdd": tokenByKDD, "journals_open": openJournals, "certificates_unsettled": unsettled}

// Plan is how the database goes about a statement: its first step.
func (db *DB) Plan(ctx context.Context, query string) (string, error) {
	var id, parent, unused int64
	var plan string
	args := make([]any, strings.Count(query, "?"))
	err := db.read.QueryRowContext(ctx, "EXPLAIN QUERY PLAN "+query, args...).Scan(&id, &parent, &unused, &plan)
	return plan, err
}

// Silence makes all heartbeats older.
func (db *DB) Silence(ctx context.Context, d time.Duration) error {
	return db.tx(ctx, func(q querier) error {
		all, err := queryAll(ctx, q, scanNode, "SELECT node, boot, seen FROM nodes")
		for _, n := range all {
			if err == nil {
				_, err = exec(ctx, q, putNode, n.name, n.boot, stamp(n.seen.Add(-d)))
			}
		}
		return err
	})
}

// Dollars numbers the placeholders of a statement.
var Dollars = dollars

// Verifies says whether a connection checks the name in the server's certificate, and
// has no other way.
func Verifies(url string) (bool, error) {
	c, err := parseURL(url)
	if err != nil {
		return false, err
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig == nil || f.TLSConfig.InsecureSkipVerify {
			return false, nil
		}
	}
	return c.TLSConfig != nil && !c.TLSConfig.InsecureSkipVerify, nil
}

// Hold locks a table of PostgreSQL, says so, and keeps it until release.
func (db *DB) Hold(ctx context.Context, table string, held chan<- error, release <-chan struct{}) error {
	return db.tx(ctx, func(q querier) error {
		if _, err := exec(ctx, q, "LOCK TABLE "+table); err != nil {
			return err
		}
		held <- nil
		<-release
		return nil
	})
}

// Fill puts n rows into every table of a file, and returns them by table.
func (db *DB) Fill(ctx context.Context, n int) (map[string][]string, error) {
	out := map[string][]string{}
	tables, err := tablesOf(ctx, db.read)
	for _, table := range tables {
		for i := range n {
			if err == nil {
				err = db.fill(ctx, table, i)
			}
		}
		if err == nil {
			out[table], err = db.Dump(ctx, table)
		}
	}
	return out, err
}

// fill puts a row into a table: texts and numbers of its own in each column.
func (db *DB) fill(ctx context.Context, table string, i int) error {
	types, err := queryAll(ctx, db.read, func(r row) (s string, err error) { err = r.Scan(&s); return s, err },
		"SELECT type FROM pragma_table_info(?)", table)
	if err != nil {
		return err
	}
	var values []string
	var args []any
	for k, name := range types {
		values = append(values, "?")
		switch name {
		case "TEXT":
			text := fmt.Sprintf("ü%d 'quoted' \\ %d", i, k)
			if k == 0 {
				text = fmt.Sprint("key ", i) // also what others refer to
			}
			args = append(args, text)
		case "BIGINT":
			args = append(args, int64(i)<<40+int64(k))
		case "BLOB":
			args = append(args, []byte{byte(i), 0, 0xFF, byte(k)})
		default:
			return fmt.Errorf("column %d of %s is a %s", k, table, name)
		}
	}
	_, err = db.exec(ctx, "INSERT INTO "+table+" VALUES ("+strings.Join(values, ", ")+")", args...)
	return err
}

// Dump is every row of a table.
func (db *DB) Dump(ctx context.Context, table string) (rows []string, err error) {
	err = run(ctx, db.read, func(ctx context.Context, q querier) error {
		r, err := q.QueryContext(ctx, "SELECT * FROM "+table+" ORDER BY 1")
		if err != nil {
			return err
		}
		defer r.Close()
		names, err := r.Columns()
		for err == nil && r.Next() {
			values, into := make([]any, len(names)), make([]any, len(names))
			for i := range into {
				into[i] = &values[i]
			}
			err = r.Scan(into...)
			rows = append(rows, fmt.Sprint(names, values))
		}
		return errors.Join(err, r.Err())
	})
	return rows, err
}
