package ca

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"inkan/tps/token"
)

// Revoke implements [Authority]. Issuer name and key identifier must both be
// this authority's, so that a serial number never hits a certificate of another.
//
// A certificate on hold may be taken off hold or revoked for good, keeping the
// time of the hold. One that is revoked for good stays so: another reason is
// accepted but changes nothing, except that keyCompromise replaces a lesser one;
// hold and removeFromCRL are refused.
func (e *Embedded) Revoke(ctx context.Context, issuer Issuer, serial Serial, reason Reason) error {
	if !bytes.Equal(issuer.Name, e.cert.RawSubject) || !bytes.Equal(issuer.KeyID, e.cert.SubjectKeyId) {
		return ErrNotIssuer
	}
	if !reason.valid() {
		return fmt.Errorf("%w: revocation reason %d", ErrRefused, reason)
	}
	serial, err := ParseSerial(string(serial))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	for range 5 {
		err := e.revokeOnce(ctx, serial, reason)
		if !errors.Is(err, token.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("%w: record of certificate %s keeps changing", ErrUnavailable, serial)
}

func (e *Embedded) revokeOnce(ctx context.Context, serial Serial, reason Reason) error {
	rec, err := e.cfg.Store.IssuedBySerial(ctx, serial)
	if errors.Is(err, token.ErrNotFound) || err == nil && rec.DER == nil {
		return fmt.Errorf("%w: serial number %s", ErrUnknown, serial)
	}
	if err != nil {
		return storeError("reading the record of a certificate", err)
	}
	next, err := rec.Revocation.next(reason, e.now())
	if err != nil {
		return fmt.Errorf("certificate %s: %w", serial, err)
	}
	if next == rec.Revocation {
		return nil
	}
	defer e.ocsp.changes.Add(1) // after the change, whether or not its answer arrived
	defer e.crl.stale.Store(true)
	if err := e.cfg.Store.SetRevocation(ctx, serial, next); err != nil {
		return storeError("recording a revocation", err)
	}
	return nil
}

// next is the revocation after reason has been asked for.
func (r Revocation) next(reason Reason, now time.Time) (Revocation, error) {
	held := !r.At.IsZero() && r.Reason == ReasonCertificateHold
	revoked := !r.At.IsZero() && !held
	switch {
	case revoked && (reason == ReasonRemoveFromCRL || reason == ReasonCertificateHold):
		return r, fmt.Errorf("%w: it is revoked for good", ErrRefused)
	case revoked && (r.Reason == ReasonKeyCompromise || reason != ReasonKeyCompromise):
		return r, nil
	case reason == ReasonRemoveFromCRL:
		return Revocation{Revision: r.Revision}, nil
	case held || revoked:
		r.Reason = reason
		return r, nil
	}
	return Revocation{At: now, Reason: reason, Revision: r.Revision}, nil
}

func (r Reason) valid() bool {
	switch r {
	case ReasonUnspecified, ReasonKeyCompromise, ReasonAffiliationChanged, ReasonSuperseded,
		ReasonCessationOfOperation, ReasonCertificateHold, ReasonRemoveFromCRL:
		return true
	}
	return false
}
