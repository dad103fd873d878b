package remote

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/local"
)

// Paths of the calls for the ledger.
const (
	pathGrant    = "ledger/grant"
	pathComplete = "ledger/complete"
	pathRelease  = "ledger/release"
	pathLookup   = "ledger/lookup"
)

// ledgerTimeout is how long one node may take for an entry.
const ledgerTimeout = 2 * time.Second

// Bounds of what a Ledger does and remembers in the background.
const (
	maxTelling = 8
	maxTold    = 100_000
)

// Quorum is how many of the nodes with keys have to have a grant written down.
type Quorum uint8

// Quorums. Majority is more than half of them, this one among them: no two grants for
// one card come about while nodes are lost. Answering is those that answer: cards are
// keyed as long as one node is there, and a node that was lost can key such a card
// again while all others are.
const (
	Majority Quorum = iota
	Answering
)

// Ledger is the ledger that the nodes with keys of an array keep together, so that a
// card is keyed once by all of them and not once by each. Every node has its own
// ledger, and a grant counts when a [Quorum] has it written down and none of those that
// answered knows of another. Where too few answer, cards that prove nothing about
// themselves are not keyed (tks.ErrUnavailable); those that do are not affected. A node
// that is new begins with a copy of another one's ledger.
//
// It implements local.Ledger. The caller closes it before its own ledger.
type Ledger struct {
	own    local.Ledger
	pool   *pool
	quorum Quorum

	telling sync.WaitGroup
	slots   chan struct{}
	mu      sync.Mutex
	told    map[gp.KDD]local.Target // completions that every node knows of
}

var _ local.Ledger = (*Ledger)(nil)

// Ledger joins this node's ledger with those of the client's nodes, which are all
// others that have keys.
func (c *Client) Ledger(own local.Ledger, q Quorum) *Ledger {
	return &Ledger{own: own, pool: c.pool, quorum: q, slots: make(chan struct{}, maxTelling), told: map[gp.KDD]local.Target{}}
}

// Close waits for what is told to other nodes in the background. It takes as long as
// the slowest of them may.
func (l *Ledger) Close() error {
	l.telling.Wait()
	return nil
}

// Grant implements local.Ledger.
func (l *Ledger) Grant(ctx context.Context, g local.Grant) error {
	if err := l.own.Grant(ctx, g); err != nil {
		return err
	}
	errs := l.everywhere(ctx, pathGrant, g)
	written, absent := 1, []string(nil)
	for _, err := range errs {
		var gone *lost
		switch {
		case err == nil:
			written++
		case errors.As(err, &gone):
			absent = append(absent, gone.Error())
		default:
			return fmt.Errorf("asking the other nodes whether the card was keyed before: %w", err)
		}
	}
	if l.quorum == Majority && 2*written <= len(errs)+1 {
		return fmt.Errorf("only %d of %d nodes with keys have the keying of the card written down, more than half are needed: %w",
			written, len(errs)+1, unavailable(absent))
	}
	return nil
}

// Complete implements local.Ledger. The other nodes are told in the background: they
// refuse nothing for not knowing it that this one would not refuse for them.
func (l *Ledger) Complete(ctx context.Context, kdd gp.KDD, to local.Target) error {
	if err := l.own.Complete(ctx, kdd, to); err != nil {
		return err
	}
	if l.isTold(kdd, to) {
		return nil
	}
	select {
	case l.slots <- struct{}{}:
	default: // busy: the card's next session tells it
		return nil
	}
	l.telling.Go(func() {
		defer func() { <-l.slots }()
		for _, err := range l.everywhere(context.WithoutCancel(ctx), pathComplete, completion{kdd, to}) {
			if err != nil {
				return
			}
		}
		l.tell(kdd, to)
	})
	return nil
}

func (l *Ledger) isTold(kdd gp.KDD, to local.Target) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told[kdd] == to
}

func (l *Ledger) tell(kdd gp.KDD, to local.Target) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.told) >= maxTold {
		clear(l.told)
	}
	l.told[kdd] = to
}

// Release implements local.Ledger: at every node. Where one does not answer, the
// card is released at the others and the error says so; doing it again ends it.
func (l *Ledger) Release(ctx context.Context, kdd gp.KDD, by string) error {
	l.mu.Lock()
	delete(l.told, kdd)
	l.mu.Unlock()
	own := l.own.Release(ctx, kdd, by)
	if own != nil && !errors.Is(own, local.ErrNotGranted) {
		return own
	}
	released, absent := own == nil, []string(nil)
	for _, err := range l.everywhere(ctx, pathRelease, release{kdd, by}) {
		var gone *lost
		switch {
		case err == nil:
			released = true
		case errors.As(err, &gone):
			absent = append(absent, gone.Error())
		case !errors.Is(err, local.ErrNotGranted):
			return err
		}
	}
	switch {
	case len(absent) > 0:
		return fmt.Errorf("the card is released at the nodes that answered, and not at others: release it again when they do: %w", unavailable(absent))
	case !released:
		return own
	}
	return nil
}

// Lookup implements local.Ledger. What another node knows counts where this one knows
// nothing.
func (l *Ledger) Lookup(ctx context.Context, kdd gp.KDD) (local.Entry, bool, error) {
	e, ok, err := l.own.Lookup(ctx, kdd)
	if ok || err != nil {
		return e, ok, err
	}
	body, err := encode(cardKDD{kdd})
	if err != nil {
		return e, false, err
	}
	for _, n := range l.pool.cfg.Nodes() {
		var r lookupReply
		err := l.pool.at(ctx, n, ledgerTimeout, func(ctx context.Context, n Node) error {
			return post(ctx, n, pathLookup, body, how{}, func(b []byte) error { return decode(b, &r) })
		})
		if err == nil && r.Entry != nil {
			return *r.Entry, true, nil
		}
	}
	return e, false, nil
}

// everywhere makes a call at every other node at once, and returns what each said.
func (l *Ledger) everywhere(ctx context.Context, path string, v any) []error {
	nodes := l.pool.cfg.Nodes()
	out := make([]error, len(nodes))
	body, err := encode(v)
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			if out[i] = err; err == nil {
				out[i] = l.pool.at(ctx, n, ledgerTimeout, func(ctx context.Context, n Node) error {
					return post(ctx, n, path, body, how{}, func(b []byte) error { return decode(b, &emptyReply{}) })
				})
			}
		})
	}
	all.Wait()
	return out
}

// grant is a local.Grant on its way.
type grant struct{ local.Grant }

func (m *grant) about() subject {
	return subject{sets: []tks.KeySetName{m.From.KeySet, m.To.KeySet}, cuid: m.CUID, kdd: m.KDD}
}
func (*grant) wipe() {}

type completion struct {
	KDD gp.KDD       `json:"kdd"`
	To  local.Target `json:"to"`
}

func (m *completion) about() subject { return subject{kdd: m.KDD} }
func (*completion) wipe()            {}

type release struct {
	KDD gp.KDD `json:"kdd"`
	By  string `json:"by"`
}

func (m *release) about() subject { return subject{kdd: m.KDD} }
func (*release) wipe()            {}

type cardKDD struct {
	KDD gp.KDD `json:"kdd"`
}

func (m *cardKDD) about() subject { return subject{kdd: m.KDD} }
func (*cardKDD) wipe()            {}

type lookupReply struct {
	Entry *local.Entry `json:"entry"` // null: the node knows nothing
}

// ledger serves a call where the node has a ledger for others.
func ledger[M message](h *Handler, f func(context.Context, M) (answer, error)) func(context.Context, M) (answer, error) {
	return func(ctx context.Context, in M) (answer, error) {
		if h.cfg.Ledger == nil {
			return answer{}, fmt.Errorf("this node has no ledger for others: %w", tks.ErrDenied)
		}
		return f(ctx, in)
	}
}

func (h *Handler) grant(ctx context.Context, in *grant) (answer, error) {
	for _, t := range []local.Target{in.From, in.To} {
		if _, err := tks.ParseKeySetName(string(t.KeySet)); err != nil {
			return answer{}, fmt.Errorf("%w: %w", err, ErrRequest)
		}
	}
	return answer{body: none{}}, h.cfg.Ledger.Grant(ctx, in.Grant)
}

func (h *Handler) complete(ctx context.Context, in *completion) (answer, error) {
	return answer{body: none{}}, h.cfg.Ledger.Complete(ctx, in.KDD, in.To)
}

func (h *Handler) release(ctx context.Context, in *release) (answer, error) {
	by := strings.TrimSpace(printable(in.By))
	if by == "" {
		return answer{}, fmt.Errorf("nobody is named who releases the card: %w", ErrRequest)
	}
	return answer{body: none{}}, h.cfg.Ledger.Release(ctx, in.KDD, by)
}

func (h *Handler) lookup(ctx context.Context, in *cardKDD) (answer, error) {
	e, ok, err := h.cfg.Ledger.Lookup(ctx, in.KDD)
	if !ok {
		return answer{body: lookupReply{}}, err
	}
	return answer{body: lookupReply{&e}}, err
}
