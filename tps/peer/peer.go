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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"inkan/tps/wire"
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
}

// Config is what a node needs. Zero durations take the defaults.
type Config struct {
	Dir     string  // the folder peer/ of the data folder; made if missing
	Key     KeyFile // nil: a file in Dir, mode 0600
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
	ErrOutside    = errors.New("this node is in no array: make one with init, or join one")
	ErrInside     = errors.New("this node is in an array with others: detach it first")
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

// view is one state of the node, ready for use. It is never changed.
type view struct {
	rec    record
	hash   string
	self   Member // zero outside
	trust  *trust
	cert   *tls.Certificate
	leaf   *x509.Certificate
	issuer *x509.Certificate // the CA of the array that issued leaf; nil: it is gone
	link   string            // changes with whatever a connection was verified by
}

func (v *view) state() State { return v.rec.State }

func (v *view) primary() bool {
	return v.rec.Phase == inside && v.rec.State.Primary == v.rec.Node
}

// ready says why the node cannot act for its array.
func (v *view) ready() error {
	switch v.rec.Phase {
	case inside:
		return nil
	case superseded:
		return ErrSuperseded
	}
	return ErrOutside
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
	if c.Dir == "" || c.CAKeys == nil {
		return errors.New("folder or vault of CA keys is missing")
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
	if c.Key == nil {
		c.Key = PlainKey(filepath.Join(c.Dir, keyFile))
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

// prepare makes a record ready for use. Callers hold n.mu, or are alone.
func (n *Node) prepare(rec record) (*view, error) {
	v := &view{rec: rec}
	if rec.Phase == outside {
		return v, nil
	}
	v.hash = rec.State.Hash()
	v.trust = newTrust(rec.State, n.skewed)
	leaf, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("peer certificate is %w", ErrDamaged)
	}
	key := keyOf(n.keys, leaf)
	if key == nil {
		return nil, fmt.Errorf("private key of the peer certificate is missing: the peer key is %w", ErrDamaged)
	}
	v.leaf, v.cert = leaf, &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	v.link = serialText(leaf)
	for _, c := range v.trust.cas {
		v.link += " " + wire.FingerprintOf(c).String()
		if v.issuer == nil && leaf.CheckSignatureFrom(c) == nil {
			v.issuer = c
			v.cert.Certificate = append(v.cert.Certificate, c.Raw)
		}
	}
	v.self, _ = rec.State.Member(rec.Node)
	return v, nil
}

// install makes a view what the node is. Callers hold n.mu, or are alone.
func (n *Node) install(v *view) {
	rec := v.rec
	if old := n.view.Swap(v); old == nil || old.rec.State.Epoch != rec.State.Epoch || old.rec.State.ID != rec.State.ID {
		n.moved.Store(n.cfg.Now().UnixNano())
		if rec.Phase != outside {
			n.cfg.Changed(rec.State, rec.Documents)
		}
	}
	n.recheck()
	n.told.tell()
}

func (n *Node) skewed(leaf *x509.Certificate, by time.Duration) {
	n.cfg.Log.Warn("clocks differ: a peer certificate is outside its dates, within the tolerance", slog.Any("peer", leaf.DNSNames), slog.Duration("by", by))
}

// commit changes the record: f gets a copy, which is kept durably before it counts.
func (n *Node) commit(f func(r *record) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, err := n.view.Load().rec.clone()
	if err != nil {
		return err
	}
	if err := f(&r); err != nil {
		return err
	}
	if o := r.Offered; o != nil && slices.ContainsFunc(r.State.CAs, func(a Authority) bool { return a.Epoch == o.Epoch }) {
		r.Offered = nil // announced
	}
	if r.Phase != outside {
		if err := (envelope{r.State, r.Documents}).check(); err != nil {
			return fmt.Errorf("changing the array: %w", err)
		}
	}
	v, err := n.prepare(r)
	if err != nil {
		return err
	}
	if err := n.save(r); err != nil {
		return err
	}
	n.install(v)
	return nil
}

// alter is a change of the state by its primary: the next epoch.
func (n *Node) alter(f func(s *State) error) error {
	return n.alterRecord(func(r *record) error { return f(&r.State) })
}

func (n *Node) alterRecord(f func(r *record) error) error {
	err := n.commit(func(r *record) error {
		if r.Phase != inside || r.State.Primary != r.Node {
			return ErrNotPrimary
		}
		r.State.Epoch++
		if err := f(r); err != nil {
			return err
		}
		r.State.normal(n.now())
		return nil
	})
	if err == nil {
		n.wake()
	}
	return err
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

// at is where tests cut a node off.
func (n *Node) at(step string) error {
	if n.cfg.step == nil {
		return nil
	}
	if n.dead.Load() {
		return errKilled
	}
	if err := n.cfg.step(step); err != nil {
		n.dead.Store(true)
		return err
	}
	return nil
}

var errKilled = errors.New("node was killed")

// wake has Run look around now.
func (n *Node) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// broadcast wakes whoever waits for a change.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// next is closed with the next change.
func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) tell() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

// wait until done is true, looked at after each change and each second.
func (n *Node) wait(ctx context.Context, done func() bool) error {
	for {
		next := n.told.next()
		if done() {
			return nil
		}
		select {
		case <-next:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
