package tps

import (
	"cmp"
	"fmt"
	"slices"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// Enroll gives a person a card: PIN, key pairs, certificates.
// See tps-operations §4.
//
//	ask-card-pin         of a card that keeps its keys behind it, see takeover.go
//	ask-pin              before anything is touched
//	register-token       a card that is new here gets its record
//	prepare-applet       if the card has no applet, another version, or is new here
//	change-keys          where the profile asks for it
//	change-applet-keys   an applet with keys of its own gets the card's
//	forget-card-keys
//	set-pin
//	keep-certificate TYPE  instead of the next two, where the profile keeps a key
//	generate-key TYPE    point of no return for what the slot held
//	import-key TYPE      instead, where the server makes the key
//	issue-certificate TYPE
//	write-contents       certificates and descriptions, read back
//	write-issuer         if the applet stays and holds another address
//	finish-card          personalised; slots nothing refers to are cleared
//	record-token         ACTIVE, certificates active, old ones revoked
//
// After a cut the same request goes on where the journal and the card say: keys
// whose making is confirmed are not made again, and asking for a certificate
// again returns the same one.

func planEnroll(f Facts) (Plan, error) {
	if err := mayEnroll(f); err != nil {
		return nil, err
	}
	h := historyOf(f.Open)
	prepare := needsPrepare(f, h)
	if err := mayOverwrite(f, prepare, h); err != nil {
		return nil, err
	}
	var plan Plan
	if prepare {
		if err := mayPrepare(f); err != nil {
			return nil, err
		}
		h = history{} // a prepared applet is empty: nothing done before counts
	} else {
		if err := mayTake(f); err != nil {
			return nil, err
		}
		plan = askCardPIN(f)
	}
	if err := mayImport(f, prepare, h); err != nil {
		return nil, err
	}
	setPIN := !h.done(StepSetPIN) || !f.Contents.HasPIN || f.pinForKeys(prepare, h)
	if setPIN {
		if err := f.Contents.Locked; err != nil && !prepare && !f.takesOver() {
			return nil, within(StatusNotPINResettable, "", err)
		}
		plan = append(plan, askPINStep(f))
	}
	plan = append(plan, known(f)...)
	if prepare {
		plan = append(plan, prepareStep(f))
	}
	if f.wantsKeys(OpEnroll) {
		plan = append(plan, changeKeysStep(f))
	}
	if f.wantsOwn(OpEnroll, prepare) {
		plan = append(plan, changeAppletKeysStep(f, prepare))
	}
	if !prepare {
		plan = append(plan, forgetCardKeys(f, h)...)
	}
	if setPIN {
		plan = append(plan, setPINStep(f))
	}
	for _, k := range f.Profile.Key {
		if c, ok := f.kept(k, prepare, h); ok {
			plan = append(plan, keepStep(k, c))
			continue
		}
		if f.makes(k, h) {
			plan = append(plan, makeStep(k))
		}
		plan = append(plan, issueStep(f, k))
	}
	plan = append(plan, writeStep(f))
	if !prepare && f.wantsIssuer() {
		plan = append(plan, writeIssuerStep(f))
	}
	return append(plan, finishStep(), recordStep(f, map[string]string{
		"applet": f.appletAfter(prepare), "old_certs": f.Profile.Enroll.OldCerts,
	})), nil
}

// makes reports whether a key that is not kept has to be made: it was not yet, or the
// card does not have it.
func (f Facts) makes(k profile.Key, h history) bool {
	e, begun := h.made(k.Type)
	return !begun || !e.Confirmed || !f.hasSlot(k)
}

// pinForKeys reports whether the card is still to make a key that needs the PIN for it: a
// PIN that was set before a cut is known to nobody here.
func (f Facts) pinForKeys(prepare bool, h history) bool {
	u, ok := f.Family.(PINUser)
	return ok && slices.ContainsFunc(f.Profile.Key, func(k profile.Key) bool {
		_, kept := f.kept(k, prepare, h)
		return !kept && !k.ServerMade() && u.NeedsPIN(k) && f.makes(k, h)
	})
}

func mayEnroll(f Facts) error {
	if err := mayBecomeActive(f); err != nil {
		return err
	}
	if f.OtherActive != nil && !f.Profile.Enroll.SeveralActive {
		return refuse(StatusOtherActiveToken, "you have another active card, %s", f.OtherActive.Pretty())
	}
	if err := mayActivate(f, OpEnroll); err != nil {
		return err
	}
	if len(f.Profile.Key) == 0 {
		return refuse(StatusMisconfiguration, "profile %s has no keys to enroll", f.Profile.Name)
	}
	if _, _, err := f.labels(); err != nil {
		return err
	}
	if f.Ready.CA != nil {
		return within(StatusEnroll, "", fmt.Errorf("certificates cannot be issued now: %w", f.Ready.CA))
	}
	return within(StatusMisconfiguration, "", cmp.Or(f.Family.Check(f.Contents, f.Profile), f.Contents.Unproved))
}

// mayOverwrite refuses to replace a key that the profile wants kept, or that has to stay
// and has nowhere to go. A resumed enrollment replaces its own.
func mayOverwrite(f Facts, prepare bool, h history) error {
	if prepare {
		return nil
	}
	for _, k := range f.Profile.Key {
		if _, keep := f.kept(k, prepare, h); keep {
			continue
		}
		if f.Contents.Crowded != nil && k.Retire > 0 && f.makes(k, h) {
			return within(StatusEnroll, "", fmt.Errorf("%w; the card was not changed", f.Contents.Crowded))
		}
		if f.Open != nil {
			continue
		}
		if !k.Overwrite && slices.ContainsFunc(f.Contents.Slots, func(s Slot) bool { return s.Number == k.PrivateSlot() }) {
			return refuse(StatusEnroll, "the card has a %s key already, and profile %s does not overwrite it", k.Type, f.Profile.Name)
		}
	}
	return nil
}

// mayBecomeActive checks state and policy.
func mayBecomeActive(f Facts) error {
	s := f.state()
	fresh := f.Record == nil || f.Open != nil || mayBring(f) == nil // a new card is formatted on the way
	if !s.MayBecome(token.Active) && !(s == token.Unformatted && fresh) {
		return refuse(StatusDisabledToken, "a card in state %s cannot be enrolled; format it first", s)
	}
	p, err := f.policy()
	if err != nil {
		return within(StatusMisconfiguration, "", err)
	}
	if f.Record != nil && f.Open == nil && !p.ReEnroll && !p.Renew {
		return refuse(StatusDisabledToken, "the card's policy does not allow another enrollment")
	}
	return nil
}

// needsPrepare reports whether the applet has to be loaded anew before keys are made.
func needsPrepare(f Facts, h history) bool {
	if !f.Contents.Present || h.begun(StepPrepare) && !h.done(StepPrepare) || mayUseOwn(f) != nil {
		return true
	}
	if f.Profile.Applet.Update && f.Contents.Version != f.wantedVersion() {
		return true
	}
	if h.done(StepPrepare) {
		return false
	}
	p, err := f.policy()
	fresh := f.state() == token.Unformatted && !f.takesOver() && !h.takenOver()
	return err != nil || p.ForceFormat || fresh || f.slotsClash()
}

// slotsClash reports whether a slot holds a key of another size than the profile
// wants: a card does not change that in place.
func (f Facts) slotsClash() bool {
	return !f.Contents.Loose && slices.ContainsFunc(f.Profile.Key, func(k profile.Key) bool {
		return slices.ContainsFunc(f.Contents.Slots, func(s Slot) bool { return s.Number == k.PrivateSlot() && !s.fits(k) })
	})
}

// hasSlot reports whether the card shows a key of the right size in k's slot.
func (f Facts) hasSlot(k profile.Key) bool {
	return slices.ContainsFunc(f.Contents.Slots, func(s Slot) bool { return s.fits(k) })
}

func (f Facts) policy() (token.Policy, error) {
	if f.Record == nil {
		return token.ParsePolicy("")
	}
	return token.ParsePolicy(f.Record.Policy)
}
