package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks"
)

// Target is one version of a key set.
type Target struct {
	KeySet  tks.KeySetName `json:"set"`
	Version gp.KeyVersion  `json:"version"`
}

// Grant is a key changeover of a card whose proof did not say which card it is.
type Grant struct {
	KDD  gp.KDD    `json:"kdd"`
	CUID apdu.CUID `json:"cuid"` // as claimed
	From Target    `json:"from"`
	To   Target    `json:"to"`
	Time time.Time `json:"time"`
}

// Ledger remembers which cards were keyed from a published or undiversified key
// set. Whoever claims the KDD of such a card gets its keys wrapped under a key
// that everybody knows, so a card gets that once: the grant stays open while the
// changeover may still be cut (the same changeover asked again is the same
// grant), is used up when the card has proved itself under the new keys, and
// comes back only when an agent releases the card.
//
// Every method returns after its effect is durable. Implementations are safe for
// concurrent use.
type Ledger interface {
	// Grant records a changeover, or finds it recorded. [ErrGranted] where the
	// card was keyed before, or another changeover of it is open.
	Grant(ctx context.Context, g Grant) error
	// Complete uses up the open grant of a card to a target. Nothing happens
	// where there is none.
	Complete(ctx context.Context, kdd gp.KDD, to Target) error
	// Release lets a card be keyed once more. [ErrNotGranted] where it was not.
	Release(ctx context.Context, kdd gp.KDD, by string) error
	// Lookup returns the last changeover of a card; ok is false where there is
	// none or it was released.
	Lookup(ctx context.Context, kdd gp.KDD) (e Entry, ok bool, err error)
}

// Entry is what a ledger knows about a card.
type Entry struct {
	Grant
	Completed bool // the card has proved itself under the new keys
}

// Errors of a ledger.
var (
	// ErrGranted is a tks.ErrDenied when it comes out of the service.
	ErrGranted = errors.New("card was keyed before; an agent must release it first (inkan token release)")
	// ErrNotGranted: there is nothing to release.
	ErrNotGranted = errors.New("card has not been keyed from a published key set, there is nothing to release")
)

// book is the state of a ledger in memory: what follows from its entries.
type book map[gp.KDD]Entry

// Kinds of entries.
const (
	kindGrant    = "grant"
	kindComplete = "complete"
	kindRelease  = "release"
)

// entry is one line of a ledger.
type entry struct {
	Kind string    `json:"kind"`
	KDD  gp.KDD    `json:"kdd"`
	Time time.Time `json:"time"`

	Grant *Grant `json:"grant,omitempty"` // grant
	By    string `json:"by,omitempty"`    // release
}

// apply follows one entry.
func (b book) apply(e entry) error {
	switch e.Kind {
	case kindGrant:
		if e.Grant == nil || e.Grant.KDD != e.KDD {
			return errors.New("grant without its card")
		}
		b[e.KDD] = Entry{Grant: *e.Grant}
	case kindComplete:
		was, ok := b[e.KDD]
		if !ok {
			return errors.New("completion without a grant")
		}
		was.Completed = true
		b[e.KDD] = was
	case kindRelease:
		delete(b, e.KDD)
	default:
		return fmt.Errorf("entry of unknown kind %q", e.Kind)
	}
	return nil
}

// decide is what a request for a grant comes to: new, or the same as before.
func (b book) decide(g Grant) (isNew bool, err error) {
	was, ok := b[g.KDD]
	switch {
	case !ok:
		return true, nil
	case was.Completed, was.To != g.To:
		return false, fmt.Errorf("card with KDD %v, keyed with %s version %v on %s: %w",
			g.KDD, was.To.KeySet, was.To.Version, was.Time.Format(time.DateOnly), ErrGranted)
	}
	return false, nil
}
