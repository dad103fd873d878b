package peer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"inkan/apdu/secret"
	"inkan/tps/wire"
)

// forcedSkip is how many epochs a forced promotion leaves to changes that a lost
// primary may have made: the higher epoch wins.
const forcedSkip = 1000

// Promote makes a member the primary, on the present one. The member makes a CA;
// everybody trusts it, then gets a certificate of it, then the old one goes, and this
// node destroys its key. No call between members fails meanwhile. Where ctx ends early
// the change goes on by itself.
func (n *Node) Promote(ctx context.Context, node string) error {
	if node == n.ID() && n.Primary() {
		return errors.New("this node is the primary already")
	}
	end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	v := n.view.Load()
	m, ok := v.rec.State.Member(node)
	if !ok || m.State != Active {
		return fmt.Errorf("%w or not active: %s", ErrUnknownNode, node)
	}
	var st Statement
	if _, err := n.call(ctx, m, http.MethodPost, "/array/v1/offer", offerRequest{v.rec.State.Epoch + 1}, &st); err != nil {
		return fmt.Errorf("asking %s for a new CA: %w", m.Name, err)
	}
	if err := n.countersign(ctx, &st, node); err != nil {
		return err
	}
	err = n.alter(func(s *State) error {
		if s.changing() || slices.ContainsFunc(s.CAs, func(a Authority) bool { return a.Epoch >= st.Epoch }) {
			return fmt.Errorf("%w: the array's CA is being changed", ErrBusy)
		}
		s.CAs = append(s.CAs, Authority{Epoch: st.Epoch, Role: PendingCA, Holder: node, Since: n.now(), Certificate: st.Authority})
		s.Promotion = &st
		return nil
	})
	if err != nil {
		return err
	}
	return n.settle(ctx, func(s State) bool { return s.Primary == node && !s.changing() })
}

// offerRequest asks a member for a CA of its own.
type offerRequest struct {
	Epoch uint64 `json:"epoch"`
}

// countersign checks what the member has offered and signs it with the present CA.
func (n *Node) countersign(ctx context.Context, st *Statement, node string) error {
	if st.Primary != node || st.Forced {
		return fmt.Errorf("%w: the offer is not what was asked for", ErrState)
	}
	_, _, key, err := n.signer(ctx)
	if err != nil {
		return err
	}
	b, err := st.signed()
	if err != nil {
		return err
	}
	if st.Old, err = sign(key, b); err != nil {
		return fmt.Errorf("signing the promotion: %w", err)
	}
	_, err = st.verify(n.view.Load().rec.State)
	return err
}

// postOffer makes a CA, on the primary's word.
func (n *Node) postOffer(w http.ResponseWriter, r *http.Request) {
	st, err := n.offer(r)
	if err != nil {
		n.fail(w, r, err)
		return
	}
	n.answer(w, st)
}

func (n *Node) offer(r *http.Request) (Statement, error) {
	var q offerRequest
	if err := n.fromPrimary(r); err != nil {
		return Statement{}, err
	}
	if err := readStrict(r.Body, maxRequest, &q); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	end, err := n.only(r.Context())
	if err != nil {
		return Statement{}, err
	}
	defer end()
	v := n.view.Load()
	if v.rec.State.changing() || q.Epoch <= v.rec.State.CAs[0].Epoch || q.Epoch > 1<<53 {
		return Statement{}, fmt.Errorf("%w: the array's CA is being changed", ErrBusy)
	}
	a, _, err := n.makeCA(r.Context(), v.rec.State, q.Epoch)
	if err != nil {
		return Statement{}, err
	}
	st, err := n.stated(v, a, false)
	if err != nil {
		return Statement{}, err
	}
	return st, n.commit(func(r *record) error {
		r.Offered = &st
		return nil
	})
}

// ForcePromote makes this node the primary in place of one that is lost. The other
// members ask their operators to confirm the new CA ([Node.Waiting]), unless key, the
// array's recovery key (PEM), is given; it may be empty. The lost primary is removed,
// and steps back when it comes into contact with a member. [Node.Run] then finishes
// the change.
func (n *Node) ForcePromote(ctx context.Context, key secret.Secret) (wire.Fingerprint, error) {
	end, err := n.only(ctx)
	if err != nil {
		return wire.Fingerprint{}, err
	}
	defer end()
	v := n.view.Load()
	if err := v.ready(); err != nil {
		return wire.Fingerprint{}, err
	}
	if v.primary() {
		return wire.Fingerprint{}, errors.New("this node is the primary already")
	}
	if v.self.State != Active {
		return wire.Fingerprint{}, fmt.Errorf("%w: this one is %s", ErrMemberState, v.self.State)
	}
	a, _, err := n.makeCA(ctx, v.rec.State, v.rec.State.Epoch+forcedSkip)
	if err != nil {
		return wire.Fingerprint{}, err
	}
	a.Role, a.Holder = PendingCA, v.rec.Node
	st, err := n.stated(v, a, true)
	if err != nil {
		return wire.Fingerprint{}, err
	}
	if err := st.recover(key, v.rec.State); err != nil {
		return wire.Fingerprint{}, err
	}
	err = n.commit(func(r *record) error {
		s := &r.State
		if s.Primary == r.Node || r.Phase != inside {
			return ErrBusy
		}
		s.Epoch = a.Epoch
		s.remove(s.Primary, "lost; "+v.self.Name+" was promoted by force", n.now())
		s.Primary = r.Node
		s.CAs = slices.DeleteFunc(s.CAs, func(a Authority) bool { return a.Role == PendingCA })
		s.CAs = append(s.CAs, a)
		s.Promotion = &st
		s.normal(n.now())
		r.Waiting = nil
		return nil
	})
	n.wake()
	return st.fingerprint(), err
}

// recover adds the signature of the recovery key, if there is one.
func (s *Statement) recover(key secret.Secret, own State) error {
	if key.IsZero() {
		return nil
	}
	k, err := recoveryKey(key)
	if err != nil {
		return err
	}
	b, err := s.signed()
	if err != nil {
		return err
	}
	if s.Recovery, err = sign(k, b); err != nil {
		return err
	}
	good, err := s.verify(own)
	if err == nil && !good {
		err = errors.New("recovery key: it is not the one of this array")
	}
	return err
}

// Waiting is a promotion by force that this node's operator has to confirm.
func (n *Node) Waiting() (Offer, bool) {
	w := n.view.Load().rec.Waiting
	if w == nil || w.State.Promotion == nil {
		return Offer{}, false
	}
	c, err := w.State.Promotion.ca()
	if err != nil {
		return Offer{}, false
	}
	m, _ := w.State.Member(w.State.Primary)
	f := wire.FingerprintOf(c)
	return Offer{Array: w.State.ID, Name: w.State.Name, Primary: m.Name, Members: len(w.State.Members), CA: c, Fingerprint: f, Words: Words(f)}, true
}

// Confirm accepts the promotion that waits, if its CA has this fingerprint.
func (n *Node) Confirm(f wire.Fingerprint) error {
	err := n.commit(func(r *record) error {
		w := r.Waiting
		if w == nil || w.State.Promotion == nil {
			return errors.New("no promotion waits for a confirmation")
		}
		if have := w.State.Promotion.fingerprint(); have != f {
			return fmt.Errorf("%w: the promotion's CA has %v, confirmed was %v", ErrFingerprint, have, f)
		}
		if w.State.Epoch <= r.State.Epoch {
			r.Waiting = nil
			return fmt.Errorf("%w: another state has come since", ErrState)
		}
		return r.take(*w)
	})
	n.wake()
	return err
}

// RotateCA makes a new CA on the primary, without any call failing: all trust it, then
// all get certificates of it, then the old one goes. domains are added to those in
// which members may have names.
func (n *Node) RotateCA(ctx context.Context, domains ...string) error {
	if err := checkDomains(domains); err != nil {
		return err
	}
	end, err := n.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s := n.view.Load().rec.State
	s.Domains = append(slices.Clone(s.Domains), domains...)
	a, _, err := n.makeCA(ctx, s, s.Epoch+1)
	if err != nil {
		return err
	}
	a.Role, a.Holder = PendingCA, n.ID()
	err = n.alter(func(now *State) error {
		now.CAs = append(now.CAs, a)
		now.Domains = s.Domains
		return nil
	})
	if err != nil {
		return err
	}
	return n.settle(ctx, func(s State) bool {
		c, _ := s.CA(CurrentCA)
		return c.Epoch >= a.Epoch && !s.changing()
	})
}
