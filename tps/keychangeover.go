package tps

import "cmp"

// Key changeover moves a card to the key set and version that its profile names.
// See tps-operations §10.
//
//	change-keys     point of no return: PUT KEY
//	change-applet-keys  an applet with keys of its own gets the profile's
//	record-token

func planKeyChangeover(f Facts) (Plan, error) {
	k := f.Profile.Keys
	if k.Version == 0 && f.wantedOwn().IsZero() {
		return nil, refuse(StatusMisconfiguration, "profile %s names no key version to change to ([keys] version = 0)", f.Profile.Name)
	}
	plan := known(f)
	if f.wantsKeys(OpKeyChangeover) {
		plan = append(plan, changeKeysStep(f))
	}
	if f.wantsOwn(OpKeyChangeover, false) {
		if err := cmp.Or(mayUseOwn(f), within(StatusKeyChangeover, "", f.Contents.Locked)); err != nil {
			return nil, err
		}
		plan = append(plan, changeAppletKeysStep(f, false))
	}
	return append(plan, recordStep(f, map[string]string{"applet": f.appletAfter(false)})), nil
}
