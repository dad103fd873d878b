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
	f := &r.facts
	of := map[token.ProfileName]FamilyName{r.profile.Name: r.family.Name()}
	family := func(name token.ProfileName) (FamilyName, error) {
		if n, known := of[name]; known || name == "" {
			return n, nil
		}
		n, err := r.e.familyOf(ctx, name)
		of[name] = n
		return n, err
	}
	var err error
	if f.Record != nil {
		if f.Recorded, err = family(f.Record.Profile); err != nil {
			return err
		}
	}
	for _, c := range f.Certs {
		if c.State != token.CertActive && c.State != token.CertOnHold {
			continue
		}
		n, err := family(c.Profile)
		if err != nil {
			return err
		}
		if n != "" && n != r.family.Name() {
			f.Elsewhere = c.Profile
		}
	}
	return nil
}

// familyOf is the family of a profile, empty where that is gone or cannot be read.
func (e *Engine) familyOf(ctx context.Context, name token.ProfileName) (FamilyName, error) {
	rec, err := e.Profiles.Profile(ctx, name)
	if errors.Is(err, token.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", within(StatusDatabase, StepRead, err)
	}
	p, err := profile.Decode([]byte(rec.Document))
	if err != nil {
		return "", nil
	}
	return FamilyName(p.Family), nil
}

// ofOtherFamily reports whether a certificate belongs to an applet that an operation did
// not touch.
func (e *Engine) ofOtherFamily(ctx context.Context, c token.Certificate, j token.Journal) (bool, error) {
	if c.Profile == j.Profile {
		return false, nil
	}
	mine, err := e.familyOf(ctx, j.Profile)
	if err != nil {
		return false, err
	}
	its, err := e.familyOf(ctx, c.Profile)
	return its != "" && its != mine, err
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
