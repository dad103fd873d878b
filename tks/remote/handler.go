package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/local"
)

// HandlerConfig is what a Handler is made of. Service and Identify are required.
type HandlerConfig struct {
	Service tks.Service
	// Identify says who sent a request and what that peer may do. An error of it
	// refuses the request; it wraps tks.ErrDenied unless it is tks.ErrUnavailable.
	Identify func(*http.Request) (Caller, error)
	// Signers are the key pairs that peers may use; nil: none. They get at those of
	// the authority (tms:ca:…) and of the realm (tms:sign:…) only.
	Signers hsm.Signers
	// Ledger is the node's own, where other nodes with keys write too; nil: they may not.
	Ledger local.Ledger
	// Pages are parts of it, for a node that is new: local.FileLedger.Page. nil: none.
	Pages func(from int64) ([]byte, error)
	// Keys tells which keys the node has; nil: nobody is told.
	Keys func(context.Context) (Fingerprint, error)
	// Audit takes each refusal of this handler, and each use of a key pair, each grant
	// and each release before its result is handed out. What Service is asked, it records itself: CallerOf tells
	// it for whom. nil: no record.
	Audit AuditFunc
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Log is told of answers that nobody took; nil: discarded.
	Log *slog.Logger
}

// Event is one call that a handler refused, one use of a key pair, or one grant or
// release. It holds no
// secret.
type Event struct {
	Time    time.Time
	Method  Method
	Call    string // its path below Base: session, signer/sign
	Peer    string // empty: nobody knows
	KeySets []tks.KeySetName
	CUID    apdu.CUID // a claim
	KDD     gp.KDD
	Label   string // of a key pair
	Err     error  // nil: done
}

// AuditFunc records an event durably. An error of it means that nothing is handed out.
type AuditFunc func(ctx context.Context, e Event) error

// Handler serves Base and what is below. It is an http.Handler.
type Handler struct {
	cfg    HandlerConfig
	mux    *http.ServeMux
	limits limiter
}

// NewHandler makes a handler.
func NewHandler(cfg HandlerConfig) (*Handler, error) {
	if cfg.Service == nil || cfg.Identify == nil {
		return nil, errors.New("serving the key service: service and identification of peers are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux()}
	route(h, string(MethodRandom), MethodRandom, h.random)
	route(h, string(MethodSession), MethodSession, h.session)
	route(h, string(MethodKeySet), MethodKeySet, h.keySet)
	route(h, string(MethodEncrypt), MethodEncrypt, h.encrypt)
	route(h, string(MethodSecret), MethodSecret, h.secret)
	route(h, string(MethodKeys), MethodKeys, h.keys)
	route(h, pathFind, MethodSign, recorded(h, pathFind, MethodSign, signers(h, h.find)))
	route(h, pathSign, MethodSign, recorded(h, pathSign, MethodSign, signers(h, h.sign)))
	route(h, pathGenerate, MethodSigners, recorded(h, pathGenerate, MethodSigners, signers(h, h.generate)))
	route(h, pathImport, MethodSigners, recorded(h, pathImport, MethodSigners, signers(h, h.take)))
	route(h, pathDestroy, MethodSigners, recorded(h, pathDestroy, MethodSigners, signers(h, h.destroy)))
	route(h, pathGrant, MethodLedger, recorded(h, pathGrant, MethodLedger, ledger(h, h.grant)))
	route(h, pathComplete, MethodLedger, ledger(h, h.complete))
	route(h, pathRelease, MethodLedger, recorded(h, pathRelease, MethodLedger, ledger(h, h.release)))
	route(h, pathLookup, MethodLedger, ledger(h, h.lookup))
	route(h, pathPage, MethodLedger, recorded(h, pathPage, MethodLedger, h.page))
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// answer is a reply: an object and its secret members, wiped once it is sent.
type answer struct {
	body    any
	secrets []part
}

// messageOf is a pointer to a T that is a message.
type messageOf[T any] interface {
	*T
	message
}

// route serves one path.
func route[T any, M messageOf[T]](h *Handler, path string, m Method, f func(context.Context, M) (answer, error)) {
	h.mux.HandleFunc("POST "+Base+path, func(w http.ResponseWriter, r *http.Request) {
		e := Event{Method: m, Call: path}
		ctx, caller, err := h.admit(r, m)
		e.Peer = caller.Name
		if err != nil {
			h.refuse(w, r, e, err)
			return
		}
		in := M(new(T))
		defer in.wipe()
		if err := read(w, r, in); err != nil {
			h.refuse(w, r, e, err)
			return
		}
		s := in.about()
		e.KeySets, e.CUID, e.KDD, e.Label = s.sets, s.cuid, s.kdd, s.label
		if err := caller.allows(m, s.sets...); err != nil {
			h.refuse(w, r, e, fmt.Errorf("peer %s: %w", caller.Name, err))
			return
		}
		out, err := f(ctx, in)
		defer wipeAll(out.secrets)
		if err != nil {
			h.fail(w, r, err)
			return
		}
		h.send(w, r, out)
	})
}

// admit finds out who calls, and refuses what that peer may not call at all, or not
// so often.
func (h *Handler) admit(r *http.Request, m Method) (context.Context, Caller, error) {
	c, err := h.cfg.Identify(r)
	if err != nil {
		if !errors.Is(err, tks.ErrUnavailable) {
			err = fmt.Errorf("%w: %w", err, tks.ErrDenied)
		}
		return nil, Caller{}, err
	}
	if err := c.allows(m); err != nil {
		return nil, c, fmt.Errorf("peer %s: %w", c.Name, err)
	}
	if !h.limits.allow(c, h.cfg.Now()) {
		return nil, c, fmt.Errorf("peer %s: more than its %d calls a minute: %w", c.Name, c.CallsPerMinute, tks.ErrDenied)
	}
	return withCaller(r.Context(), c), c, nil
}

// read decodes the body of a request, of which no other copy is left.
func read(w http.ResponseWriter, r *http.Request, in message) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return fmt.Errorf("the body has to be application/json: %w", ErrRequest)
	}
	b, err := readAll(http.MaxBytesReader(w, r.Body, maxBody), maxBody)
	if err != nil {
		return fmt.Errorf("reading the body: %w: %w", err, ErrRequest)
	}
	defer clear(b)
	if err := decode(b, in); err != nil {
		return fmt.Errorf("%w: %w", err, ErrRequest)
	}
	return nil
}

// refuse records and answers what was refused here.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, e Event, err error) {
	e.Err = err
	h.fail(w, r, h.record(r.Context(), e))
}

// record writes an event and returns its error, or why it could not be recorded. A
// call whose caller has gone is still recorded.
func (h *Handler) record(ctx context.Context, e Event) error {
	if h.cfg.Audit == nil {
		return e.Err
	}
	e.Time = h.cfg.Now().UTC()
	if err := h.cfg.Audit(context.WithoutCancel(ctx), e); err != nil {
		return errors.Join(e.Err, fmt.Errorf("recording a call of %s: %w: %w", e.Peer, err, tks.ErrUnavailable))
	}
	return e.Err
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	b, err := json.Marshal(p)
	if err != nil { // of strings and numbers
		b = []byte(`{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"no text"}`)
	}
	h.write(w, r, p.Status, problemType, b)
}

func (h *Handler) send(w http.ResponseWriter, r *http.Request, a answer) {
	b, err := encode(a.body, a.secrets...)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer clear(b)
	h.write(w, r, http.StatusOK, "application/json", b)
}

func (h *Handler) write(w http.ResponseWriter, r *http.Request, status int, media string, b []byte) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if _, err := w.Write(b); err != nil {
		h.cfg.Log.DebugContext(r.Context(), "answer not taken", slog.Any("err", err))
	}
}

// none is an answer without members that are no secrets.
type none struct{}

func (h *Handler) random(ctx context.Context, in *randomRequest) (answer, error) {
	b, err := h.cfg.Service.Random(ctx, in.N)
	return answer{none{}, onePart("data", b)}, err
}

func (h *Handler) session(ctx context.Context, in *proof) (answer, error) {
	r, err := h.cfg.Service.DeriveSession(ctx, tks.SessionRequest{CardProof: in.card()})
	return answer{none{}, sessionParts(r)}, err
}

func (h *Handler) keySet(ctx context.Context, in *keySetRequest) (answer, error) {
	r, err := h.cfg.Service.WrapKeySet(ctx, tks.KeySetRequest{CardProof: in.card(), NewKeySet: in.NewKeySet, NewKeyVersion: in.NewKeyVersion})
	out := keySetReply{Data: r.Data}
	for _, k := range r.KCVs {
		out.KCVs = append(out.KCVs, k[:])
	}
	return answer{body: out}, err
}

func (h *Handler) encrypt(ctx context.Context, in *encryptRequest) (answer, error) {
	r, err := h.cfg.Service.Encrypt(ctx, tks.EncryptRequest{CardProof: in.card(), Data: in.Data.Secret})
	return answer{body: encryptReply{r.Data}}, err
}

func (h *Handler) secret(ctx context.Context, in *secretRequest) (answer, error) {
	r, err := h.cfg.Service.CardSecret(ctx, tks.SecretRequest{
		KeySet: in.KeySet, KeyVersion: in.KeyVersion, CUID: in.CUID, Use: in.Use, Algorithm: byte(in.Algorithm),
	})
	return answer{none{}, []part{{"secret", r.Secret}}}, err
}
