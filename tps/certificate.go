package tps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// CertificateAction is what an agent does to a certificate without its card
// (tps-operations.md §12.3 to §12.5, where the audit's names of them are).
type CertificateAction string

// Actions.
const (
	ActionRevoke CertificateAction = "revoke"
	ActionHold   CertificateAction = "on-hold"
	ActionUnhold CertificateAction = "off-hold"
)

// CertificateChange asks for the change of one certificate.
type CertificateChange struct {
	ID     string // of the record
	Action CertificateAction
	Reason ca.Reason    // of ActionRevoke; the others have their own
	By     token.UserID // who asks
	Client string       // network address; empty = this machine
}

// ErrCertificateState means that a certificate in its state does not allow what
// is asked for.
var ErrCertificateState = errors.New("the certificate's state does not allow that")

// changeTimeout bounds a change once the authority has been asked: whoever asked
// may be gone, the records are to agree with the authority all the same.
const changeTimeout = 30 * time.Second

// ChangeCertificate revokes a certificate, holds it or takes it off hold: first
// at the authority, then in every record of that certificate (it may be on more
// cards than one). Doing again what is done changes nothing.
//
// A revocation or hold that the authority does not answer is noted in the record
// and the sweeper tries again; the error (ca.ErrUnavailable) is returned all the
// same. token.ErrNotFound where there is no such record, [ErrCertificateState]
// where it may not be.
func (e *Engine) ChangeCertificate(ctx context.Context, ch CertificateChange) (token.Certificate, error) {
	c, err := e.Stores.Certificates.Certificate(ctx, ch.ID)
	if err != nil {
		return c, fmt.Errorf("reading the certificate's record: %w", err)
	}
	reason, err := ch.reason()
	if err != nil {
		return c, err
	}
	if change, err := e.mayChange(ctx, c, ch.Action, reason); err != nil || !change {
		return c, e.auditRefusal(ctx, c, ch, err)
	}
	return e.changeCertificate(ctx, c, ch, reason)
}

// event is the audit event of a change (tps-operations.md §12.5).
func (ch CertificateChange) event(c token.Certificate) audit.Event {
	return audit.Event{Name: "TOKEN_CERT_STATUS_CHANGE_REQUEST", Subject: string(ch.By), IP: ch.Client, CUID: c.CUID.String(), Reference: c.Operation,
		Fields: map[string]string{"serial": c.Serial, "request": string(ch.Action), "ca": c.CA}}
}

// auditRefusal records a change that may not be.
func (e *Engine) auditRefusal(ctx context.Context, c token.Certificate, ch CertificateChange, err error) error {
	if err == nil {
		return nil
	}
	event := ch.event(c)
	event.Outcome, event.Fields["info"] = audit.Failure, err.Error()
	if aerr := e.Audit.Record(ctx, event); aerr != nil {
		err = errors.Join(err, fmt.Errorf("writing the audit record: %w", aerr))
	}
	return err
}

// reason is what the authority is told.
func (ch CertificateChange) reason() (ca.Reason, error) {
	switch ch.Action {
	case ActionHold:
		return ca.ReasonCertificateHold, nil
	case ActionUnhold:
		return ca.ReasonRemoveFromCRL, nil
	case ActionRevoke:
		if ch.Reason == ca.ReasonCertificateHold || ch.Reason == ca.ReasonRemoveFromCRL {
			return 0, fmt.Errorf("%w: reason %d is not one of a revocation for good", ErrCertificateState, ch.Reason)
		}
		return ch.Reason, nil
	}
	return 0, fmt.Errorf("%w: there is no action %q", ErrCertificateState, ch.Action)
}

// lostCards are the states of a card whose certificates nobody makes valid again
// one by one: the card's state has to be changed first.
var lostCards = map[token.State]bool{token.Suspended: true, token.PermLost: true, token.Damaged: true, token.Terminated: true}

// mayChange says whether there is anything to do, or refuses.
func (e *Engine) mayChange(ctx context.Context, c token.Certificate, a CertificateAction, reason ca.Reason) (bool, error) {
	if a == ActionRevoke {
		return mayRevoke(c, reason)
	}
	// What a hold or its end has to find, and what there is nothing to do with.
	from, done := token.CertActive, token.CertOnHold
	if a == ActionUnhold {
		from, done = done, from
	}
	switch {
	case c.State == token.CertRevoked:
		return refuseChange(c, "it is revoked for good")
	case c.Pending != "":
		return refuseChange(c, "its revocation is waiting for the authority")
	case c.State == done:
		return false, nil
	case c.State != from:
		return refuseChange(c, fmt.Sprintf("it is %s, not %s", c.State, from))
	case a == ActionHold:
		return true, nil
	}
	t, err := e.tokenOf(ctx, c.CUID)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		return false, err
	}
	if lostCards[t.State] {
		return refuseChange(c, fmt.Sprintf("its card is %s; change the card's state first", t.State))
	}
	return true, nil
}

// mayRevoke lets a revocation be repeated, and be made worse: keyCompromise
// replaces a lesser reason.
func mayRevoke(c token.Certificate, reason ca.Reason) (bool, error) {
	switch {
	case c.State != token.CertRevoked:
		return true, nil
	case c.Reason == int(reason):
		return false, nil
	case reason == ca.ReasonKeyCompromise:
		return true, nil
	}
	return refuseChange(c, fmt.Sprintf("it is revoked already, with reason %s", ca.Reason(c.Reason)))
}

func refuseChange(c token.Certificate, why string) (bool, error) {
	return false, fmt.Errorf("certificate %s: %w: %s", c.Serial, ErrCertificateState, why)
}

func (e *Engine) changeCertificate(ctx context.Context, c token.Certificate, ch CertificateChange, reason ca.Reason) (token.Certificate, error) {
	event := ch.event(c)
	event.Outcome, event.Fields["reason"] = audit.Attempt, strconv.Itoa(int(reason))
	if err := e.Audit.Record(ctx, event); err != nil {
		return c, fmt.Errorf("writing the audit record: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
	defer cancel()
	err := e.tellAuthority(ctx, c, reason)
	switch {
	case err == nil:
		c, err = e.recordChange(ctx, c, func(r *token.Certificate) { changed(r, ch.Action, reason) })
	case ch.Action != ActionUnhold && errors.Is(err, ca.ErrUnavailable):
		var rerr error
		c, rerr = e.recordChange(ctx, c, func(r *token.Certificate) { r.Pending, r.Reason = "revoke", int(reason) })
		err = errors.Join(fmt.Errorf("%w; it is tried again until it answers", err), rerr)
	}
	event.Outcome = audit.Success
	if err != nil {
		err = fmt.Errorf("changing certificate %s: %w", c.Serial, err)
		event.Outcome, event.Fields["info"] = audit.Failure, err.Error()
	}
	e.leaveActivity(ctx, c, ch, err)
	if aerr := e.Audit.Record(ctx, event); aerr != nil {
		err = errors.Join(err, fmt.Errorf("writing the audit record: %w", aerr))
	}
	return c, err
}

// changed is what the authority's answer makes of a record.
func changed(r *token.Certificate, a CertificateAction, reason ca.Reason) {
	r.Pending = ""
	switch a {
	case ActionRevoke:
		r.State, r.Reason = token.CertRevoked, int(reason)
	case ActionHold:
		r.State, r.Reason = token.CertOnHold, int(reason)
	case ActionUnhold:
		r.State, r.Reason = token.CertActive, 0
	}
}

// recordChange changes every record of a certificate: the same serial number of
// the same issuer. It returns the one that was asked for.
func (e *Engine) recordChange(ctx context.Context, c token.Certificate, change func(*token.Certificate)) (token.Certificate, error) {
	all, err := e.Stores.Certificates.Certificates(ctx, token.Filter{Serial: c.Serial, Limit: 1000})
	if err != nil {
		return c, fmt.Errorf("reading the records of certificate %s: %w", c.Serial, err)
	}
	var errs []error
	for _, r := range all {
		if !bytes.Equal(r.Issuer, c.Issuer) {
			continue
		}
		r, err := e.updateCertificate(ctx, r, change)
		errs = append(errs, err)
		if r.ID == c.ID && err == nil {
			c = r
		}
	}
	return c, errors.Join(errs...)
}

// updateCertificate changes a record although others write it too.
func (e *Engine) updateCertificate(ctx context.Context, r token.Certificate, change func(*token.Certificate)) (token.Certificate, error) {
	const tries = 4
	for try := 1; ; try++ {
		change(&r)
		r.Modified = e.Now()
		done, err := e.Stores.Certificates.ReplaceCertificate(ctx, r)
		if err == nil {
			return done, nil
		}
		if !errors.Is(err, token.ErrConflict) || try == tries {
			return r, fmt.Errorf("writing the record of certificate %s: %w", r.Serial, err)
		}
		if r, err = e.Stores.Certificates.Certificate(ctx, r.ID); err != nil {
			return r, fmt.Errorf("reading the record of the certificate: %w", err)
		}
	}
}

// leaveActivity records the outcome for people (§17.3).
func (e *Engine) leaveActivity(ctx context.Context, c token.Certificate, ch CertificateChange, err error) {
	operation, text := "cert_revocation", "certificate "+c.Serial+" revoked, reason "+ch.Reason.String()
	switch ch.Action {
	case ActionHold:
		text = "certificate " + c.Serial + " put on hold"
	case ActionUnhold:
		operation, text = "cert_restoration", "certificate "+c.Serial+" taken off hold"
	}
	if err != nil {
		text = err.Error()
	}
	aerr := e.Stores.Activities.AddActivity(ctx, token.Activity{
		ID: token.NewID(), Time: e.Now(), CUID: c.CUID, UserID: ch.By, IP: ch.Client, Operation: operation,
		Success: err == nil, Message: text, Profile: c.Profile, Reference: c.Operation,
	})
	if aerr != nil {
		e.Log.ErrorContext(ctx, "writing the activity", slog.String("cuid", c.CUID.String()), slog.Any("err", aerr))
	}
}
