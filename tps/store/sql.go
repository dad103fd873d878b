package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"inkan/tps/token"
)

// querier is a connection pool or a transaction.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// row is what a scan function reads one record from.
type row interface{ Scan(dest ...any) error }

// whole is a querier that wants to see a statement and the reading of its answer
// as one: to bound its time, to run it again.
type whole interface {
	whole(ctx context.Context, f func(ctx context.Context, q querier) error) error
}

// run runs f, which is one statement.
func run(ctx context.Context, q querier, f func(ctx context.Context, q querier) error) error {
	if w, ok := q.(whole); ok {
		return w.whole(ctx, f)
	}
	return f(ctx, q)
}

// queryOne reads one record, token.ErrNotFound if there is none. It and the
// three functions below are the only ways to the driver; a database that wants
// $1 for ? gets it from its querier (numbered).
func queryOne[T any](ctx context.Context, q querier, scan func(row) (T, error), query string, args ...any) (v T, err error) {
	err = run(ctx, q, func(ctx context.Context, q querier) (err error) {
		v, err = scan(q.QueryRowContext(ctx, query, args...))
		return err
	})
	if err != nil {
		var zero T
		return zero, wrap("reading", err)
	}
	return v, nil
}

// queryAll reads all records.
func queryAll[T any](ctx context.Context, q querier, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	var all []T
	err := run(ctx, q, func(ctx context.Context, q querier) error {
		all = nil
		rows, err := q.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			all = append(all, v)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, wrap("reading", err)
	}
	return all, nil
}

// exec writes, and returns how many rows changed.
func exec(ctx context.Context, q querier, query string, args ...any) (n int64, err error) {
	err = run(ctx, q, func(ctx context.Context, q querier) error {
		res, err := q.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, wrap("writing", err)
}

// exec writes by one statement.
func (db *DB) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = db.engine.do(ctx, &write{single: true, f: func(q querier) error {
		var err error
		n, err = exec(ctx, q, query, args...)
		return err
	}})
	return n, err
}

// tx runs f in one transaction, of which nothing remains if f fails, as if no other
// ran meanwhile, on any node. f may be run again after all it did was undone, so it
// changes nothing else but what it sets.
func (db *DB) tx(ctx context.Context, f func(querier) error) error {
	return db.engine.do(ctx, &write{f: f})
}

// change is a tx that whoever watches the topic is told of.
func (db *DB) change(ctx context.Context, topic Topic, f func(querier) error) error {
	return db.engine.do(ctx, &write{f: f, topic: topic})
}

// snapshot runs f, which only reads, on one moment of the database.
func (db *DB) snapshot(ctx context.Context, f func(querier) error) error {
	return db.engine.snapshot(ctx, f)
}

// replaced judges a compare-and-swap: none of the rows had the revision.
func replaced(n int64, err error) error {
	if err == nil && n == 0 {
		return token.ErrConflict
	}
	return err
}

// wrap turns an error of a driver into one of tps/token. Errors that are of it stay.
func wrap(doing string, err error) error {
	var file *sqlite.Error
	var server *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return token.ErrNotFound
	case errors.Is(err, token.ErrUnavailable):
		return err
	case errors.As(err, &file):
		return wrapFile(doing, file)
	case errors.As(err, &server), unreachable(err):
		return wrapServer(doing, err)
	}
	return fmt.Errorf("%w: %s: %w", token.ErrUnavailable, doing, err)
}

// stampLayout has a fixed width, so that texts sort as times do.
const stampLayout = "2006-01-02T15:04:05.000000000Z"

// stamp stores a time; the zero time is ”.
type stamp time.Time

// stampAt reads a column into t.
func stampAt(t *time.Time) *stamp { return (*stamp)(t) }

// Value implements driver.Valuer.
func (s stamp) Value() (driver.Value, error) {
	t := time.Time(s)
	if t.IsZero() {
		return "", nil
	}
	return t.UTC().Format(stampLayout), nil
}

// Scan implements sql.Scanner.
func (s *stamp) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("time stored as %T", v)
	}
	if text == "" {
		*s = stamp{}
		return nil
	}
	t, err := time.Parse(stampLayout, text)
	*s = stamp(t)
	return err
}

// normal is t as a column gives it back.
func normal(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Round(0)
}

// parsed reads a text column into an identifier.
type parsed struct{ to encoding.TextUnmarshaler }

// Scan implements sql.Scanner.
func (p parsed) Scan(v any) error {
	text, ok := v.(string)
	if !ok {
		return fmt.Errorf("identifier stored as %T", v)
	}
	return p.to.UnmarshalText([]byte(text))
}

// blob is b, never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// where collects the conditions of a list.
type where struct {
	conditions []string
	args       []any
}

func (w *where) add(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

// text looks for a substring in one of the columns, whatever its case.
func (w *where) text(s string, columns ...string) {
	if s == "" {
		return
	}
	pattern := "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
	var alternatives []string
	for _, c := range columns {
		alternatives = append(alternatives, "LOWER("+c+`) LIKE LOWER(?) ESCAPE '\'`)
		w.args = append(w.args, pattern)
	}
	w.conditions = append(w.conditions, "("+strings.Join(alternatives, " OR ")+")")
}

// page returns the WHERE, ORDER BY and LIMIT clauses and their arguments.
func (w *where) page(order string, limit int) (string, []any) {
	clause := ""
	if len(w.conditions) > 0 {
		clause = " WHERE " + strings.Join(w.conditions, " AND ")
	}
	if limit <= 0 {
		limit = 100
	}
	return clause + " ORDER BY " + order + " LIMIT ?", append(w.args, min(limit, 1000))
}
