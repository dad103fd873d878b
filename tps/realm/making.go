package realm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"inkan/tps/audit"
	"inkan/tps/token"
)

// Making is a private half on its way into the vault. It is noted before the vault
// has it and forgotten with the record of the key, so that whatever ends in between
// leaves none that nobody knows of.
type Making struct {
	Material string
	Node     string // that makes it
	Held     string // Node of the key
	Started  time.Time
}

// Makings stores them.
type Makings interface {
	BeginKey(ctx context.Context, m Making) error
	// EndKey forgets one. The record of its key does so as well.
	EndKey(ctx context.Context, material string) error
	// Makings are those whose keys have no record.
	Makings(ctx context.Context) ([]Making, error)
}

// abandoned is how old a making of another node is that will not end.
const abandoned = time.Hour

func (r *Realm) beginKey(ctx context.Context, k Key) error {
	err := r.cfg.Store.BeginKey(ctx, Making{Material: k.Material, Node: r.cfg.Node, Held: k.Node, Started: r.now().UTC()})
	if err != nil {
		return fmt.Errorf("noting the realm key that is to be made: %w", err)
	}
	return nil
}

// unmade takes the private half of a key whose record was refused out of the vault.
// Where the store did not say whether it has the record, sweep finds out.
func (r *Realm) unmade(ctx context.Context, k Key, err error) error {
	if errors.Is(err, token.ErrConflict) {
		return errors.Join(err, r.discard(ctx, k))
	}
	return err
}

// sweep destroys private halves that were left without a record: at the start those
// of this node, which makes none yet, and at any time those that are an hour old.
func (r *Realm) sweep(ctx context.Context, start bool) error {
	left, err := r.cfg.Store.Makings(ctx)
	if err != nil || len(left) == 0 {
		return err
	}
	for _, m := range left {
		ours := start && m.Node == r.cfg.Node
		if !r.held(Key{Node: m.Held}) || !ours && r.now().Sub(m.Started) < abandoned {
			continue
		}
		if err := r.sweepOne(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (r *Realm) sweepOne(ctx context.Context, m Making) error {
	e := audit.Event{Name: "REALM_KEY", Outcome: audit.Attempt, Subject: "policy", Fields: map[string]string{"op": "sweep", "material": m.Material, "node": m.Node}}
	if err := r.cfg.Audit.Record(ctx, e); err != nil {
		return fmt.Errorf("writing the audit record: %w", err)
	}
	err := r.discard(ctx, Key{Material: m.Material})
	e.Outcome = audit.Success
	if err != nil {
		err = fmt.Errorf("destroying a private half that no realm key has: %w", err)
		e.Outcome, e.Fields["info"] = audit.Failure, err.Error()
	}
	r.cfg.Log.WarnContext(ctx, "a realm key was not finished, its private half is destroyed", slog.String("material", m.Material), slog.Any("err", err))
	return errors.Join(err, r.cfg.Audit.Record(context.WithoutCancel(ctx), e))
}

// write stores a change, and lets Run see it at once.
func (r *Realm) write(ctx context.Context, ch Change) error {
	err := r.cfg.Store.ChangeRealm(ctx, ch)
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return err
}

// finishDestruction destroys private halves of keys that are deleted or compromised
// and that this node has.
func (r *Realm) finishDestruction(ctx context.Context, keys []Key) error {
	for _, k := range keys {
		if k.Material == "" || k.State != Deleted && k.Compromised.IsZero() {
			continue
		}
		if _, err := r.destroy(ctx, k); err != nil && !errors.Is(err, token.ErrConflict) {
			return err
		}
	}
	return nil
}

// unfinished reports whether finishDestruction has something to do.
func (r *Realm) unfinished(keys []Key) bool {
	return slices.ContainsFunc(keys, func(k Key) bool {
		return k.Material != "" && r.held(k) && (k.State == Deleted || !k.Compromised.IsZero())
	})
}
