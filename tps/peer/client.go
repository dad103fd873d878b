package peer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTime = 10 * time.Second // to connect, shake hands and be accepted
	protocol = "http/1.1"       // ALPN of calls between members
)

// Client calls one member, wherever its address is by then: the host of a request's
// URL is not looked at ([Member.URL] gives one). Errors unwrap to those of
// [RefusedError]. Connections are kept, and new ones made whenever certificates or
// the CA change, without a request failing for it. The client has no time limit of
// its own: contexts have.
func (n *Node) Client(node string) *http.Client {
	return &http.Client{
		Transport:     caller{n, node},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// caller is the http.RoundTripper of one member.
type caller struct {
	n    *Node
	node string
}

// CloseIdleConnections closes the kept connections to the member that no request uses.
func (c caller) CloseIdleConnections() {
	c.n.links.mu.Lock()
	defer c.n.links.mu.Unlock()
	if l := c.n.links.all[c.node]; l != nil {
		l.tr.CloseIdleConnections()
	}
}

func (c caller) RoundTrip(req *http.Request) (*http.Response, error) {
	for try := 0; ; try++ {
		l, err := c.n.linkTo(c.node, req.URL.Path)
		if err != nil {
			if req.Body != nil {
				req.Body.Close()
			}
			return nil, err
		}
		res, err := l.tr.RoundTrip(req)
		if err == nil {
			res.Body = &lastRead{res.Body, l}
			return res, nil
		}
		// Refused while it was connecting, so nothing of it was sent: certificate or CA
		// may have changed meanwhile.
		var refused *RefusedError
		if try > 0 || !errors.As(err, &refused) || !c.n.stale(c.node, l) {
			return nil, err
		}
		if req.Body != nil && req.Body != http.NoBody {
			if req.GetBody == nil {
				return nil, err
			}
			body, bodyErr := req.GetBody()
			if bodyErr != nil {
				return nil, err
			}
			again := *req
			again.Body = body
			req = &again
		}
	}
}

// link is the kept connections to a member that were verified by one set of
// certificates.
type link struct {
	key     string
	tr      *http.Transport
	retired atomic.Bool
}

// retire has no connection of the link used again.
func (l *link) retire() {
	l.retired.Store(true)
	l.tr.CloseIdleConnections()
}

// lastRead closes a retired link's connection behind the request that used it.
type lastRead struct {
	io.ReadCloser
	l *link
}

func (r *lastRead) Close() error {
	err := r.ReadCloser.Close()
	if r.l.retired.Load() {
		r.l.tr.CloseIdleConnections()
	}
	return err
}

type links struct {
	mu  sync.Mutex
	all map[string]*link
}

// prune retires what a change of the state has made stale.
func (ls *links) prune(v *view) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for node, l := range ls.all {
		m, ok := v.rec.State.Member(node)
		if !ok || l.key != v.linkKey(m) {
			l.retire()
			delete(ls.all, node)
		}
	}
}

func (v *view) linkKey(m Member) string { return v.link + " " + m.Name + " " + m.Address }

// linkTo finds or makes the link to a member, if this node may call the path there.
func (n *Node) linkTo(node, path string) (*link, error) {
	v := n.view.Load()
	if err := v.ready(); err != nil {
		return nil, err
	}
	m, ok := v.rec.State.Member(node)
	if !ok {
		return nil, &RefusedError{Node: node, Err: ErrUnknownNode, Detail: fmt.Sprintf("epoch %d does not have it", v.rec.State.Epoch)}
	}
	if !allowed(n.cfg.Rules, v.self.Roles, m.Roles, path) {
		return nil, &RefusedError{Node: node, Name: m.Name, Err: ErrRole, Detail: fmt.Sprintf("a node of roles %v calls %s on one of roles %v", v.self.Roles, path, m.Roles)}
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	key := v.linkKey(m)
	if l := n.links.all[node]; l != nil && l.key == key {
		return l, nil
	} else if l != nil {
		l.retire()
	}
	l := &link{key: key, tr: n.transport(v, m)}
	if n.links.all == nil {
		n.links.all = map[string]*link{}
	}
	n.links.all[node] = l
	return l, nil
}

// stale says whether a link is no longer the one to use.
func (n *Node) stale(node string, l *link) bool {
	v := n.view.Load()
	m, ok := v.rec.State.Member(node)
	return ok && v.linkKey(m) != l.key
}

// transport connects to one member and trusts what a view trusts.
func (n *Node) transport(v *view, m Member) *http.Transport {
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return n.dial(ctx, v, m)
		},
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 16 << 10,
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

// dial connects to a member. It returns when the member has accepted this node's
// certificate: with TLS 1.3 that shows at the first answer only, so there is one.
func (n *Node) dial(ctx context.Context, v *view, m Member) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", m.Address)
	if err != nil {
		return nil, err
	}
	tc := tls.Client(raw, n.clientTLS(v, m))
	if err := tc.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, notAccepted(m, err)
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	err = greet(tc, m)
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		raw.Close()
		return nil, notAccepted(m, err)
	}
	c := &connection{conn: tc, use: x509.ExtKeyUsageServerAuth}
	c.open.Store(true)
	n.conns.add(c)
	return &tracked{tc, n}, nil
}

// greet asks the member for nothing and reads that it agrees.
func greet(c *tls.Conn, m Member) error {
	if _, err := io.WriteString(c, "GET /array/v1/hello HTTP/1.1\r\nHost: "+m.Name+"\r\n\r\n"); err != nil {
		return err
	}
	b := bufio.NewReader(io.LimitReader(c, 16<<10))
	res, err := http.ReadResponse(b, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNoContent && b.Buffered() == 0 {
		return nil
	}
	return problemOf(res)
}

// notAccepted makes a TLS alert of the other side an authentication error.
func notAccepted(m Member, err error) error {
	var alert tls.AlertError
	var op *net.OpError
	if errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" {
		return &RefusedError{Node: m.Node, Name: m.Name, Err: ErrNotAccepted, Detail: err.Error() + "; this node may have been detached, or may have missed a change of the array's CA"}
	}
	return err
}

// tracked is a connection that the node knows of as long as it is open.
type tracked struct {
	*tls.Conn
	n *Node
}

func (t *tracked) Close() error {
	t.n.conns.remove(t.Conn)
	return t.Conn.Close()
}

func (n *Node) clientTLS(v *view, m Member) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ServerName:             m.Name,
		NextProtos:             []string{protocol},
		SessionTicketsDisabled: true,
		GetClientCertificate:   func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return v.cert, nil },
		// VerifyConnection does it all, against the array's CAs and the member's record:
		// the library's own check knows neither the tolerance of dates nor node ids.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			got, err := v.trust.verify(cs.PeerCertificates, x509.ExtKeyUsageServerAuth, n.cfg.Now())
			if err == nil && got.Node != m.Node {
				err = refuse(cs.PeerCertificates[0], ErrWrongNode, "%s (%s) was called", m.Name, m.Node)
			}
			if err != nil {
				n.cfg.Log.Warn("peer refused", slog.String("address", m.Address), slog.Any("err", err))
			}
			return err
		},
	}
}
