package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inkan/tps/token"
)

// silence is after how long without a heartbeat a node's locks are void (design §3).
const silence = 30 * time.Second

// Lock implements token.Locks. A session that has the lock already gets it
// again. Since is the present moment, now if zero; it counts as a heartbeat.
func (db *DB) Lock(ctx context.Context, l token.Lock) error {
	if l.Since = normal(l.Since); l.Since.IsZero() {
		l.Since = normal(db.now())
	}
	return db.tx(ctx, func(q querier) error {
		if err := heartbeat(ctx, q, node{l.Node, l.Boot, l.Since}); err != nil {
			return err
		}
		held, err := queryOne(ctx, q, scanLock, "SELECT cuid, node, boot, session, since FROM locks WHERE cuid = ?", l.CUID.String())
		if err == nil {
			err = mayTake(ctx, q, l, held)
		}
		if err != nil && !errors.Is(err, token.ErrNotFound) {
			return err
		}
		_, err = exec(ctx, q, `INSERT INTO locks (cuid, node, boot, session, since) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (cuid) DO UPDATE SET node = excluded.node, boot = excluded.boot, session = excluded.session, since = excluded.since`,
			l.CUID.String(), l.Node, l.Boot, l.Session, stamp(l.Since))
		return err
	})
}

// mayTake says whether l may replace the lock that is held: it is of the same
// session, or void.
func mayTake(ctx context.Context, q querier, l, held token.Lock) error {
	if l.Node == held.Node && l.Boot == held.Boot && l.Session == held.Session {
		return nil
	}
	n, err := queryOne(ctx, q, scanNode, "SELECT node, boot, seen FROM nodes WHERE node = ?", held.Node)
	if err != nil {
		return err // not found: a node that was removed
	}
	if n.boot == held.Boot && l.Since.Sub(n.seen) < silence {
		return fmt.Errorf("%w since %s, by a session of node %s", token.ErrLocked, held.Since.Format(time.RFC3339), held.Node)
	}
	return nil
}

// Unlock implements token.Locks. The lock of another session stays.
func (db *DB) Unlock(ctx context.Context, l token.Lock) error {
	_, err := db.exec(ctx, "DELETE FROM locks WHERE cuid = ? AND node = ? AND boot = ? AND session = ?",
		l.CUID.String(), l.Node, l.Boot, l.Session)
	return err
}

// Heartbeat implements token.Locks. Locks of another boot of the node are void
// from now on.
func (db *DB) Heartbeat(ctx context.Context, name, boot string, now time.Time) error {
	return db.tx(ctx, func(q querier) error { return heartbeat(ctx, q, node{name, boot, normal(now)}) })
}

type node struct {
	name, boot string
	seen       time.Time
}

func heartbeat(ctx context.Context, q querier, n node) error {
	_, err := exec(ctx, q, `INSERT INTO nodes (node, boot, seen) VALUES (?, ?, ?)
		ON CONFLICT (node) DO UPDATE SET boot = excluded.boot, seen = excluded.seen`, n.name, n.boot, stamp(n.seen))
	return err
}

func scanNode(r row) (node, error) {
	var n node
	err := r.Scan(&n.name, &n.boot, stampAt(&n.seen))
	return n, err
}

func scanLock(r row) (token.Lock, error) {
	var l token.Lock
	err := r.Scan(parsed{&l.CUID}, &l.Node, &l.Boot, &l.Session, stampAt(&l.Since))
	return l, err
}
