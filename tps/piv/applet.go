package piv

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tps"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// applet is a PIV applet being personalised: selected, the management key proved. No
// other application is selected until it is done with, which would end both.
type applet struct {
	family    Family
	link      tps.Link
	profile   profile.Profile
	pin       secret.PIN // of SetPIN; the runner's to wipe
	discovery bool       // the card has no discovery object
	keepsKey  bool       // the card keeps its management key in the printed information
	guid      [16]byte   // of its CHUID, zero where it has none
}

// Open implements tps.Family.
func (f Family) Open(ctx context.Context, l tps.Link, p profile.Profile) (tps.Applet, error) {
	a := &applet{family: f, link: l, profile: p}
	es := apdu.Entries(apdu.Plain|apdu.Anyway, piv.SelectCommand(),
		piv.GetDataCommand(piv.Discovery), piv.GetDataCommand(piv.AdminData), piv.GetDataCommand(piv.CHUIDObject))
	es[0].Mode = apdu.Plain
	d, err := apdu.ReadAhead(ctx, l.Doer(), es)
	if err != nil {
		return nil, err
	}
	if _, err := piv.Select(ctx, d); err != nil {
		return nil, err
	}
	if err := a.read(ctx, d); err != nil {
		return nil, err
	}
	if err := authenticate(ctx, l, l.Card().Own); err != nil {
		return nil, err
	}
	return a, nil
}

// read learns what writing needs to know.
func (a *applet) read(ctx context.Context, d apdu.Doer) error {
	_, err := piv.GetData(ctx, d, piv.Discovery)
	if lost(err) {
		return err
	}
	a.discovery = piv.IsAbsent(err)
	admin, err := readAdminData(ctx, d)
	if err != nil {
		return err
	}
	a.keepsKey = admin.Stored
	have, err := readCHUID(ctx, d)
	a.guid = have.GUID
	return err
}

// SetPIN implements tps.Applet: the PUK sets the PIN, whatever that was. Where the
// profile wants another number of tries than the card has, the card makes PIN and PUK
// the factory's on the way; a cut there is found and mended by the next SetPIN.
func (a *applet) SetPIN(ctx context.Context, pin secret.PIN, tries int) error {
	return forGood(a.giveNewPIN(ctx, pin, tries))
}

func (a *applet) giveNewPIN(ctx context.Context, pin secret.PIN, tries int) error {
	d := a.link.Doer()
	m, err := piv.ReadMetadata(ctx, d, piv.PUK)
	told := err == nil
	if err := refusal(err); err != nil {
		return err
	}
	if told && m.Tries > 0 && m.Left == 0 {
		return tps.Fail(tps.StatusNotPINResettable, tps.Final(errBlockedPUK))
	}
	own := a.link.Card().Own
	if told && m.Default && !published(own) {
		if err := changePUK(ctx, a.link, factoryOf(own), own); err != nil {
			return err
		}
	}
	err = a.unblock(ctx, pin)
	if !told && err != nil {
		err = a.unblockUntold(ctx, pin, err)
	}
	if err != nil {
		return err
	}
	if tries != 0 {
		if err := a.setTries(ctx, pin, tries); err != nil {
			return err
		}
	}
	a.pin = pin
	return nil
}

// unblockUntold goes on where a card that tells nothing refused its PUK: a cut in setTries
// has left it the factory's. The last try is not spent on that.
func (a *applet) unblockUntold(ctx context.Context, pin secret.PIN, refused error) error {
	var wrong *piv.PINError
	own := a.link.Card().Own
	if published(own) || !errors.As(refused, &wrong) || wrong.Blocked() || wrong.Tries == 1 {
		return refused
	}
	next, err := puk(ctx, a.link, own)
	if err != nil {
		return err
	}
	defer next.Wipe()
	if err := tryPUKs(ctx, a.link, next, []token.AppletKeys{factoryOf(own)}); err != nil {
		return err
	}
	return a.unblock(ctx, pin)
}

// unblock sets the PIN with the card's PUK.
func (a *applet) unblock(ctx context.Context, pin secret.PIN) error {
	v, err := puk(ctx, a.link, a.link.Card().Own)
	if err != nil {
		return err
	}
	defer v.Wipe()
	err = piv.Unblock(ctx, a.link.Doer(), v, pin)
	var wrong *piv.PINError
	if errors.As(err, &wrong) && wrong.Blocked() {
		return tps.Fail(tps.StatusNotPINResettable, tps.Final(errBlockedPUK))
	}
	return err
}

// setTries sets the numbers of tries, unless the card has them.
func (a *applet) setTries(ctx context.Context, pin secret.PIN, tries int) error {
	d := a.link.Doer()
	m, err := piv.ReadMetadata(ctx, d, piv.PIN)
	if err == nil && m.Tries == tries {
		return nil
	}
	if err := refusal(err); err != nil {
		return err
	}
	if err := piv.VerifyPIN(ctx, d, pin); err != nil {
		return err
	}
	if err := piv.SetRetries(ctx, d, tries, a.profile.PIV.PUKTries); err != nil {
		return err
	}
	own := a.link.Card().Own
	if !published(own) {
		if err := changePUK(ctx, a.link, factoryOf(own), own); err != nil {
			return err
		}
	}
	return a.unblock(ctx, pin)
}

// GenerateKey implements tps.Applet.
func (a *applet) GenerateKey(ctx context.Context, k profile.Key) (tps.KeyResult, error) {
	slot, alg := slotOf(k), algorithms[k.Alg]
	if err := a.retire(ctx, k); err != nil {
		return tps.KeyResult{}, forGood(err)
	}
	pub, err := piv.Generate(ctx, a.link.Doer(), slot, alg, policyOf(k))
	if err != nil {
		return tps.KeyResult{}, forGood(err)
	}
	res := tps.KeyResult{Public: pub}
	if res.CSR, err = a.possession(ctx, k, pub); err != nil {
		return tps.KeyResult{}, forGood(fmt.Errorf("the card does not prove that it has the key: %w", err))
	}
	res.Evidence, err = a.Attest(ctx, k, pub)
	return res, err
}

// Finish implements tps.Applet: what the profile does not know goes from the four
// slots. Retired keys stay.
func (a *applet) Finish(ctx context.Context) error {
	if !a.profile.Compat.ClearSlots {
		return nil
	}
	var es []apdu.Entry
	for _, s := range slots {
		if a.uses(s) {
			continue
		}
		es = append(es,
			apdu.Entry{Command: piv.PutDataCommand(s.Certificate(), nil), Mode: apdu.Plain | apdu.Anyway},
			// From firmware 5.7 on; a key without certificate that stays is nobody's.
			apdu.Entry{Command: piv.DeleteKeyCommand(s), Mode: apdu.Plain | apdu.Anyway})
	}
	if len(es) == 0 {
		return nil
	}
	if _, err := apdu.RunAll(ctx, a.link.Doer(), es); err != nil {
		return fmt.Errorf("clearing slots that the profile does not use: %w", err)
	}
	return nil
}

// uses reports whether the profile has a key in slot s.
func (a *applet) uses(s piv.Slot) bool {
	for _, k := range a.profile.Key {
		if slotOf(k) == s {
			return true
		}
	}
	return false
}
