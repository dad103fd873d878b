package tps

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Client is the other end of an operation: the card and the person at it.
// tps/wire's sessions are Clients.
type Client interface {
	apdu.Card
	// Login shows form and returns what was typed.
	Login(ctx context.Context, form auth.Form) (auth.Answers, error)
	// NewPIN asks for a PIN of min to max bytes.
	NewPIN(ctx context.Context, min, max int) (secret.PIN, error)
	// Progress reports percent (0 to 100) and the task that comes next.
	Progress(ctx context.Context, percent int, task string) error
}

// Stores are where the records are kept.
type Stores struct {
	Tokens       token.Tokens
	Certificates token.Certificates
	Activities   token.Activities
	Journals     token.Journals
	Locks        token.Locks
}

// Config is all that an Engine needs. Fields without a default are required.
type Config struct {
	Stores         Stores
	Profiles       profile.Store
	Mappings       profile.Resolvers // nil = none
	Keys           tks.Service
	Authorities    map[string]ca.Authority
	Authenticators map[string]auth.Authenticator
	Tickets        Tickets // nil = none are taken
	Archive        Archive // nil = none: profiles that archive keys are refused
	Families       []Family
	Audit          audit.Log
	Log            *slog.Logger // nil = discard

	Node, Boot     string            // names of this node and of this start of it
	DefaultProfile token.ProfileName // default userKey
	// UnmanagedProfile takes its place for cards without a card manager; default DefaultProfile.
	UnmanagedProfile token.ProfileName
	Managers         []apdu.AID // card managers; default those of Dogtag and GlobalPlatform

	AllowSimulator bool // serve software cards
	Lab            bool // a trial: factory keys may stay

	// Bound says whether the keys of a set are each card's own; nil = all but factory.
	Bound func(tks.KeySetName) bool

	OperationTimeout time.Duration // from the first irreversible step on; default 10 min
	OrphanAfter      time.Duration // unconfirmed certificates are revoked after; default 24 h
	Now              func() time.Time
}

// Engine runs operations.
type Engine struct {
	Config
	families map[FamilyName]Family
	guesses  *auth.Throttle // wrong logins, per card
	owed     *owed
}

// New checks cfg and fills in its defaults. It connects to nothing.
func New(cfg Config) (*Engine, error) {
	e := &Engine{Config: cfg, families: map[FamilyName]Family{}, guesses: &auth.Throttle{}, owed: &owed{}}
	if cfg.Profiles != nil {
		e.Profiles = profile.Remember(cfg.Profiles)
	}
	for _, f := range cfg.Families {
		e.families[f.Name()] = f
	}
	s := cfg.Stores
	for name, missing := range map[string]bool{
		"token store": s.Tokens == nil, "certificate store": s.Certificates == nil, "activity store": s.Activities == nil,
		"journal store": s.Journals == nil, "lock store": s.Locks == nil, "profile store": cfg.Profiles == nil,
		"key service": cfg.Keys == nil, "audit log": cfg.Audit == nil, "applet family": len(cfg.Families) == 0,
	} {
		if missing {
			return nil, fmt.Errorf("configuring operations: no %s", name)
		}
	}
	e.Keys = answering{cfg.Keys}
	e.defaults()
	return e, nil
}

func (e *Engine) defaults() {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.DefaultProfile == "" {
		e.DefaultProfile = "userKey"
	}
	if e.UnmanagedProfile == "" {
		e.UnmanagedProfile = e.DefaultProfile
	}
	if len(e.Managers) == 0 {
		e.Managers = defaultManagers
	}
	if e.Bound == nil {
		e.Bound = func(n tks.KeySetName) bool { return n != tks.Factory }
	}
	if e.OperationTimeout == 0 {
		e.OperationTimeout = 10 * time.Minute
	}
	if e.OrphanAfter == 0 {
		e.OrphanAfter = 24 * time.Hour
	}
	if e.Now == nil {
		e.Now = time.Now
	}
}

// defaultManagers are the card manager AIDs that Dogtag ships, and GlobalPlatform's.
var defaultManagers = []apdu.AID{gp.AIDCardManager, gp.AIDIssuerDomain, gp.AIDCardManagerShort, gp.AIDIssuerDomainGP21}

// Run runs one operation for a client. The error is an *Error whose status the
// client is to be told; nil is success. What happened is recorded before Run
// returns, whatever it was.
func (e *Engine) Run(ctx context.Context, req Request, cl Client) error {
	r := &run{e: e, req: req, cl: cl, start: e.Now(), id: token.NewID()}
	defer r.close()
	return r.outcome(ctx, r.operate(ctx))
}
