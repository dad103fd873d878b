package realm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"inkan/tps/token"
)

// Policy says when keys that the realm generated follow each other. What people made
// passive or disabled is left alone, and so are keys that came from elsewhere.
type Policy struct {
	// Every is for how long a key signs; default 90 days, at least one.
	Every time.Duration
	// Ahead is for how long the next key is published before it signs, so that clients
	// know it; default 24 h, at least 10 min.
	Ahead time.Duration
	// PassiveFor is for how long a key verifies after it signed; default 30 days, at
	// least as long as sessions last.
	PassiveFor time.Duration
	// DisabledFor is for how long the private half is kept after that; default 30 days,
	// at least 1 h.
	DisabledFor time.Duration
	// Off: nothing happens by itself.
	Off bool
}

const day = 24 * time.Hour

func (p Policy) complete() Policy {
	for _, f := range []struct {
		field *time.Duration
		value time.Duration
	}{{&p.Every, 90 * day}, {&p.Ahead, day}, {&p.PassiveFor, 30 * day}, {&p.DisabledFor, 30 * day}} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return p
}

// minPassive is the longest life of what is signed or renewed by the realm's
// tokens, a session of 8 hours, by a tenth and at least an hour longer.
const minPassive = 9 * time.Hour

// Check checks the limits; zero fields are the defaults.
func (p Policy) Check() error {
	p = p.complete()
	for _, l := range []struct {
		what           string
		value, atLeast time.Duration
	}{
		{"rotation period", p.Every, day}, {"time ahead", p.Ahead, 2 * JWKSMaxAge}, {"time passive", p.PassiveFor, minPassive}, {"time disabled", p.DisabledFor, time.Hour},
	} {
		if l.value < l.atLeast {
			return fmt.Errorf("%s of %s: want at least %s: %w", l.what, l.value, l.atLeast, ErrInput)
		}
	}
	if p.Ahead >= p.Every {
		return fmt.Errorf("time ahead of %s is not shorter than the rotation period of %s: %w", p.Ahead, p.Every, ErrInput)
	}
	return nil
}

// JWKSMaxAge is for how long clients may keep the published keys.
const JWKSMaxAge = 5 * time.Minute

// Action is one thing that the policy does.
type Action string

// Actions.
const (
	Create   Action = "create"   // make and publish the next key
	TakeOver Action = "activate" // the next key signs, the one before it becomes passive
	Expire   Action = "disable"  // a passive key no longer verifies
	Remove   Action = "delete"   // the private half of a disabled key is destroyed
)

// Step is an action and when it is due.
type Step struct {
	At     time.Time
	Action Action
	Key    ID     // of what is acted on; that of the predecessor for Create
	Name   string // of that key
	KID    string
}

// next is the step of a realm that is due first.
func (r *Realm) next(keys []Key) (Step, bool) {
	var first Step
	found := false
	for _, k := range keys {
		s, ok := r.stepOf(k, keys)
		if ok && (!found || s.At.Before(first.At) || s.At.Equal(first.At) && s.Key < first.Key) {
			first, found = s, true
		}
	}
	return first, found
}

// stepOf is what comes next for one key, by this node: another one makes the
// successors of its own keys.
func (r *Realm) stepOf(k Key, keys []Key) (Step, bool) {
	s := Step{Key: k.ID, Name: k.Name, KID: k.KID}
	p := r.cfg.Policy.of(k.Use)
	switch {
	case k.State == Pending:
		s.At, s.Action = k.ActivateAt, TakeOver
	case k.State == Active && k.Provider == Generated && r.held(k) && !succeeded(k, keys):
		s.At, s.Action = k.Activated.Add(p.Every-p.Ahead), Create
	case k.State == Passive && k.Scheduled:
		s.At, s.Action = k.PassiveAt.Add(p.PassiveFor), Expire
	case k.State == Disabled && k.Scheduled:
		s.At, s.Action = k.DisabledAt.Add(p.DisabledFor), Remove
	default:
		return s, false
	}
	return s, true
}

// succeeded reports whether the policy has nothing to do for an active key: another
// one signs, or its successor waits.
func succeeded(k Key, keys []Key) bool {
	return !Signs(keys, k) ||
		slices.ContainsFunc(keys, func(o Key) bool { return o.State == Pending && o.Predecessor == k.ID })
}

// Calendar says what the policy will do until a time, if nobody changes anything. It
// changes nothing. A key that does not exist yet is named after
// the one that does: "name +1".
func (r *Realm) Calendar(ctx context.Context, until time.Time) ([]Step, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil || r.cfg.Policy.Off {
		return nil, err
	}
	var out []Step
	now, keys := r.now(), slices.Clone(rec.Keys)
	for i := 0; len(out) < maxCalendar; i++ {
		s, ok := r.next(keys)
		if !ok || s.At.After(until) {
			break
		}
		if s.At.Before(now) {
			s.At = now
		}
		now = s.At
		out = append(out, s)
		keys = r.imagine(keys, s, i)
	}
	return out, nil
}

// maxCalendar bounds what Calendar answers.
const maxCalendar = 1000

// imagine is keys after a step.
func (r *Realm) imagine(keys []Key, s Step, n int) []Key {
	keys = slices.Clone(keys)
	i := slices.IndexFunc(keys, func(k Key) bool { return k.ID == s.Key })
	k := keys[i]
	if s.Action == Create {
		return append(keys, Key{ID: ID(fmt.Sprintf("~%06d", n)), Name: after(k.Name), Use: k.Use, Node: k.Node, Algorithm: k.Algorithm, Provider: Generated,
			Priority: k.Priority + 1, State: Pending, ActivateAt: s.At.Add(r.cfg.Policy.Ahead), Predecessor: k.ID})
	}
	for _, changed := range acted(keys, k, s) {
		keys[slices.IndexFunc(keys, func(o Key) bool { return o.ID == changed.ID })] = changed
	}
	return keys
}

// after names the successor of a key that need not exist either: "name +1", "name +2".
func after(name string) string {
	n := 0
	if i := strings.LastIndex(name, " +"); i >= 0 {
		if was, err := strconv.Atoi(name[i+2:]); err == nil {
			name, n = name[:i], was
		}
	}
	return name + " +" + strconv.Itoa(n+1)
}

// acted are the keys that a step other than Create changes, changed.
func acted(keys []Key, k Key, s Step) []Key {
	switch s.Action {
	case TakeOver:
		k.enter(Active, s.At)
		k.Scheduled = true
		out := []Key{k}
		for _, o := range keys {
			if o.ID == k.Predecessor && o.State == Active {
				o.enter(Passive, s.At)
				o.Scheduled = true
				out = append(out, o)
			}
		}
		return out
	case Expire:
		k.enter(Disabled, s.At)
	case Remove:
		k.enter(Deleted, s.At)
	}
	k.Scheduled = true
	return []Key{k}
}

// Tend does what the policy wants done by now, and finishes the destruction of keys
// that something interrupted. Doing it twice, or on two nodes at once, does it once.
func (r *Realm) Tend(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return err
	}
	if err := r.finishDestruction(ctx, rec.Keys); err != nil {
		return err
	}
	if err := errors.Join(r.sweep(ctx, false), r.forgetSilent(ctx)); err != nil {
		return err
	}
	for range maxCalendar {
		done, err := r.tendOnce(ctx)
		if errors.Is(err, token.ErrConflict) { // another node was faster: what is left?
			continue
		}
		if err != nil || done {
			return err
		}
	}
	return nil
}

// tendOnce does the step that is due first, on what the store has now.
func (r *Realm) tendOnce(ctx context.Context) (done bool, err error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return false, err
	}
	s, ok := r.next(rec.Keys)
	if !ok || r.cfg.Policy.Off || s.At.After(r.now()) {
		return true, nil
	}
	s.At = r.now()
	k, err := find(rec.Keys, string(s.Key))
	if err != nil {
		return false, err
	}
	if err := r.intend(ctx, k, string(s.Action), ""); err != nil {
		return false, err
	}
	if s.Action == Create {
		return false, r.succeed(ctx, k, s.At.Add(r.cfg.Policy.Ahead))
	}
	changed := acted(rec.Keys, k, s)
	if err := r.write(ctx, Change{Replace: changed}); err != nil {
		return false, err
	}
	for _, c := range changed {
		err = errors.Join(err, r.record(ctx, c, string(s.Action), string(k.State), "", nil))
	}
	if s.Action == Remove && err == nil {
		changed[0].Revision++
		_, err = r.destroy(ctx, changed[0])
	}
	return false, err
}

// succeed makes the key that follows k at a time.
func (r *Realm) succeed(ctx context.Context, k Key, at time.Time) error {
	bits, err := k.bits()
	if err != nil {
		return err
	}
	made, err := r.prepare(ctx, &NewKey{Use: k.Use, Provider: Generated, Algorithm: k.Algorithm, Bits: bits, Priority: k.Priority + 1, predecessor: k.ID, pending: at})
	if err == nil {
		made.Scheduled = true
		if err = r.write(ctx, Change{Create: []Key{made}}); err != nil {
			err = r.unmade(ctx, made, err)
		}
	}
	return r.record(ctx, made, string(Create), "", "", err)
}

// Rotate makes a key like the one of a use that signs with an algorithm and lets it
// sign at once; the one before it becomes passive, and from there on is the policy's.
func (r *Realm) Rotate(ctx context.Context, u Use, a Algorithm, by string) (made, before Key, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return Key{}, Key{}, err
	}
	if before, err = signing(r.here(rec.Keys), u, a); err != nil {
		return Key{}, Key{}, err
	}
	bits, err := before.bits()
	if err != nil {
		return Key{}, before, err
	}
	if err := r.intend(ctx, before, "rotate", by); err != nil {
		return Key{}, before, err
	}
	made, err = r.prepare(ctx, &NewKey{Use: u, Provider: Generated, Algorithm: a, Bits: bits, Priority: before.Priority + 1, predecessor: before.ID})
	if err != nil {
		return Key{}, before, r.record(ctx, made, "rotate", "", by, err)
	}
	was := before
	before.enter(Passive, r.now())
	before.Scheduled = true
	ch := Change{Create: []Key{made}, Replace: []Key{before}}
	for _, k := range rec.Keys { // what was to follow the old key is not needed any more
		if k.State == Pending && k.Predecessor == was.ID {
			k.enter(Disabled, r.now())
			k.Scheduled = true
			ch.Replace = append(ch.Replace, k)
		}
	}
	if err = r.write(ctx, ch); err != nil {
		err = r.unmade(ctx, made, err)
	}
	return made, before, r.record(ctx, made, "rotate", string(was.ID), by, err)
}
