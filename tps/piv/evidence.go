package piv

import (
	"context"
	"crypto"
	"fmt"

	"inkan/apdu/piv"
	"inkan/tps"
	"inkan/tps/piv/attest"
	"inkan/tps/profile"
)

// verifies says whether this node can verify what the profile demands of attestations.
func (f Family) verifies(p profile.Profile) error {
	if !p.PIV.Attest {
		return nil
	}
	if err := f.Attest.Has(p.PIV.AttestRoots); err != nil {
		return tps.Fail(tps.StatusMisconfiguration, fmt.Errorf("profile %s demands attested keys, which this node cannot verify: %w", p.Name, err))
	}
	_, _, err := demandsOf(p)
	return err
}

// demandsOf are the firmware and the form factors that the profile demands.
func demandsOf(p profile.Profile) (least piv.Version, forms []piv.FormFactor, err error) {
	if p.PIV.AttestFirmware != "" {
		if least, err = piv.ParseVersion(p.PIV.AttestFirmware); err != nil {
			return least, nil, fmt.Errorf("profile %s: piv.attest_firmware: %w", p.Name, err)
		}
	}
	for _, name := range p.PIV.AttestForms {
		form, err := piv.ParseFormFactor(name)
		if err != nil {
			return least, nil, fmt.Errorf("profile %s: piv.attest_forms: %w", p.Name, err)
		}
		forms = append(forms, form)
	}
	return least, forms, nil
}

// unproved foresees that a card without card manager cannot attest as the profile
// demands, while nothing on it has been changed: by its firmware, of which it may lie,
// and by its attestation certificate. One with a card manager may get a new applet.
func (r *reader) unproved(ctx context.Context, f Family, p profile.Profile) {
	if f.verifies(p) != nil { // which Check says
		return
	}
	card, err := attest.ReadCard(ctx, r.d)
	if r.told(err); r.err != nil {
		return
	}
	if err == nil {
		err = f.Attest.VerifyCard(card, p.PIV.AttestRoots)
	}
	least, _, _ := demandsOf(p)
	told, unreadable := piv.ParseVersion(r.c.Version)
	if err == nil && unreadable == nil && !told.AtLeast(least.Major, least.Minor, least.Patch) {
		err = fmt.Errorf("the card has the firmware %v, at least %v is demanded", told, least)
	}
	if err != nil {
		r.c.Unproved = tps.Fail(tps.StatusDisabledToken,
			fmt.Errorf("the card cannot attest its keys as profile %s demands, and was left as it is: %w", p.Name, err))
	}
}

var _ tps.Attester = (*applet)(nil)

// Attest implements tps.Attester: where the profile demands it the card attests a key, and
// the evidence is verified against what the profile demands and the card tells of itself.
func (a *applet) Attest(ctx context.Context, k profile.Key, pub crypto.PublicKey) (string, error) {
	if !a.profile.PIV.Attest {
		return "", nil
	}
	slot := slotOf(k)
	e, err := attest.Read(ctx, a.link.Doer(), slot)
	if err != nil {
		return "", forGood(fmt.Errorf("the card does not attest its key, as profile %s demands: %w", a.profile.Name, err))
	}
	want, err := a.demands(ctx)
	if err != nil {
		return "", err
	}
	want.Public, want.Slot, want.Policy = pub, slot, policyOf(k)
	if _, err := a.family.Attest.Verify(ctx, e, want); err != nil {
		return "", tps.Final(fmt.Errorf("the key in slot %v: %w", slot, err))
	}
	return string(e.PEM()), nil
}

// demands is what every key of the card has to prove. The serial number is the one that
// the card is known by here, else the one that it tells; the firmware no older than it
// tells and than the profile demands.
func (a *applet) demands(ctx context.Context) (attest.Demands, error) {
	least, forms, err := demandsOf(a.profile)
	if err != nil {
		return attest.Demands{}, err
	}
	d := attest.Demands{Forms: forms, Roots: a.profile.PIV.AttestRoots, Firmware: least}
	told, err := piv.ReadVersion(ctx, a.link.Doer())
	if refusal(err) != nil {
		return d, err
	}
	if told.AtLeast(least.Major, least.Minor, least.Patch) {
		d.Firmware = told
	}
	if n, known := serialOf(a.link.Card().CUID); known {
		d.Serial = n
	} else if d.Serial, err = piv.ReadSerial(ctx, a.link.Doer()); refusal(err) != nil {
		return d, err
	}
	return d, nil
}
