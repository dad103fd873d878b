// Package peer makes several nodes one array: they talk over mutual TLS alone, with
// certificates of a CA that is good for nothing else. [Open] reads what a node has
// kept, [Node.Init] makes an array of one, [Node.Join] joins another's; [Node.Serve]
// answers peers and [Node.Run] does the housekeeping, both as long as the node lives.
// [Node.Client] calls a member, [Node.Caller] says who called.
//
// One member is the primary: it holds the CA's key and is the only one that changes
// the [State], which it hands to all others. Each change has an epoch; a member takes a
// state from its primary only, with a higher epoch, or with a [Statement] that proves
// a promotion. What a change needs is in the state itself, so that whoever is cut off
// or restarted goes on from there: a new CA is first trusted by all (pending), then
// issues (current) while the old one is still trusted (retiring), then stands alone.
//
// realm-keys-and-peer-ca.md part B is the description. Not supported: IP addresses as
// peer names, changes while the primary is down except [Node.ForcePromote], and
// certificates for anything but peers. A Node is safe for concurrent use.
package peer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// CAKeys keeps the private keys of the array's CA, in an HSM or a key file, under
// labels that the node chooses: tms:peerca:ARRAY:EPOCH.
type CAKeys interface {
	// Generate makes a signing key, ECDSA P-256 or one the HSM prefers, under a new label.
	Generate(ctx context.Context, label string) (crypto.Signer, error)
	Signer(ctx context.Context, label string) (crypto.Signer, error)
	// Destroy ends a key for ever. One that is not there is no error.
	Destroy(ctx context.Context, label string) error
}

// Facts are what a node says of itself beyond the array, for [Node.Status].
type Facts struct {
	SigningKID       string `json:"signing_kid"` // of the realm key that signs
	ConfigGeneration string `json:"config_generation"`
	RealmNode        string `json:"realm_node"` // the node's name in the realm's records
	RealmURL         string `json:"realm_url"`  // issuer of the tokens that it takes
}

// Config is what a node needs. Zero durations take the defaults.
type Config struct {
	Dir     string // the folder peer/ of the data folder; made if missing
	Key     KeyFile
	CAKeys  CAKeys
	Name    string // peer DNS name of this node, lower case
	Address string // host:port at which the others reach it
	Roles   []Role
	Version string // of the program; major.minor is the same on all members

	Rules []Rule // nil: DefaultRules
	Log   *slog.Logger
	Now   func() time.Time

	Life       time.Duration // of peer certificates: 24 h to 90 days, 7 days
	Interval   time.Duration // between two contacts of a member with the primary: 5 s
	ChangeWait time.Duration // how long a change waits for the one before: 30 s
	MaxOverlap time.Duration // how long two CAs are trusted before who lags is detached: 24 h
	DrainTime  time.Duration // how long a detached node may end what runs: 5 min
	JoinTime   time.Duration // how long a node may stay joining: 10 min

	// Facts are asked for each report. Drain ends running card operations of a node
	// that is being detached; Left removes the array's secrets from one that was, and is
	// called again where it was cut. Changed is told of each state, in order, while the
	// node is locked: it must not change the node. Any may be nil.
	Facts   func(ctx context.Context) Facts
	Drain   func(ctx context.Context) error
	Left    func(ctx context.Context) error
	Changed func(s State, documents map[string][]byte)
	// Resolve looks a name up; nil: the system's resolver.
	Resolve func(ctx context.Context, host string) ([]string, error)

	step func(name string) error // tests: called before and after whatever lasts
}

// Errors of a node that is not what a call needs.
var (
	ErrOutside    = errors.New("this node is in no array: make one with inkan array init, or join one with inkan array join")
	ErrInside     = errors.New("this node is in an array already (inkan array status): inkan array detach --self takes it out of that one")
	ErrNotPrimary = errors.New("this node is not the primary of its array")
	// ErrSuperseded: another node was promoted without this one, the former primary.
	ErrSuperseded = errors.New("another node was promoted in place of this one: it takes no part until it joins again with an invite from the new primary")
)

// Node is this machine's part of the array.
type Node struct {
	cfg   Config
	view  atomic.Pointer[view]
	mu    sync.Mutex // held while the record or the keys are replaced
	keys  []*ecdsa.PrivateKey
	op    chan struct{} // one change at a time
	own   sync.Mutex    // held while the node gets a key and a certificate of its own
	told  broadcast     // the state, a report or a connection has changed
	kick  chan struct{} // wakes Run
	conns connections
	links links
	heard contacts
	doors gate        // rate of joins
	dead  atomic.Bool // tests: killed at a step

	moved   atomic.Int64 // when the present epoch was installed, Unix nanoseconds
	renewal renewal
	crl     string // what the revocation list was written for; Run's alone
}

// Open reads what the node has kept. It connects nothing.
func Open(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("peer node: %w", err)
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, op: make(chan struct{}, 1), kick: make(chan struct{}, 1)}
	var err error
	if n.keys, err = n.loadKeys(ctx); err != nil {
		return nil, err
	}
	rec, err := loadRecord(cfg.Dir)
	if err != nil {
		return nil, err
	}
	v, err := n.prepare(rec)
	if err != nil {
		return nil, err
	}
	n.install(v)
	// Keys are kept in the order present, next: one before that of the certificate is of
	// a renewal that was cut behind its end.
	if v.leaf != nil {
		n.keys = n.keys[slices.Index(n.keys, keyOf(n.keys, v.leaf)):]
	}
	return n, nil
}

func (c *Config) complete() error {
	if c.Dir == "" || c.Key == nil || c.CAKeys == nil {
		return errors.New("folder, place of the key or vault of CA keys is missing")
	}
	if err := errors.Join(checkName(c.Name), checkAddress(c.Address), checkRoles(c.Roles), checkText("version", c.Version)); err != nil {
		return err
	}
	for _, d := range []struct {
		what *time.Duration
		def  time.Duration
	}{{&c.Life, 7 * 24 * time.Hour}, {&c.Interval, 5 * time.Second}, {&c.ChangeWait, 30 * time.Second},
		{&c.MaxOverlap, 24 * time.Hour}, {&c.DrainTime, 5 * time.Minute}, {&c.JoinTime, 10 * time.Minute}} {
		if *d.what == 0 {
			*d.what = d.def
		}
		if *d.what < 0 {
			return errors.New("negative duration")
		}
	}
	if c.Life < 24*time.Hour || c.Life > 90*24*time.Hour {
		return fmt.Errorf("life of certificates is %s, want 24 h to 90 days", c.Life)
	}
	if c.Rules == nil {
		c.Rules = DefaultRules
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Facts == nil {
		c.Facts = func(context.Context) Facts { return Facts{} }
	}
	nothing := func(context.Context) error { return nil }
	if c.Drain == nil {
		c.Drain = nothing
	}
	if c.Left == nil {
		c.Left = nothing
	}
	if c.Changed == nil {
		c.Changed = func(State, map[string][]byte) {}
	}
	if c.Resolve == nil {
		c.Resolve = net.DefaultResolver.LookupHost
	}
	return nil
}

// State is the array as this node knows it; ok is false outside of any array. It
// is the caller's to keep, not to change.
func (n *Node) State() (s State, ok bool) {
	v := n.view.Load()
	return v.rec.State, v.rec.Phase == inside || v.rec.Phase == superseded
}

// ID is this node's id in its array.
func (n *Node) ID() string { return n.view.Load().rec.Node }

// Primary says whether this node is the primary.
func (n *Node) Primary() bool { return n.view.Load().primary() }

// Superseded is [ErrSuperseded] on a former primary that another node was promoted
// in place of, with the address of the new one; else nil.
func (n *Node) Superseded() error {
	v := n.view.Load()
	if v.rec.Phase != superseded {
		return nil
	}
	m, _ := v.rec.State.Member(v.rec.Superseded.Primary)
	return fmt.Errorf("%w; it is %s, at %s", ErrSuperseded, m.Name, m.Address)
}

// Members are the members that have a role, this node included.
func (n *Node) Members(r Role) []Member {
	return slices.DeleteFunc(slices.Clone(n.view.Load().rec.State.Members), func(m Member) bool { return !m.Has(r) })
}

// Documents are what the primary has given all members.
func (n *Node) Documents() map[string][]byte { return n.view.Load().rec.Documents }
