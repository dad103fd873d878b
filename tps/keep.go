package tps

import (
	"context"
	"fmt"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// A key that the profile keeps outlives another enrollment of the same person: an
// encryption key that nobody archived is the only one to read what was encrypted
// to it. The card still has the key of an active certificate: whatever replaces or
// clears it here retires the certificate, also when it is cut, and a card that tells
// its keys shows what others did.

// kept is the certificate of a key that stays on the card: there is one that is
// good, the person's own and in the slot that the profile says.
func (f Facts) kept(k profile.Key, prepare bool, h history) (token.Certificate, bool) {
	_, begun := h.made(k.Type)
	switch {
	case !k.Keep, prepare, begun, !f.hasSlot(k):
		return token.Certificate{}, false
	case f.state() != token.Active || f.Record.UserID != f.Holder.ID:
		return token.Certificate{}, false
	}
	for _, c := range f.Certs {
		if c.KeyType == k.Type && c.Number == k.Cert && c.CA == k.CA && c.UserID == f.Holder.ID &&
			c.State == token.CertActive && c.Pending == "" && f.Now.Before(c.NotAfter) && f.hasKeyOf(k, c) == nil {
			return c, true
		}
	}
	return token.Certificate{}, false
}

// keepStep takes what is on the card for what the enrollment would have made.
func keepStep(k profile.Key, c token.Certificate) Step {
	return Step{Name: StepKeep.of(k.Type), Kind: Harmless, Weight: 1, Task: string(StepKeep), Fail: StatusEnroll,
		Do: func(_ context.Context, r *run) error {
			pub, err := publicOf(c)
			if err != nil {
				return fmt.Errorf("keeping a certificate: %w", err)
			}
			r.keep(k.Type, KeyResult{Public: pub})
			r.hold(k.Type, c)
			return nil
		}}
}
