package store

import (
	"context"
	"database/sql"
	"sync"
)

// readers is how many connections read at once.
const readers = 4

// maxPrepared bounds the statements that are kept prepared: lists may be asked for
// in many ways.
const maxPrepared = 128

// reader is the connections that read, with their statements prepared.
type reader struct {
	*sql.DB
	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
}

var _ querier = (*reader)(nil)

func newReader(db *sql.DB) *reader {
	db.SetMaxOpenConns(readers)
	db.SetMaxIdleConns(readers)
	return &reader{DB: db, prepared: map[string]*sql.Stmt{}}
}

// known is a statement that is prepared, or nil.
func (r *reader) known(query string) *sql.Stmt {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.prepared[query]
}

// prepare prepares a statement for the next time; nil where that fails or there are
// enough.
func (r *reader) prepare(ctx context.Context, query string) *sql.Stmt {
	if p := r.known(query); p != nil {
		return p
	}
	if r.full() {
		return nil
	}
	p, err := r.PrepareContext(ctx, query) // waits for a connection, whose holder may ask for known: not under mu
	if err != nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if had := r.prepared[query]; had != nil { // somebody was faster
		p.Close()
		return had
	}
	r.prepared[query] = p
	return p
}

func (r *reader) full() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.prepared) >= maxPrepared
}

// begun is the context of a read that begins now: it is not interrupted, because
// watching a context costs two goroutines, more than most reads take. Lists are short.
func begun(ctx context.Context) context.Context {
	if ctx.Err() != nil {
		return ctx
	}
	return context.WithoutCancel(ctx)
}

// QueryContext implements querier.
func (r *reader) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx = begun(ctx)
	if p := r.prepare(ctx, query); p != nil {
		return p.QueryContext(ctx, args...)
	}
	return r.DB.QueryContext(ctx, query, args...)
}

// QueryRowContext implements querier.
func (r *reader) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	ctx = begun(ctx)
	if p := r.prepare(ctx, query); p != nil {
		return p.QueryRowContext(ctx, args...)
	}
	return r.DB.QueryRowContext(ctx, query, args...)
}

// snapshot runs f on one moment of the database.
func (r *reader) snapshot(ctx context.Context, f func(querier) error) error {
	ctx = begun(ctx)
	t, err := r.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return wrap("beginning a transaction", err)
	}
	m := &moment{Tx: t, reader: r}
	err = f(m)
	t.Rollback() // it has read only
	for _, query := range m.missed {
		r.prepare(ctx, query)
	}
	return err
}

// moment is a transaction that reads. It uses what is prepared; preparing more
// would need a connection beside its own.
type moment struct {
	*sql.Tx
	reader *reader
	missed []string
}

func (m *moment) known(ctx context.Context, query string) *sql.Stmt {
	p := m.reader.known(query)
	if p == nil {
		m.missed = append(m.missed, query)
		return nil
	}
	return m.StmtContext(ctx, p)
}

// QueryContext implements querier.
func (m *moment) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx = begun(ctx)
	if p := m.known(ctx, query); p != nil {
		return p.QueryContext(ctx, args...)
	}
	return m.Tx.QueryContext(ctx, query, args...)
}

// QueryRowContext implements querier.
func (m *moment) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	ctx = begun(ctx)
	if p := m.known(ctx, query); p != nil {
		return p.QueryRowContext(ctx, args...)
	}
	return m.Tx.QueryRowContext(ctx, query, args...)
}
