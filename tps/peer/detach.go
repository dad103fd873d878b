package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
)

// Detach removes a member, on the primary. The member takes nothing new, ends what
// runs, at most [Config.DrainTime]; then the array forgets it, its certificates are
// refused, and it becomes an array of its own. With force nothing is asked of it: it is
// lost, and whoever finds it holds its HSM login and its sealed files, so change that
// PIN and what it could read. An error that unwraps to context.DeadlineExceeded means
// that it is removed and that another member does not know yet.
func (n *Node) Detach(ctx context.Context, node string, force bool) error {
	v := n.view.Load()
	if err := v.ready(); err != nil {
		return err
	}
	if !v.primary() {
		return n.notPrimary()
	}
	m, ok := v.rec.State.Member(node)
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownNode, node)
	}
	if node == v.rec.Node {
		return errors.New("the primary cannot detach itself: promote another member first")
	}
	end, err := n.beginDetach(ctx, node, force)
	if err != nil {
		return err
	}
	defer end()
	if !force && m.State != Joining {
		if err := n.drain(ctx, m); err != nil {
			return err
		}
	}
	before := n.view.Load()
	reason := "detached"
	if force {
		reason = "detached by force"
	}
	if err := n.remove(node, reason); err != nil {
		return err
	}
	if !force {
		n.dismiss(ctx, before, m)
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ChangeWait) // another member may be lost too
	defer cancel()
	return n.settle(ctx, func(State) bool { return true })
}

// beginDetach waits for nothing where a node is lost: the wait may be for that node.
func (n *Node) beginDetach(ctx context.Context, node string, force bool) (end func(), err error) {
	if !force {
		return n.begin(ctx, node)
	}
	return n.only(ctx)
}

// drain has a member end what runs.
func (n *Node) drain(ctx context.Context, m Member) error {
	set := func(to MemberState) error {
		return n.alter(func(s *State) error {
			s.update(m.Node, func(m *Member) { m.State = to })
			return nil
		})
	}
	if err := set(Draining); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DrainTime+callTime)
	defer cancel()
	if _, err := n.call(ctx, m, http.MethodPost, "/array/v1/drain", nil, nil); err != nil {
		return errors.Join(fmt.Errorf("%s did not end its work and stays a member; if it is lost, detach it by force: %w", m.Name, err), set(Active))
	}
	return nil
}

// remove takes a node out of the state, and a CA that only it could use.
func (n *Node) remove(node, reason string) error {
	err := n.alter(func(s *State) error {
		s.remove(node, reason, n.now())
		s.CAs = slices.DeleteFunc(s.CAs, func(a Authority) bool { return a.Role == PendingCA && a.Holder == node })
		if s.Promotion != nil && s.Promotion.Primary == node {
			s.Promotion = nil
		}
		return nil
	})
	if err == nil {
		n.cfg.Log.Warn("node removed from the array", slog.String("node", node), slog.String("reason", reason))
	}
	return err
}

// dismiss tells a node that it is no longer a member: over a last connection for which
// the trust of before counts. One that is not reached finds out when it is refused.
func (n *Node) dismiss(ctx context.Context, before *view, m Member) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	tr := n.transport(before, m)
	defer tr.CloseIdleConnections()
	v := n.view.Load()
	_, err := callWith(ctx, &http.Client{Transport: tr}, m, http.MethodPut, "/array/v1/state", envelope{v.rec.State, v.rec.Documents}, nil)
	if err != nil {
		n.cfg.Log.Warn("the detached node could not be told: detach it there with --self", slog.String("peer", m.Name), slog.Any("err", err))
	}
}

// DetachSelf makes this node an array of its own without asking anybody. The others
// still list it until their primary detaches it by force.
func (n *Node) DetachSelf(ctx context.Context) error {
	err := n.commit(func(r *record) error {
		switch {
		case r.Phase == leaving || r.Phase == superseded:
		case r.Phase != inside:
			return ErrOutside
		case len(r.State.Members) == 1:
			return errors.New("this node is alone in its array already")
		case r.State.Primary == r.Node:
			return errors.New("this node is the primary: promote another member first, or have one promoted by force")
		}
		r.Phase = leaving
		return nil
	})
	if err != nil {
		return err
	}
	return n.leave(ctx)
}

// leave ends what detaching began: the array's secrets go, then the node gets its own
// array. A cut anywhere is gone on from by [Node.Run], or by another call.
func (n *Node) leave(ctx context.Context) error {
	end, err := n.only(ctx)
	if err != nil {
		return err
	}
	defer end()
	if n.view.Load().rec.Phase != leaving {
		return nil
	}
	if err := n.cfg.Left(ctx); err != nil {
		return fmt.Errorf("removing the secrets of the array that was left: %w", err)
	}
	if err := n.at("left"); err != nil {
		return err
	}
	if err := n.alone(ctx, State{Name: n.cfg.Name, Domains: []string{domainOf(n.cfg.Name)}}); err != nil {
		return fmt.Errorf("becoming an array of one: %w", err)
	}
	n.cfg.Log.Warn("this node was detached and is an array of its own now")
	n.wake()
	return nil
}

// postDrain ends what runs here, on the primary's word.
func (n *Node) postDrain(w http.ResponseWriter, r *http.Request) {
	if err := n.fromPrimary(r); err != nil {
		n.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), n.cfg.DrainTime)
	defer cancel()
	if err := n.cfg.Drain(ctx); err != nil {
		n.cfg.Log.Warn("running operations were not ended in time", slog.Any("err", err))
	}
	w.WriteHeader(http.StatusNoContent)
}
