package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"inkan/cli/config"
	"inkan/tps/api"
	"inkan/tps/realm"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// shutdownTimeout is how long running operations get to reach END_OP.
const shutdownTimeout = 20 * time.Second

// Listener is where a node is reached once it runs.
type Listener struct {
	Address     string           // host:port; empty for a node that has only keys
	Plain       string           // host:port of the loopback where card clients are served without TLS; empty = none
	Fingerprint wire.Fingerprint // SHA-256 of the certificate that clients are to trust
	Peers       string           // host:port for the other nodes of the array; empty for a node that is in none
}

// Serve runs the node until ctx ends, with what its roles want: HTTPS for card
// clients and people, the peer port for the other nodes of its array, the local
// socket for commands on this machine, plain HTTP for card clients on this machine
// where [listen] plain asks for it, and the housekeeping. ready, if not nil, is called
// once it accepts connections. Running operations are ended in order before Serve
// returns.
func (n *Node) Serve(ctx context.Context, ready func(Listener)) error {
	if err := n.mayServe(ctx); err != nil {
		return err
	}
	defer roomForGarbage()()
	r := running{ready: ready}
	defer r.close()
	if n.servesCards() {
		n.cards = newCardService(func() *wire.Handler {
			return wire.NewHandler(n.operate, wire.Config{
				Log: n.log, CardTimeout: time.Duration(n.Config.TPS.ClientTimeout), PersonTimeout: time.Duration(n.Config.TPS.ClientTimeout),
			})
		})
	}
	for _, open := range []func(context.Context, *running) error{n.openPublic, n.openAdmin, n.openPlainPort, n.openPeerPort} {
		if err := open(ctx, &r); err != nil {
			return err
		}
	}
	if n.Config.Node.Lab {
		n.log.WarnContext(ctx, "this node is a trial ([node] lab = true): factory keys may stay on cards, and no copy of the key file was made")
	}
	return n.run(ctx, &r)
}

// mayServe refuses a configuration whose names lead nowhere, every card would be
// refused, and a node that nobody would reach.
func (n *Node) mayServe(ctx context.Context) error {
	if !n.public() && !n.array.Joined() {
		return errNoPort
	}
	if err := n.mayUseRecords(); err != nil {
		return err
	}
	if !n.servesCards() {
		return nil
	}
	t := n.Config.TPS
	if err := n.hasProfile(ctx, "default_profile", t.DefaultProfile); err != nil || t.UnmanagedProfile == config.DefaultUnmanagedProfile {
		return err
	}
	return n.hasProfile(ctx, "unmanaged_profile", t.UnmanagedProfile)
}

func (n *Node) hasProfile(ctx context.Context, setting string, name token.ProfileName) error {
	_, err := n.DB.Profile(ctx, name)
	if errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("[tps] %s = %q: there is no such profile (inkan profile list)", setting, name)
	}
	return err
}

// running is what Serve has started.
type running struct {
	doors []door
	peers http.Handler // what other nodes of the array are served
	port  net.Listener // for them; nil: there is no array yet
	ready func(Listener)
	at    Listener
}

// door is a listener, and what is served there.
type door struct {
	ln     net.Listener
	server *http.Server
	tls    bool // the server does TLS
}

func (r *running) add(d door) { r.doors = append(r.doors, d) }

// close closes what was opened and may not be served any more.
func (r *running) close() {
	for _, d := range r.doors {
		d.ln.Close()
	}
	if r.port != nil {
		r.port.Close()
	}
}

// openPublic opens the port of card clients and people.
func (n *Node) openPublic(ctx context.Context, r *running) error {
	if !n.public() {
		return nil
	}
	cert, err := n.certificate(ctx)
	if err != nil {
		return err
	}
	h, err := n.routes()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", n.Config.Listen.Address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	s := n.httpServer(h)
	s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if n.servesPeople() && n.takesCards() {
		n.askCertificates(s.TLSConfig)
	}
	r.add(door{ln, s, true})
	r.at.Address, r.at.Fingerprint = ln.Addr().String(), n.trustAnchor(cert)
	return nil
}

// httpServer serves whoever comes from elsewhere.
func (n *Node) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
}

// openAdmin opens the local socket.
func (n *Node) openAdmin(_ context.Context, r *running) error {
	ln, err := n.listenLocal()
	if err != nil {
		return err
	}
	r.add(door{ln, &http.Server{Handler: n.localHandler(), ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, ConnContext: withPeer}, false})
	return nil
}

// openPlainPort opens the port of card clients without TLS.
func (n *Node) openPlainPort(ctx context.Context, r *running) error {
	ln, err := n.listenPlain(ctx)
	if err != nil || ln == nil {
		return err
	}
	h, err := n.plainHandler(ln)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	r.add(door{ln, n.httpServer(h), false})
	r.at.Plain = ln.Addr().String()
	return nil
}

// openPeerPort opens the port of the other nodes of the array. A primary says before what
// the array has in common: who joins is told it.
func (n *Node) openPeerPort(ctx context.Context, r *running) (err error) {
	if r.peers, err = n.peerRoutes(); err != nil || !n.array.Joined() {
		return err
	}
	if n.peers != nil {
		if err := n.publish(ctx); err != nil {
			n.log.WarnContext(ctx, "the nodes of the array are told later", slog.Any("err", err)) // by follow
		}
	}
	if r.port, err = n.array.Listen(ctx); err != nil {
		return fmt.Errorf("listening for the other nodes of the array: %w", err)
	}
	r.at.Peers = r.port.Addr().String()
	return nil
}

// servePeers takes part in the array, as soon as there is one, until ctx ends.
func (n *Node) servePeers(ctx context.Context, r *running) error {
	port := r.port
	if port == nil && n.peers == nil {
		return nil
	}
	if port == nil {
		select {
		case <-ctx.Done():
			return nil
		case port = <-n.peers.port:
		}
	}
	return n.array.Serve(ctx, port, r.peers)
}

func (n *Node) run(ctx context.Context, r *running) error {
	tend, stop := context.WithCancel(ctx)
	var housekeeping sync.WaitGroup
	last, sign := context.WithCancel(context.WithoutCancel(ctx)) // ends behind all else that is audited
	var signing sync.WaitGroup
	signing.Go(func() { n.checkpoints().Run(last) })
	housekeeping.Go(func() { n.Realm.Run(tend) })
	if n.servesCards() {
		housekeeping.Go(func() { n.Engine.Tend(tend, time.Duration(n.Config.TPS.SweepEvery)) })
	}
	failed := make(chan error, len(r.doors)+1)
	housekeeping.Go(func() {
		if err := n.servePeers(tend, r); err != nil {
			failed <- err
		}
	})
	if n.peers != nil {
		housekeeping.Go(func() { n.follow(tend) })
	}
	for _, d := range r.doors {
		go func() {
			if d.tls {
				failed <- d.server.ServeTLS(d.ln, "", "")
				return
			}
			failed <- d.server.Serve(d.ln)
		}()
	}
	n.log.InfoContext(ctx, "serving", slog.String("address", r.at.Address), slog.String("peers", r.at.Peers), slog.String("url", n.Config.Listen.URL),
		slog.String("folder", n.Folder), slog.Any("roles", n.Config.Node.Roles), slog.String("card_logins", string(n.Config.Auth.Cards)))
	n.serving.Store(true)
	defer n.serving.Store(false)
	if r.ready != nil {
		r.ready(r.at)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if n.cards != nil {
		err = errors.Join(err, n.cards.handler().Shutdown(end))
	}
	for _, d := range r.doors {
		err = errors.Join(err, d.server.Shutdown(end))
	}
	housekeeping.Wait()
	sign()
	signing.Wait()
	return err
}

// trustAnchor is the certificate whose fingerprint clients accept: the embedded
// authority's, or the top of the chain of a certificate from elsewhere.
func (n *Node) trustAnchor(c tls.Certificate) wire.Fingerprint {
	if n.Config.Listen.Certificate == "" {
		return wire.FingerprintOf(n.Authority.Certificate())
	}
	return wire.FingerprintOf(c.Leaf)
}

// routes are the addresses of the public server (design.md §6), as far as the node's
// roles go.
func (n *Node) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	if n.servesCards() {
		var err error
		if mux, err = n.cardRoutes(n.Config.Listen.URL); err != nil {
			return nil, err
		}
	}
	mux.Handle("GET /healthz", from(n.Config.Listen.TellsHealth, serveHealth))
	mux.Handle("GET "+readyPath, from(n.Config.Listen.TellsHealth, n.serveReady))
	if n.servesPeople() {
		people, err := n.peopleAPI()
		if err != nil {
			return nil, err
		}
		mux.Handle(api.Base+"/", people)
	}
	mux.Handle("POST "+realm.NotBeforePath, realm.Told(n.Realm))
	mux.Handle("/.well-known/", realm.WellKnown(n.Realm, api.Base+api.TokenPath))
	authority := n.Authority.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.detached() {
			http.Error(w, errDetached.Error(), http.StatusServiceUnavailable)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/ca/") { // past mux, which would clean OCSP requests in paths
			authority.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// cardRoutes are the addresses of card clients that reach the node at base.
func (n *Node) cardRoutes(base string) (*http.ServeMux, error) {
	home, err := wire.PhoneHome(wire.ServiceInfo{
		IssuerName: "Inkan " + n.Config.Node.Name,
		Services:   wire.Services{Operation: base + wire.Path},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle(wire.Path, n.cards)
	mux.Handle("/nk_service", n.cards)
	mux.Handle("/tps/phoneHome", home)
	return mux, nil
}

// loopback serves callers on this machine only.
func loopback(h http.HandlerFunc) http.Handler {
	return from(func(a netip.Addr) bool { return a.Unmap().IsLoopback() }, h)
}

// from serves callers at some addresses; others find nothing there.
func from(served func(netip.Addr) bool, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !served(a.Addr()) {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	})
}
