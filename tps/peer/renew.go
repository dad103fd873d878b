package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// renewal is how the present certificate's renewal stands.
type renewal struct {
	mu     sync.Mutex
	err    error
	since  time.Time // of the first failure in a row
	warned int       // per cent of life left of the latest warning
	serial string    // of the certificate that warned is of
}

func (r *renewal) failure() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return ""
	}
	return fmt.Sprintf("since %s: %v", stamp(r.since), r.err)
}

func (r *renewal) result(err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.err == nil {
		r.since = now
	}
	r.err = err
}

// Certificate is this node's own, nil outside of any array, and when it is renewed.
func (n *Node) Certificate() (c *x509.Certificate, renews time.Time) {
	v := n.view.Load()
	if v.leaf == nil {
		return nil, time.Time{}
	}
	return v.leaf, renewAt(v.leaf)
}

// renewAt is two thirds into a certificate's life, later by up to a twentieth of it,
// which depends on the serial number.
func renewAt(c *x509.Certificate) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	b := c.SerialNumber.Bytes()
	return c.NotBefore.Add(life*2/3 + life/20*time.Duration(b[len(b)-1])/255)
}

// due says whether this node needs another certificate: by its age, because another
// CA is current, or because the node has moved or was upgraded.
func (n *Node) due(v *view) bool {
	a, _ := v.rec.State.CA(CurrentCA)
	c := v.issuer
	return c == nil || string(c.Raw) != string(a.Certificate) || !n.cfg.Now().Before(renewAt(v.leaf)) ||
		v.self.Version != n.cfg.Version || v.self.Address != n.cfg.Address
}

// renew gets a certificate for a new key where one is due: from the own CA on the
// primary, from the primary elsewhere.
func (n *Node) renew(ctx context.Context) error {
	if !n.own.TryLock() {
		return nil // it is being done
	}
	defer n.own.Unlock()
	v := n.view.Load()
	if v.rec.Phase != inside || v.self.Node == "" {
		return nil
	}
	n.warn(v)
	if !n.due(v) {
		n.renewal.result(nil, n.cfg.Now())
		return nil
	}
	a, _ := v.rec.State.CA(CurrentCA)
	if a.Holder != v.rec.State.Primary {
		return nil // the CA's key is lost; the next CA is on its way
	}
	err := n.renewNow(ctx, v)
	n.renewal.result(err, n.cfg.Now())
	if err != nil {
		return fmt.Errorf("renewing the peer certificate: %w", err)
	}
	return nil
}

// renewRequest also says what has changed about the node.
type renewRequest struct {
	CSR     []byte `json:"csr"`
	Address string `json:"address"`
	Version string `json:"version"`
}

type renewAnswer struct {
	Certificate []byte `json:"certificate"`
}

func (n *Node) renewNow(ctx context.Context, v *view) error {
	key, err := n.nextKey(ctx)
	if err != nil {
		return err
	}
	csr, err := request(key, v.self.Name)
	if err != nil {
		return err
	}
	q, a := renewRequest{csr, n.cfg.Address, n.cfg.Version}, renewAnswer{}
	if v.primary() {
		a, err = n.renewFor(ctx, v.rec.Node, q)
	} else {
		m, _ := v.rec.State.Member(v.rec.State.Primary)
		_, err = n.call(ctx, m, http.MethodPost, "/array/v1/renew", q, &a)
	}
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(a.Certificate)
	if err != nil || !key.PublicKey.Equal(c.PublicKey) {
		return errors.New("the primary's answer is not the certificate that was asked for")
	}
	err = n.commit(func(r *record) error {
		if r.Phase != inside || r.Node != v.rec.Node {
			return ErrOutside
		}
		t := newTrust(r.State, nil)
		if err := t.chain(c, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		if m, err := t.standing(c); err != nil || m.Node != r.Node {
			return fmt.Errorf("the new certificate is not for this node: %w", err)
		}
		r.Certificate = a.Certificate
		return nil
	})
	if err != nil {
		return err
	}
	n.cfg.Log.Info("peer certificate renewed", slog.String("serial", serialText(c)), slog.Time("not_after", c.NotAfter))
	n.wake()
	return n.keepKey(ctx, key)
}

// renewFor is the primary's side of a renewal.
func (n *Node) renewFor(ctx context.Context, node string, q renewRequest) (renewAnswer, error) {
	if !n.Primary() {
		return renewAnswer{}, n.notPrimary()
	}
	if err := errors.Join(checkAddress(q.Address), checkText("version", q.Version)); err != nil {
		return renewAnswer{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	pub, err := requestedKey(q.CSR)
	if err != nil {
		return renewAnswer{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	m, ok := n.view.Load().rec.State.Member(node)
	if !ok {
		return renewAnswer{}, ErrUnknownNode
	}
	der, issued, err := n.certify(ctx, m, pub)
	if err != nil {
		return renewAnswer{}, err
	}
	err = n.alter(func(s *State) error {
		s.update(node, func(m *Member) {
			m.Certificates = append(m.Certificates, issued)
			m.Address, m.Version = q.Address, q.Version
		})
		return nil
	})
	return renewAnswer{der}, err
}

func (n *Node) postRenew(w http.ResponseWriter, r *http.Request) {
	var q renewRequest
	if err := readStrict(r.Body, maxRequest, &q); err != nil {
		n.fail(w, r, fmt.Errorf("%w: %w", ErrRequest, err))
		return
	}
	c, err := n.Caller(r)
	if err == nil {
		var a renewAnswer
		if a, err = n.renewFor(r.Context(), c.Node, q); err == nil {
			n.answer(w, a)
			return
		}
	}
	n.fail(w, r, err)
}

// warn says, once for each, when 50, 25 and 10 per cent of a certificate's life are
// left and it could not be renewed, and when nothing is.
func (n *Node) warn(v *view) {
	now, c := n.cfg.Now(), v.leaf
	left := int(100 * c.NotAfter.Sub(now) / c.NotAfter.Sub(c.NotBefore))
	r := &n.renewal
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.serial != serialText(c) {
		r.serial, r.warned = serialText(c), 100
	}
	if r.err == nil && !now.After(c.NotAfter) {
		return
	}
	for _, at := range []int{0, 10, 25, 50} {
		if left > at || r.warned <= at {
			continue
		}
		r.warned = at
		if now.After(c.NotAfter) {
			n.cfg.Log.Error("the peer certificate has expired: join the array again with an invite", slog.Time("not_after", c.NotAfter), slog.Any("err", r.err))
		} else {
			n.cfg.Log.Warn("the peer certificate could not be renewed", slog.Int("percent_left", left), slog.Time("not_after", c.NotAfter), slog.Time("since", r.since), slog.Any("err", r.err))
		}
		return
	}
}
