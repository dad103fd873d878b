package realm

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"inkan/tps/token"
)

// Compromise is what [Realm.Compromised] did.
type Compromise struct {
	Gone, Made Key
	NotBefore  time.Time // tokens issued before no longer count
	Pushes     []Push    // per client
}

// Compromised gives a key up as known to others. In one write a new key of the same
// algorithm signs, the old one counts for nothing, and no token issued before the next
// second is accepted anywhere; then the private half is destroyed and the clients are
// told. Doing it again finishes what was interrupted, and tells the clients again.
func (r *Realm) Compromised(ctx context.Context, ref, by string) (Compromise, error) {
	out, err := r.giveUp(ctx, ref, by)
	if errors.Is(err, token.ErrConflict) { // another node does the same
		out, err = r.giveUp(ctx, ref, by)
	}
	if err != nil {
		return out, err
	}
	if out.Gone, err = r.destroy(ctx, out.Gone); err != nil {
		r.cfg.Log.ErrorContext(ctx, "compromised key", "err", err)
	}
	var perr error
	out.Pushes, perr = r.push(ctx)
	return out, errors.Join(err, perr)
}

func (r *Realm) giveUp(ctx context.Context, ref, by string) (Compromise, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return Compromise{}, err
	}
	k, err := find(rec.Keys, ref)
	if err != nil {
		return Compromise{}, err
	}
	if !k.Compromised.IsZero() {
		return Compromise{Gone: k, NotBefore: rec.notBefore(k.Use)}, nil
	}
	bits, err := k.bits()
	if err != nil {
		return Compromise{}, err
	}
	n := NewKey{Use: k.Use, Provider: Generated, Algorithm: k.Algorithm, Bits: bits, Priority: k.Priority + 1, predecessor: k.ID}
	for _, o := range rec.Keys {
		n.Priority = max(n.Priority, o.Priority+1)
	}
	if err := r.intend(ctx, k, "compromised", by); err != nil {
		return Compromise{}, err
	}
	made, err := r.prepare(ctx, &n)
	if err != nil {
		return Compromise{}, r.record(ctx, k, "compromised", string(k.State), by, err)
	}
	was, now := k.State, r.now().UTC()
	k.enter(Disabled, now)
	k.Compromised, k.Scheduled = now, true
	notBefore := now.Truncate(time.Second).Add(time.Second)
	ch := Change{Create: []Key{made}, Replace: []Key{k}, NotBefore: map[Use]time.Time{k.Use: notBefore}}
	for _, o := range rec.Keys { // who has the key may have seen what was to follow it
		if o.State == Pending && o.Predecessor == k.ID {
			o.enter(Disabled, now)
			o.Scheduled = true
			ch.Replace = append(ch.Replace, o)
		}
	}
	if err := r.write(ctx, ch); err != nil {
		err = r.unmade(ctx, made, fmt.Errorf("giving up the key: %w", err))
		return Compromise{}, r.record(ctx, k, "compromised", string(was), by, err)
	}
	k.Revision++
	made.Revision = 1
	return Compromise{Gone: k, Made: made, NotBefore: notBefore}, r.record(ctx, k, "compromised", string(was), by, nil)
}

// bits is the length of an RSA key as [NewKey] wants it, the next one that can be
// generated; zero for others.
func (k Key) bits() (int, error) {
	pub, err := k.PublicKey()
	if err != nil {
		return 0, err
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return 0, nil
	}
	for _, n := range []int{2048, 3072} {
		if key.N.BitLen() <= n {
			return n, nil
		}
	}
	return 4096, nil
}
