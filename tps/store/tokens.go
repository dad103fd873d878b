package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps/token"
)

const tokenColumns = "cuid, kdd, user_id, profile, state, reason, applet_id, key_set, key_info, policy, created, modified, revision, applet_keys"

// Token implements token.Tokens.
func (db *DB) Token(ctx context.Context, cuid apdu.CUID) (token.Token, error) {
	return queryOne(ctx, db.read, scanToken, "SELECT "+tokenColumns+" FROM tokens WHERE cuid = ?", cuid.String())
}

// tokenByKDD repeats the condition of the index on kdd, without which that is not used.
const tokenByKDD = "SELECT " + tokenColumns + " FROM tokens WHERE kdd = ? AND kdd <> '' AND kdd <> '00000000000000000000'"

// TokenByKDD implements token.Tokens. All zero names no card: token.ErrNotFound.
func (db *DB) TokenByKDD(ctx context.Context, kdd gp.KDD) (token.Token, error) {
	if kdd.IsZero() {
		return token.Token{}, token.ErrNotFound
	}
	return queryOne(ctx, db.read, scanToken, tokenByKDD, kdd.String())
}

// Tokens implements token.Tokens. Text is looked for in CUID and user.
func (db *DB) Tokens(ctx context.Context, f token.Filter) ([]token.Token, error) {
	var w where
	w.text(f.Text, "cuid", "user_id")
	w.common(f)
	if f.State != "" {
		w.add("state = ?", string(f.State))
	}
	if f.After != "" {
		w.add("cuid > ?", strings.ToUpper(f.After))
	}
	rest, args := w.page("cuid", f.Limit)
	return queryAll(ctx, db.read, scanToken, "SELECT "+tokenColumns+" FROM tokens"+rest, args...)
}

// common adds the conditions that all lists share.
func (w *where) common(f token.Filter) {
	if f.CUID != nil {
		w.add("cuid = ?", f.CUID.String())
	}
	if f.UserID != "" {
		w.add("user_id = ?", string(f.UserID))
	}
}

// CreateToken implements token.Tokens. Created is kept if it is set.
func (db *DB) CreateToken(ctx context.Context, t token.Token) (token.Token, error) {
	t.Modified = normal(db.now())
	if t.Created = normal(t.Created); t.Created.IsZero() {
		t.Created = t.Modified
	}
	t.Revision = 1
	_, err := db.exec(ctx, "INSERT INTO tokens ("+tokenColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		t.CUID.String(), kddText(t.KDD), string(t.UserID), string(t.Profile), string(t.State), string(t.Reason),
		t.AppletID, string(t.KeySet), keyInfoText(t.KeyInfo), t.Policy, stamp(t.Created), stamp(t.Modified), t.Revision, t.AppletKeys.String())
	if err != nil {
		return token.Token{}, fmt.Errorf("creating token %s: %w", t.CUID, err)
	}
	return t, nil
}

// ReplaceToken implements token.Tokens. Created never changes.
func (db *DB) ReplaceToken(ctx context.Context, t token.Token) (token.Token, error) {
	t.Modified = normal(db.now())
	err := replaced(db.exec(ctx, `UPDATE tokens SET kdd = ?, user_id = ?, profile = ?, state = ?, reason = ?,
		applet_id = ?, key_set = ?, key_info = ?, policy = ?, applet_keys = ?, modified = ?, revision = revision + 1
		WHERE cuid = ? AND revision = ?`,
		kddText(t.KDD), string(t.UserID), string(t.Profile), string(t.State), string(t.Reason),
		t.AppletID, string(t.KeySet), keyInfoText(t.KeyInfo), t.Policy, t.AppletKeys.String(), stamp(t.Modified),
		t.CUID.String(), t.Revision))
	if err != nil {
		return token.Token{}, fmt.Errorf("replacing token %s: %w", t.CUID, err)
	}
	t.Revision++
	return t, nil
}

func scanToken(r row) (token.Token, error) {
	var t token.Token
	var kdd, info, own string
	err := r.Scan(parsed{&t.CUID}, &kdd, &t.UserID, &t.Profile, &t.State, &t.Reason, &t.AppletID,
		&t.KeySet, &info, &t.Policy, stampAt(&t.Created), stampAt(&t.Modified), &t.Revision, &own)
	if err != nil {
		return token.Token{}, err
	}
	if kdd != "" {
		k, err := gp.ParseKDD(kdd)
		if err != nil {
			return token.Token{}, err
		}
		t.KDD = &k
	}
	if t.AppletKeys, err = token.ParseAppletKeys(own); err != nil {
		return token.Token{}, err
	}
	if info != "" {
		if t.KeyInfo, err = hex.DecodeString(info); err != nil {
			return token.Token{}, fmt.Errorf("parsing key information: %w", err)
		}
	}
	return t, nil
}

func kddText(k *gp.KDD) string {
	if k == nil {
		return ""
	}
	return k.String()
}

func keyInfoText(i token.KeyInfo) string { return strings.ToUpper(hex.EncodeToString(i)) }
