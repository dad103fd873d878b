package peer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// linger is how long a connection stays whose certificate a CA vouches for that has
// retired, or that has expired: what runs on it may end.
const linger = 30 * time.Second

// connections are the open ones, in both directions.
type connections struct {
	mu  sync.Mutex
	all map[net.Conn]*connection
}

type connection struct {
	conn   *tls.Conn
	use    x509.ExtKeyUsage // of the peer
	open   atomic.Bool      // its handshake has ended
	ending atomic.Int64     // when it was first found to be without trust, Unix nanoseconds
}

func (cs *connections) add(c *connection) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.all == nil {
		cs.all = map[net.Conn]*connection{}
	}
	cs.all[c.conn] = c
}

func (cs *connections) opened(conn net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.all[conn]; c != nil {
		c.open.Store(true)
	}
}

func (cs *connections) remove(c net.Conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.all, c)
}

func (cs *connections) list() []*connection {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	l := make([]*connection, 0, len(cs.all))
	for _, c := range cs.all {
		l = append(l, c)
	}
	return l
}

// recheck verifies every open connection against the present state. One whose peer
// has left is dropped now; one whose certificate has merely aged takes no further
// request and is dropped when what runs on it had its time.
func (n *Node) recheck() {
	v := n.view.Load()
	for _, c := range n.conns.list() {
		if !c.open.Load() { // asking it for its state would wait for the other side
			continue
		}
		cs := c.conn.ConnectionState()
		var err error = &RefusedError{Err: ErrOutside, Detail: "this node has left the array"}
		if v.trust != nil {
			_, err = v.trust.verify(cs.PeerCertificates, c.use, n.cfg.Now())
		}
		if err == nil {
			continue
		}
		if errors.Is(err, ErrUnknownAuthority) || errors.Is(err, ErrExpired) || errors.Is(err, ErrNotYetValid) {
			if _, err := v.trust.standing(cs.PeerCertificates[0]); err == nil && !c.overdue(n.cfg.Now()) {
				continue
			}
		}
		n.cfg.Log.Info("connection dropped", slog.String("peer", c.conn.RemoteAddr().String()), slog.Any("err", err))
		c.conn.NetConn().Close()
	}
	n.links.prune(v)
}

// overdue marks the connection as ending and says whether it has been for too long.
func (c *connection) overdue(now time.Time) bool {
	if c.ending.CompareAndSwap(0, now.UnixNano()) {
		return false
	}
	return now.Sub(time.Unix(0, c.ending.Load())).Abs() > linger
}
