package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"inkan/tps/api"
	"inkan/tps/realm"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// shutdownTimeout is how long running operations get to reach END_OP.
const shutdownTimeout = 20 * time.Second

// Listener is where a node is reached once it runs.
type Listener struct {
	Address     string           // host:port
	Plain       string           // host:port of the loopback where card clients are served without TLS; empty = none
	Fingerprint wire.Fingerprint // SHA-256 of the certificate that clients are to trust
}

// Serve runs the node until ctx ends: HTTPS for card clients and everybody, the
// local socket for commands on this machine, plain HTTP for card clients on this
// machine where [listen] plain asks for it, and the housekeeping. ready, if not
// nil, is called once it accepts connections. Running operations are ended in
// order before Serve returns.
func (n *Node) Serve(ctx context.Context, ready func(Listener)) error {
	if err := n.mayServe(ctx); err != nil {
		return err
	}
	defer roomForGarbage()()
	cert, err := n.certificate(ctx)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", n.Config.Listen.Address)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer ln.Close()
	admin, err := n.listenLocal()
	if err != nil {
		return err
	}
	defer admin.Close()
	plain, err := n.listenPlain(ctx)
	if err != nil {
		return err
	}
	if plain != nil {
		defer plain.Close()
	}
	cards := wire.NewHandler(n.operate, wire.Config{
		Log: n.log, CardTimeout: time.Duration(n.Config.TPS.ClientTimeout), PersonTimeout: time.Duration(n.Config.TPS.ClientTimeout),
	})
	mux, err := n.routes(cards)
	if err != nil {
		return err
	}
	unencrypted, err := n.plainServer(cards, plain)
	if err != nil {
		return err
	}
	public := &http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ErrorLog:  slog.NewLogLogger(n.log.Handler(), slog.LevelDebug),
	}
	private := &http.Server{Handler: n.localHandler(), ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute, ConnContext: withPeer}
	if n.Config.Node.Lab {
		n.log.WarnContext(ctx, "this node is a trial ([node] lab = true): factory keys may stay on cards, and no copy of the key file was made")
	}
	return n.run(ctx, running{
		public: public, private: private, unencrypted: unencrypted, cards: cards, ln: ln, admin: admin, plain: plain, ready: ready, cert: cert,
	})
}

// mayServe refuses a configuration whose names lead nowhere: every card would be
// refused.
func (n *Node) mayServe(ctx context.Context) error {
	name := n.Config.TPS.DefaultProfile
	_, err := n.DB.Profile(ctx, name)
	if errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("[tps] default_profile = %q: there is no such profile (inkan profile list)", name)
	}
	return err
}

// running is what Serve has started.
type running struct {
	public, private *http.Server
	unencrypted     *http.Server // nil where plain is
	cards           *wire.Handler
	ln, admin       net.Listener
	plain           net.Listener // nil where card clients get https only
	ready           func(Listener)
	cert            tls.Certificate
}

func (n *Node) run(ctx context.Context, r running) error {
	tend, stop := context.WithCancel(ctx)
	var housekeeping sync.WaitGroup
	housekeeping.Go(func() { n.Realm.Run(tend) })
	housekeeping.Go(func() { n.Engine.Tend(tend, time.Duration(n.Config.TPS.SweepEvery)) })
	failed := make(chan error, 3)
	go func() { failed <- r.public.ServeTLS(r.ln, "", "") }()
	go func() { failed <- r.private.Serve(r.admin) }()
	n.log.InfoContext(ctx, "serving", slog.String("address", r.ln.Addr().String()), slog.String("url", n.Config.Listen.URL),
		slog.String("folder", n.Folder))
	l := Listener{Address: r.ln.Addr().String(), Fingerprint: n.trustAnchor(r.cert)}
	servers := []*http.Server{r.public, r.private}
	if r.plain != nil {
		go func() { failed <- r.unencrypted.Serve(r.plain) }()
		l.Plain, servers = r.plain.Addr().String(), append(servers, r.unencrypted)
	}
	if r.ready != nil {
		r.ready(l)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	stop()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = errors.Join(err, r.cards.Shutdown(end))
	for _, s := range servers {
		err = errors.Join(err, s.Shutdown(end))
	}
	housekeeping.Wait()
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

// routes are the addresses of the public server (design.md §6).
func (n *Node) routes(cards http.Handler) (http.Handler, error) {
	mux, err := n.cardRoutes(cards, n.Config.Listen.URL)
	if err != nil {
		return nil, err
	}
	mux.Handle("GET /healthz", loopback(func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, nil) }))
	mux.Handle("GET /readyz", loopback(n.serveReady))
	people, err := n.peopleAPI()
	if err != nil {
		return nil, err
	}
	mux.Handle(api.Base+"/", people)
	mux.Handle("/.well-known/", realm.WellKnown(n.Realm, api.Base+api.TokenPath))
	authority := n.Authority.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/ca/") { // past mux, which would clean OCSP requests in paths
			authority.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// cardRoutes are the addresses of card clients that reach the node at base.
func (n *Node) cardRoutes(cards http.Handler, base string) (*http.ServeMux, error) {
	home, err := wire.PhoneHome(wire.ServiceInfo{
		IssuerName: "Inkan " + n.Config.Node.Name,
		Services:   wire.Services{Operation: base + "/tps/tps"},
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/tps/tps", cards)
	mux.Handle("/nk_service", cards)
	mux.Handle("/tps/phoneHome", home)
	return mux, nil
}

// serveReady tells whether database, keys and authority answer.
func (n *Node) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	checks := map[string]error{"database": n.DB.Ready(ctx), "authority": n.Authority.Ready(ctx)}
	_, checks["keys"] = n.Keys.Random(ctx, 8)
	status, body := http.StatusOK, map[string]string{}
	for name, err := range checks {
		body[name] = "ok"
		if err != nil {
			body[name] = err.Error()
			status = http.StatusServiceUnavailable
		}
	}
	if n.sealing != nil {
		body["sealing"] = n.sealing.Health(ctx)
	}
	answer(w, status, body)
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

// loopback serves callers on this machine only.
func loopback(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !a.Addr().Unmap().IsLoopback() {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	})
}
