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
// again. Since is the present moment, now if zero, and counts as a heartbeat where
// the last one is old; on PostgreSQL the server's clock is taken instead, by which
// alone silence is measured there: a node with a wrong clock takes nobody's lock.
func (db *DB) Lock(ctx context.Context, l token.Lock) error {
	given := db.moment(l.Since)
	return db.tx(ctx, func(q querier) (err error) {
		if l.Since, err = db.engine.clock(ctx, q, given); err != nil {
			return err
		}
		if err := present(ctx, q, node{l.Node, l.Boot, l.Since}); err != nil {
			return err
		}
		// Either the row becomes ours, or it is held fast until we have judged it.
		held, err := queryOne(ctx, q, scanLock, `INSERT INTO locks (cuid, node, boot, session, since) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (cuid) DO UPDATE SET cuid = excluded.cuid RETURNING cuid, node, boot, session, since`,
			l.CUID.String(), l.Node, l.Boot, l.Session, stamp(l.Since))
		if err != nil || held.Node == l.Node && held.Boot == l.Boot && held.Session == l.Session {
			return err
		}
		if err := mayTake(ctx, q, l, held); err != nil && !errors.Is(err, token.ErrNotFound) {
			return err
		}
		_, err = exec(ctx, q, "UPDATE locks SET node = ?, boot = ?, session = ?, since = ? WHERE cuid = ?",
			l.Node, l.Boot, l.Session, stamp(l.Since), l.CUID.String())
		return err
	})
}

// moment is a time that was given, now if it is zero.
func (db *DB) moment(given time.Time) time.Time {
	if given.IsZero() {
		given = db.now()
	}
	return normal(given)
}

// present makes sure that the node was heard of not long ago. It mostly writes
// nothing: the locks of a node do not wait for each other.
func present(ctx context.Context, q querier, n node) error {
	was, err := queryOne(ctx, q, scanNode, nodeByName, n.name)
	if err != nil && !errors.Is(err, token.ErrNotFound) || err == nil && was.boot == n.boot && n.seen.Sub(was.seen) < silence/3 {
		return err
	}
	_, err = exec(ctx, q, putNode, n.name, n.boot, stamp(n.seen))
	return err
}

const (
	nodeByName = "SELECT node, boot, seen FROM nodes WHERE node = ?"
	putNode    = `INSERT INTO nodes (node, boot, seen) VALUES (?, ?, ?)
		ON CONFLICT (node) DO UPDATE SET boot = excluded.boot, seen = excluded.seen`
)

// mayTake says whether l may replace the lock that another session holds: it is void.
func mayTake(ctx context.Context, q querier, l, held token.Lock) error {
	n, err := queryOne(ctx, q, scanNode, nodeByName, held.Node)
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

// ErrNameTaken means that another process runs under the name of this node. Each
// makes the locks of the other void.
var ErrNameTaken = errors.New("another process runs under this node's name: give every node a [node] name of its own")

// Heartbeat implements token.Locks. Locks of another boot of the node are void
// from now on. On PostgreSQL the time is the server's. [ErrNameTaken], with the
// heartbeat written all the same, if another boot has come since the last one.
func (db *DB) Heartbeat(ctx context.Context, name, boot string, now time.Time) error {
	seen, err := db.engine.clock(ctx, db.read, db.moment(now))
	if err != nil {
		return err
	}
	n, err := db.exec(ctx, "UPDATE nodes SET seen = ? WHERE node = ? AND boot = ?", stamp(seen), name, boot)
	if err != nil || n > 0 {
		return err
	}
	if _, err := db.exec(ctx, putNode, name, boot, stamp(seen)); err != nil {
		return err
	}
	if _, again := db.boots.LoadOrStore(node{name: name, boot: boot}, true); again {
		return fmt.Errorf("node %s: %w", name, ErrNameTaken)
	}
	return nil
}

type node struct {
	name, boot string
	seen       time.Time
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
