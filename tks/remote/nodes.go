package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/tks"
)

// Node is a node that serves the key service.
type Node struct {
	Name   string
	URL    string       // scheme and host; Base follows
	Client *http.Client // reaches the node, and makes sure that it is it
}

// NodeStatus is what a client knows about a node.
type NodeStatus struct {
	Name      string
	Reachable bool      // it answered the last time, or was not asked yet
	Since     time.Time // of the first failure in a row; zero where Reachable
	Err       error     // why the last call failed; nil where Reachable
}

// pool chooses among nodes.
type pool struct {
	cfg Config

	mu       sync.Mutex
	down     map[string]outage
	favorite string // the node that calls go to
	turn     int    // where the next favorite is looked for
}

// outage is that of a node that did not answer.
type outage struct {
	since, until time.Time // since the first failure, resting until
	err          error
}

func newPool(cfg Config) *pool {
	return &pool{cfg: cfg, down: map[string]outage{}, turn: rand.IntN(1 << 16)}
}

// order is in which order the nodes are asked: the favorite, the others that
// answer, and those at rest, the longest first.
func (p *pool) order() []Node {
	nodes := slices.Clone(p.cfg.Nodes())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(nodes)
	now := p.cfg.Now()
	up := func(n Node) bool { return !now.Before(p.down[n.Name].until) }
	at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == p.favorite && up(n) })
	if at < 0 && len(nodes) > 0 {
		at = p.turn % len(nodes)
	}
	if at > 0 {
		nodes = append(nodes[at:], nodes[:at]...)
	}
	slices.SortStableFunc(nodes, func(a, b Node) int {
		switch {
		case up(a) == up(b):
			if up(a) {
				return 0
			}
			return p.down[a.Name].until.Compare(p.down[b.Name].until)
		case up(a):
			return -1
		}
		return 1
	})
	if len(nodes) > 0 && nodes[0].Name != p.favorite {
		p.favorite = nodes[0].Name
		p.turn++
	}
	return nodes
}

// stay makes calls go to a node from now on.
func (p *pool) stay(n Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.favorite = n.Name
}

// forget drops what is known of nodes that are gone.
func (p *pool) forget(nodes []Node) {
	for name := range p.down {
		if !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == name }) {
			delete(p.down, name)
		}
	}
}

// failed notes that a node did not answer.
func (p *pool) failed(ctx context.Context, n Node, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	o, again := p.down[n.Name]
	if !again {
		o.since = now
		p.cfg.Log.WarnContext(ctx, "TKS node does not answer", slog.String("peer", n.Name), slog.Any("err", err))
	}
	o.until, o.err = now.Add(p.cfg.Rest), err
	p.down[n.Name] = o
}

// answered notes that a node answered.
func (p *pool) answered(ctx context.Context, n Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, was := p.down[n.Name]; was {
		p.cfg.Log.InfoContext(ctx, "TKS node answers again", slog.String("peer", n.Name), slog.Duration("dur", p.cfg.Now().Sub(o.since)))
		delete(p.down, n.Name)
	}
}

// status is what is known of the nodes that there are.
func (p *pool) status() []NodeStatus {
	nodes := p.cfg.Nodes()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]NodeStatus, len(nodes))
	for i, n := range nodes {
		o, down := p.down[n.Name]
		out[i] = NodeStatus{Name: n.Name, Reachable: !down, Since: o.since, Err: o.err}
	}
	return out
}

// lost is a call that failed for want of the node. reached says that the node may
// have got it.
type lost struct {
	node    string
	reached bool
	err     error
}

// Error implements error.
func (e *lost) Error() string { return e.node + ": " + e.err.Error() }

// Unwrap gives the cause.
func (e *lost) Unwrap() error { return e.err }

// how a call goes on after a node that gave no answer or the wrong one.
type how struct {
	once    bool             // it may not run twice: the next node only where this one was not reached
	passing func(error) bool // answers that another node may know better; nil = none
	timeout time.Duration    // for one node; 0 = Config.CallTimeout
}

// each runs f at one node after the other, until one answers.
func (p *pool) each(ctx context.Context, h how, f func(context.Context, Node) error) error {
	if h.timeout == 0 {
		h.timeout = p.cfg.CallTimeout
	}
	var absent []string
	var answer error
	for _, n := range p.order() {
		err := p.at(ctx, n, h.timeout, f)
		var gone *lost
		switch {
		case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("asking %s: %w: %w", n.Name, tks.ErrUnavailable, ctx.Err())
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("asking %s: %w", n.Name, ctx.Err())
		case errors.As(err, &gone):
			absent = append(absent, gone.Error())
			if h.once && gone.reached {
				return unavailable(absent)
			}
		case err != nil && h.passing != nil && h.passing(err):
			answer = err
		default:
			if len(absent) > 0 {
				p.stay(n)
			}
			return err
		}
	}
	if answer != nil && len(absent) == 0 {
		return answer
	}
	return unavailable(absent)
}

// at runs f at one node and notes whether that answered.
func (p *pool) at(ctx context.Context, n Node, timeout time.Duration, f func(context.Context, Node) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := f(limited, n)
	var gone *lost
	switch {
	case ctx.Err() != nil: // the caller's haste says nothing about the node
	case errors.As(err, &gone):
		p.failed(ctx, n, gone.err)
	default:
		p.answered(ctx, n)
	}
	return err
}

func unavailable(absent []string) error {
	if len(absent) == 0 {
		return fmt.Errorf("no node with the role tks is known: %w", tks.ErrUnavailable)
	}
	return fmt.Errorf("%w: %s", tks.ErrUnavailable, strings.Join(absent, "; "))
}
