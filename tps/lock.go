package tps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"inkan/apdu"
	"inkan/tps/token"
)

// owed are locks that the store could not free, or of which it is not known
// whether they were taken. While their node lives nobody else voids them, so it
// has to free them itself: before the next lock is taken, and with its heartbeat.
type owed struct {
	mu    sync.Mutex
	locks []token.Lock
}

func (o *owed) add(l token.Lock) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.locks = append(o.locks, l)
}

func (o *owed) take() []token.Lock {
	o.mu.Lock()
	defer o.mu.Unlock()
	ls := o.locks
	o.locks = nil
	return ls
}

// lock locks a card for a session, whose name is its own. token.ErrLocked: another
// session works on the card.
func (e *Engine) lock(ctx context.Context, cuid apdu.CUID, session string) (token.Lock, error) {
	e.freeOwed(ctx)
	l := token.Lock{CUID: cuid, Node: e.Node, Boot: e.Boot, Session: session, Since: e.Now()}
	err := e.Stores.Locks.Lock(ctx, l)
	if err != nil && !errors.Is(err, token.ErrLocked) {
		e.owed.add(l)
	}
	return l, err
}

// unlock frees a lock, whether or not ctx has ended.
func (e *Engine) unlock(ctx context.Context, l token.Lock) {
	ctx = context.WithoutCancel(ctx)
	if err := e.Stores.Locks.Unlock(ctx, l); err != nil {
		e.Log.WarnContext(ctx, "freeing the card's lock, which is tried again", slog.String("cuid", l.CUID.String()), slog.Any("err", err))
		e.owed.add(l)
	}
}

func (e *Engine) freeOwed(ctx context.Context) {
	for _, l := range e.owed.take() {
		e.unlock(ctx, l)
	}
}

// acquire locks the card for this session.
func (r *run) acquire(ctx context.Context) error {
	l, err := r.e.lock(ctx, r.card.CUID, r.id)
	switch {
	case errors.Is(err, token.ErrLocked):
		return refuse(StatusInternal, "the card is busy: another session works on it: %w", err)
	case err != nil:
		return within(StatusDatabase, "lock-card", err)
	}
	r.lock = &l
	return nil
}

func (r *run) release(ctx context.Context) {
	if r.lock != nil {
		r.e.unlock(ctx, *r.lock)
	}
}

// unlocked runs do while no session works on the card; a busy card is left.
func (e *Engine) unlocked(ctx context.Context, cuid apdu.CUID, do func() error) error {
	l, err := e.lock(ctx, cuid, token.NewID())
	if errors.Is(err, token.ErrLocked) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("locking card %s: %w", cuid, err)
	}
	defer e.unlock(ctx, l)
	return do()
}
