package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"inkan/tps/wire"
)

// view is one state of the node, ready for use. It is never changed.
type view struct {
	rec    record
	hash   string
	self   Member // zero outside
	trust  *trust
	cert   *tls.Certificate
	leaf   *x509.Certificate
	issuer *x509.Certificate // the CA of the array that issued leaf; nil: it is gone
	link   string            // changes with whatever a connection was verified by
}

func (v *view) primary() bool {
	return v.rec.Phase == inside && v.rec.State.Primary == v.rec.Node
}

// ready says why the node cannot act for its array.
func (v *view) ready() error {
	switch v.rec.Phase {
	case inside:
		return nil
	case superseded:
		return ErrSuperseded
	}
	return ErrOutside
}

// prepare makes a record ready for use. Callers hold n.mu, or are alone.
func (n *Node) prepare(rec record) (*view, error) {
	v := &view{rec: rec}
	if rec.Phase == outside {
		return v, nil
	}
	v.hash = rec.State.Hash()
	v.trust = newTrust(rec.State, n.skewed)
	leaf, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("peer certificate is %w", ErrDamaged)
	}
	key := keyOf(n.keys, leaf)
	if key == nil {
		return nil, fmt.Errorf("private key of the peer certificate is missing: the peer key is %w", ErrDamaged)
	}
	v.leaf, v.cert = leaf, &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	v.link = serialText(leaf)
	for _, c := range v.trust.cas {
		v.link += " " + wire.FingerprintOf(c).String()
		if v.issuer == nil && leaf.CheckSignatureFrom(c) == nil {
			v.issuer = c
			v.cert.Certificate = append(v.cert.Certificate, c.Raw)
		}
	}
	v.self, _ = rec.State.Member(rec.Node)
	return v, nil
}

// install makes a view what the node is. Callers hold n.mu, or are alone.
func (n *Node) install(v *view) {
	rec := v.rec
	if old := n.view.Swap(v); old == nil || old.rec.State.Epoch != rec.State.Epoch || old.rec.State.ID != rec.State.ID {
		n.moved.Store(n.cfg.Now().UnixNano())
		if rec.Phase != outside {
			n.cfg.Changed(rec.State, rec.Documents)
		}
	}
	n.recheck()
	n.told.tell()
}

func (n *Node) skewed(leaf *x509.Certificate, by time.Duration) {
	n.cfg.Log.Warn("clocks differ: a peer certificate is outside its dates, within the tolerance", slog.Any("peer", leaf.DNSNames), slog.Duration("by", by))
}

// commit changes the record: f gets a copy, which is kept durably before it counts.
func (n *Node) commit(f func(r *record) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, err := n.view.Load().rec.clone()
	if err != nil {
		return err
	}
	if err := f(&r); err != nil {
		return err
	}
	if o := r.Offered; o != nil && slices.ContainsFunc(r.State.CAs, func(a Authority) bool { return a.Epoch == o.Epoch }) {
		r.Offered = nil // announced
	}
	if r.Phase != outside {
		if err := (envelope{r.State, r.Documents}).check(); err != nil {
			return fmt.Errorf("changing the array: %w", err)
		}
	}
	v, err := n.prepare(r)
	if err != nil {
		return err
	}
	if err := n.save(r); err != nil {
		return err
	}
	n.install(v)
	return nil
}

// alter is a change of the state by its primary: the next epoch.
func (n *Node) alter(f func(s *State) error) error {
	return n.alterRecord(func(r *record) error { return f(&r.State) })
}

func (n *Node) alterRecord(f func(r *record) error) error {
	err := n.commit(func(r *record) error {
		if r.Phase != inside || r.State.Primary != r.Node {
			return ErrNotPrimary
		}
		r.State.Epoch++
		if err := f(r); err != nil {
			return err
		}
		r.State.normal(n.now())
		return nil
	})
	if err == nil {
		n.wake()
	}
	return err
}

// at is where tests cut a node off.
func (n *Node) at(step string) error {
	if n.cfg.step == nil {
		return nil
	}
	if n.dead.Load() {
		return errKilled
	}
	if err := n.cfg.step(step); err != nil {
		n.dead.Store(true)
		return err
	}
	return nil
}

var errKilled = errors.New("node was killed")

// wake has Run look around now.
func (n *Node) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// broadcast wakes whoever waits for a change.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// next is closed with the next change.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// wait until done is true, looked at after each change and each second.
func (n *Node) wait(ctx context.Context, done func() bool) error {
	for {
		next := n.told.next()
		if done() {
			return nil
		}
		select {
		case <-next:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
