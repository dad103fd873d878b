// Package realm keeps the keys that a node signs its own tokens with: which are
// there, which one signs, which still verify, when the next one takes over, and what
// happens when one is compromised. [New] makes a [Realm] over a store and a vault;
// [Realm.Sign] and [Realm.Verify] are the usual calls, [Realm.JWKS] publishes the
// public halves (RFC 7517).
//
// One key signs per algorithm: the active one of highest priority. Passive keys
// verify only, disabled ones do nothing. Nothing of this is cached: a change acts on
// the next call of every node that shares the store. A key never changes its
// material; another size or curve is another key.
//
// Signatures are JWS (RFC 7515) with an explicit list of algorithms. Not supported:
// HMAC, "none", encryption keys. A Realm is safe for concurrent use.
package realm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"inkan/tps/audit"
	"inkan/tps/token"
)

// Vault holds the private keys under names of at most 32 of a-z and 0-9, which
// [Realm] chooses. Whoever hands it in says what a name is in the HSM.
type Vault interface {
	// Generate makes a key pair of a kind under a new name; [ErrKind] where it cannot.
	Generate(ctx context.Context, name string, k Kind) (crypto.Signer, error)
	// Import stores a key pair of known value under a new name.
	Import(ctx context.Context, name string, key crypto.Signer) error
	// Signer finds a key pair: one of this realm by its name, another one of the token
	// by its label.
	Signer(ctx context.Context, name string) (crypto.Signer, error)
	// Destroy ends a key pair for ever. One that is not there is no error.
	Destroy(ctx context.Context, name string) error
}

// Store keeps the records of a realm.
type Store interface {
	Makings
	Reports
	// Realm reads everything at one moment, the keys in the order of [Compare].
	Realm(ctx context.Context) (Records, error)
	// ChangeRealm writes all of a change or nothing: token.ErrConflict where a key that
	// it replaces has another revision, or one that it creates is there.
	ChangeRealm(ctx context.Context, ch Change) error
}

// Records are what a store has.
type Records struct {
	Keys []Key // deleted ones too
	// NotBefore is the second before which no token of a use was issued that still
	// counts.
	NotBefore map[Use]time.Time
}

// Change is what is written at once.
type Change struct {
	Create  []Key
	Replace []Key // by ID and Revision, which becomes one more
	// First, if not empty, is the use that the created key is the first of:
	// token.ErrConflict where there was another one.
	First Use
	// NotBefore is set for a use where it is later than what the store has.
	NotBefore map[Use]time.Time
}

// Config is what a realm needs.
type Config struct {
	Store Store
	Vault Vault
	// Node is this node's name among those that share the store.
	Node string
	// Own: no other node reaches the vault, so each signs with keys of its own.
	Own   bool
	Audit audit.Log
	// Issuer is the address that tokens name as theirs, and certificates with Name.
	Issuer string
	Name   string
	// Policy of rotation; zero fields take the defaults.
	Policy Policy
	// Clients are told when a key is compromised.
	Clients []Client
	// HTTP reaches the clients; nil = http.DefaultTransport with a timeout.
	HTTP *http.Client
	// Nodes are the other nodes, which are told as well; nil = none.
	Nodes func(ctx context.Context) []Client
	// Changes sends whenever another node may have changed the keys; nil, and beside
	// it: the store is looked at every 5 seconds.
	Changes func(ctx context.Context) <-chan struct{}
	Log     *slog.Logger // nil = discard
}

// Realm is the signing keys of one installation.
type Realm struct {
	cfg  Config
	now  func() time.Time
	wait func(ctx context.Context, d time.Duration) error
	look time.Duration // how often Run looks at the keys though nobody says that they changed
	mu   sync.Mutex    // one change of the keys at a time in this process
	// changed says that this process changed the keys.
	changed chan struct{}
	// document is the latest revocation document, and what it is about.
	document struct {
		sync.Mutex
		about, text string
	}
}

// Errors that callers branch on. Those of the store are token.ErrNotFound,
// token.ErrConflict and token.ErrUnavailable.
var (
	// ErrInput: what was handed in is no usable key, certificate or setting.
	ErrInput = errors.New("not usable")
	// ErrRefused: the keys are in a state that does not allow it.
	ErrRefused = errors.New("refused")
	// ErrNoKey: no active key has the algorithm; nothing can be signed.
	ErrNoKey = errors.New("no active signing key")
	// ErrKind: the vault makes no keys of this kind.
	ErrKind = errors.New("no keys of this kind")
)

// New checks the configuration. It reads nothing yet.
func New(cfg Config) (*Realm, error) {
	if cfg.Store == nil || cfg.Vault == nil || cfg.Audit == nil || cfg.Issuer == "" {
		return nil, errors.New("configuring the realm: store, vault, audit log and issuer are needed")
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Issuer
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Timeout: PushTimeout}
	}
	cfg.Policy = cfg.Policy.complete()
	if err := cfg.Policy.Check(); err != nil {
		return nil, fmt.Errorf("configuring the realm: %w", err)
	}
	return &Realm{cfg: cfg, now: time.Now, wait: sleep, look: lookEvery, changed: make(chan struct{}, 1)}, nil
}

// Issuer is the address that tokens name as theirs.
func (r *Realm) Issuer() string { return r.cfg.Issuer }

// Prepare destroys private halves that a process which ended here left without a
// record, and makes the first key for sessions, of the best algorithm that the vault
// has keys for, where this node has none to sign with. Other uses get theirs when
// something is to be signed for the first time.
func (r *Realm) Prepare(ctx context.Context) error {
	if err := r.sweep(ctx, true); err != nil {
		return err
	}
	return r.complete(ctx)
}

// complete makes the keys that this node lacks.
func (r *Realm) complete(ctx context.Context) error {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return err
	}
	here := r.here(rec.Keys)
	for _, u := range Uses() {
		if _, err := signing(here, u, algorithms...); err == nil || u != ForSessions && !had(here, u) {
			continue
		}
		if err := r.begin(ctx, u); err != nil {
			return err
		}
	}
	return nil
}

// had reports whether there ever was a key of a use.
func had(keys []Key, u Use) bool {
	return slices.ContainsFunc(keys, func(k Key) bool { return k.Use == u })
}

// signer is the key of a use that this node signs with. The first of a use is made
// here.
func (r *Realm) signer(ctx context.Context, rec Records, t Type) (Key, error) {
	here := r.here(rec.Keys)
	k, err := signing(here, t.Use, t.Algorithms...)
	if err == nil || had(here, t.Use) {
		return k, err
	}
	if err := r.begin(ctx, t.Use); err != nil {
		return Key{}, err
	}
	if rec, err = r.cfg.Store.Realm(ctx); err != nil {
		return Key{}, err
	}
	return signing(r.here(rec.Keys), t.Use, t.Algorithms...)
}

// begin makes the first key of a use. Of nodes that reach the same vault and do so at
// once one does it.
func (r *Realm) begin(ctx context.Context, u Use) error {
	err := r.addFirst(ctx, u, !r.cfg.Own)
	if !errors.Is(err, token.ErrConflict) {
		return err
	}
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return err
	}
	if _, err := signing(r.here(rec.Keys), u, algorithms...); err == nil {
		return nil
	}
	return r.addFirst(ctx, u, false) // there was a first one, and it is another node's
}

func (r *Realm) addFirst(ctx context.Context, u Use, alone bool) error {
	var err error
	for _, a := range algorithms {
		n := NewKey{Use: u, Provider: Generated, Algorithm: a, Priority: firstPriority, first: alone}
		if _, err = r.Add(ctx, n, ""); !errors.Is(err, ErrKind) {
			break
		}
	}
	return err
}

// Keys lists every key, the one that signs first; the public halves of deleted keys
// stay for ever.
func (r *Realm) Keys(ctx context.Context) ([]Key, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	return rec.Keys, err
}

// State is every key, and per use the second before which no token counts.
func (r *Realm) State(ctx context.Context) (Records, error) { return r.cfg.Store.Realm(ctx) }

// Find is the key that an id, a kid or a name means; a name that several keys have
// means the newest.
func (r *Realm) Find(ctx context.Context, ref string) (Key, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return Key{}, err
	}
	return find(rec.Keys, ref)
}

func find(keys []Key, ref string) (Key, error) {
	var found []Key
	for _, k := range keys {
		if string(k.ID) == ref || k.KID == ref && k.State != Deleted {
			return k, nil
		}
		if k.Name == ref || k.KID == ref {
			found = append(found, k)
		}
	}
	if len(found) == 0 {
		return Key{}, fmt.Errorf("there is no realm key %q: %w", ref, token.ErrNotFound)
	}
	return slices.MaxFunc(found, func(a, b Key) int { return a.Created.Compare(b.Created) }), nil
}

// event is an audit record about a key; nobody is the policy.
func event(k Key, op, by string, o audit.Outcome) audit.Event {
	if by == "" {
		by = "policy"
	}
	e := audit.Event{Name: "REALM_KEY", Outcome: o, Subject: by, Fields: map[string]string{"op": op}}
	for name, value := range map[string]string{"key": string(k.ID), "kid": k.KID, "use": string(k.Use), "algorithm": string(k.Algorithm), "state": string(k.State)} {
		if value != "" {
			e.Fields[name] = value
		}
	}
	return e
}

// intend audits what is about to happen to a key; if that fails it must not.
func (r *Realm) intend(ctx context.Context, k Key, op, by string) error {
	if err := r.cfg.Audit.Record(ctx, event(k, op, by, audit.Attempt)); err != nil {
		return fmt.Errorf("writing the audit record: %w", err)
	}
	return nil
}

// record audits what happened to a key.
func (r *Realm) record(ctx context.Context, k Key, op, was, by string, err error) error {
	e := event(k, op, by, audit.Success)
	if was != "" {
		e.Fields["was"] = was
	}
	if err != nil {
		e.Outcome, e.Fields["info"] = audit.Failure, err.Error()
	}
	if aerr := r.cfg.Audit.Record(context.WithoutCancel(ctx), e); aerr != nil {
		return errors.Join(err, fmt.Errorf("writing the audit record: %w", aerr))
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
