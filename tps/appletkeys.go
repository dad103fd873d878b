package tps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/tks"
	"inkan/tps/audit"
	"inkan/tps/token"
)

// Keys that an applet has of its own ([KeyChanger]): which the card has is proved when
// it is read, like the keys of the card manager, and kept in its record. An applet that
// was just prepared has the published ones; no card becomes ACTIVE with these.

// proveApplet has the applet prove its own keys. A card without card manager proves
// itself by them, and one that is known here must: its CUID is a claim until then.
func (r *run) proveApplet(ctx context.Context) error {
	kc, ok := r.family.(KeyChanger)
	if !ok || !r.facts.Contents.Present {
		if r.card.Unmanaged {
			return refuse(StatusNoCardManager, "the card has no card manager, and profile %s is for applets that need one", r.profile.Name)
		}
		return nil
	}
	// The management key is used to prove the card: not on somebody else's behalf.
	if err := mayWithOwner(r.facts); err != nil {
		return err
	}
	own, err := kc.KeyVersion(ctx, r.link, r.ownCandidates(kc))
	if err != nil {
		return within(StatusSecureChannel, StepRead, fmt.Errorf("having the applet prove its keys: %w", err))
	}
	r.card.Own = own
	rec := r.facts.Record
	switch {
	case rec == nil || rec.AppletKeys == own:
		return nil
	case !own.IsZero():
		return r.recordAppletKeys(ctx) // cut between the card's change and its record
	case !r.card.Unmanaged || rec.AppletKeys.IsZero():
		return nil // the keys of its card manager say who it is, or it is as good as unknown
	}
	err = refuse(StatusSecureChannel, "the card claims to be %s and does not have that card's keys (%s)", r.card.CUID, rec.AppletKeys)
	info := map[string]string{"info": err.Error()}
	return errors.Join(err, r.audit(ctx, "TOKEN_KEY_SANITY_CHECK", audit.Failure, info))
}

// ownCandidates are the keys that the applet may have. Published ones count only
// where the card is new here, where its card manager has proved who it is, or where
// they may be what a cut operation left.
func (r *run) ownCandidates(kc KeyChanger) (asks []token.AppletKeys) {
	add := func(k token.AppletKeys) {
		if !k.IsZero() && !slices.Contains(asks, k) {
			asks = append(asks, k)
		}
	}
	rec, h := r.facts.Record, historyOf(r.facts.Open)
	if e, ok := h.last(StepAppletKeys); ok && !e.Confirmed {
		for _, text := range []string{e.Data["to"], e.Data["from"]} {
			if k, err := token.ParseAppletKeys(text); err == nil {
				add(k)
			}
		}
	}
	known := rec != nil && !rec.AppletKeys.IsZero()
	if known {
		add(rec.AppletKeys)
	} else {
		add(kc.WantedKeys(r.facts.Contents, r.profile))
	}
	if !known || !r.card.Unmanaged || h.begunAnywhere(StepPrepare) {
		add(token.AppletKeys{Set: tks.Factory})
	}
	return asks
}

// wantedOwn are the keys of its own that the applet is to have; zero = those it has.
func (f Facts) wantedOwn() token.AppletKeys {
	kc, ok := f.Family.(KeyChanger)
	if !ok {
		return token.AppletKeys{}
	}
	return kc.WantedKeys(f.Contents, f.Profile)
}

// wantsOwn reports whether op is to give the applet other keys of its own. Published
// ones are replaced by every enrollment.
func (f Facts) wantsOwn(op Operation, prepared bool) bool {
	want, have := f.wantedOwn(), f.Card.Own
	if want.IsZero() {
		return false
	}
	if prepared {
		have = token.AppletKeys{Set: tks.Factory}
	}
	published := have.IsZero() || have.Set == tks.Factory
	return have != want && (slices.Contains(f.Profile.Keys.ChangeOn, string(op)) || op == OpEnroll && published)
}

// finalSets are the key sets that the card has keys of when op is done.
func (f Facts) finalSets(op Operation) []tks.KeySetName {
	var sets []tks.KeySetName
	if !f.Card.Unmanaged {
		sets = append(sets, f.finalKeySet(op))
	}
	if _, ok := f.Family.(KeyChanger); !ok {
		return sets
	}
	switch want := f.wantedOwn(); {
	case !want.IsZero() && op == OpEnroll:
		sets = append(sets, want.Set)
	case f.Card.Own.IsZero():
		sets = append(sets, tks.Factory)
	default:
		sets = append(sets, f.Card.Own.Set)
	}
	return sets
}

// changeAppletKeysStep gives the applet its own keys.
func changeAppletKeysStep(f Facts, prepared bool) Step {
	from, to := f.Card.Own, f.wantedOwn()
	if prepared {
		from = token.AppletKeys{Set: tks.Factory}
	}
	intent := map[string]string{"from": from.String(), "to": to.String()}
	change := func(ctx context.Context, r *run) error {
		return r.family.(KeyChanger).ChangeKeys(ctx, r.link, r.profile, to)
	}
	if !prepared && f.takesOver() {
		intent[byPIN] = "pin"
		change = func(ctx context.Context, r *run) error {
			return r.family.(PINKeyed).ChangeByPIN(ctx, r.link, r.profile, r.cardPIN, to)
		}
	}
	return Step{
		Name: StepAppletKeys, Kind: Irreversible, Weight: 5, Task: string(StepAppletKeys), Event: "TOKEN_KEY_CHANGEOVER",
		Fail: StatusKeyChangeover, Intent: intent,
		Do: func(ctx context.Context, r *run) error {
			r.applet = nil
			if err := change(ctx, r); err != nil {
				return err
			}
			r.card.Own = to
			return r.recordAppletKeys(ctx)
		},
	}
}

// changeLeft finishes the change of the applet's own keys that a cut operation began, before
// that is rolled back: the applet may have some of the new ones already, and whatever comes
// next goes by its record. A card that is about to be emptied needs it not.
func (r *run) changeLeft(ctx context.Context) error {
	kc, ok := r.family.(KeyChanger)
	e, begun := historyOf(r.facts.Open).last(StepAppletKeys)
	if !ok || !begun || e.Confirmed || r.dry != nil || r.req.Operation == OpFormat || r.card.Own.IsZero() || r.card.Own.String() != e.Data["from"] {
		return nil
	}
	to, err := token.ParseAppletKeys(e.Data["to"])
	if err != nil {
		return fmt.Errorf("reading the journaled keys: %w", err)
	}
	if err := r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Attempt, e.Data); err != nil {
		return err
	}
	r.applet = nil
	err = kc.ChangeKeys(ctx, r.link, r.profile, to)
	if errors.Is(err, tks.ErrUnknownKeyVersion) {
		err = nil // so that nothing has come of it
	} else if err == nil {
		r.card.Own = to
		err = r.recordAppletKeys(ctx)
	}
	if err != nil {
		err = fmt.Errorf("finishing the change of the applet's keys: %w", err)
		return errors.Join(err, r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Failure, map[string]string{"info": err.Error()}))
	}
	return r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Success, e.Data)
}

// recordAppletKeys writes the applet's proved keys to the card's record at once.
func (r *run) recordAppletKeys(ctx context.Context) error {
	return r.updateToken(ctx, func(t *token.Token) { t.AppletKeys = r.card.Own })
}
