package tps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"inkan/apdu"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// What is left when a card is done needs no card: records and revocations. It is
// all in the journal, so that the operation, a resumed operation and the sweeper
// run the same code, as often as it takes.

// recordStep writes the outcome: the planner's facts go into the journal first.
func recordStep(f Facts, facts map[string]string) Step {
	return settling(StepRecord, StatusUpdateFailed, f, facts, func(ctx context.Context, r *run) error {
		if err := r.e.settle(ctx, r.journal); err != nil {
			return err
		}
		ended, err := r.e.endJournal(ctx, r.journal, "done")
		if err == nil {
			r.journal = ended
		}
		return err
	})
}

// revokeStep revokes the certificates of a card that was emptied.
func revokeStep(f Facts) Step {
	return settling(StepRevoke, StatusRevocationFailed, f, nil, func(ctx context.Context, r *run) error {
		return r.e.settleRevocations(ctx, r.journal)
	})
}

// settling journals what the settling of the operation needs to know, with the
// certificates that the card carries now, and then acts.
func settling(name StepName, fail Status, f Facts, facts map[string]string, do func(context.Context, *run) error) Step {
	data := map[string]string{
		"revoke": strconv.FormatBool(f.Profile.Format.Revoke), "reason": strconv.Itoa(f.Profile.Format.Reason),
		"old_certs": f.Profile.Enroll.OldCerts,
	}
	for _, k := range f.Profile.Key {
		if k.OldCerts != "" {
			data["old_certs "+k.Type] = k.OldCerts
		}
	}
	maps.Copy(data, facts)
	return Step{Name: name, Kind: Settling, Weight: 1, Task: string(name), Fail: fail, Do: func(ctx context.Context, r *run) error {
		for _, c := range r.certs {
			data["cert "+c.ID] = c.KeyType // a serial number is one authority's only (DEF-44)
		}
		if err := r.intend(ctx, Step{Name: name, Intent: data}); err != nil {
			return err
		}
		return do(ctx, r)
	}}
}

// settled finds the facts that the last settling step journaled.
func settled(j token.Journal) (map[string]string, bool) {
	for i := len(j.Entries) - 1; i >= 0; i-- {
		if s := StepName(j.Entries[i].Step); s == StepRecord || s == StepRevoke {
			return j.Entries[i].Data, true
		}
	}
	return nil, false
}

// settle brings certificate and token records to what the card is now.
func (e *Engine) settle(ctx context.Context, j token.Journal) error {
	facts, _ := settled(j)
	if Operation(j.Operation) == OpFormat {
		if err := e.settleRevocations(ctx, j); err != nil {
			return err
		}
	}
	t, err := e.tokenOf(ctx, j.CUID)
	if err != nil {
		return err
	}
	end := func(t *token.Token) { settleToken(t, j, facts) }
	if op := Operation(j.Operation); op != OpEnroll && op != OpRenew {
		_, err := e.replaceToken(ctx, t, end)
		return err
	}
	certs, err := e.certificatesOf(ctx, j.CUID)
	if err != nil {
		return err
	}
	if _, lost := lostStates[t.State]; !lost { // declared so meanwhile
		if err := e.activateCertificates(ctx, j, facts, certs); err != nil {
			return err
		}
	}
	if _, err := e.replaceToken(ctx, t, end); err != nil {
		return err
	}
	return e.retireCertificates(ctx, j, facts, certs)
}

func (e *Engine) certificatesOf(ctx context.Context, cuid apdu.CUID) ([]token.Certificate, error) {
	certs, err := e.Stores.Certificates.CertificatesOf(ctx, cuid)
	if err != nil {
		return nil, fmt.Errorf("reading the card's certificates: %w", err)
	}
	return certs, nil
}

// settleToken is what an operation makes of a token record.
func settleToken(t *token.Token, j token.Journal, facts map[string]string) {
	_, lost := lostStates[t.State] // an agent was faster: that stays
	switch op := Operation(j.Operation); {
	case op == OpFormat && !lost:
		t.State, t.Reason, t.UserID = token.Formatted, token.NoReason, ""
	case op == OpEnroll && !lost:
		t.State, t.Reason, t.UserID = token.Active, token.NoReason, j.UserID
	case op == OpEnroll:
		t.UserID = j.UserID // whose keys it carries
	}
	if a := facts["applet"]; a != "" {
		t.AppletID = a
	}
	if Operation(j.Operation) == OpFormat || Operation(j.Operation) == OpEnroll {
		t.Profile = j.Profile
	}
	if facts["pin_reset"] == "no" {
		if p, err := token.ParsePolicy(t.Policy); err == nil {
			p.PINReset = false
			t.Policy = p.String()
		}
	}
}

// activateCertificates makes those of certs active that the operation has brought
// onto the card, also in certs.
func (e *Engine) activateCertificates(ctx context.Context, j token.Journal, facts map[string]string, certs []token.Certificate) error {
	for i := range certs {
		c := &certs[i]
		if _, onCard := facts["cert "+c.ID]; !onCard || c.Operation != j.ID || c.State != token.CertUninitialized {
			continue
		}
		c.State = token.CertActive
		if err := e.replaceCertificate(ctx, *c); err != nil {
			return err
		}
	}
	return nil
}

// retireCertificates deals with all certificates that an enrollment or renewal did not
// bring onto the card: what it had issued besides is revoked, what the card had before
// is treated as old_certs of its key says, or of [enroll]. certs are those that have a
// record.
func (e *Engine) retireCertificates(ctx context.Context, j token.Journal, facts map[string]string, certs []token.Certificate) error {
	claimed, err := e.claimIssued(ctx, j)
	if err == nil && claimed {
		certs, err = e.certificatesOf(ctx, j.CUID)
	}
	if err != nil {
		return err
	}
	for _, c := range certs {
		_, onCard := facts["cert "+c.ID]
		rule := cmp.Or(facts["old_certs "+c.KeyType], facts["old_certs"])
		switch {
		case c.State == token.CertUninitialized:
			err = e.revoke(ctx, c, ca.ReasonCessationOfOperation)
		case onCard, c.State != token.CertActive:
		case rule == "revoke":
			err = e.revoke(ctx, c, ca.ReasonSuperseded)
		case rule == "hold":
			err = e.revoke(ctx, c, ca.ReasonCertificateHold)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// settleRevocations revokes what a formatted card carried.
func (e *Engine) settleRevocations(ctx context.Context, j token.Journal) error {
	facts, _ := settled(j)
	certs, err := e.certificatesOf(ctx, j.CUID)
	if err != nil {
		return err
	}
	reason, _ := strconv.Atoi(facts["reason"])
	for _, c := range certs {
		if !revocable(c) || c.State == token.CertActive && facts["revoke"] != "true" {
			continue
		}
		if err := e.revoke(ctx, c, ca.Reason(reason)); err != nil {
			return err
		}
	}
	return nil
}

// revoke has a certificate revoked (or held) and records what the authority
// confirmed. If the authority does not answer, that is noted on the record and
// the sweeper tries again; the error is returned all the same.
func (e *Engine) revoke(ctx context.Context, c token.Certificate, reason ca.Reason) error {
	event := audit.Event{Name: "TOKEN_CERT_STATUS_CHANGE_REQUEST", Outcome: audit.Attempt, CUID: c.CUID.String(), Reference: c.Operation,
		Fields: map[string]string{"serial": c.Serial, "reason": strconv.Itoa(int(reason)), "ca": c.CA}}
	if err := e.Audit.Record(ctx, event); err != nil {
		return fmt.Errorf("writing the audit record: %w", err)
	}
	err := e.tellAuthority(ctx, c, reason)
	event.Outcome = audit.Success
	if err != nil {
		event.Outcome, event.Fields["info"] = audit.Failure, err.Error()
		c.Pending, c.Reason = "revoke", int(reason)
		return errors.Join(fmt.Errorf("revoking certificate %s: %w", c.Serial, err), e.replaceCertificate(ctx, c), e.Audit.Record(ctx, event))
	}
	c.State, c.Reason, c.Pending = token.CertRevoked, int(reason), ""
	if reason == ca.ReasonCertificateHold {
		c.State = token.CertOnHold
	}
	return errors.Join(e.replaceCertificate(ctx, c), e.Audit.Record(ctx, event))
}

func (e *Engine) tellAuthority(ctx context.Context, c token.Certificate, reason ca.Reason) error {
	a, ok := e.Authorities[c.CA]
	if !ok {
		return fmt.Errorf("authority %q is not configured", c.CA)
	}
	return a.Revoke(ctx, ca.Issuer{Name: c.Issuer, KeyID: c.AKI}, ca.Serial(c.Serial), reason)
}

func (e *Engine) replaceCertificate(ctx context.Context, c token.Certificate) error {
	c.Modified = e.Now()
	if _, err := e.Stores.Certificates.ReplaceCertificate(ctx, c); err != nil {
		return fmt.Errorf("writing the record of certificate %s: %w", c.Serial, err)
	}
	return nil
}
