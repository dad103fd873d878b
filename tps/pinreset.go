package tps

import "inkan/tps/token"

// PIN reset gives the owner of an active card a new PIN and a full try counter.
// It never loads an applet: that would wipe the card (DEF-48). See
// tps-operations §8.
//
//	ask-pin        before anything is touched
//	change-keys    where the profile asks for it
//	change-applet-keys
//	set-pin
//	record-token

func planPINReset(f Facts) (Plan, error) {
	if f.state() != token.Active {
		return nil, refuse(StatusNotPINResettable, "the card's state is %s: only an active card's PIN can be reset", f.state())
	}
	p, err := f.policy()
	if err != nil {
		return nil, within(StatusMisconfiguration, "", err)
	}
	if !p.PINReset || !f.Profile.PIN.Reset {
		return nil, refuse(StatusNotPINResettable, "the card's policy or profile does not allow a PIN reset")
	}
	if !f.Contents.Present {
		return nil, refuse(StatusNotPINResettable, "the card has lost its applet; it has to be enrolled again")
	}
	if err := f.Contents.Locked; err != nil {
		return nil, within(StatusNotPINResettable, "", err)
	}
	if err := mayUseOwn(f); err != nil {
		return nil, err
	}
	if err := mayActivate(f, OpPINReset); err != nil {
		return nil, err
	}
	plan := append(Plan{askPINStep(f)}, known(f)...)
	if f.wantsKeys(OpPINReset) {
		plan = append(plan, changeKeysStep(f))
	}
	if f.wantsOwn(OpPINReset, false) {
		plan = append(plan, changeAppletKeysStep(f, false))
	}
	once := map[string]string{"applet": f.recordedApplet()}
	if p.ResetPINResetToNo {
		once["pin_reset"] = "no"
	}
	return append(plan, setPINStep(f), recordStep(f, once)), nil
}
