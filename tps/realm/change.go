package realm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"inkan/tps/token"
)

// SetState makes a key active, passive or disabled. A key in that state already
// stays as it is.
func (r *Realm) SetState(ctx context.Context, ref string, to State, by string) (Key, error) {
	if to != Active && to != Passive && to != Disabled {
		return Key{}, fmt.Errorf("state %q is none of active, passive, disabled: %w", to, ErrInput)
	}
	return r.change(ctx, ref, string(to), by, func(k *Key, keys []Key) error {
		if k.State == to {
			return errUnchanged
		}
		if to != Active {
			if err := r.leaves(keys, *k); err != nil {
				return err
			}
		}
		if !k.Compromised.IsZero() {
			return fmt.Errorf("key %s is compromised and stays disabled: %w", k.Name, ErrRefused)
		}
		k.enter(to, r.now())
		k.Scheduled = false
		return nil
	})
}

// SetPriority gives a key another priority; its material stays what it is.
func (r *Realm) SetPriority(ctx context.Context, ref string, priority int64, by string) (Key, error) {
	return r.change(ctx, ref, "priority", by, func(k *Key, _ []Key) error {
		k.Priority = priority
		return nil
	})
}

// SetCertificates replaces the certificates of a key, PEM and its own first.
func (r *Realm) SetCertificates(ctx context.Context, ref string, certificates []byte, by string) (Key, error) {
	chain, err := parseCertificates(certificates)
	if err == nil && len(chain) == 0 {
		err = fmt.Errorf("no PEM certificate is there: %w", ErrInput)
	}
	if err != nil {
		return Key{}, err
	}
	return r.change(ctx, ref, "certificate", by, func(k *Key, _ []Key) error {
		k.Chain, err = checkChain(chain, k.Public, r.now(), false)
		return err
	})
}

// Delete ends a key: its private half is destroyed, unless it was in the HSM before
// it came to the realm; the public half stays for ever. The only key that signs with
// an algorithm cannot be deleted.
func (r *Realm) Delete(ctx context.Context, ref, by string) (Key, error) {
	k, err := r.change(ctx, ref, "delete", by, func(k *Key, keys []Key) error {
		if err := r.leaves(keys, *k); err != nil {
			return err
		}
		k.enter(Deleted, r.now())
		k.Scheduled = false
		return nil
	})
	if err != nil {
		return k, err
	}
	return r.destroy(ctx, k)
}

// destroy takes the private half of a key that signs nothing any more out of the
// vault, and then its name out of the record. The node that has it does so.
func (r *Realm) destroy(ctx context.Context, k Key) (Key, error) {
	if k.Material == "" || !r.held(k) {
		return k, nil
	}
	if k.Provider != PKCS11 || !k.Compromised.IsZero() {
		if err := r.cfg.Vault.Destroy(ctx, k.Material); err != nil {
			return k, fmt.Errorf("destroying the private half of %s, which signs nothing any more: %w", k.Name, err)
		}
	}
	return r.noteDestroyed(ctx, k)
}

// noteDestroyed takes the name of a private half out of the record. Who looks after
// the keys, here or on another node, may have done so meanwhile.
func (r *Realm) noteDestroyed(ctx context.Context, k Key) (Key, error) {
	for again := true; ; again = false {
		k.Material = ""
		err := r.write(ctx, Change{Replace: []Key{k}})
		if err == nil {
			k.Revision++
			return k, nil
		}
		if !again || !errors.Is(err, token.ErrConflict) {
			return k, fmt.Errorf("recording that the private half is gone: %w", err)
		}
		rec, err := r.cfg.Store.Realm(ctx)
		if err != nil {
			return k, err
		}
		if k, err = find(rec.Keys, string(k.ID)); err != nil || k.Material == "" {
			return k, err
		}
	}
}

// errUnchanged ends a change without one.
var errUnchanged = errors.New("unchanged")

// change edits one key and writes it.
func (r *Realm) change(ctx context.Context, ref, op, by string, edit func(k *Key, keys []Key) error) (Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return Key{}, err
	}
	k, err := find(rec.Keys, ref)
	if err != nil {
		return Key{}, err
	}
	if k.State == Deleted {
		return k, fmt.Errorf("key %s is deleted: %w", k.Name, ErrRefused)
	}
	was := string(k.State)
	err = edit(&k, rec.Keys)
	if errors.Is(err, errUnchanged) {
		return k, nil
	}
	if err == nil {
		if err := r.intend(ctx, k, op, by); err != nil {
			return k, err
		}
		err = r.write(ctx, Change{Replace: []Key{k}})
	}
	if err == nil {
		k.Revision++
	}
	return k, r.record(ctx, k, op, was, by, err)
}

// leaves refuses to take away the only key that signs with an algorithm. Another
// node that has no key any more makes itself one.
func (r *Realm) leaves(keys []Key, gone Key) error {
	if gone.State != Active || !r.held(gone) {
		return nil
	}
	rest := slices.DeleteFunc(r.here(keys), func(k Key) bool { return k.ID == gone.ID })
	if _, err := signing(rest, gone.Use, gone.Algorithm); err != nil {
		return fmt.Errorf("that would leave no signing key for %s: add another one or rotate first: %w", gone.Algorithm, ErrRefused)
	}
	return nil
}

// enter notes the new state and since when.
func (k *Key) enter(to State, now time.Time) {
	now = now.UTC()
	k.State = to
	k.ActivateAt = time.Time{}
	switch to {
	case Active:
		k.Activated, k.PassiveAt, k.DisabledAt = now, time.Time{}, time.Time{}
	case Passive:
		k.PassiveAt, k.DisabledAt = now, time.Time{}
	case Disabled:
		k.DisabledAt = now
	case Deleted:
		k.DeletedAt = now
	}
}
