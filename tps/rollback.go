package tps

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// rollback undoes an unfinished operation when another one is asked for: what it
// had issued is revoked, and the record says what is left of the card.
func (r *run) rollback(ctx context.Context) error {
	open := r.facts.Open
	if open == nil || Operation(open.Operation) == r.req.Operation || r.finishesFirst(*open) {
		return nil
	}
	if err := mayResume(r.facts); err != nil {
		return r.dry.refused(err)
	}
	r.dry.open(*open, FateRolledBack)
	if err := r.dropLeft(ctx); err != nil {
		return within(StatusKeyChangeover, "roll-back", err)
	}
	if err := r.changeLeft(ctx); err != nil {
		return within(StatusKeyChangeover, "roll-back", err)
	}
	if err := r.forgetLeft(ctx); err != nil {
		return within(StatusKeyChangeover, "roll-back", err)
	}
	if err := r.e.rollBack(ctx, *open, r.facts.Contents.Version); err != nil {
		return within(StatusInternal, "roll-back", fmt.Errorf("rolling back the unfinished %s: %w", open.Operation, err))
	}
	if err := r.steps(ctx, ahead{StepRead, r.gather}); err != nil {
		return err
	}
	r.dry.rolledBack(&r.facts)
	return nil
}

// settleOpen writes the records of an unfinished operation whose card is done:
// the card is not touched again. If it is the one asked for, that was all.
func (r *run) settleOpen(ctx context.Context) (done bool, err error) {
	open := r.facts.Open
	if open == nil {
		return false, nil
	}
	if _, ok := settled(*open); !ok {
		return false, nil
	}
	if err := mayResume(r.facts); err != nil {
		return false, r.dry.refused(err)
	}
	r.dry.open(*open, FateRecorded)
	if err := r.e.finish(ctx, *open); err != nil {
		return false, within(StatusUpdateFailed, StepRecord, err)
	}
	if Operation(open.Operation) == r.req.Operation {
		return true, nil
	}
	return false, r.steps(ctx, ahead{StepRead, r.gather})
}

// rollBack settles a journal whose card is not done. What the card has of an applet
// now is its version, empty where the operation was cut while it had none.
func (e *Engine) rollBack(ctx context.Context, j token.Journal, applet string) error {
	if _, err := e.claimIssued(ctx, j); err != nil {
		return err
	}
	emptied := historyOf(&j).changedCard() && Operation(j.Operation) != OpRenew // which leaves the keys
	certs, err := e.certificatesOf(ctx, j.CUID)
	if err != nil {
		return err
	}
	inUse := false // with another applet
	of := profileFamilies{e: e, known: map[token.ProfileName]FamilyName{}}
	for _, c := range certs {
		other, err := of.differ(ctx, j.Profile, c.Profile)
		if err != nil {
			return err
		}
		switch {
		case c.State == token.CertUninitialized:
			err = e.revoke(ctx, c, ca.ReasonCessationOfOperation)
		case c.State == token.CertActive && other:
			inUse = true
		case c.State == token.CertActive && emptied: // its key is gone or may be
			err = e.revoke(ctx, c, ca.ReasonSuperseded)
		}
		if err != nil {
			return err
		}
	}
	if emptied && !inUse {
		if err := e.emptied(ctx, j, applet); err != nil {
			return err
		}
	}
	return e.close(ctx, j, "rolled-back")
}

// emptied records that a card lost its content on the way. One whose applet was prepared
// is a formatted one from here on.
func (e *Engine) emptied(ctx context.Context, j token.Journal, applet string) error {
	prepared := historyOf(&j).done(StepPrepare)
	_, err := e.updateToken(ctx, j.CUID, func(t *token.Token) {
		t.AppletID = applet
		if _, lost := lostStates[t.State]; !lost && (prepared || t.State != token.Unformatted) {
			t.State, t.Reason, t.UserID = token.Formatted, token.NoReason, ""
		}
	})
	return err
}

// finder is the optional ability of an authority to look a request up without
// issuing anything.
type finder interface {
	// Find returns what was issued for a request; ca.ErrUnknown if nothing was.
	Find(ctx context.Context, requestID string) (ca.Certificate, error)
}

// claimIssued makes sure that every certificate the journal asked for has a
// record; claimed says that one had none. An authority that cannot look a request up
// is asked for it again: the same identity returns the same certificate, and what it
// refuses it did not issue.
func (e *Engine) claimIssued(ctx context.Context, j token.Journal) (claimed bool, err error) {
	recorded := map[string]bool{"": true} // requests whose certificate has its record
	for _, entry := range j.Entries {
		if entry.Confirmed {
			recorded[entry.Data["request"]] = true
		}
	}
	for _, entry := range j.Entries {
		if !strings.HasPrefix(entry.Step, string(StepIssue)) || recorded[entry.Data["request"]] {
			continue
		}
		i, err := issuanceOf(j, entry)
		if err != nil {
			return claimed, err
		}
		if f, ok := e.Authorities[i.ca].(finder); ok {
			if _, err := f.Find(ctx, i.request.ID); errors.Is(err, ca.ErrUnknown) {
				continue
			}
		}
		claimed = true
		if _, err := e.issue(ctx, i); err != nil && !errors.Is(err, ca.ErrRefused) {
			return claimed, err
		}
	}
	return claimed, nil
}

// issuanceOf is the certificate that a journal entry was about to ask for.
func issuanceOf(j token.Journal, entry token.Entry) (issuance, error) {
	spki, err := base64.StdEncoding.DecodeString(entry.Data["spki"])
	if err != nil {
		return issuance{}, fmt.Errorf("reading the journaled public key: %w", err)
	}
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return issuance{}, fmt.Errorf("reading the journaled public key: %w", err)
	}
	number, _ := strconv.Atoi(entry.Data["number"])
	made, _ := historyOf(&j).made(entry.Data["key"])
	evidence := cmp.Or(entry.Data["evidence"], made.Data["evidence"])
	return issuance{ca: entry.Data["ca"], key: entry.Data["key"], number: number, evidence: evidence, journal: j, request: ca.Request{
		ID: entry.Data["request"], Profile: entry.Data["ca_profile"], PublicKey: pub, CUID: j.CUID,
		Subject: subject(personOf(j)),
	}}, nil
}

// finish settles a journal whose card is done.
func (e *Engine) finish(ctx context.Context, j token.Journal) error {
	if err := e.settle(ctx, j); err != nil {
		return err
	}
	return e.close(ctx, j, "done")
}

// close ends a journal and leaves an activity.
func (e *Engine) close(ctx context.Context, j token.Journal, result string) error {
	if _, err := e.endJournal(ctx, j, result); err != nil {
		return err
	}
	text := "unfinished " + j.Operation + " rolled back"
	if result == "done" {
		text = "unfinished " + j.Operation + " finished without the card"
	}
	err := e.Stores.Activities.AddActivity(ctx, token.Activity{
		ID: token.NewID(), Time: e.Now(), CUID: j.CUID, UserID: j.UserID, IP: j.Client, Operation: Operation(j.Operation).activity(),
		Success: result == "done", Message: text, Profile: j.Profile, Reference: j.ID,
	})
	if err != nil {
		e.Log.ErrorContext(ctx, "writing the activity", slog.String("cuid", j.CUID.String()), slog.Any("err", err))
	}
	return nil
}
