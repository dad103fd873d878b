package piv

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// published reports the keys of a new applet.
func published(k token.AppletKeys) bool { return k.Set == tks.Factory }

func keyVersion(p profile.Profile) gp.KeyVersion { return gp.KeyVersion(p.PIV.KeyVersion) }

// managementKey is the value of a management key of an algorithm. Published ones have no
// more than 24 bytes; ok is false for a longer one.
func managementKey(ctx context.Context, l tps.Link, k token.AppletKeys, alg piv.Algorithm) (key secret.Secret, ok bool, err error) {
	if published(k) {
		all := piv.DefaultManagementKey()
		if alg.KeyLen() == 0 || alg.KeyLen() > len(all) {
			return key, false, nil
		}
		return secret.New(all[:alg.KeyLen()]), true, nil
	}
	k.Algorithm = byte(alg)
	key, err = l.Keys().Secret(ctx, k, tks.ManagementKey)
	return key, err == nil, err
}

// puk is the value of the PUK that goes with k.
func puk(ctx context.Context, l tps.Link, k token.AppletKeys) (secret.PIN, error) {
	if published(k) {
		return secret.NewPIN([]byte(piv.DefaultPUK))
	}
	v, err := l.Keys().Secret(ctx, k, tks.PUK)
	return secret.PIN{Secret: v}, err
}

// management is the state of the management key, as far as the card tells it.
func management(ctx context.Context, d apdu.Doer) (piv.Metadata, error) {
	m, err := piv.ReadMetadata(ctx, d, piv.Management)
	if err != nil {
		return piv.Metadata{}, refusal(err)
	}
	return m, nil
}

// possible are the algorithms that a key may have on a card that told m.
func possible(k token.AppletKeys, m piv.Metadata) []piv.Algorithm {
	switch alg := piv.Algorithm(k.Algorithm); {
	case m.Algorithm.Symmetric() && (alg == 0 || alg == m.Algorithm):
		return []piv.Algorithm{m.Algorithm}
	case m.Algorithm.Symmetric():
		return nil
	case alg != 0:
		return []piv.Algorithm{alg}
	}
	return []piv.Algorithm{piv.TripleDES, piv.AES192} // of a new card, by its firmware
}

// prove authenticates both sides with the keys k; the zero algorithm where the card
// has others. What does not prove itself is an error: something stands between.
func prove(ctx context.Context, l tps.Link, d apdu.Doer, k token.AppletKeys, m piv.Metadata) (piv.Algorithm, error) {
	for _, alg := range possible(k, m) {
		key, ok, err := managementKey(ctx, l, k, alg)
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		err = piv.Authenticate(ctx, d, alg, key)
		key.Wipe()
		if err == nil {
			return alg, nil
		}
		if err := refusal(err); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// KeyVersion implements tps.KeyChanger.
func (Family) KeyVersion(ctx context.Context, l tps.Link, asks []token.AppletKeys) (token.AppletKeys, error) {
	d, err := apdu.ReadAhead(ctx, l.Doer(), apdu.Entries(apdu.Plain, piv.SelectCommand(), metadataCommand(piv.Management)))
	if err != nil {
		return token.AppletKeys{}, err
	}
	if _, err := piv.Select(ctx, d); err != nil {
		return token.AppletKeys{}, err
	}
	m, err := management(ctx, d)
	if err != nil {
		return token.AppletKeys{}, err
	}
	for _, k := range likeliest(asks, m) {
		alg, err := prove(ctx, l, l.Doer(), k, m)
		if errors.Is(err, tks.ErrUnknownKeyVersion) {
			continue // a version that the profile names and nobody has made: known when it is to be used
		}
		if err != nil {
			return token.AppletKeys{}, err
		}
		if alg != 0 {
			k.Algorithm = byte(alg)
			return k, nil
		}
	}
	return token.AppletKeys{}, nil
}

// likeliest begins with the published keys where the card says that it has them.
func likeliest(asks []token.AppletKeys, m piv.Metadata) []token.AppletKeys {
	if !m.Default {
		return asks
	}
	asks = slices.Clone(asks)
	slices.SortStableFunc(asks, func(a, b token.AppletKeys) int {
		switch {
		case published(a) == published(b):
			return 0
		case published(a):
			return -1
		}
		return 1
	})
	return asks
}

// ChangeKeys implements tps.KeyChanger: the PUK first, then the management key, which
// says which of the two there are. A cut in between leaves the old management key,
// and whoever comes again finds the PUK changed already.
func (Family) ChangeKeys(ctx context.Context, l tps.Link, _ profile.Profile, to token.AppletKeys) error {
	from := l.Card().Own
	key, err := newManagementKey(ctx, l, to)
	if err != nil {
		return err
	}
	defer key.Wipe()
	if _, err := piv.Select(ctx, l.Doer()); err != nil {
		return err
	}
	if err := changePUK(ctx, l, from, to); err != nil {
		return err
	}
	if err := authenticate(ctx, l, from); err != nil {
		return err
	}
	return setManagementKey(ctx, l.Doer(), piv.Algorithm(to.Algorithm), key)
}

// newManagementKey is the management key of to, which the card is to get. It is asked for
// before anything on the card is changed.
func newManagementKey(ctx context.Context, l tps.Link, to token.AppletKeys) (secret.Secret, error) {
	alg := piv.Algorithm(to.Algorithm)
	key, ok, err := managementKey(ctx, l, to, alg)
	if err == nil && !ok {
		err = tps.Final(fmt.Errorf("there is no management key of %v in the key set %s", alg, to.Set))
	}
	return key, tps.FinalIf(err, tks.ErrUnknownKeyVersion)
}

// setManagementKey gives the card a management key and has it prove that. The one that
// it has is proved already.
func setManagementKey(ctx context.Context, d apdu.Doer, alg piv.Algorithm, key secret.Secret) error {
	// Point of no return: the card proves itself by the new key from here on.
	if err := piv.SetManagementKey(ctx, d, alg, key, false); err != nil {
		return err
	}
	if err := piv.Authenticate(ctx, d, alg, key); err != nil {
		return fmt.Errorf("proving the new management key: %w", err)
	}
	return nil
}

// authenticate proves the keys that the card is known to have; the applet is selected.
func authenticate(ctx context.Context, l tps.Link, k token.AppletKeys) error {
	var m piv.Metadata
	if k.Algorithm == 0 {
		var err error
		if m, err = management(ctx, l.Doer()); err != nil {
			return err
		}
	}
	alg, err := prove(ctx, l, l.Doer(), k, m)
	if err == nil && alg == 0 {
		err = fmt.Errorf("the card does not take the management key %s; nothing was changed", k)
	}
	return err
}

// changePUK gives the card the PUK of to, whether it has that of from or, since a cut,
// that of to already. A PUK that is neither costs a try for each.
func changePUK(ctx context.Context, l tps.Link, from, to token.AppletKeys) error {
	next, err := puk(ctx, l, to)
	if err != nil {
		return err
	}
	defer next.Wipe()
	m, err := piv.ReadMetadata(ctx, l.Doer(), piv.PUK)
	told := err == nil
	if err := refusal(err); err != nil {
		return err
	}
	if told && m.Tries > 0 && m.Left == 0 {
		return errBlockedPUK
	}
	if told && m.Default && !published(from) { // since a cut in setTries
		from = factoryOf(from)
	}
	tries := []token.AppletKeys{from, to}
	switch {
	case told && published(from) && m.Default:
		tries = []token.AppletKeys{from}
	case told && published(from):
		tries = []token.AppletKeys{to}
	}
	if told && m.Left > 0 && m.Left < len(tries) {
		return fmt.Errorf("the card's PUK has too few tries left (%d) to find out which PUK it is, and stays as it is: format the card", m.Left)
	}
	return tryPUKs(ctx, l, next, tries)
}

// tryPUKs gives the card the PUK next in place of the first of those that it has.
func tryPUKs(ctx context.Context, l tps.Link, next secret.PIN, tries []token.AppletKeys) error {
	var last error
	for _, k := range tries {
		old, err := puk(ctx, l, k)
		if err != nil {
			return err
		}
		last = piv.ChangePUK(ctx, l.Doer(), old, next)
		old.Wipe()
		var wrong *piv.PINError
		if !errors.As(last, &wrong) {
			return last
		}
		if wrong.Blocked() {
			return errBlockedPUK
		}
	}
	return fmt.Errorf("the card has a PUK that is not known here; its management key was not changed: format the card (%w)", last)
}

// factoryOf are the published keys of an applet whose own are k.
func factoryOf(k token.AppletKeys) token.AppletKeys {
	return token.AppletKeys{Set: tks.Factory, Algorithm: k.Algorithm}
}
