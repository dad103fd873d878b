package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Caller is who sent a request.
type Caller struct {
	Node  string // node id
	Name  string // peer DNS name
	Roles []Role
}

// Caller says which member sent a request that came over [Node.Serve].
func (n *Node) Caller(r *http.Request) (Caller, error) {
	v := n.view.Load()
	if err := v.ready(); err != nil {
		return Caller{}, err
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return Caller{}, &RefusedError{Err: ErrNoCertificate, Detail: "the request did not come over a peer connection"}
	}
	m, err := v.trust.standing(r.TLS.PeerCertificates[0])
	return Caller{m.Node, m.Name, m.Roles}, err
}

// Handler serves the array's own addresses and, for callers whose roles allow it,
// others. Requests reach it over [Node.Serve] only.
func (n *Node) Handler(others http.Handler) http.Handler {
	mux := n.endpoints()
	if others != nil {
		mux.Handle("/", others)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connectionKey{}).(*connection); ok && c.ending.Load() != 0 {
			w.Header().Set("Connection", "close")
		}
		if err := n.admit(r); err != nil {
			n.cfg.Log.Warn("call refused", slog.String("path", r.URL.Path), slog.Any("err", err))
			w.Header().Set("Connection", "close")
			problem(w, http.StatusForbidden, err)
			return
		}
		if v := n.view.Load(); v.self.State == Draining && !arrayPath(r.URL.Path) {
			problem(w, http.StatusServiceUnavailable, errors.New("this node is being detached from the array: ask another one"))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (n *Node) admit(r *http.Request) error {
	c, err := n.Caller(r)
	if err != nil {
		return err
	}
	self := n.view.Load().self
	m, _ := n.view.Load().rec.State.Member(c.Node)
	if !allowed(n.cfg.Rules, c.Roles, self.Roles, r.URL.Path) || m.State == Joining && !arrayPath(r.URL.Path) {
		return refuse(r.TLS.PeerCertificates[0], ErrRole, "a node of roles %v, %s, asked for %s %s", c.Roles, m.State, r.Method, r.URL.Path)
	}
	return nil
}

func arrayPath(path string) bool { return strings.HasPrefix(path, "/array/v1/") }

type connectionKey struct{}

// Serve answers peers on l until ctx ends: the array's own addresses, others for the
// rest, and nodes that join. It closes l.
func (n *Node) Serve(ctx context.Context, l net.Listener, others http.Handler) error {
	srv := &http.Server{
		Handler:           n.Handler(others),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       3 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(n.cfg.Log.Handler(), slog.LevelWarn),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			JoinProtocol: func(_ *http.Server, c *tls.Conn, _ http.Handler) { n.door(c) },
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			conn := &connection{conn: c.(*tls.Conn), use: x509.ExtKeyUsageClientAuth}
			n.conns.add(conn)
			return context.WithValue(ctx, connectionKey{}, conn)
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			switch s {
			case http.StateActive:
				n.conns.opened(c)
			case http.StateClosed, http.StateHijacked:
				n.conns.remove(c)
			}
		},
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if srv.Shutdown(end) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(tls.NewListener(l, n.serverTLS()))
	if stop() { // ended for another reason
		return errors.Join(fmt.Errorf("serving peers: %w", err), srv.Close())
	}
	<-ended
	return nil
}

// serverTLS is TLS 1.3 with a client certificate, except for a node that joins.
func (n *Node) serverTLS() *tls.Config {
	base := func(v *view) *tls.Config {
		return &tls.Config{
			MinVersion:             tls.VersionTLS13,
			SessionTicketsDisabled: true, // each connection shows its certificate
			Certificates:           []tls.Certificate{*v.cert},
		}
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		v := n.view.Load()
		if v.cert == nil {
			return nil, ErrOutside
		}
		c := base(v)
		if slices.Contains(hello.SupportedProtos, JoinProtocol) {
			c.NextProtos = []string{JoinProtocol}
			return c, nil
		}
		c.NextProtos = []string{protocol}
		// Any certificate, as VerifyConnection does the rest: see clientTLS.
		c.ClientAuth = tls.RequireAnyClientCert
		c.VerifyConnection = func(cs tls.ConnectionState) error {
			_, err := n.view.Load().trust.verify(cs.PeerCertificates, x509.ExtKeyUsageClientAuth, n.cfg.Now())
			if err != nil {
				n.cfg.Log.Warn("peer refused", slog.String("address", hello.Conn.RemoteAddr().String()), slog.Any("err", err))
			}
			return err
		}
		return c, nil
	}}
}
