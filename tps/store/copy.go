package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"inkan/tps/token"
)

// Copied is a table and how many of its records were copied.
type Copied struct {
	Table string
	Rows  int64
}

// ErrNotEmpty means that records would be copied into a database that has some.
var ErrNotEmpty = errors.New("there are records in it already")

// CopyToPostgres copies every record of a database in a file into an empty one on
// a server, in one transaction, which ends well only if the server then counts
// what the file has. Nobody else may write to either meanwhile.
func CopyToPostgres(ctx context.Context, from, to *DB) ([]Copied, error) {
	f, isFile := from.engine.(*file)
	s, isServer := to.engine.(*server)
	if !isFile || !isServer {
		return nil, errors.New("copying the records: they go from a file to PostgreSQL")
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("copying the records: %w", wrap("connecting", err))
	}
	defer conn.Close()
	var out []Copied
	err = conn.Raw(func(c any) (err error) {
		out, err = copyAll(ctx, f.DB, c.(*stdlib.Conn).Conn())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("copying the records, of which none was stored: %w", wrap("writing", err))
	}
	return out, nil
}

func copyAll(ctx context.Context, from *sql.DB, to *pgx.Conn) ([]Copied, error) {
	read, err := from.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer read.Rollback()
	tables, err := tablesOf(ctx, read)
	if err != nil {
		return nil, err
	}
	tx, err := to.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // does nothing once it is committed
	// A large table takes longer than statements of a node may.
	if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
		return nil, err
	}
	var out []Copied
	for _, table := range tables {
		n, err := copyTable(ctx, read, tx, table)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", table, err)
		}
		out = append(out, Copied{table, n})
	}
	return out, tx.Commit(ctx)
}

// tablesOf are the tables of a file, each behind those that it refers to.
func tablesOf(ctx context.Context, q querier) ([]string, error) {
	text := func(r row) (s string, err error) { err = r.Scan(&s); return s, err }
	all, err := queryAll(ctx, q, text, `SELECT name FROM sqlite_master WHERE type = 'table'
		AND name NOT LIKE 'sqlite%' AND name <> 'goose_db_version' ORDER BY name`)
	if err != nil {
		return nil, err
	}
	var ordered []string
	for len(ordered) < len(all) {
		before := len(ordered)
		for _, t := range all {
			needs, err := queryAll(ctx, q, text, `SELECT "table" FROM pragma_foreign_key_list(?)`, t)
			if err != nil {
				return nil, err
			}
			missing := slices.ContainsFunc(needs, func(n string) bool { return n != t && !slices.Contains(ordered, n) })
			if !missing && !slices.Contains(ordered, t) {
				ordered = append(ordered, t)
			}
		}
		if len(ordered) == before {
			return nil, fmt.Errorf("tables refer to each other in a circle: %s", strings.Join(all, ", "))
		}
	}
	return ordered, nil
}

// copyTable copies one table, which has to be empty, and counts what arrived.
func copyTable(ctx context.Context, from *sql.Tx, to pgx.Tx, table string) (int64, error) {
	name := pgx.Identifier{table}
	var has int64
	if err := to.QueryRow(ctx, "SELECT COUNT(*) FROM "+name.Sanitize()).Scan(&has); err != nil {
		return 0, err
	}
	if has > 0 {
		return 0, fmt.Errorf("%w: %d of them", ErrNotEmpty, has)
	}
	rows, err := from.QueryContext(ctx, "SELECT * FROM "+name.Sanitize())
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	if _, err := to.CopyFrom(ctx, name, columns, &source{rows: rows, columns: len(columns)}); err != nil {
		return 0, err
	}
	return counted(ctx, from, to, name)
}

func counted(ctx context.Context, from *sql.Tx, to pgx.Tx, name pgx.Identifier) (int64, error) {
	var here, there int64
	query := "SELECT COUNT(*) FROM " + name.Sanitize()
	if err := from.QueryRowContext(ctx, query).Scan(&here); err != nil {
		return 0, err
	}
	if err := to.QueryRow(ctx, query).Scan(&there); err != nil {
		return 0, err
	}
	if here != there {
		return 0, fmt.Errorf("%w: %d records arrived of %d", token.ErrUnavailable, there, here)
	}
	return there, nil
}

// source reads the rows of a file for the server.
type source struct {
	rows    *sql.Rows
	columns int
	values  []any
	err     error
}

// Next implements pgx.CopyFromSource.
func (s *source) Next() bool {
	if !s.rows.Next() {
		return false
	}
	s.values = make([]any, s.columns)
	into := make([]any, s.columns)
	for i := range into {
		into[i] = &s.values[i]
	}
	if s.err = s.rows.Scan(into...); s.err == nil {
		s.values, s.err = storable(s.values)
	}
	return s.err == nil
}

// Values implements pgx.CopyFromSource.
func (s *source) Values() ([]any, error) { return s.values, nil }

// Err implements pgx.CopyFromSource.
func (s *source) Err() error { return errors.Join(s.err, s.rows.Err()) }
