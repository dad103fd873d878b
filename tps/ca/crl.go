package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"inkan/tps/token"
)

// crlCheck is how long a revocation list is served without asking the store
// whether another node has revoked something.
const crlCheck = time.Second

// CRL returns the present revocation list, complete and signed. A new one is
// made when a revocation has changed, and when three quarters of the life of the
// last one are over. While the store or the signer does not answer, the last
// one is returned as long as it is in date.
//
// Certificates stay listed until one list after their expiry (RFC 5280 §3.3).
func (e *Embedded) CRL(ctx context.Context) (CRL, error) {
	e.crl.Lock()
	defer e.crl.Unlock()
	now := e.now()
	stale := e.crl.stale.Swap(false) // one that comes from here on counts for the next call
	if since := now.Sub(e.crl.checked); !stale && since >= 0 && since < crlCheck && e.fresh(e.crl.latest, now) {
		return e.crl.latest, nil
	}
	crl, err := e.currentCRL(ctx, now)
	if err != nil {
		e.crl.stale.Store(true)
		if e.crl.latest.Number > 0 && now.Before(e.crl.latest.NextUpdate) && ctx.Err() == nil {
			return e.crl.latest, nil
		}
		return CRL{}, err
	}
	e.crl.latest, e.crl.checked = crl, now
	return crl, nil
}

// currentCRL returns the stored list if it is still right, else makes the next one.
func (e *Embedded) currentCRL(ctx context.Context, now time.Time) (CRL, error) {
	for range 5 {
		last, change, err := e.cfg.Store.LatestCRL(ctx)
		if err != nil {
			return CRL{}, storeError("reading the revocation list", err)
		}
		if last.Change == change && e.fresh(last, now) {
			return last, nil
		}
		next, err := e.makeCRL(ctx, last, now)
		if err != nil {
			return CRL{}, err
		}
		err = e.cfg.Store.PutCRL(ctx, next)
		if err == nil {
			return next, nil
		}
		if !errors.Is(err, token.ErrConflict) { // conflict: another node was faster, see what it made
			return CRL{}, storeError("storing the revocation list", err)
		}
	}
	return CRL{}, fmt.Errorf("%w: revocation list keeps changing", ErrUnavailable)
}

func (e *Embedded) fresh(c CRL, now time.Time) bool {
	return c.Number > 0 && now.Before(c.NextUpdate.Add(-e.cfg.CRLLifetime/4))
}

// makeCRL signs the list that follows last.
func (e *Embedded) makeCRL(ctx context.Context, last CRL, now time.Time) (CRL, error) {
	since := now
	if last.Number > 0 {
		since = earliest(now, last.ThisUpdate)
	}
	revoked, change, err := e.cfg.Store.Revoked(ctx, since)
	if err != nil {
		return CRL{}, storeError("reading the revoked certificates", err)
	}
	entries, err := crlEntries(revoked)
	if err != nil {
		return CRL{}, err
	}
	next := CRL{Number: last.Number + 1, Change: change, ThisUpdate: now, NextUpdate: now.Add(e.cfg.CRLLifetime)}
	next.DER, err = e.await(ctx, func() ([]byte, error) {
		return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number:                    big.NewInt(next.Number),
			ThisUpdate:                next.ThisUpdate,
			NextUpdate:                next.NextUpdate,
			RevokedCertificateEntries: entries,
		}, e.cert, e.cfg.Signer)
	})
	if err != nil {
		return CRL{}, fmt.Errorf("making the revocation list: %w", err)
	}
	return next, nil
}

func crlEntries(revoked []Revoked) ([]x509.RevocationListEntry, error) {
	entries := make([]x509.RevocationListEntry, 0, len(revoked))
	for _, r := range revoked {
		n, err := r.Serial.number()
		if err != nil {
			return nil, fmt.Errorf("reading the revoked certificates: %w", err)
		}
		entries = append(entries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: r.At, ReasonCode: int(r.Reason)})
	}
	return entries, nil
}
