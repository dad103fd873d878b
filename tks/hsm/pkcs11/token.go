//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Token is an open token. It implements hsm.Vault and hsm.Signers.
type Token struct {
	cfg Config
	pin secret.Secret
	mod *module

	workers chan struct{} // one per session in use
	turn    chan struct{} // holds the right to look at and change what follows
	conn    *conn         // nil: down
	down    outage
	closed  bool
}

var (
	_ hsm.Vault    = (*Token)(nil)
	_ hsm.Signers  = (*Token)(nil)
	_ hsm.Wrappers = (*Token)(nil)
	_ hsm.Counters = (*Token)(nil)
)

// outage is why there is no connection, and when the next attempt may be.
type outage struct {
	err   error
	until time.Time
	wait  time.Duration
}

// conn is one login to the token. It dies with the first error that says so, and
// everything that hangs on it with it.
type conn struct {
	gen    uint64 // of the module
	slot   uint
	info   p11.TokenInfo
	lib    string
	anchor p11.SessionHandle // keeps the login alive; no work is done in it
	strategies

	dead    atomic.Bool
	created atomic.Int64 // session objects

	mu      sync.Mutex
	idle    []idleSession
	masters map[hsm.MasterID]*masterHandle
	private map[hsm.SignerLabel]p11.ObjectHandle
}

const (
	defaultOpTimeout = 10 * time.Second
	defaultRecycle   = 2_000_000
	firstWait        = 500 * time.Millisecond
	longestWait      = 30 * time.Second
)

// Open loads the module, logs in and tries its mechanisms. It does not wait for a
// token that is away.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if err := cfg.URI.check(); err != nil {
		return nil, fmt.Errorf("opening HSM: %w", err)
	}
	pin := cfg.PIN.Clone()
	if cfg.URI.PINSource != "" {
		var err error
		if pin, err = readPIN(cfg.URI.PINSource); err != nil {
			return nil, fmt.Errorf("opening HSM: %w", err)
		}
	}
	if pin.IsZero() {
		return nil, fmt.Errorf("opening HSM: no PIN: name a file with pin-source=file:/path")
	}
	if cfg.OpTimeout <= 0 {
		cfg.OpTimeout = defaultOpTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.PIN = secret.Secret{}
	mod, err := loadModule(cfg.URI.ModulePath, cfg.URI.InitReserved)
	if err != nil {
		return nil, fmt.Errorf("opening HSM: %w", err)
	}
	t := &Token{cfg: cfg, pin: pin, mod: mod, turn: make(chan struct{}, 1)}
	c, err := t.connect(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening HSM: %w", err), mod.release())
	}
	t.conn = c
	t.workers = make(chan struct{}, t.poolSize(c.info))
	t.announce(ctx, c)
	return t, nil
}

func (t *Token) poolSize(info p11.TokenInfo) int {
	n := t.cfg.Sessions
	if n <= 0 {
		n = 2 * runtime.GOMAXPROCS(0)
	}
	const infinite = uint(0) // "unavailable", and what tokens say instead of both, are huge
	if most := info.MaxRwSessionCount; most != infinite && most <= uint(n) {
		n = int(most) - 1 // one is the anchor
	}
	return max(n, 1)
}

func (t *Token) announce(ctx context.Context, c *conn) {
	t.cfg.Log.InfoContext(ctx, "HSM connected", slog.String("token", c.info.Label), slog.String("library", c.lib))
	for o, how := range c.report() {
		t.cfg.Log.DebugContext(ctx, "HSM strategy", slog.String("operation", o), slog.String("by", how))
	}
}

// lock takes the turn, or gives up with ctx.
func (t *Token) lock(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *Token) unlock() { <-t.turn }

// current is the living connection; it connects again where the last one died and
// the time for it has come.
func (t *Token) current(ctx context.Context) (*conn, error) {
	if err := t.lock(ctx); err != nil {
		return nil, err
	}
	defer t.unlock()
	if t.closed {
		return nil, fmt.Errorf("HSM is closed: %w", hsm.ErrUnavailable)
	}
	if t.conn != nil && !t.conn.dead.Load() && t.conn.gen == t.mod.generation() {
		return t.conn, nil
	}
	if errors.Is(t.down.err, hsm.ErrPIN) || time.Now().Before(t.down.until) {
		return nil, t.down.err
	}
	c, err := t.reconnect(ctx)
	if err != nil {
		t.fallDown(ctx, err)
		return nil, t.down.err
	}
	t.conn, t.down = c, outage{}
	t.announce(ctx, c)
	return c, nil
}

// reconnect restarts the module, unless another token of it has done that: a
// library that lost its device recovers in no other way (hsm.md §16).
func (t *Token) reconnect(ctx context.Context) (*conn, error) {
	if old := t.conn; old != nil {
		t.conn = nil
		if err := t.mod.restart(old.gen); err != nil {
			return nil, err
		}
		return t.connect(ctx)
	}
	if err := t.mod.restart(t.mod.generation()); err != nil {
		return nil, err
	}
	return t.connect(ctx)
}

func (t *Token) fallDown(ctx context.Context, err error) {
	if ctx.Err() != nil { // the caller went away, that says nothing about the token
		t.down.err = fmt.Errorf("%w: %w", err, hsm.ErrUnavailable)
		return
	}
	wait := min(max(2*t.down.wait, firstWait), longestWait)
	if !errors.Is(err, hsm.ErrPIN) && !errors.Is(err, hsm.ErrUnavailable) {
		err = fmt.Errorf("%w: %w", err, hsm.ErrUnavailable)
	}
	t.down = outage{err: err, until: time.Now().Add(wait), wait: wait}
	t.cfg.Log.WarnContext(ctx, "HSM does not answer", slog.Any("err", err), slog.Duration("next", wait))
}

// Close ends all sessions, and with the last one of the process the login. Works
// that are open fail from then on.
func (t *Token) Close() error {
	t.turn <- struct{}{}
	defer t.unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if c := t.conn; c != nil {
		c.dead.Store(true)
		// No C_Logout: it would log out other users of the token in this process. What
		// cannot be closed ends with the module.
		_, _ = call(context.Background(), t.mod, c.gen, t.cfg.OpTimeout, func(m *p11.Ctx) (struct{}, error) {
			return struct{}{}, errors.Join(closeAll(m, c), m.CloseSession(c.anchor))
		})
	}
	t.pin.Wipe()
	return t.mod.release()
}

func closeAll(m *p11.Ctx, c *conn) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.idle {
		err = errors.Join(err, m.CloseSession(s.h))
	}
	c.idle = nil
	return err
}

// Info describes the token as of its last connection.
func (t *Token) Info() Info {
	t.turn <- struct{}{}
	defer t.unlock()
	i := Info{Module: t.cfg.URI.ModulePath}
	if c := t.conn; c != nil {
		i.Library, i.Token, i.Serial, i.Model = c.lib, c.info.Label, c.info.SerialNumber, c.info.Model
		i.Firmware = fmt.Sprintf("%d.%d", c.info.FirmwareVersion.Major, c.info.FirmwareVersion.Minor)
		i.Strategies = c.report()
	}
	return i
}

// Protection implements hsm.Masters. Without a connection it is the worst that an HSM has.
func (t *Token) Protection(c kdf.Code, k hsm.KeyType) hsm.Protection {
	t.turn <- struct{}{}
	defer t.unlock()
	if t.conn == nil {
		return hsm.Protection{Level: hsm.LevelC, Why: "the HSM does not answer"}
	}
	derive := t.conn.ways[opDerive.with(k.Cipher())]
	return t.conn.protection(c, k, derive, madeAs(c, k, derive == inside))
}

// name is how errors call the token.
func (c *conn) name() string { return fmt.Sprintf("%q (%s)", c.info.Label, c.lib) }

// missing is the error for an operation that the token cannot do.
func (c *conn) missing(o operation) error {
	return &hsm.MechanismError{Token: c.name(), Operation: string(o), Candidates: c.candidates(o)}
}

func (c *conn) softHSM() bool {
	return strings.Contains(c.lib, "SoftHSM") || strings.Contains(c.info.Model, "SoftHSM")
}
