package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"inkan/tps/token"
)

const (
	doorTime   = 45 * time.Second // for everything on a connection of a node that joins
	doorAtOnce = 16
	doorRate   = 60 // per minute, and as many at once after a quiet minute
	maxClocks  = 30 * time.Second
)

// gate limits how often and how many at once nodes knock.
type gate struct {
	mu    sync.Mutex
	inner int
	left  float64
	last  time.Time
}

func (g *gate) enter(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last.IsZero() {
		g.left = doorRate
	} else {
		g.left = min(doorRate, g.left+max(0, now.Sub(g.last).Minutes())*doorRate)
	}
	g.last = now
	if g.left < 1 || g.inner >= doorAtOnce {
		return false
	}
	g.left--
	g.inner++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inner--
}

// door answers one node that wants to join: greeting, request, answer.
func (n *Node) door(c *tls.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), doorTime)
	defer cancel()
	c.SetDeadline(time.Now().Add(doorTime))
	if !n.doors.enter(time.Now()) {
		writeFrame(c, proved{Refusal: remoteError(0, ErrTooMany)})
		return
	}
	defer n.doors.leave()
	if err := writeFrame(c, n.greeting()); err != nil {
		return
	}
	var in proved
	if err := readFrame(c, maxRequest, &in); err != nil {
		return // most only look
	}
	out, err := n.admitNode(ctx, c, in)
	if err != nil {
		n.cfg.Log.Warn("join refused", slog.String("address", c.RemoteAddr().String()), slog.Any("err", err))
		out = proved{Refusal: remoteError(0, err)}
	}
	if err := writeFrame(c, out); err != nil {
		n.cfg.Log.Warn("answer to a joining node was cut: it may ask again with the same invite", slog.Any("err", err))
	}
}

func (n *Node) greeting() greeting {
	v := n.view.Load()
	s := v.rec.State
	p, _ := s.Member(s.Primary)
	g := greeting{Array: s.ID, Name: s.Name, Node: n.cfg.Name, Primary: p.Name, Address: p.Address, Members: len(s.Members)}
	if s.Promotion != nil && s.Promotion.Forced {
		g.Promotion = s.Promotion
	}
	return g
}

// admitNode is the primary's side of a join (B2.3 step 5).
func (n *Node) admitNode(ctx context.Context, c *tls.Conn, in proved) (proved, error) {
	if err := n.view.Load().ready(); err != nil {
		return proved{}, err
	}
	if !n.Primary() {
		return proved{}, n.notPrimary()
	}
	exp, err := exporter(c)
	if err != nil {
		return proved{}, err
	}
	q, pub, err := parseJoin(in.Body)
	if err != nil {
		return proved{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	inv, err := n.checkJoin(q, in, exp, pub)
	if err != nil {
		return proved{}, err
	}
	go n.lookUp(q.Name, c.RemoteAddr())
	old, taken := n.view.Load().rec.State.named(q.Name)
	resumed := taken && old.Node == inv.Node && old.State == Joining
	if taken && !resumed && !q.Replace && old.State != Lost {
		return proved{}, fmt.Errorf("%w: %s is %s since %s; detach it, or join with --replace", ErrNameTaken, q.Name, old.State, stamp(old.Joined))
	}
	if taken && old.Node == n.ID() {
		return proved{}, fmt.Errorf("%w: it is the primary's own", ErrNameTaken)
	}
	if why := busyWith(n.view.Load().rec.State, old.Node); why != "" {
		return proved{}, fmt.Errorf("%w: %s", ErrBusy, why)
	}
	end, err := n.begin(ctx, old.Node)
	if err != nil {
		return proved{}, err
	}
	defer end()
	m := Member{Node: token.NewID(), Name: q.Name, Address: q.Address, Roles: inv.Roles, Version: q.Version, Joined: n.now(), State: Joining}
	if resumed {
		m.Node = old.Node
	}
	der, issued, err := n.certify(ctx, m, pub)
	if err != nil {
		return proved{}, err
	}
	m.Certificates = append(slices.Clone(old.Certificates), issued)
	if !resumed {
		m.Certificates = []Issued{issued}
	}
	if err := n.enrol(m, inv.ID, old); err != nil {
		return proved{}, err
	}
	n.cfg.Log.Info("node admitted", slog.String("peer", m.Name), slog.String("node", m.Node))
	v := n.view.Load()
	body, err := canonical(joinAnswer{der, envelope{v.rec.State, v.rec.Documents}})
	out := proved{Body: body}
	out.MAC = out.mac(inv.Verifier, answerLabel, exp)
	return out, err
}

// enrol writes a join down: the member, the certificate, and the invite as used.
func (n *Node) enrol(m Member, invite string, old Member) error {
	return n.alterRecord(func(r *record) error {
		for i := range r.Invites {
			if in := &r.Invites[i]; in.ID == invite {
				in.Used, in.Key, in.Node = n.now(), m.Certificates[len(m.Certificates)-1].SPKI, m.Node
			}
		}
		if old.Node == m.Node {
			r.State.update(m.Node, func(x *Member) { *x = m })
			return nil
		}
		r.State.remove(old.Node, "replaced", n.now())
		if len(r.State.Members) >= MaxMembers {
			return fmt.Errorf("%w: the array has %d members", ErrBusy, MaxMembers)
		}
		r.State.Members = append(r.State.Members, m)
		return nil
	})
}

// parseJoin decodes a request and checks its form and its proof of possession.
func parseJoin(body []byte) (joinRequest, *ecdsa.PublicKey, error) {
	var q joinRequest
	if err := strict(body, &q); err != nil {
		return q, nil, err
	}
	if err := q.check(); err != nil {
		return q, nil, err
	}
	pub, err := requestedKey(q.CSR)
	return q, pub, err
}

// requestedKey reads the public key of a certificate request. Nothing else of it
// counts: names come from the member's record.
func requestedKey(csr []byte) (*ecdsa.PublicKey, error) {
	c, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	if err := c.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return nil, errors.New("certificate request: the key is not P-256")
	}
	return pub, nil
}

func (n *Node) checkJoin(q joinRequest, in proved, exp []byte, pub *ecdsa.PublicKey) (invite, error) {
	r := n.view.Load().rec
	i := slices.IndexFunc(r.Invites, func(i invite) bool { return i.ID == q.Invite })
	if i < 0 || !in.good(r.Invites[i].Verifier, requestLabel, exp) {
		return invite{}, fmt.Errorf("%w: this array has made no such invite; ask the primary's operator for one", ErrInvite)
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return invite{}, err
	}
	if err := r.Invites[i].good(q, hashHex(spki), r.State, n.now()); err != nil {
		return invite{}, err
	}
	if !sameRelease(q.Version, n.cfg.Version) {
		return invite{}, fmt.Errorf("%w: the node has %s, the primary %s; install the same", ErrVersion, q.Version, n.cfg.Version)
	}
	if by := n.cfg.Now().Sub(q.Time).Abs(); by > maxClocks {
		return invite{}, fmt.Errorf("%w by %s: the node says %s, the primary %s; set them by NTP", ErrClock, by.Round(time.Second), stamp(q.Time), stamp(n.cfg.Now()))
	}
	return r.Invites[i], mayCertify(r.State, q.Name)
}

// lookUp warns where a name does not lead to where its node called from.
func (n *Node) lookUp(name string, from net.Addr) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	host, _, err := net.SplitHostPort(from.String())
	if err != nil {
		return
	}
	found, err := n.cfg.Resolve(ctx, name)
	if !slices.Contains(found, host) {
		n.cfg.Log.Warn("the name of a joining node does not resolve to its address", slog.String("peer", name), slog.String("address", host), slog.Any("resolved", found), slog.Any("err", err))
	}
}

// sameRelease compares major and minor version; what has no such form must be equal.
func sameRelease(a, b string) bool {
	x, y := strings.SplitN(a, ".", 3), strings.SplitN(b, ".", 3)
	return a == b || len(x) > 1 && len(y) > 1 && x[0] == y[0] && x[1] == y[1]
}
