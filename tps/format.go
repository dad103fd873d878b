package tps

import (
	"fmt"
	"slices"

	"inkan/tps/token"
)

// Format empties a card: an applet of the profile's version without keys, PIN
// and objects, the site's keys where the profile says so, the certificates of
// its former content revoked, no owner. See tps-operations §3.
//
//	register-token        a card that is new here gets its record
//	prepare-applet        point of no return: what the card carried is gone
//	change-keys           where [keys] version and change_on ask for it
//	change-applet-keys    likewise, an applet with keys of its own
//	revoke-certificates   of the former content; needs no card
//	record-token          FORMATTED, no owner; needs no card

func planFormat(f Facts) (Plan, error) {
	if !f.state().MayBecome(token.Formatted) {
		return nil, refuse(StatusDisabledToken, "a card in state %s cannot be formatted", f.state())
	}
	if err := mayPrepare(f); err != nil {
		return nil, err
	}
	if f.Profile.Format.Revoke && f.Ready.CA != nil && slices.ContainsFunc(f.Certs, revocable) {
		return nil, within(StatusRevocationFailed, "", fmt.Errorf("the card's certificates cannot be revoked now: %w", f.Ready.CA))
	}
	plan := append(known(f), prepareStep(f))
	if f.wantsKeys(OpFormat) {
		plan = append(plan, changeKeysStep(f))
	}
	if f.wantsOwn(OpFormat, true) {
		plan = append(plan, changeAppletKeysStep(f, true))
	}
	return append(plan, revokeStep(f), recordStep(f, map[string]string{"applet": f.wantedVersion()})), nil
}

// revocable reports whether a certificate is still to be revoked when its card
// is emptied. What is on hold stays so: it may be shared.
func revocable(c token.Certificate) bool {
	return c.State == token.CertActive || c.State == token.CertUninitialized
}
