package tps

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps/token"
)

// prove has the card prove its keys: INITIALIZE UPDATE, and the key service
// checks the cryptogram. EXTERNAL AUTHENTICATE never goes to a card that has not
// proved itself. d selects the card manager before its first command. While a key changeover is unconfirmed both of its versions are
// tried, the new one first.
func (r *run) prove(ctx context.Context, d apdu.Doer, rec *token.Token, open *token.Journal) error {
	asks, sets := r.candidates(rec, open)
	var last error
	for _, v := range asks {
		iu, err := r.initialize(ctx, d, v)
		if err != nil {
			if refusesSelect(err) {
				return within(StatusNoCardManager, StepRead, err)
			}
			if !notFound(err) {
				return within(StatusSecureChannel, StepRead, err)
			}
			last = err
			continue
		}
		set, err := r.match(ctx, iu, sets(iu.KeyVersion))
		if err == nil {
			r.proved(iu, set, asks)
			return nil
		}
		if !errors.Is(err, tks.ErrCryptogram) && !errors.Is(err, tks.ErrUnknownKeyVersion) {
			return within(StatusSecureChannel, StepRead, err)
		}
		last = err
	}
	return refuse(StatusSecureChannel, "the card has keys that are not known here: %w", last)
}

// proved notes the keys that worked, and the other version of a changeover if
// the card still shows it.
func (r *run) proved(iu securechannel.InitUpdate, set tks.KeySetName, asks []gp.KeyVersion) {
	r.card.Proved, r.card.KeySet, r.card.OldVersions = &iu, set, nil
	r.card.Protocol, r.card.Option = iu.Protocol, iu.Option
	for _, v := range asks {
		if _, there := r.card.version(v); there && v != iu.KeyVersion {
			r.card.OldVersions = append(r.card.OldVersions, v)
		}
	}
}

// notFound tells "no such key version" from every other failure (DEF-47).
func notFound(err error) bool {
	return errors.Is(err, apdu.SWReferencedNotFound) || errors.Is(err, apdu.SWIncorrectP1P2) ||
		errors.Is(err, apdu.SWFileNotFound) || errors.Is(err, apdu.SWConditionsOfUse)
}

func (r *run) initialize(ctx context.Context, d apdu.Doer, v gp.KeyVersion) (securechannel.InitUpdate, error) {
	req, err := r.channelRequest(ctx, v)
	if err != nil {
		return securechannel.InitUpdate{}, err
	}
	iu, err := securechannel.Initialize(ctx, d, req)
	if err != nil {
		return iu, fmt.Errorf("asking the card for key version %s: %w", v, err)
	}
	return iu, nil
}

// refusesSelect tells a refused SELECT from a refusal of the command behind it.
func refusesSelect(err error) bool {
	var sw *apdu.StatusError
	return errors.As(err, &sw) && sw.INS == insSelect
}

// match finds the key set under which the card's cryptogram verifies.
func (r *run) match(ctx context.Context, iu securechannel.InitUpdate, sets []tks.KeySetName) (tks.KeySetName, error) {
	err := fmt.Errorf("key version %s: %w", iu.KeyVersion, tks.ErrUnknownKeyVersion)
	for _, set := range sets {
		keys, e := r.sessionKeys(ctx, set, iu)
		if e == nil {
			keys.Wipe()
			return set, nil
		}
		err = fmt.Errorf("key set %s, version %s: %w", set, iu.KeyVersion, e)
		if !errors.Is(e, tks.ErrCryptogram) && !errors.Is(e, tks.ErrUnknownKeyVersion) {
			return "", err
		}
	}
	return "", err
}

// candidates says which versions to ask for, and which key sets a version may
// belong to. A card whose keys are recorded has those and no others.
func (r *run) candidates(rec *token.Token, open *token.Journal) ([]gp.KeyVersion, func(gp.KeyVersion) []tks.KeySetName) {
	if p, ok := pendingChangeover(open); ok {
		return []gp.KeyVersion{p.to, p.from}, p.setsOf
	}
	free := []tks.KeySetName{r.profile.Keys.Set, r.profile.Keys.Factory}
	if rec == nil || len(rec.KeyInfo) == 0 {
		return []gp.KeyVersion{0}, func(gp.KeyVersion) []tks.KeySetName { return free }
	}
	known := gp.KeyVersion(rec.KeyInfo[0])
	asks := []gp.KeyVersion{known}
	if !r.profile.Card.CheckKeyInfo {
		asks = append(asks, 0)
	}
	return asks, func(v gp.KeyVersion) []tks.KeySetName {
		if v == known {
			return []tks.KeySetName{rec.KeySet}
		}
		if r.profile.Card.CheckKeyInfo {
			return nil
		}
		return free
	}
}
