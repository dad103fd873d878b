package wire

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"time"
)

// Config holds the limits of the server half. The zero value is usable.
type Config struct {
	Log *slog.Logger // nil discards

	MaxMessage  int // longest message body read, bytes; 0 = MaxMessage
	MaxSessions int // conversations at once, more are refused with 503; 0 = no limit

	BeginTimeout  time.Duration // until BEGIN_OP; 0 = 30 s
	CardTimeout   time.Duration // for a card's or program's answer; 0 = 2 min
	PersonTimeout time.Duration // for a login or a PIN; 0 = 5 min (§1.4)
	WriteTimeout  time.Duration // for the network to take a message; 0 = 30 s
	// Linger is how long, after an END_OP that interrupts a question, the client's
	// late answer is read, lest the network drop END_OP; 0 = 2 s.
	Linger time.Duration
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&c.BeginTimeout, 30 * time.Second}, {&c.CardTimeout, 2 * time.Minute},
		{&c.PersonTimeout, 5 * time.Minute}, {&c.WriteTimeout, 30 * time.Second}, {&c.Linger, 2 * time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	return c
}

// Handler serves the client protocol; put it on /tps/tps and /nk_service. It
// sets its own deadlines and so works under a server with any time-outs.
type Handler struct {
	run  func(ctx context.Context, s *Session) int
	cfg  Config
	stop context.Context // done when the server stops
	halt context.CancelCauseFunc

	mu       sync.Mutex
	active   int
	draining bool
	idle     chan struct{} // closed when stopped or draining and active is 0
}

// NewHandler returns a handler that calls run once per operation and sends the
// status it returns (0 = success, §9) in END_OP. ctx is done when the client goes
// away (cause ErrClientGone) or the server stops (ErrShutdown). Operations other
// than the six are refused without run. A panic in run is logged and answered
// with status 1.
func NewHandler(run func(ctx context.Context, s *Session) (status int), cfg Config) *Handler {
	h := &Handler{run: run, cfg: cfg.withDefaults(), idle: make(chan struct{})}
	h.stop, h.halt = context.WithCancelCause(context.Background())
	return h
}

// Shutdown ends the contexts of all operations, refuses new ones with status 1,
// and waits until every END_OP is written or ctx is done. Call it before
// http.Server.Shutdown, which interrupts nothing by itself.
func (h *Handler) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if h.stop.Err() == nil {
		h.halt(ErrShutdown)
		h.rest()
	}
	h.mu.Unlock()
	return h.awaitRest(ctx)
}

// Drain refuses new operations with status 1 and waits until those that run are
// through; it interrupts none. Shutdown may follow.
func (h *Handler) Drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	h.rest()
	h.mu.Unlock()
	return h.awaitRest(ctx)
}

// rest notes that no operation is left of a handler that takes none.
func (h *Handler) rest() {
	if h.active > 0 || h.stop.Err() == nil && !h.draining {
		return
	}
	select {
	case <-h.idle: // late arrivals, refused
	default:
		close(h.idle)
	}
}

// refuses reports whether new operations are refused.
func (h *Handler) refuses() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.draining || h.stop.Err() != nil
}

func (h *Handler) awaitRest(ctx context.Context) error {
	select {
	case <-h.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for operations to end: %w", ctx.Err())
	}
}

func (h *Handler) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cfg.MaxSessions > 0 && h.active >= h.cfg.MaxSessions {
		return false
	}
	h.active++
	return true
}

func (h *Handler) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.active--
	h.rest()
}

// ServeHTTP implements http.Handler: GET or POST with a chunked body over
// HTTP/1.1 (§1.1), everything else is 400, 405 or 505 and a closed connection.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.ProtoMajor != 1:
		http.Error(w, "HTTP/1.1 only", http.StatusHTTPVersionNotSupported)
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		reject(w, r, http.StatusMethodNotAllowed)
	case len(r.TransferEncoding) != 1 || r.TransferEncoding[0] != "chunked":
		reject(w, r, http.StatusBadRequest)
	case !h.enter():
		w.Header().Set("Retry-After", "5")
		reject(w, r, http.StatusServiceUnavailable)
	default:
		defer h.leave()
		h.serve(w, r)
	}
}

// reject answers with an empty body and really closes: without full duplex and a
// read deadline net/http would wait for the end of a body that never ends (§1.6).
func reject(w http.ResponseWriter, r *http.Request, status int) {
	rc := http.NewResponseController(w)
	rc.EnableFullDuplex()
	w.Header().Set("Connection", "close")
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
	rc.Flush()
	discard(rc, r.Body)
	rc.SetReadDeadline(time.Unix(1, 0))
}

// discard reads what a client is still sending, for a moment: closing a connection
// with unread data resets it, and our last words might be lost.
func discard(rc *http.ResponseController, body io.Reader) {
	rc.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	io.CopyN(io.Discard, body, 1<<16)
}

// serve holds one conversation.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	st := &stream{w: w, rc: http.NewResponseController(w), timeout: h.cfg.WriteTimeout}
	if err := st.open(); err != nil {
		h.cfg.Log.ErrorContext(r.Context(), "client protocol cannot be served", "err", err)
		http.Error(w, "this connection cannot carry the protocol", http.StatusInternalServerError)
		return
	}
	// net/http would cancel for a reason of its own, sometimes before ours.
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(r.Context()))
	defer cancel(nil)
	defer context.AfterFunc(h.stop, func() { cancel(ErrShutdown) })()

	s := &Session{peer: r.RemoteAddr, cfg: h.cfg, send: st.write, inbox: newInbox()}
	go s.inbox.run(NewReader(r.Body, h.cfg.MaxMessage), func(err error) {
		cancel(fmt.Errorf("%w: %w", ErrClientGone, err))
	})
	status := h.converse(ctx, s)
	err := s.end(status)
	select {
	case <-s.inbox.done: // nobody reads any more, yet the client may be writing
		discard(st.rc, r.Body)
	default:
	}
	st.close()
	<-s.inbox.done // the body is not touched after ServeHTTP

	attrs := []slog.Attr{slog.String("op", s.begin.Operation.String()), slog.String("peer", s.peer),
		slog.Int("status", status), slog.Duration("dur", time.Since(start))}
	if err != nil {
		attrs = append(attrs, slog.Any("err", err))
	}
	h.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "conversation ended", attrs...)
}

// converse reads BEGIN_OP and runs the operation; it returns END_OP's status.
func (h *Handler) converse(ctx context.Context, s *Session) (status int) {
	timer := time.NewTimer(h.cfg.BeginTimeout)
	defer timer.Stop()
	stop := h.stop.Done()
	for {
		select {
		case <-stop:
			stop = nil
			timer.Reset(min(h.cfg.BeginTimeout, h.cfg.Linger)) // BEGIN_OP may be under way
		case <-timer.C:
			s.fail(fmt.Errorf("no %v in time", TypeBeginOp))
			return statusConnLost
		case m := <-s.inbox.messages:
			return h.dispatch(ctx, s, m)
		case <-s.inbox.done:
			m, err := s.inbox.poll()
			if m != nil {
				return h.dispatch(ctx, s, m)
			}
			s.fail(err)
			return statusInternal
		}
	}
}

func (h *Handler) dispatch(ctx context.Context, s *Session, first Message) (status int) {
	begin, ok := first.(BeginOp)
	if !ok {
		s.fail(fmt.Errorf("%w: %v where %v was due", ErrProtocol, first.Type(), TypeBeginOp))
		return statusInternal
	}
	s.begin = begin
	switch {
	case !begin.Operation.Valid():
		return statusCannotPerform // §15.7: refused, never an enrollment
	case h.refuses():
		return statusInternal
	}
	defer func() {
		if p := recover(); p != nil {
			h.logPanic(ctx, s, p)
			status = statusInternal
		}
	}()
	return h.run(ctx, s)
}

// logPanic logs where, and the value only if it is the runtime's own: another
// might quote what a person typed.
func (h *Handler) logPanic(ctx context.Context, s *Session, p any) {
	what := fmt.Sprintf("%T", p)
	if e, ok := p.(runtime.Error); ok {
		what = e.Error()
	}
	stack := make([]byte, 8192)
	stack = stack[:runtime.Stack(stack, false)]
	h.cfg.Log.LogAttrs(ctx, slog.LevelError, "operation panicked", slog.String("op", s.begin.Operation.String()),
		slog.String("peer", s.peer), slog.String("err", what), slog.String("stack", string(stack)))
}
