package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// contacts are what the other members have said last.
type contacts struct {
	mu   sync.Mutex
	all  map[string]contact
	busy map[string]bool
	wg   sync.WaitGroup
}

// contact is the latest exchange with a member.
type contact struct {
	Report Report        // the latest; zero: none yet
	At     time.Time     // of the latest that succeeded
	Offset time.Duration // of its clock
	Err    error         // of the latest, if it failed
}

func (c *contacts) get(node string) contact {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all[node]
}

func (c *contacts) put(node string, f func(*contact)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]contact{}
	}
	x := c.all[node]
	f(&x)
	c.all[node] = x
}

// start runs f for a member unless one runs already.
func (c *contacts) start(node string, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy[node] {
		return
	}
	if c.busy == nil {
		c.busy = map[string]bool{}
	}
	c.busy[node] = true
	c.wg.Go(func() {
		defer func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.busy, node)
		}()
		f()
	})
}

// errSame: the state is there already.
var errSame = errors.New("the same state")

// accept takes a state from another node: from the primary, or with a statement that
// makes its sender primary.
func (n *Node) accept(from string, e envelope) error {
	if err := e.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	err := n.commit(func(r *record) error {
		if r.Phase != inside {
			return n.view.Load().ready()
		}
		own := r.State
		if e.State.ID != own.ID {
			return fmt.Errorf("%w: it is of array %s, this is %s", ErrState, e.State.ID, own.ID)
		}
		if e.State.Epoch == own.Epoch && e.State.Hash() == own.Hash() {
			return errSame
		}
		if e.State.Epoch <= own.Epoch {
			return fmt.Errorf("%w: epoch %d, this node has %d", ErrState, e.State.Epoch, own.Epoch)
		}
		sure, err := mayTake(own, from, e.State)
		if err != nil {
			return err
		}
		if !sure {
			return r.ask(e)
		}
		return r.take(e)
	})
	if errors.Is(err, errSame) {
		return nil
	}
	if err == nil {
		n.wake()
	}
	return err
}

// mayTake says whether the sender may set the state; not sure: a person has to confirm.
func mayTake(own State, from string, s State) (sure bool, err error) {
	p := s.Promotion
	fresh := p != nil && (own.Promotion == nil || own.Promotion.Epoch != p.Epoch)
	if from == own.Primary {
		if fresh && !p.Forced {
			_, err = p.verify(own)
		}
		return err == nil, err
	}
	if p == nil || p.Primary != from || s.Primary != from {
		return false, fmt.Errorf("%w: it came from a node that is not the primary", ErrState)
	}
	if !fresh { // announced by the old primary, and verified then
		return true, nil
	}
	if !slices.ContainsFunc(s.CAs, func(a Authority) bool {
		return a.Epoch == p.Epoch && a.Holder == from && string(a.Certificate) == string(p.Authority)
	}) {
		return false, fmt.Errorf("%w: the CA of the promotion is not in it", ErrState)
	}
	recovered, err := p.verify(own)
	return recovered || !p.Forced, err
}

// take makes a state of others this node's.
func (r *record) take(e envelope) error {
	_, member := e.State.Member(r.Node)
	switch {
	case member:
		r.State, r.Documents, r.Waiting = e.State, e.Documents, nil
	case e.State.Promotion != nil && e.State.Promotion.Forced && r.State.Primary == r.Node:
		r.Phase, r.Superseded = superseded, e.State.Promotion
	default:
		r.Phase = leaving
	}
	return nil
}

// ask keeps a state until a person has confirmed its promotion.
func (r *record) ask(e envelope) error {
	if w := r.Waiting; w != nil && w.State.Epoch == e.State.Epoch && w.State.Hash() == e.State.Hash() {
		return errSame
	}
	r.Waiting = &e
	return nil
}

// contact has the primary bring a member up to date and learn what it says.
func (n *Node) contact(ctx context.Context, node string) {
	for ctx.Err() == nil {
		v := n.view.Load()
		m, ok := v.rec.State.Member(node)
		if !v.primary() || !ok {
			return
		}
		rep, offset, err := n.exchange(ctx, v, m)
		n.heard.put(node, func(c *contact) {
			if c.Err = err; err == nil {
				c.Report, c.At, c.Offset = rep, n.cfg.Now(), offset
			}
		})
		n.told.tell()
		if err != nil {
			n.cfg.Log.Debug("member not reached", slog.String("peer", m.Name), slog.Any("err", err))
			n.askSuperseded(ctx, m, err)
			return
		}
		if n.view.Load().rec.State.Epoch == v.rec.State.Epoch {
			return
		}
	}
}

// exchange hands the state over where the member's is older, and asks for its report.
func (n *Node) exchange(ctx context.Context, v *view, m Member) (rep Report, offset time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	began := n.cfg.Now()
	if c := n.heard.get(m.Node); c.Err == nil && c.Report.Epoch == v.rec.State.Epoch && c.Report.Hash == v.hash {
		_, err = n.call(ctx, m, http.MethodGet, "/array/v1/status", nil, &rep)
	} else {
		_, err = n.call(ctx, m, http.MethodPut, "/array/v1/state", envelope{v.rec.State, v.rec.Documents}, &rep)
	}
	now := n.cfg.Now()
	return rep, rep.Time.Sub(began.Add(now.Sub(began) / 2)).Round(time.Millisecond), err
}

// poll has a member ask the primary for what is new, or hand over what the primary
// has missed: a former primary has promoted it and was cut.
func (n *Node) poll(ctx context.Context) {
	v := n.view.Load()
	m, ok := v.rec.State.Member(v.rec.State.Primary)
	if !ok || v.rec.Phase != inside || v.primary() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var e envelope
	status, err := n.call(ctx, m, http.MethodGet, "/array/v1/state?epoch="+strconv.FormatUint(v.rec.State.Epoch, 10), nil, &e)
	if errors.Is(err, ErrBehind) {
		_, err = n.call(ctx, m, http.MethodPut, "/array/v1/state", envelope{v.rec.State, v.rec.Documents}, nil)
	} else if err == nil && status == http.StatusOK {
		err = n.accept(m.Node, e)
	}
	n.heard.put(m.Node, func(c *contact) {
		if c.Err = err; err == nil {
			c.At = n.cfg.Now()
		}
	})
	if err != nil {
		n.cfg.Log.Debug("primary not reached", slog.String("peer", m.Name), slog.Any("err", err))
	}
}

// askSuperseded has a primary that its members no longer accept look for the proof
// that another one was promoted.
func (n *Node) askSuperseded(ctx context.Context, m Member, why error) {
	if !errors.Is(why, ErrNotAccepted) && !errors.Is(why, ErrUnknownAuthority) {
		return
	}
	c, g, err := knock(ctx, m.Address, anyChain)
	if err != nil {
		return
	}
	c.Close()
	p := g.Promotion
	if p == nil || !p.Forced || p.Primary == n.ID() {
		return
	}
	err = n.commit(func(r *record) error {
		if r.Phase != inside || r.State.Primary != r.Node || p.Epoch <= r.State.Epoch {
			return errSame
		}
		if _, err := p.verify(r.State); err != nil {
			return err
		}
		r.Phase, r.Superseded = superseded, p
		return nil
	})
	if err == nil {
		n.cfg.Log.Error("another node was promoted in place of this one", slog.Any("err", n.Superseded()))
	}
}

// anyChain trusts nothing and reads on: what it reads proves itself.
func anyChain([]*x509.Certificate) error { return nil }
