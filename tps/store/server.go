package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// server is a database on a PostgreSQL server: a pool of connections.
//
// A transaction runs as if it were alone (SERIALIZABLE): where the server finds
// that it was not, it is undone and run again. What is one statement needs none.
// Statements that have begun are not interrupted by their caller, whose answer
// would then say nothing about what is stored; they have a limit of their own.
type server struct {
	db     *sql.DB
	config *pgx.ConnConfig
	// patience is how long a server that cannot be reached is waited for.
	patience time.Duration

	closed context.Context // ends with close
	end    context.CancelFunc
	// losers has the transactions that were undone go on one by one: those of one
	// node do not undo each other again.
	losers sync.Mutex
}

var (
	_ engine = (*server)(nil)
	_ whole  = (*server)(nil)
)

func newServer(db *sql.DB, c *pgx.ConnConfig) *server {
	s := &server{db: db, config: c, patience: patience}
	s.closed, s.end = context.WithCancel(context.Background())
	return s
}

// bounded is the context of something that begins now.
func bounded(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return ctx, nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	return ctx, cancel, nil
}

// whole implements whole for reads: they are run again on another connection.
func (s *server) whole(ctx context.Context, f func(ctx context.Context, q querier) error) error {
	return s.again(ctx, func() (bool, error) {
		ctx, cancel, err := bounded(ctx)
		if err != nil {
			return false, err
		}
		defer cancel()
		return true, f(ctx, numbered{s.db})
	})
}

// ExecContext implements querier.
func (s *server) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return numbered{s.db}.ExecContext(ctx, query, args...)
}

// QueryContext implements querier.
func (s *server) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return numbered{s.db}.QueryContext(ctx, query, args...)
}

// QueryRowContext implements querier.
func (s *server) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return numbered{s.db}.QueryRowContext(ctx, query, args...)
}

// do makes a write. What may have been stored although its answer was lost is not
// made again: its caller has to look.
func (s *server) do(ctx context.Context, t *write) error {
	err := s.again(ctx, func() (bool, error) {
		if t.single {
			return false, t.f(once{numbered{s.db}})
		}
		return s.transaction(ctx, sql.LevelSerializable, t)
	})
	return wrap("writing", err)
}

// transaction says besides its error whether it is certain that nothing was stored.
func (s *server) transaction(ctx context.Context, level sql.IsolationLevel, t *write) (undone bool, err error) {
	ctx, cancel, err := bounded(ctx)
	if err != nil {
		return true, err
	}
	defer cancel()
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: level, ReadOnly: level == sql.LevelRepeatableRead})
	if err != nil {
		return true, err
	}
	defer tx.Rollback() // does nothing once it is committed
	q := once{numbered{tx}}
	if err := t.f(q); err != nil {
		return true, err
	}
	if t.topic != "" {
		if _, err := exec(ctx, q, "SELECT pg_notify(?, ?)", channel, string(t.topic)); err != nil {
			return true, err
		}
	}
	return false, tx.Commit()
}

// snapshot runs f on one moment of the database.
func (s *server) snapshot(ctx context.Context, f func(querier) error) error {
	err := s.again(ctx, func() (bool, error) {
		_, err := s.transaction(ctx, sql.LevelRepeatableRead, &write{f: f})
		return true, err
	})
	return wrap("reading", err)
}

// again runs f until it succeeds or fails for good: f was undone because of others,
// could not reach the server, or lost it when it was certain that nothing was stored.
func (s *server) again(ctx context.Context, f func() (undone bool, err error)) error {
	begun, lost := time.Now(), false
	for n := 0; ; n++ {
		undone, err := f()
		contended := serialization(err)
		if err == nil || !contended && !notSent(err) && !(undone && dropped(err)) || ctx.Err() != nil || s.closed.Err() != nil {
			return err
		}
		if time.Since(begun) > s.patience && !contended || time.Since(begun) > statementTimeout {
			return err
		}
		wait := 10 * time.Millisecond << min(n, 4) // for the network
		if contended {
			wait = time.Millisecond << min(n, 5) // for other nodes
		}
		if contended && !lost {
			lost = true
			s.losers.Lock()
			defer s.losers.Unlock()
		}
		pause(ctx, wait/2+rand.N(wait))
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// clock is the server's.
func (s *server) clock(ctx context.Context, q querier, _ time.Time) (time.Time, error) {
	return queryOne(ctx, q, func(r row) (t time.Time, err error) { err = r.Scan(stampAt(&t)); return t, err },
		`SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"000Z"')`)
}

func (s *server) close() error {
	s.end()
	return s.db.Close()
}

// once is a querier each of whose statements has the limit of time, and is not run
// again.
type once struct{ querier }

// whole implements whole.
func (o once) whole(ctx context.Context, f func(ctx context.Context, q querier) error) error {
	ctx, cancel, err := bounded(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	return f(ctx, o.querier)
}

// numbered is a querier of PostgreSQL, which wants $1 for ?.
type numbered struct{ querier }

// ExecContext implements querier.
func (n numbered) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	args, err := storable(args)
	if err != nil {
		return nil, err
	}
	return n.querier.ExecContext(ctx, dollars(query), args...)
}

// QueryContext implements querier.
func (n numbered) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	args, err := storable(args)
	if err != nil {
		return nil, err
	}
	return n.querier.QueryContext(ctx, dollars(query), args...)
}

// QueryRowContext implements querier.
func (n numbered) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if values, err := storable(args); err == nil {
		args = values
	}
	return n.querier.QueryRowContext(ctx, dollars(query), args...)
}

var numberedQueries sync.Map // of the store's own statements, which are not many

// dollars writes $1, $2 … for the ? outside of quotes.
func dollars(query string) string {
	if known, ok := numberedQueries.Load(query); ok {
		return known.(string)
	}
	var b strings.Builder
	n, quoted := 0, false
	for _, c := range query {
		switch {
		case c == '\'':
			quoted = !quoted
		case c == '?' && !quoted:
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteRune(c)
	}
	numberedQueries.Store(query, b.String())
	return b.String()
}

// storable turns arguments into what a column takes, the same that SQLite gets:
// booleans are 0 and 1. What is no text to PostgreSQL, because it is not UTF-8 or
// holds a zero byte, is stored with a replacement character.
func storable(args []any) ([]any, error) {
	out := make([]any, len(args))
	for i, a := range args {
		v, err := driver.DefaultParameterConverter.ConvertValue(a)
		if err != nil {
			return nil, fmt.Errorf("argument %d: %w", i+1, err)
		}
		switch v := v.(type) {
		case bool:
			out[i] = int64(0)
			if v {
				out[i] = int64(1)
			}
		case string:
			out[i] = text(v)
		default:
			out[i] = v
		}
	}
	return out, nil
}

func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
