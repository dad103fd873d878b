package peer

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// begin starts a change of the array: it waits until no other runs and the one before
// has converged, members in ignore apart. [ErrBusy] says what it waited for in vain.
func (n *Node) begin(ctx context.Context, ignore ...string) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ChangeWait)
	defer cancel()
	if end, err = n.only(ctx); err != nil {
		return nil, err
	}
	n.wake()
	var why string
	err = n.wait(ctx, func() bool {
		v := n.view.Load()
		if !v.primary() {
			return true
		}
		if why = busyWith(v.rec.State, ignore...); why == "" {
			why = n.lagging(v, ignore...)
		}
		return why == ""
	})
	if err != nil {
		end()
		return nil, fmt.Errorf("%w: %s", ErrBusy, why)
	}
	if v := n.view.Load(); !v.primary() {
		end()
		if err := v.ready(); err != nil {
			return nil, err
		}
		return nil, n.notPrimary()
	}
	return end, nil
}

// only waits until this node makes no other change, at most [Config.ChangeWait].
func (n *Node) only(ctx context.Context) (end func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ChangeWait)
	defer cancel()
	select {
	case n.op <- struct{}{}:
		return func() { <-n.op }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w on this node", ErrBusy)
	}
}

// busyWith says which change a state is in the midst of.
func busyWith(s State, ignore ...string) string {
	for _, m := range s.Members {
		if slices.Contains(ignore, m.Node) {
			continue
		}
		if m.State == Joining || m.State == Draining {
			return fmt.Sprintf("%s is %s", m.Name, m.State)
		}
	}
	if s.changing() {
		return "the array's CA is being changed"
	}
	return ""
}

// lagging says which members have not reported the primary's state.
func (n *Node) lagging(v *view, ignore ...string) string {
	var why []string
	for _, m := range v.rec.State.Members {
		if m.Node == v.rec.Node || m.State == Lost || m.State == Joining || slices.Contains(ignore, m.Node) {
			continue
		}
		if c := n.heard.get(m.Node); !c.agrees(v) {
			why = append(why, m.Name+": "+c.explain(v))
		}
	}
	return strings.Join(why, "; ")
}

// agrees says whether a member has reported exactly the state of v.
func (c contact) agrees(v *view) bool {
	return c.Err == nil && c.Report.Epoch == v.rec.State.Epoch && c.Report.Hash == v.hash
}

func (c contact) explain(v *view) string {
	switch {
	case c.Err != nil:
		return "no answer (" + c.Err.Error() + ")"
	case c.Report.Waiting != "":
		return "its operator has to confirm the promotion, CA " + c.Report.Waiting
	case c.At.IsZero():
		return "not heard of yet"
	}
	return fmt.Sprintf("it has epoch %d, the array %d", c.Report.Epoch, v.rec.State.Epoch)
}

// settle waits until a change has come to its end on all members.
func (n *Node) settle(ctx context.Context, done func(s State) bool) error {
	var why string
	err := n.wait(ctx, func() bool {
		v := n.view.Load()
		if why = "the array's CA is being changed"; !done(v.rec.State) {
			return false
		}
		if !v.primary() {
			return true
		}
		why = n.lagging(v)
		return why == ""
	})
	if err != nil {
		return fmt.Errorf("%w; not all members have it yet (%s): %w", ErrPending, why, err)
	}
	return nil
}

// SetDocuments replaces what all members are given: name to content, at most 1 MiB in
// all. It waits for nothing.
func (n *Node) SetDocuments(docs map[string][]byte) error {
	return n.alterRecord(func(r *record) error {
		r.State.Documents, r.Documents = map[string]string{}, map[string][]byte{}
		for name, b := range docs {
			r.State.Documents[name], r.Documents[name] = hashHex(b), slices.Clone(b)
		}
		return nil
	})
}
