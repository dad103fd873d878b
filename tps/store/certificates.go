package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"inkan/apdu"
	"inkan/tps/token"
)

const certificateColumns = "id, cuid, user_id, key_type, number, profile, state, serial, subject, issuer, aki, der, " +
	"ca, origin, operation, not_before, not_after, reason, pending, created, modified, revision, evidence"

// Certificate implements token.Certificates.
func (db *DB) Certificate(ctx context.Context, id string) (token.Certificate, error) {
	return queryOne(ctx, db.read, scanCertificate, "SELECT "+certificateColumns+" FROM certificates WHERE id = ?", id)
}

// Certificates implements token.Certificates, ordered by id. Text is looked for
// in id, CUID and user; the token state does not filter.
func (db *DB) Certificates(ctx context.Context, f token.Filter) ([]token.Certificate, error) {
	var w where
	w.text(f.Text, "id", "cuid", "user_id")
	w.common(f)
	if f.Serial != "" {
		w.add("serial = ?", strings.ToUpper(f.Serial))
	}
	if f.After != "" {
		w.add("id > ?", f.After)
	}
	rest, args := w.page("id", f.Limit)
	return queryAll(ctx, db.read, scanCertificate, "SELECT "+certificateColumns+" FROM certificates"+rest, args...)
}

// CertificatesOf implements token.Certificates.
func (db *DB) CertificatesOf(ctx context.Context, cuid apdu.CUID) ([]token.Certificate, error) {
	return queryAll(ctx, db.read, scanCertificate, "SELECT "+certificateColumns+
		" FROM certificates WHERE cuid = ? ORDER BY created, id", cuid.String())
}

// unsettled repeats the condition of the index on state and pending, without which that
// is not used.
const unsettled = "SELECT " + certificateColumns + " FROM certificates WHERE (state = 'uninitialized' OR pending <> '')" +
	" AND (pending <> '' OR created < ?) ORDER BY created, id"

// Unsettled implements token.Certificates, oldest first.
func (db *DB) Unsettled(ctx context.Context, t time.Time) ([]token.Certificate, error) {
	return queryAll(ctx, db.read, scanCertificate, unsettled, stamp(t))
}

// CreateCertificate implements token.Certificates. token.ErrConflict if the id
// is taken; an empty one is filled in. Created is kept if it is set.
func (db *DB) CreateCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	if c.ID == "" {
		c.ID = token.NewID()
	}
	c.Modified = normal(db.now())
	if c.Created = normal(c.Created); c.Created.IsZero() {
		c.Created = c.Modified
	}
	c.Revision = 1
	_, err := db.exec(ctx, "INSERT INTO certificates ("+certificateColumns+
		") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		c.ID, c.CUID.String(), string(c.UserID), c.KeyType, c.Number, string(c.Profile), string(c.State), c.Serial,
		c.Subject, blob(c.Issuer), blob(c.AKI), blob(c.DER), c.CA, c.Origin.String(), c.Operation,
		stamp(c.NotBefore), stamp(c.NotAfter), c.Reason, c.Pending, stamp(c.Created), stamp(c.Modified), c.Revision, c.Evidence)
	if err != nil {
		return token.Certificate{}, fmt.Errorf("creating certificate record %s: %w", c.ID, err)
	}
	return c, nil
}

// ReplaceCertificate implements token.Certificates. Created never changes.
func (db *DB) ReplaceCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	c.Modified = normal(db.now())
	err := replaced(db.exec(ctx, `UPDATE certificates SET cuid = ?, user_id = ?, key_type = ?, number = ?,
		profile = ?, state = ?, serial = ?, subject = ?, issuer = ?, aki = ?, der = ?, ca = ?, origin = ?, operation = ?,
		not_before = ?, not_after = ?, reason = ?, pending = ?, evidence = ?, modified = ?, revision = revision + 1
		WHERE id = ? AND revision = ?`,
		c.CUID.String(), string(c.UserID), c.KeyType, c.Number, string(c.Profile), string(c.State), c.Serial,
		c.Subject, blob(c.Issuer), blob(c.AKI), blob(c.DER), c.CA, c.Origin.String(), c.Operation,
		stamp(c.NotBefore), stamp(c.NotAfter), c.Reason, c.Pending, c.Evidence, stamp(c.Modified), c.ID, c.Revision))
	if err != nil {
		return token.Certificate{}, fmt.Errorf("replacing certificate record %s: %w", c.ID, err)
	}
	c.Revision++
	return c, nil
}

func scanCertificate(r row) (token.Certificate, error) {
	var c token.Certificate
	err := r.Scan(&c.ID, parsed{&c.CUID}, &c.UserID, &c.KeyType, &c.Number, &c.Profile, &c.State, &c.Serial, &c.Subject,
		&c.Issuer, &c.AKI, &c.DER, &c.CA, parsed{&c.Origin}, &c.Operation, stampAt(&c.NotBefore), stampAt(&c.NotAfter),
		&c.Reason, &c.Pending, stampAt(&c.Created), stampAt(&c.Modified), &c.Revision, &c.Evidence)
	return c, err
}
