package tps

import "cmp"

// Key changeover moves a card to the key set and version that its profile names.
// See tps-operations §10.
//
//	ask-card-pin    of a card that keeps its applet's keys behind it, see takeover.go
//	change-keys     point of no return: PUT KEY
//	change-applet-keys  an applet with keys of its own gets the profile's
//	forget-card-keys
//	record-token

func planKeyChangeover(f Facts) (Plan, error) {
	k := f.Profile.Keys
	if k.Version == 0 && f.wantedOwn().IsZero() {
		return nil, refuse(StatusMisconfiguration, "profile %s names no key version to change to ([keys] version = 0)", f.Profile.Name)
	}
	if err := mayTake(f); err != nil {
		return nil, err
	}
	plan := append(askCardPIN(f), known(f)...)
	if f.wantsKeys(OpKeyChangeover) {
		plan = append(plan, changeKeysStep(f))
	}
	if f.wantsOwn(OpKeyChangeover, false) {
		if err := cmp.Or(mayUseOwn(f), f.lockedOut()); err != nil {
			return nil, err
		}
		plan = append(plan, changeAppletKeysStep(f, false))
	}
	plan = append(plan, forgetCardKeys(f, historyOf(f.Open))...)
	return append(plan, recordStep(f, map[string]string{"applet": f.recordedApplet()})), nil
}

// lockedOut refuses a card on which no PIN can be set any more; with its PIN it can.
func (f Facts) lockedOut() error {
	if f.takesOver() {
		return nil
	}
	return within(StatusKeyChangeover, "", f.Contents.Locked)
}
