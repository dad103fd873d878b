package tps

import (
	"context"
	"errors"

	"inkan/tps/profile"
	"inkan/tps/token"
)

// A card may carry applets of more than one family, but it has one record, one profile
// and one owner. Format and enroll empty the applet of their profile's family alone: keys
// in another one stay on the card. So a card with good certificates in another one is
// theirs only where the profile says so ([card] other_family).

// readFamilies finds the family of the card's record, and a profile of another family than
// the operation's whose certificates on the card are still good.
func (r *run) readFamilies(ctx context.Context) error {
	f, of := &r.facts, profileFamilies{e: r.e, known: map[token.ProfileName]FamilyName{r.profile.Name: r.family.Name()}}
	var err error
	if f.Record != nil {
		if f.Recorded, err = of.family(ctx, f.Record.Profile); err != nil {
			return err
		}
	}
	for _, c := range f.Certs {
		if c.State != token.CertActive && c.State != token.CertOnHold {
			continue
		}
		other, err := of.differ(ctx, r.profile.Name, c.Profile)
		if err != nil {
			return err
		}
		if other {
			f.Elsewhere = c.Profile
		}
	}
	return nil
}

// profileFamilies finds the families of profiles, each once.
type profileFamilies struct {
	e     *Engine
	known map[token.ProfileName]FamilyName
}

// family is that of a profile, empty where that is gone or cannot be read.
func (f profileFamilies) family(ctx context.Context, name token.ProfileName) (FamilyName, error) {
	if n, known := f.known[name]; known || name == "" {
		return n, nil
	}
	rec, err := f.e.Profiles.Profile(ctx, name)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		return "", within(StatusDatabase, StepRead, err)
	}
	var p profile.Profile
	if err == nil {
		p, _ = profile.Decode([]byte(rec.Document)) // the zero one has none
	}
	f.known[name] = FamilyName(p.Family)
	return f.known[name], nil
}

// differ reports whether a profile is known to be of another family than mine is.
func (f profileFamilies) differ(ctx context.Context, mine, other token.ProfileName) (bool, error) {
	if mine == other {
		return false, nil
	}
	m, err := f.family(ctx, mine)
	if err != nil {
		return false, err
	}
	o, err := f.family(ctx, other)
	return o != "" && o != m, err
}

// mayLeave refuses to take the certificates of an applet from people that the operation
// would leave on the card with its keys.
func mayLeave(f Facts) error {
	if op := f.Asked.Operation; f.Elsewhere == "" || f.Profile.Card.OtherFamily || op != OpFormat && op != OpEnroll {
		return nil
	}
	return refuse(StatusDisabledToken, "the card is in use with profile %s, in an applet of another kind, which profile %s would leave on it with its keys; "+
		"format the card with profile %s first, or have a profile with [card] other_family = true take it", f.Elsewhere, f.Profile.Name, f.Elsewhere)
}

// recordedApplet is the version for the card's record of an applet that was not prepared;
// empty where that is of another family than the recorded one.
func (f Facts) recordedApplet() string {
	if f.Recorded != "" && f.Recorded != f.Family.Name() {
		return ""
	}
	return f.appletAfter(false)
}
