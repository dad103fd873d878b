package tps

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"inkan/apdu/secret"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// A card whose applet keeps its own keys behind its PIN ([PINKeyed]) is taken over by
// enrollment and key changeover: the person gives the PIN that it has, and it gets keys
// of its own before it loses those that it kept. What else it holds stays. A card that
// does not say whether it does ([MaybeBehindPIN]) is asked with its PIN where nothing
// else is left.
//
//	ask-card-pin        before anything is touched
//	change-applet-keys  the card's keys in place of those that it keeps
//	forget-card-keys    nothing on the card says any more that it keeps keys
//
// Cut before the new keys are on the card, the operation asks for the PIN again; cut
// behind, the card proves the new ones, and what it has to forget stands in the journal.

// FieldCardPIN is the one field of the form that asks for the PIN that a card has.
const FieldCardPIN = "CARD_PIN"

// ErrCardPIN means that the card does not take the PIN, and that another may be tried.
var ErrCardPIN = errors.New("the card does not take the PIN")

// byPIN marks the journal entry of keys that were changed by the card's PIN.
const byPIN = "by"

// takesOver reports whether the operation is to take the card over by its PIN.
func (f Facts) takesOver() bool {
	_, ok := f.Family.(PINKeyed)
	op := f.Asked.Operation
	return ok && f.Card.Own.IsZero() && (op == OpEnroll || op == OpKeyChangeover) && f.wantsOwn(op, false) && f.behindPIN()
}

// behindPIN reports whether the card keeps its applet's keys behind its PIN, or is to be
// asked by it since it may, and the operation cannot empty it instead.
func (f Facts) behindPIN() bool {
	if f.Contents.Behind != MaybeBehindPIN || f.Asked.Operation == OpKeyChangeover {
		return f.Contents.Behind != NotBehindPIN
	}
	return f.mayWipe() != nil
}

// takenOver reports whether the card's keys may have been changed by its PIN.
func (h history) takenOver() bool {
	e, ok := h.last(StepAppletKeys)
	return ok && e.Data[byPIN] == "pin"
}

// mayTake refuses what would fail only after the PIN was asked for.
func mayTake(f Facts) error {
	if !f.takesOver() {
		return nil
	}
	known := f.state() != token.Unformatted || historyOf(f.Open).takenOver()
	if err := f.Family.(PINKeyed).MayTake(f.Contents, known, f.Profile); err != nil {
		return within(StatusDisabledToken, "", err)
	}
	if f.asksCardPIN() && !f.Asked.Forms {
		return refuse(StatusSecureChannel, "the card %s, and this client cannot ask for that (it knows no extended login); use inkan card or inkan kiosk; the card is as it was", f.whyPIN())
	}
	return nil
}

// whyPIN says of the card why its PIN is asked for.
func (f Facts) whyPIN() string {
	if f.Contents.Behind == MaybeBehindPIN {
		return "has keys that are not known here, and may keep them behind its PIN"
	}
	return "keeps its keys behind its PIN"
}

// asksCardPIN reports whether the card has a PIN that nobody here knows: its own, or the
// one that it gets back after a cut left it with that of a new card.
func (f Facts) asksCardPIN() bool {
	return f.Contents.HasPIN || f.Asked.Operation == OpKeyChangeover && historyOf(f.Open).takenOver()
}

// askCardPIN begins the plan of an operation that takes the card over.
func askCardPIN(f Facts) Plan {
	if !f.takesOver() {
		return nil
	}
	return Plan{{Name: StepCardPIN, Kind: Harmless, Weight: 1, Task: string(StepCardPIN), Fail: StatusLogin,
		Do: func(ctx context.Context, r *run) error {
			if !f.asksCardPIN() {
				return r.family.(PINKeyed).ProveByPIN(ctx, r.link, secret.PIN{})
			}
			return r.askCardPIN(ctx)
		}}}
}

// askCardPIN asks for the PIN until the card takes it, as often as the profile allows
// and the card has tries to spare.
func (r *run) askCardPIN(ctx context.Context) error {
	form := auth.Form{Title: "PIN of the card", Description: "The card " + r.facts.whyPIN() + ": enter the PIN that it has now.",
		Fields: []auth.Field{{ID: FieldCardPIN, Name: "PIN of the card", Secret: true}}}
	for try := 1; ; try++ {
		answers, err := r.cl.Login(ctx, form)
		if err != nil {
			return fmt.Errorf("asking for the card's PIN: %w", err)
		}
		pin, err := secret.NewPIN(answers[FieldCardPIN].Bytes())
		if err != nil { // nothing that a card could take
			err = fmt.Errorf("%w: %w", ErrCardPIN, err)
		} else {
			err = r.family.(PINKeyed).ProveByPIN(ctx, r.link, pin)
		}
		if err == nil {
			r.cardPIN = pin
			return nil
		}
		answers.Wipe()
		if !errors.Is(err, ErrCardPIN) || try >= r.profile.Auth.Retries {
			return err
		}
		text := err.Error()
		form.Invalid, form.Description = true, strings.ToUpper(text[:1])+text[1:]+". Enter the PIN that the card has now."
	}
}

// forgetCardKeys is the step behind the change of a card's keys by its PIN, planned now
// or before a cut.
func forgetCardKeys(f Facts, h history) Plan {
	if !f.takesOver() && (!h.takenOver() || h.done(StepForget)) {
		return nil
	}
	return Plan{{Name: StepForget, Kind: Irreversible, Weight: 2, Task: string(StepForget), Event: "TOKEN_KEY_CHANGEOVER",
		Fail: StatusKeyChangeover, Do: func(ctx context.Context, r *run) error { return r.forget(ctx) }}}
}

// forget leaves a card that is used as if it had been prepared here.
func (r *run) forget(ctx context.Context) error {
	r.applet = nil
	if r.dry != nil {
		r.dry.forgot = true
	} else if err := r.family.(PINKeyed).Forget(ctx, r.link); err != nil {
		return fmt.Errorf("having the card forget the keys that it kept: %w", err)
	}
	return r.updateToken(ctx, func(t *token.Token) {
		if t.State == token.Unformatted {
			t.State = token.Formatted
		}
	})
}

// forgetLeft has a card forget, before the operation that took it over is rolled back.
func (r *run) forgetLeft(ctx context.Context) error {
	h := historyOf(r.facts.Open)
	if _, ok := r.family.(PINKeyed); !ok || !h.takenOver() || h.done(StepForget) || r.card.Own.IsZero() {
		return nil
	}
	if err := r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Attempt, nil); err != nil {
		return err
	}
	if err := r.forget(ctx); err != nil {
		return errors.Join(err, r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Failure, map[string]string{"info": err.Error()}))
	}
	return r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Success, nil)
}
