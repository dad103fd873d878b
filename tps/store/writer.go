package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"modernc.org/sqlite"

	"inkan/tps/internal/group"
	"inkan/tps/token"
)

// writer is the one connection that writes. Transactions that come while it
// commits are committed together by the next commit: the flush to disk, which costs
// more than all else, is shared by whoever waits for one. Each is durable when do
// returns, and stands or falls alone.
type writer struct {
	pool  *sql.DB // of one connection
	group group.Group[*write]

	// Used by one run of the group at a time, and by close.
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	closed     bool
}

// write is one transaction; without f it is the end of the connection.
type write struct {
	f      func(querier) error
	single bool  // one statement, which is undone by itself if it is refused
	topic  Topic // what it changes; empty: nothing that is watched
	err    error
}

var errClosed = errors.New("database is closed")

// do makes a write. Its f may be run again after everything it did was undone.
func (w *writer) do(ctx context.Context, t *write) error {
	if err := w.group.Do(ctx, t, w.run); err != nil {
		return wrap("waiting to write", err)
	}
	return t.err
}

// close waits for writes that run and ends the connection.
func (w *writer) close() error {
	end := &write{}
	err := w.group.Do(context.Background(), end, w.run)
	return errors.Join(err, end.err, w.pool.Close())
}

// run commits all together, and one by one where something is wrong that is not
// the matter of one of them alone: the disk is full, the connection broke.
func (w *writer) run(all []*write) {
	writes := slices.DeleteFunc(slices.Clone(all), func(t *write) bool { return t.f == nil })
	if len(writes) == 1 || len(writes) > 1 && w.together(writes) != nil {
		for _, t := range writes {
			t.err = w.together([]*write{t})
		}
	}
	if len(writes) < len(all) {
		w.closed = true
		all[slices.IndexFunc(all, func(t *write) bool { return t.f == nil })].err = w.leave()
	}
}

// together runs writes in one transaction. With an error nothing has happened.
func (w *writer) together(all []*write) (err error) {
	if err := w.begin(); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			w.undo()
		}
	}()
	for _, t := range all {
		if err := w.one(t, len(all) > 1 && !t.single); err != nil {
			return err
		}
	}
	if len(all) == 1 && all[0].err != nil {
		return all[0].err
	}
	if err := w.say("COMMIT"); err != nil {
		return wrap("committing", err)
	}
	committed = true
	return nil
}

// one runs a write, between savepoints if its refusal has to be undone. A refusal is
// its own; the error is one that ends the transaction of all.
func (w *writer) one(t *write, savepoint bool) error {
	if savepoint {
		if err := w.say("SAVEPOINT one"); err != nil {
			return wrap("beginning a transaction", err)
		}
	}
	t.err = t.f(statements{w})
	var broken *sqlite.Error
	switch {
	case errors.Is(t.err, token.ErrUnavailable), errors.As(t.err, &broken):
		return t.err
	case !savepoint:
		return nil
	case t.err != nil:
		if err := w.say("ROLLBACK TO one"); err != nil {
			return wrap("undoing a refused write", err)
		}
	}
	return wrap("ending a write", w.say("RELEASE one"))
}

// begin starts a transaction on the connection, which is made if there is none.
func (w *writer) begin() error {
	if w.closed {
		return wrap("writing", errClosed)
	}
	if w.conn == nil {
		conn, err := w.pool.Conn(context.Background())
		if err != nil {
			return wrap("connecting", err)
		}
		w.conn, w.statements = conn, map[string]*sql.Stmt{}
	}
	if err := w.say("BEGIN IMMEDIATE"); err != nil {
		w.undo()
		return wrap("beginning a transaction", err)
	}
	return nil
}

// undo rolls back. A connection that has nothing to roll back is given up: SQLite
// did so by itself, or it is broken. The next write connects anew.
func (w *writer) undo() {
	if w.say("ROLLBACK") != nil {
		_ = w.leave()
	}
}

// leave closes the connection.
func (w *writer) leave() error {
	if w.conn == nil {
		return nil
	}
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	errs = append(errs, w.conn.Close())
	w.conn, w.statements = nil, nil
	return errors.Join(errs...)
}

func (w *writer) say(statement string) error {
	_, err := statements{w}.ExecContext(context.Background(), statement)
	return err
}

// statements runs what is said on the writer's connection, each statement prepared
// once. They are the store's own, so there are not many. A statement that has begun
// is not interrupted: that would undo the transaction of everybody.
type statements struct{ w *writer }

func (s statements) prepared(query string) (*sql.Stmt, error) {
	if p := s.w.statements[query]; p != nil {
		return p, nil
	}
	p, err := s.w.conn.PrepareContext(context.Background(), query)
	if err == nil {
		s.w.statements[query] = p
	}
	return p, err
}

// ExecContext implements querier.
func (s statements) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	p, err := s.prepared(query)
	if err != nil {
		return nil, err
	}
	return p.ExecContext(context.Background(), args...)
}

// QueryContext implements querier.
func (s statements) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	p, err := s.prepared(query)
	if err != nil {
		return nil, err
	}
	return p.QueryContext(context.Background(), args...)
}

// QueryRowContext implements querier.
func (s statements) QueryRowContext(_ context.Context, query string, args ...any) *sql.Row {
	p, err := s.prepared(query)
	if err != nil {
		return s.w.conn.QueryRowContext(context.Background(), query, args...) // to say why
	}
	return p.QueryRowContext(context.Background(), args...)
}
