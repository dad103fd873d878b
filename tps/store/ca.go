package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// Authority is the memory of one certificate authority; see [DB.Authority].
type Authority struct {
	db    *DB
	name  string
	there atomic.Bool // its row is known to be: that one is never deleted
}

// Authority returns the records of the authority with that name, an empty
// memory if there are none yet. It does not write.
func (db *DB) Authority(name string) *Authority { return &Authority{db: db, name: name} }

const issuedColumns = "request_id, serial, profile, key_hash, tbs, der, not_after, revoked_at, revocation_reason, revocation_revision, created"

// Issued implements ca.Issuances.
func (a *Authority) Issued(ctx context.Context, requestID string) (ca.Issued, error) {
	return queryOne(ctx, a.db.read, scanIssued, "SELECT "+issuedColumns+
		" FROM issued WHERE authority = ? AND request_id = ?", a.name, requestID)
}

// IssuedBySerial implements ca.Issuances.
func (a *Authority) IssuedBySerial(ctx context.Context, serial ca.Serial) (ca.Issued, error) {
	return queryOne(ctx, a.db.read, scanIssued, "SELECT "+issuedColumns+
		" FROM issued WHERE authority = ? AND serial = ?", a.name, string(serial))
}

// AnyIssued returns one of the authority's certificates; token.ErrNotFound if it has
// issued none.
func (a *Authority) AnyIssued(ctx context.Context) (ca.Issued, error) {
	return queryOne(ctx, a.db.read, scanIssued, "SELECT "+issuedColumns+
		" FROM issued WHERE authority = ? AND length(der) > 0 LIMIT 1", a.name)
}

// CreateIssued implements ca.Issuances.
func (a *Authority) CreateIssued(ctx context.Context, i ca.Issued) error {
	err := a.exist(ctx)
	if err == nil {
		_, err = a.db.exec(ctx, "INSERT INTO issued (authority, "+issuedColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			a.name, i.RequestID, string(i.Serial), i.Profile, blob(i.KeyHash), blob(i.TBS), blob(i.DER), stamp(i.NotAfter),
			stamp(i.Revocation.At), int(i.Revocation.Reason), i.Revocation.Revision, stamp(i.Created))
	}
	if err != nil {
		return fmt.Errorf("recording certificate request %s: %w", i.RequestID, err)
	}
	return nil
}

// exist makes sure that the authority has its row with the change number.
func (a *Authority) exist(ctx context.Context) error {
	if a.there.Load() {
		return nil
	}
	_, err := a.db.exec(ctx, "INSERT INTO authorities (name, change) VALUES (?, 0) ON CONFLICT (name) DO NOTHING", a.name)
	if err == nil {
		a.there.Store(true)
	}
	return err
}

// CompleteIssued implements ca.Issuances.
func (a *Authority) CompleteIssued(ctx context.Context, requestID string, der []byte) error {
	n, err := a.db.exec(ctx, "UPDATE issued SET der = ? WHERE authority = ? AND request_id = ? AND length(der) = 0", blob(der), a.name, requestID)
	if err == nil && n == 0 {
		if _, err = a.Issued(ctx, requestID); err == nil {
			err = token.ErrConflict
		}
	}
	if err != nil {
		return fmt.Errorf("recording the certificate of request %s: %w", requestID, err)
	}
	return nil
}

// SetRevocation implements ca.Revocations.
func (a *Authority) SetRevocation(ctx context.Context, serial ca.Serial, r ca.Revocation) error {
	err := a.db.tx(ctx, func(q querier) error {
		i, err := queryOne(ctx, q, scanIssued, "SELECT "+issuedColumns+
			" FROM issued WHERE authority = ? AND serial = ?", a.name, string(serial))
		if err != nil {
			return err
		}
		if i.Revocation.Revision != r.Revision {
			return token.ErrConflict
		}
		if _, err := exec(ctx, q, `UPDATE issued SET revoked_at = ?, revocation_reason = ?, revocation_revision = ?
			WHERE authority = ? AND serial = ?`, stamp(r.At), int(r.Reason), r.Revision+1, a.name, string(serial)); err != nil {
			return err
		}
		_, err = exec(ctx, q, "UPDATE authorities SET change = change + 1 WHERE name = ?", a.name)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording the revocation of %s: %w", serial, err)
	}
	return nil
}

// Revoked implements ca.Revocations.
func (a *Authority) Revoked(ctx context.Context, since time.Time) (entries []ca.Revoked, change int64, err error) {
	err = a.db.snapshot(ctx, func(q querier) error {
		if change, err = a.change(ctx, q); err != nil {
			return err
		}
		entries, err = queryAll(ctx, q, scanRevoked, `SELECT serial, revoked_at, revocation_reason FROM issued
			WHERE authority = ? AND revoked_at <> '' AND not_after >= ? ORDER BY serial`, a.name, stamp(since))
		return err
	})
	return entries, change, err
}

// LatestCRL implements ca.Revocations.
func (a *Authority) LatestCRL(ctx context.Context) (latest ca.CRL, change int64, err error) {
	err = a.db.snapshot(ctx, func(q querier) error {
		if change, err = a.change(ctx, q); err != nil {
			return err
		}
		latest, err = a.latestCRL(ctx, q)
		return err
	})
	return latest, change, err
}

// PutCRL implements ca.Revocations. Older lists are deleted.
func (a *Authority) PutCRL(ctx context.Context, c ca.CRL) error {
	if err := a.exist(ctx); err != nil {
		return fmt.Errorf("storing revocation list %d: %w", c.Number, err)
	}
	err := a.db.tx(ctx, func(q querier) error {
		latest, err := a.latestCRL(ctx, q)
		if err != nil {
			return err
		}
		if c.Number != latest.Number+1 {
			return token.ErrConflict
		}
		if _, err := exec(ctx, q, `INSERT INTO crls (authority, number, change, this_update, next_update, der)
			VALUES (?, ?, ?, ?, ?, ?)`, a.name, c.Number, c.Change, stamp(c.ThisUpdate), stamp(c.NextUpdate), blob(c.DER)); err != nil {
			return err
		}
		_, err = exec(ctx, q, "DELETE FROM crls WHERE authority = ? AND number < ?", a.name, c.Number)
		return err
	})
	if err != nil {
		return fmt.Errorf("storing revocation list %d: %w", c.Number, err)
	}
	return nil
}

// change returns the change number, 0 for an authority without records.
func (a *Authority) change(ctx context.Context, q querier) (int64, error) {
	return queryOne(ctx, q, scanInt, "SELECT COALESCE(MAX(change), 0) FROM authorities WHERE name = ?", a.name)
}

func (a *Authority) latestCRL(ctx context.Context, q querier) (ca.CRL, error) {
	c, err := queryOne(ctx, q, scanCRL, `SELECT number, change, this_update, next_update, der FROM crls
		WHERE authority = ? ORDER BY number DESC LIMIT 1`, a.name)
	if errors.Is(err, token.ErrNotFound) {
		return ca.CRL{}, nil
	}
	return c, err
}

func scanIssued(r row) (ca.Issued, error) {
	var i ca.Issued
	err := r.Scan(&i.RequestID, &i.Serial, &i.Profile, &i.KeyHash, &i.TBS, &i.DER, stampAt(&i.NotAfter),
		stampAt(&i.Revocation.At), &i.Revocation.Reason, &i.Revocation.Revision, stampAt(&i.Created))
	if len(i.DER) == 0 {
		i.DER = nil
	}
	return i, err
}

func scanRevoked(r row) (ca.Revoked, error) {
	var v ca.Revoked
	err := r.Scan(&v.Serial, stampAt(&v.At), &v.Reason)
	return v, err
}

func scanCRL(r row) (ca.CRL, error) {
	var c ca.CRL
	err := r.Scan(&c.Number, &c.Change, stampAt(&c.ThisUpdate), stampAt(&c.NextUpdate), &c.DER)
	return c, err
}
