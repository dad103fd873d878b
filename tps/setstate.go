package tps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"inkan/apdu"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// StateChange asks for another state of a card, without the card.
type StateChange struct {
	CUID   apdu.CUID
	State  token.State
	By     token.UserID // who asks
	Client string       // network address; empty = this machine
}

// ErrTokenState means that a card in its state may not be given the one asked for.
var ErrTokenState = errors.New("the card's state does not allow that")

// stateReasons is what becomes of a card's certificates with its new state
// (tps-operations.md §12.2, §12.3; reasons of the shipped profiles, §7.3). There
// is no archive that a destroyed card's key could come back from, so that its
// encryption certificate is revoked like the others.
var stateReasons = map[token.State]ca.Reason{
	token.PermLost:   ca.ReasonKeyCompromise,
	token.Damaged:    ca.ReasonUnspecified,
	token.Suspended:  ca.ReasonCertificateHold,
	token.Terminated: ca.ReasonKeyCompromise,
}

// SetTokenState gives a card a state that an agent may choose (§16.2), with the
// effects of §12.2 on its certificates. It returns the record and the certificates
// that were to be changed, as they are then. The state that the card has already
// changes nothing.
//
// A card that is lost, damaged, suspended or terminated is so at once: what is to
// be revoked is durable before the state is, and what the authority does not
// answer stays pending and is tried again by the sweeper (Pending of the returned
// certificates); the state stands. A card that comes back is different: unless the
// authority takes every certificate off hold, the state stays and all of them go
// back on hold; the error tells the cause.
//
// token.ErrNotFound where there is no such record, [ErrTokenState] where it may
// not be, token.ErrLocked where a session works on a card that is to come back.
func (e *Engine) SetTokenState(ctx context.Context, ch StateChange) (token.Token, []token.Certificate, error) {
	t, certs, err := e.stateFacts(ctx, ch.CUID)
	if err != nil || t.State == ch.State {
		return t, nil, err
	}
	s := stateChange{StateChange: ch, e: e, from: t.State, reason: t.Reason}
	if err := s.record(ctx, audit.Attempt, nil); err != nil {
		return t, nil, err
	}
	// From here on the records agree with each other, whoever has gone.
	ctx = context.WithoutCancel(ctx)
	done, changed, err := s.change(ctx, t, certs)
	s.leaveActivity(ctx, done, err)
	outcome := audit.Success
	if err != nil {
		outcome = audit.Failure
	}
	return done, changed, errors.Join(err, s.record(ctx, outcome, err))
}

func (e *Engine) stateFacts(ctx context.Context, cuid apdu.CUID) (token.Token, []token.Certificate, error) {
	t, err := e.tokenOf(ctx, cuid)
	if err != nil {
		return t, nil, err
	}
	certs, err := e.certificatesOf(ctx, cuid)
	return t, certs, err
}

// stateChange is one change under way.
type stateChange struct {
	StateChange
	e      *Engine
	from   token.State
	reason token.Reason // that goes with from
}

func (s stateChange) change(ctx context.Context, t token.Token, certs []token.Certificate) (token.Token, []token.Certificate, error) {
	if err := s.may(t, certs); err != nil {
		return t, nil, err
	}
	if reason, lost := stateReasons[s.State]; lost {
		return s.lose(ctx, t, certs, reason)
	}
	l, err := s.e.lock(ctx, s.CUID, token.NewID())
	if err != nil {
		return t, nil, fmt.Errorf("locking the card: %w", err)
	}
	defer s.e.unlock(ctx, l)
	return s.regain(ctx, t, certs)
}

// may refuses what §16.2 does not list.
func (s stateChange) may(t token.Token, certs []token.Certificate) error {
	if choices := t.State.OperatorChoices(len(certs)); !slices.Contains(choices, s.State) {
		return fmt.Errorf("%w: %s to %s is not possible, only %v", ErrTokenState, t.State, s.State, choices)
	}
	return nil
}

// lose revokes or holds everything that is valid.
func (s stateChange) lose(ctx context.Context, t token.Token, certs []token.Certificate, reason ca.Reason) (token.Token, []token.Certificate, error) {
	var marked []token.Certificate
	for _, c := range certs {
		if !s.loses(c, reason) {
			continue
		}
		c, err := s.e.updateCertificate(ctx, c, func(r *token.Certificate) { r.Pending, r.Reason = "revoke", int(reason) })
		if err != nil {
			return t, marked, fmt.Errorf("the card stays %s, and some of its certificates are being revoked; do it again: %w", s.from, err)
		}
		marked = append(marked, c)
	}
	t, err := s.write(ctx, t)
	if err != nil {
		return t, marked, fmt.Errorf("the card stays %s while its certificates are being revoked, do it again: %w", s.from, err)
	}
	ch := CertificateChange{Action: ActionRevoke, Reason: reason, By: s.By, Client: s.Client}
	if reason == ca.ReasonCertificateHold {
		ch.Action = ActionHold
	}
	for i, c := range marked {
		ch.ID = c.ID
		if marked[i], err = s.tell(ctx, c, ch, reason); err != nil { // it stays pending
			s.e.Log.WarnContext(ctx, "revoking a certificate of a card that is lost", slog.String("cuid", s.CUID.String()), slog.Any("err", err))
		}
	}
	return t, marked, nil
}

// loses says whether a certificate is to be revoked. One that was revoked because
// the card was thought to be destroyed is compromised if it turns out to be lost.
func (s stateChange) loses(c token.Certificate, reason ca.Reason) bool {
	switch {
	case c.State == token.CertExpired || !c.NotAfter.IsZero() && c.NotAfter.Before(s.e.Now()):
		return false
	case c.State == token.CertRevoked:
		was, lost := stateReasons[s.from]
		return lost && reason == ca.ReasonKeyCompromise && was != reason && c.Reason == int(was)
	case reason == ca.ReasonCertificateHold:
		return c.State != token.CertOnHold && c.Pending == ""
	}
	return true
}

// tell asks the authority once, for so long.
func (s stateChange) tell(ctx context.Context, c token.Certificate, ch CertificateChange, reason ca.Reason) (token.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	return s.e.changeCertificate(ctx, c, ch, reason)
}

// regain takes a suspended card's certificates off hold, and writes the state
// only when all are.
func (s stateChange) regain(ctx context.Context, t token.Token, certs []token.Certificate) (token.Token, []token.Certificate, error) {
	var changed []token.Certificate
	if s.from == token.Suspended {
		var err error
		if changed, err = s.unhold(ctx, certs); err != nil {
			return t, changed, errors.Join(fmt.Errorf("the card stays %s, its certificates go back on hold: %w", s.from, err), s.rehold(ctx, changed))
		}
	}
	t, err := s.write(ctx, t)
	if err != nil {
		return t, changed, errors.Join(fmt.Errorf("the card stays %s, its certificates go back on hold: %w", s.from, err), s.rehold(ctx, changed))
	}
	return t, changed, nil
}

// unhold ends holds, and those that the authority was still to be told. A
// certificate of an enrollment that is not finished is unconfirmed again.
func (s stateChange) unhold(ctx context.Context, certs []token.Certificate) ([]token.Certificate, error) {
	open, err := s.e.Stores.Journals.OpenJournal(ctx, s.CUID)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		return nil, fmt.Errorf("reading the card's journal: %w", err)
	}
	var changed []token.Certificate
	for _, c := range certs {
		if !held(c) {
			continue
		}
		ch := CertificateChange{ID: c.ID, Action: ActionUnhold, By: s.By, Client: s.Client}
		c, err := s.tell(ctx, c, ch, ca.ReasonRemoveFromCRL)
		if err == nil && open.ID != "" && c.Operation == open.ID {
			c, err = s.e.updateCertificate(ctx, c, func(r *token.Certificate) { r.State = token.CertUninitialized })
		}
		changed = append(changed, c) // also where the authority may have done it and the answer was lost
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// held reports whether a certificate is on hold, or is to be.
func held(c token.Certificate) bool {
	return c.Reason == int(ca.ReasonCertificateHold) && (c.State == token.CertOnHold || c.State != token.CertRevoked && c.Pending != "")
}

// rehold has the sweeper hold again what was taken off hold.
func (s stateChange) rehold(ctx context.Context, certs []token.Certificate) error {
	var errs []error
	for i, c := range certs {
		c, err := s.e.updateCertificate(ctx, c, func(r *token.Certificate) { r.Pending, r.Reason = "revoke", int(ca.ReasonCertificateHold) })
		if err == nil {
			certs[i] = c
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// write stores the state although others write the record too, as long as it is
// still in the state that was read.
func (s stateChange) write(ctx context.Context, t token.Token) (token.Token, error) {
	const tries = 4
	for try := 1; ; try++ {
		next := t
		next.State, next.Reason = s.State, s.State.Reason()
		if s.State == token.Unformatted { // nobody's card; who it is stays known by its KDD (§12.2)
			next.UserID, next.Profile, next.AppletID, next.KeySet, next.KeyInfo, next.AppletKeys, next.Policy = "", "", "", "", nil, token.AppletKeys{}, ""
		}
		done, err := s.e.Stores.Tokens.ReplaceToken(ctx, next)
		if err == nil {
			return done, nil
		}
		if !errors.Is(err, token.ErrConflict) || try == tries {
			return t, fmt.Errorf("writing the token record: %w", err)
		}
		if t, err = s.e.tokenOf(ctx, s.CUID); err != nil {
			return t, err
		}
		if t.State != s.from {
			return t, fmt.Errorf("token %s is %s now: %w", s.CUID, t.State, token.ErrConflict)
		}
	}
}

// record audits the change (§22.1).
func (s stateChange) record(ctx context.Context, o audit.Outcome, cause error) error {
	event := audit.Event{Name: "TOKEN_STATE_CHANGE", Outcome: o, Subject: string(s.By), IP: s.Client, CUID: s.CUID.String(),
		Fields: map[string]string{"old_state": string(s.from), "old_reason": string(s.reason), "new_state": string(s.State), "new_reason": string(s.State.Reason())}}
	if cause != nil {
		event.Fields["info"] = cause.Error()
	}
	if err := s.e.Audit.Record(ctx, event); err != nil {
		return fmt.Errorf("writing the audit record: %w", err)
	}
	return nil
}

// leaveActivity records the outcome for people (§12.1, §17.3).
func (s stateChange) leaveActivity(ctx context.Context, t token.Token, cause error) {
	text := fmt.Sprintf("from %s to %s", s.from, s.State)
	if cause != nil {
		text += ": " + cause.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := s.e.Stores.Activities.AddActivity(ctx, token.Activity{
		ID: token.NewID(), Time: s.e.Now(), CUID: s.CUID, UserID: s.By, IP: s.Client, Operation: "token_status_change",
		Success: cause == nil, Message: text, Profile: t.Profile,
	})
	if err != nil {
		s.e.Log.ErrorContext(ctx, "writing the activity", slog.String("cuid", s.CUID.String()), slog.Any("err", err))
	}
}
