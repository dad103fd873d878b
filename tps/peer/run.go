package peer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"inkan/tps/wire"
)

// Run keeps the node in its array until ctx ends: the primary brings the members up to
// date and goes on with changes, members ask the primary, certificates are renewed,
// connections rechecked. A node outside of any array waits to be in one.
func (n *Node) Run(ctx context.Context) {
	defer n.heard.wg.Wait()
	tick := time.NewTicker(n.cfg.Interval)
	defer tick.Stop()
	var rechecked time.Time
	for ctx.Err() == nil {
		told := n.told.next()
		n.round(ctx)
		if now := n.cfg.Now(); now.Sub(rechecked).Abs() >= linger {
			n.recheck()
			rechecked = now
		}
		for more := true; more; {
			select {
			case <-ctx.Done():
				more = false
			case <-tick.C:
				more = false
			case <-n.kick:
				more = false
			case <-told: // somebody has reported: that may be what a change waited for
				told = n.told.next()
				n.log("going on with a change", n.advance(ctx))
			}
		}
	}
}

func (n *Node) log(what string, err error) {
	if err != nil && !errors.Is(err, errKilled) {
		n.cfg.Log.Warn(what, slog.Any("err", err))
	}
}

// round does what is to be done now.
func (n *Node) round(ctx context.Context) {
	v := n.view.Load()
	switch {
	case v.rec.Phase == leaving:
		n.log("leaving the array", n.leave(ctx))
		return
	case v.rec.Phase != inside:
		return
	}
	n.tidy(ctx)
	if !v.primary() {
		n.heard.start(v.rec.State.Primary, func() {
			n.poll(ctx)
			if err := n.renew(ctx); err != nil { // [Node.warn] speaks up when it lasts
				n.cfg.Log.Debug("certificate not renewed", slog.Any("err", err))
			}
		})
		return
	}
	for _, m := range v.rec.State.Members {
		if m.Node != v.rec.Node {
			n.heard.start(m.Node, func() { n.contact(ctx, m.Node) })
		}
	}
	n.log("going on with a change", n.advance(ctx))
}

// tidy destroys what no change needs, if none is being made.
func (n *Node) tidy(ctx context.Context) {
	select {
	case n.op <- struct{}{}:
		defer func() { <-n.op }()
		n.log("tidying up", n.sweep(ctx))
	default:
	}
}

// advance has the primary take the next step of whatever the state is in the midst of.
func (n *Node) advance(ctx context.Context) error {
	v := n.view.Load()
	if !v.primary() {
		return nil
	}
	if err := n.members(v); err != nil {
		return err
	}
	if err := n.renew(ctx); err != nil {
		return err
	}
	if v = n.view.Load(); !v.rec.State.changing() {
		return n.revocations(ctx, v)
	}
	if a, ok := v.rec.State.CA(PendingCA); ok {
		return n.afterPending(v, a)
	}
	a, _ := v.rec.State.CA(RetiringCA)
	return n.afterRetiring(v, a)
}

// members notices who has become active, who did not, and who is lost.
func (n *Node) members(v *view) error {
	now := n.cfg.Now()
	for _, m := range v.rec.State.Members {
		to := m.State
		switch {
		case m.State == Joining && n.heard.get(m.Node).agrees(v):
			to = Active
		case m.State == Joining && now.Sub(m.Joined) > n.cfg.JoinTime:
			return n.remove(m.Node, "never reported after it had joined")
		case m.Node != v.rec.Node && m.State == Active && m.expired(now):
			to = Lost
		}
		if to != m.State {
			n.cfg.Log.Info("member changes state", slog.String("peer", m.Name), slog.String("to", string(to)))
			return n.alter(func(s *State) error {
				s.update(m.Node, func(m *Member) { m.State = to })
				return nil
			})
		}
	}
	return nil
}

// expired says whether the member has no certificate left.
func (m Member) expired(now time.Time) bool {
	for _, c := range m.Certificates {
		if !now.After(c.NotAfter.Add(skew)) {
			return false
		}
	}
	return true
}

// afterPending: where all trust the new CA it becomes current, and its holder primary.
func (n *Node) afterPending(v *view, a Authority) error {
	if n.lagging(v) != "" {
		return n.overdue(v, a.Since, func(c contact) bool { return c.agrees(v) })
	}
	return n.alter(func(s *State) error {
		for i := range s.CAs {
			switch c := &s.CAs[i]; c.Role {
			case CurrentCA:
				c.Role, c.Since = RetiringCA, n.now()
			case PendingCA:
				c.Role, c.Since = CurrentCA, n.now()
			}
		}
		s.Primary = a.Holder
		return nil
	})
}

// afterRetiring: where all have certificates of the current CA the others go.
func (n *Node) afterRetiring(v *view, a Authority) error {
	current, _ := v.rec.State.CA(CurrentCA)
	ca, err := current.Parse()
	if err != nil {
		return err
	}
	issuer := wire.FingerprintOf(ca).String()
	renewed := func(c contact) bool { return c.agrees(v) && c.Report.Issuer == issuer }
	for _, m := range v.rec.State.Members {
		if m.Node != v.rec.Node && m.State != Lost && !renewed(n.heard.get(m.Node)) {
			return n.overdue(v, a.Since, renewed)
		}
	}
	if n.due(v) {
		return nil // the own one is not there yet
	}
	return n.alter(func(s *State) error {
		s.CAs = []Authority{current}
		return nil
	})
}

// overdue removes who has not come along in time, one in a minute: those who have may
// still be about to report the latest epoch, or this node may just have started.
func (n *Node) overdue(v *view, since time.Time, good func(contact) bool) error {
	now := n.cfg.Now()
	if now.Sub(since) <= n.cfg.MaxOverlap || now.Sub(time.Unix(0, n.moved.Load())) <= divergedAfter {
		return nil
	}
	for _, m := range v.rec.State.Members {
		if m.Node != v.rec.Node && m.State != Lost && !good(n.heard.get(m.Node)) {
			return n.remove(m.Node, "did not follow a change of the array's CA in time")
		}
	}
	return nil
}
