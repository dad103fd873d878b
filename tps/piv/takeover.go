package piv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tps"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Programs of Yubico leave a card's management key to its PIN: they store it in the
// printed information, which is read with the PIN alone, or derive it from the PIN, and
// say so in the admin data. piv-go, and yubikey-agent with it, store it there and say
// nothing. Whoever knows the PIN has the management key, and with both the card gives
// even its PUK away (INS FA), which such programs like to block.

// MayTake implements tps.PINKeyed.
func (Family) MayTake(c tps.Contents, known bool, p profile.Profile) error {
	if len(c.Holds) == 0 {
		c.Holds = []string{orKeys("")}
	}
	if err := foreign(c, known, p); err != nil {
		return err
	}
	return c.BlockedPIN
}

// ProveByPIN implements tps.PINKeyed.
func (Family) ProveByPIN(ctx context.Context, l tps.Link, pin secret.PIN) error {
	u, err := unlock(ctx, l.Doer(), pin)
	u.key.Wipe()
	return err
}

// ChangeByPIN implements tps.PINKeyed: the PUK first, then the management key. Until
// then the card keeps the old one, and whoever comes again finds it as before. A card that
// keeps it and does not say so is made to: what is to be forgotten shows without the PIN.
func (Family) ChangeByPIN(ctx context.Context, l tps.Link, p profile.Profile, pin secret.PIN, to token.AppletKeys) error {
	key, err := newManagementKey(ctx, l, to)
	if err != nil {
		return err
	}
	defer key.Wipe()
	u, err := unlock(ctx, l.Doer(), pin)
	if err != nil {
		return err
	}
	defer u.key.Wipe()
	if u.unsaid != nil {
		if err := piv.PutData(ctx, l.Doer(), piv.AdminData, u.unsaid.Encode()); err != nil {
			return err
		}
	}
	if err := u.takePUK(ctx, l, p, pin, to); err != nil {
		return err
	}
	if err := piv.Authenticate(ctx, l.Doer(), u.alg, u.key); err != nil {
		return err
	}
	return setManagementKey(ctx, l.Doer(), piv.Algorithm(to.Algorithm), key)
}

// Forget implements tps.PINKeyed. The admin data go last: until then the card shows that
// there is something to forget.
func (Family) Forget(ctx context.Context, l tps.Link) error {
	d := l.Doer()
	if _, err := piv.Select(ctx, d); err != nil {
		return err
	}
	admin, err := readAdminData(ctx, d)
	if err != nil || !admin.BehindPIN() {
		return err
	}
	if err := authenticate(ctx, l, l.Card().Own); err != nil {
		return err
	}
	if admin.Stored {
		if err := remove(ctx, d, piv.PrintedInformation); err != nil {
			return err
		}
	}
	return remove(ctx, d, piv.AdminData)
}

// Forgotten implements tps.PINKeyed.
func (Family) Forgotten(c tps.Contents) tps.Contents {
	c.Behind, c.BlockedPIN = tps.NotBehindPIN, nil
	c.Holds = slices.DeleteFunc(slices.Clone(c.Holds), func(h string) bool { return h == holdsGuarded })
	return c
}

// remove deletes an object, which need not be there.
func remove(ctx context.Context, d apdu.Doer, o piv.Object) error {
	if err := piv.PutData(ctx, d, o, nil); err != nil && !piv.IsAbsent(err) {
		return err
	}
	return nil
}

// readAdminData is the zero value where the card has none, or none that can be read.
func readAdminData(ctx context.Context, d apdu.Doer) (piv.AdminContent, error) {
	b, err := piv.GetData(ctx, d, piv.AdminData)
	if err != nil {
		if lost(err) {
			return piv.AdminContent{}, err
		}
		return piv.AdminContent{}, nil
	}
	a, err := piv.ParseAdminData(b)
	if err != nil {
		return piv.AdminContent{}, nil
	}
	return a, nil
}

// unlocked is a card whose PIN is verified and whose management key is proved.
type unlocked struct {
	alg    piv.Algorithm
	key    secret.Secret     // the caller's to wipe
	new    bool              // the PIN is that of a new card
	tries  int               // of the PIN; 0 = not told
	unsaid *piv.AdminContent // what the admin data would say if they told of the key; nil = they do
}

// unlock selects the applet and proves the management key that the PIN guards.
func unlock(ctx context.Context, d apdu.Doer, pin secret.PIN) (u unlocked, err error) {
	if _, err := piv.Select(ctx, d); err != nil {
		return u, err
	}
	m, err := piv.ReadMetadata(ctx, d, piv.PIN)
	told := err == nil
	if err := refusal(err); err != nil {
		return u, err
	}
	u.new, u.tries = m.Default, m.Tries
	given := pin
	if u.new || pin.IsZero() {
		if pin, err = secret.NewPIN([]byte(piv.DefaultPIN)); err != nil {
			return u, err
		}
	}
	if err := verify(ctx, d, pin); err != nil {
		if !told && errors.Is(err, tps.ErrCardPIN) {
			err = fmt.Errorf("%w (behind an operation that was cut it may be %s)", err, piv.DefaultPIN)
		}
		return u, err
	}
	admin, err := readAdminData(ctx, d)
	if err != nil {
		return u, err
	}
	keys, err := guarded(ctx, d, admin, pin, given)
	defer func() {
		for _, k := range keys {
			k.Wipe()
		}
	}()
	if err != nil {
		return u, err
	}
	if m, err = management(ctx, d); err != nil {
		return u, err
	}
	for _, k := range keys {
		for _, alg := range fitting(k.Secret, m) {
			err := piv.Authenticate(ctx, d, alg, k.Secret)
			if err == nil {
				u.alg, u.key = alg, k.Clone()
				if k.stored && !admin.Stored {
					admin.Stored = true
					u.unsaid = &admin
				}
				return u, nil
			}
			if err := refusal(err); err != nil {
				return u, err
			}
		}
	}
	if !admin.BehindPIN() {
		return u, tps.Fail(tps.StatusSecureChannel, errNoneBehind)
	}
	return u, tps.Fail(tps.StatusSecureChannel, errNotGuarded)
}

// What remains possible where the PIN does not help.
var (
	errNotGuarded = errors.New("the card says that its management key is behind its PIN, but what is there is not its management key; " +
		"nothing was changed: whoever has that key can use the card, else it has to be formatted, and its keys are lost")
	errNoneBehind = errors.New("the card's management key is not known here, and it is not behind the card's PIN either; " +
		"nothing was changed: whoever has that key can use the card, else it has to be formatted, and its keys are lost (a profile with [piv] reset does that)")
)

// What a PIN cannot do any more, and what remains possible.
var (
	errBlockedPIN = errors.New("the card's PIN is blocked, and with it the management key behind it: who knows the PUK can unblock the PIN; " +
		"else the card has to be formatted, and its keys are lost")
	errLastTry = errors.New("the card's PIN has one try left, which is not risked here: use the card once with its PIN in another program, " +
		"which gives the PIN all its tries back, and come again")
)

// verify presents the PIN, unless it could be the last try.
func verify(ctx context.Context, d apdu.Doer, pin secret.PIN) error {
	if pin.Len() < piv.MinPINLen || pin.Len() > piv.PINLen {
		return fmt.Errorf("%w: a PIN has %d to %d characters", tps.ErrCardPIN, piv.MinPINLen, piv.PINLen)
	}
	s, err := piv.ReadPINStatus(ctx, d)
	if err != nil {
		return err
	}
	if err := atRisk(s.Tries); err != nil {
		return tps.Fail(tps.StatusLogin, err)
	}
	err = piv.VerifyPIN(ctx, d, pin)
	var wrong *piv.PINError
	switch {
	case !errors.As(err, &wrong):
		return err
	case wrong.Blocked() || wrong.Tries == 1:
		return tps.Fail(tps.StatusLogin, fmt.Errorf("%w: %w", wrong, atRisk(max(wrong.Tries, 0))))
	case wrong.Tries < 0: // the next one may be the last
		return tps.Fail(tps.StatusLogin, err)
	}
	return fmt.Errorf("%w: %w", tps.ErrCardPIN, wrong)
}

// atRisk says why a PIN with so many tries left is not presented; -1 = not told.
func atRisk(tries int) error {
	switch tries {
	case 0:
		return errBlockedPIN
	case 1:
		return errLastTry
	}
	return nil
}

// guardedKey is what may be the management key.
type guardedKey struct {
	secret.Secret
	stored bool // in the printed information
}

// guarded are the management keys that the verified PIN may give, or the one that the
// person gave: a key stays derived from that where a cut left the card with the factory's
// PIN. The caller wipes them.
func guarded(ctx context.Context, d apdu.Doer, admin piv.AdminContent, pins ...secret.PIN) (keys []guardedKey, err error) {
	b, err := piv.GetData(ctx, d, piv.PrintedInformation)
	defer clear(b)
	if err := refusal(err); err != nil && lost(err) {
		return nil, err
	}
	if k, err := piv.ParseStoredManagementKey(b); err == nil {
		keys = append(keys, guardedKey{k, true})
	}
	for i, pin := range pins {
		if admin.Salt == nil || pin.IsZero() || i > 0 && pin.Equal(pins[0].Secret) {
			continue
		}
		k, err := piv.DerivedManagementKey(pin, admin.Salt)
		if err != nil {
			return keys, err
		}
		keys = append(keys, guardedKey{k, false})
	}
	return keys, nil
}

// fitting are the algorithms that a key of such a length may be for, on a card that told m.
func fitting(key secret.Secret, m piv.Metadata) (algs []piv.Algorithm) {
	for _, alg := range []piv.Algorithm{piv.TripleDES, piv.AES128, piv.AES192, piv.AES256} {
		if alg.KeyLen() == key.Len() && (m.Algorithm == alg || !m.Algorithm.Symmetric()) {
			algs = append(algs, alg)
		}
	}
	return algs
}

// takePUK gives the card the PUK of to. One that is not the factory's, or blocked, is
// nobody's to know: the card is made to take the factory's PIN and PUK, and gets its PIN
// back at once. A cut in between leaves it with the factory's PIN, which unlock expects.
func (u unlocked) takePUK(ctx context.Context, l tps.Link, p profile.Profile, pin secret.PIN, to token.AppletKeys) error {
	d := l.Doer()
	m, err := piv.ReadMetadata(ctx, d, piv.PUK)
	known := err == nil && m.Default && m.Left > 1 // changePUK tries two
	if err := refusal(err); err != nil {
		return err
	}
	if !known {
		tries := cmp.Or(p.PIN.Tries, u.tries, factoryTries)
		if err := piv.SetRetries(ctx, d, tries, p.PIV.PUKTries); err != nil {
			return err
		}
	}
	if !pin.IsZero() && (u.new || !known) {
		if err := givePIN(ctx, d, pin); err != nil {
			return err
		}
	}
	return changePUK(ctx, l, factoryOf(to), to)
}

// factoryTries is how often a PIN may be tried on a card that does not tell.
const factoryTries = 3

// givePIN gives a card that has the factory's PIN another.
func givePIN(ctx context.Context, d apdu.Doer, pin secret.PIN) error {
	factory, err := secret.NewPIN([]byte(piv.DefaultPIN))
	if err != nil {
		return err
	}
	return piv.ChangePIN(ctx, d, factory, pin)
}
