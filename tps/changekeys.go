package tps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps/audit"
	"inkan/tps/token"
)

// changeover is a key changeover as a journal entry holds it.
type changeover struct {
	from, to       gp.KeyVersion
	fromSet, toSet tks.KeySetName
}

func (c changeover) data() map[string]string {
	return map[string]string{
		"from": c.from.String(), "from_set": string(c.fromSet), "to": c.to.String(), "to_set": string(c.toSet),
	}
}

// pendingChangeover finds a changeover that began and of which nobody knows yet
// whether the card took it.
func pendingChangeover(j *token.Journal) (changeover, bool) {
	e, ok := historyOf(j).last(StepChangeKeys)
	if !ok || e.Confirmed || e.Data["resolved"] != "" {
		return changeover{}, false
	}
	from, err1 := gp.ParseKeyVersion(e.Data["from"])
	to, err2 := gp.ParseKeyVersion(e.Data["to"])
	if err1 != nil || err2 != nil {
		return changeover{}, false
	}
	return changeover{from: from, to: to, fromSet: tks.KeySetName(e.Data["from_set"]), toSet: tks.KeySetName(e.Data["to_set"])}, true
}

// setsOf are the key sets that a version may belong to; both, where the numbers
// are the same.
func (c changeover) setsOf(v gp.KeyVersion) (sets []tks.KeySetName) {
	if v == c.to {
		sets = append(sets, c.toSet)
	}
	if v == c.from {
		sets = append(sets, c.fromSet)
	}
	return sets
}

// changeKeysStep gives the card the keys that the profile names (§10).
func changeKeysStep(f Facts) Step {
	k := f.Profile.Keys
	c := changeover{from: f.Card.Proved.KeyVersion, fromSet: f.Card.KeySet, to: gp.KeyVersion(k.Version), toSet: k.Set}
	if len(f.Card.OldVersions) > 0 && f.hasWantedKeys() {
		c.from = f.Card.OldVersions[0]
	}
	return Step{
		Name: StepChangeKeys, Kind: Irreversible, Weight: 10, Task: string(StepChangeKeys), Event: "TOKEN_KEY_CHANGEOVER",
		Fail: StatusKeyChangeover, Intent: c.data(),
		Do: func(ctx context.Context, r *run) error { return r.changeKeys(ctx, c) },
	}
}

// changeKeys puts the new set, proves it by a channel, and removes the old one
// where it could not be replaced in place. A cut between any two of these leaves
// a card on which one of the two versions works; prove finds out which.
func (r *run) changeKeys(ctx context.Context, c changeover) error {
	r.applet = nil
	if !r.facts.hasWantedKeys() {
		if err := r.putKeys(ctx, c); err != nil {
			return err
		}
	}
	r.link.use(c.toSet, c.to)
	s, err := r.link.manager(ctx)
	if err == nil {
		err = s.Authenticate(ctx) // the card has to accept the new keys too
	}
	if err != nil {
		return fmt.Errorf("opening a channel with the new keys: %w", err)
	}
	kept, err := r.dropOld(ctx, s, c)
	if err != nil {
		return err
	}
	if kept != nil {
		r.note("kept_old", kept.Error())
	}
	iu := s.Info()
	r.card.Proved, r.card.KeySet = &iu, c.toSet
	return r.recordKeys(ctx)
}

// putKeys has the key service wrap the new set under the card's present keys
// and sends it. Point of no return: after PUT KEY the card may have either set.
func (r *run) putKeys(ctx context.Context, c changeover) error {
	s, err := r.link.manager(ctx)
	if err != nil {
		return err
	}
	rep, err := r.e.Keys.WrapKeySet(ctx, tks.KeySetRequest{CardProof: r.link.proof(), NewKeySet: c.toSet, NewKeyVersion: c.to})
	if err != nil {
		return FinalIf(fmt.Errorf("wrapping the new keys: %w", err), tks.ErrUnknownKeyVersion) // the card has got nothing yet
	}
	replaces := gp.KeyVersion(0) // add a set beside the present one
	if r.replaceable(c.from, rep.Data) {
		replaces = c.from
	}
	cmd, err := gp.PutKeyCommand(gp.DialectOf(uint8(r.card.Protocol)), replaces, rep.Data)
	if err != nil {
		return err
	}
	answer, err := apdu.Run(ctx, s, cmd)
	if err != nil {
		return fmt.Errorf("putting the new keys: %w", err)
	}
	a, err := gp.ParsePutKeyAnswer(answer)
	if err != nil {
		return err
	}
	return a.Check(c.to, rep.KCVs[:])
}

// replaceable reports whether the new keys fit the slots of version v: a card
// cannot change a key's type or length in place (secure-channel §7.2). The
// payload tells both: version, then the first block 80 10 … or 88 11 10 ….
func (r *run) replaceable(v gp.KeyVersion, payload []byte) bool {
	old, known := r.card.version(v)
	if !known || len(payload) < 4 {
		return true
	}
	isAES, length := payload[1] == 0x88, int(payload[2])
	if length%16 == 1 {
		length = int(payload[3])
	}
	return (old.Type == 0x88) == isAES && old.Length == length
}

// dropLeft deletes the old version that a cut changeover left on the card, where
// the changeover is not asked for again: the new keys stay, the old ones go.
func (r *run) dropLeft(ctx context.Context) error {
	c, pending := pendingChangeover(r.facts.Open)
	if !pending || r.dry != nil || !slices.Contains(r.card.OldVersions, c.from) {
		return nil
	}
	if err := r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Attempt, c.data()); err != nil {
		return err
	}
	s, err := r.link.manager(ctx)
	var kept error
	if err == nil {
		kept, err = r.dropOld(ctx, s, c)
	}
	fields := c.data()
	if cause := cmp.Or(err, kept); cause != nil {
		fields["info"] = cause.Error()
		return errors.Join(err, r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Failure, fields))
	}
	return r.audit(ctx, "TOKEN_KEY_CHANGEOVER", audit.Success, fields)
}

// dropOld deletes the old version if it is still there. A card that refuses
// keeps it: kept is its refusal, which is no failure.
func (r *run) dropOld(ctx context.Context, s *securechannel.Session, c changeover) (kept, err error) {
	versions, err := readVersions(ctx, s)
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 && len(r.card.Versions) > 0 {
		// The channel's MAC was right. With another counter than ours the card's
		// encryption makes nonsense of its answer.
		return nil, errors.New("the card's key information cannot be read inside the channel, but could before it: if this model of card counts commands with data alone, its profile needs [compat] data_counter = true")
	}
	if len(versions) == 0 {
		return nil, nil // a card that does not say: nothing to delete that we know of
	}
	r.card.Versions = versions
	if v := c.from; v != c.to && slices.ContainsFunc(versions, func(k KeySetInfo) bool { return k.Version == v }) {
		cmd, err := gp.DeleteKeySetCommand(gp.DialectOf(uint8(r.card.Protocol)), v)
		if err != nil {
			return nil, nil // version 00 names no set
		}
		if _, kept = apdu.Run(ctx, s, cmd); kept != nil && !isStatus(kept) {
			return nil, fmt.Errorf("deleting key version %s: %w", v, kept)
		}
		if kept == nil {
			r.card.Versions = slices.DeleteFunc(r.card.Versions, func(k KeySetInfo) bool { return k.Version == v })
		}
	}
	r.card.OldVersions = nil
	return kept, nil
}

// recordKeys writes the card's proved keys to its record at once, in a write of
// its own: a later failure must not lock the card out (DEF-15).
func (r *run) recordKeys(ctx context.Context) error {
	return r.updateToken(ctx, func(t *token.Token) {
		t.KeySet, t.KeyInfo = r.card.KeySet, keyInfo(*r.card.Proved)
	})
}

// settleChangeover resolves a changeover of which it was not known whether the
// card took it: the keys that the card has just proved tell.
func (r *run) settleChangeover(ctx context.Context) error {
	p, pending := pendingChangeover(r.facts.Open)
	if !pending {
		return nil
	}
	taken := r.card.KeySet == p.toSet && r.card.Proved.KeyVersion == p.to
	if taken && r.facts.Record != nil {
		if err := r.recordKeys(ctx); err != nil {
			return within(StatusUpdateFailed, StepRead, err)
		}
	}
	if len(r.card.OldVersions) > 0 {
		return nil // not done before the old version is gone; until then the journal knows of it
	}
	r.journal = *r.facts.Open
	defer func() { r.journal = token.Journal{} }()
	for i := len(r.journal.Entries) - 1; i >= 0; i-- {
		if e := &r.journal.Entries[i]; StepName(e.Step) == StepChangeKeys {
			e.Confirmed = taken
			e.Data["resolved"] = strconv.FormatBool(taken)
			break
		}
	}
	if err := r.keepJournal(ctx); err != nil {
		return within(StatusDatabase, StepRead, err)
	}
	j := r.journal
	r.facts.Open = &j
	return nil
}

// updateToken changes the token's record, reading it again when somebody else
// was faster.
func (r *run) updateToken(ctx context.Context, change func(*token.Token)) error {
	t, err := r.e.updateToken(ctx, r.card.CUID, change)
	if err != nil {
		return within(StatusUpdateFailed, r.at, err)
	}
	r.facts.Record = &t
	return nil
}

func (e *Engine) updateToken(ctx context.Context, cuid apdu.CUID, change func(*token.Token)) (token.Token, error) {
	t, err := e.tokenOf(ctx, cuid)
	if err != nil {
		return t, err
	}
	return e.replaceToken(ctx, t, change)
}

func (e *Engine) tokenOf(ctx context.Context, cuid apdu.CUID) (token.Token, error) {
	t, err := e.Stores.Tokens.Token(ctx, cuid)
	if err != nil {
		return t, fmt.Errorf("reading the token record: %w", err)
	}
	return t, nil
}

// replaceToken changes a record that was read, or the one that somebody else made of it.
func (e *Engine) replaceToken(ctx context.Context, t token.Token, change func(*token.Token)) (token.Token, error) {
	const tries = 4
	for try := 1; ; try++ {
		change(&t)
		done, err := e.Stores.Tokens.ReplaceToken(ctx, t)
		if err == nil {
			return done, nil
		}
		if !errors.Is(err, token.ErrConflict) || try == tries {
			return t, fmt.Errorf("writing the token record: %w", err)
		}
		if t, err = e.tokenOf(ctx, t.CUID); err != nil {
			return t, err
		}
	}
}
