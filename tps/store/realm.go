package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"inkan/tps/realm"
)

const realmColumns = `id, name, algorithm, provider, priority, state, kid, public_key, chain, material, predecessor,
	created, activate_at, activated, passive_at, disabled_at, deleted_at, compromised, scheduled, use, node, revision`

// Realm implements realm.Store.
func (db *DB) Realm(ctx context.Context) (realm.Records, error) {
	var out realm.Records
	err := db.snapshot(ctx, func(q querier) (err error) {
		out.Keys, err = queryAll(ctx, q, scanRealmKey, "SELECT "+realmColumns+" FROM realm_keys ORDER BY priority DESC, id")
		if err == nil {
			out.NotBefore, err = notBefore(ctx, q)
		}
		return err
	})
	return out, err
}

// notBefore is per use the second before which no token counts.
func notBefore(ctx context.Context, q querier) (map[realm.Use]time.Time, error) {
	type entry struct {
		use realm.Use
		t   time.Time
	}
	all, err := queryAll(ctx, q, func(r row) (e entry, err error) { err = r.Scan(&e.use, stampAt(&e.t)); return e, err },
		"SELECT use, not_before FROM realm_uses WHERE not_before <> ''")
	out := map[realm.Use]time.Time{}
	for _, e := range all {
		out[e.use] = e.t
	}
	return out, err
}

// ChangeRealm implements realm.Store.
func (db *DB) ChangeRealm(ctx context.Context, ch realm.Change) error {
	err := db.change(ctx, TopicRealm, func(q querier) error {
		for _, k := range ch.Replace { // first: a pending key may make room for another
			if err := replaceRealmKey(ctx, q, k); err != nil {
				return err
			}
		}
		for _, k := range ch.Create {
			if err := createRealmKey(ctx, q, k); err != nil {
				return err
			}
		}
		if ch.First != "" {
			if _, err := exec(ctx, q, "INSERT INTO realm_uses (use, not_before) VALUES (?, '')", string(ch.First)); err != nil {
				return err
			}
		}
		for u, t := range ch.NotBefore {
			_, err := exec(ctx, q, `INSERT INTO realm_uses (use, not_before) VALUES (?, ?)
				ON CONFLICT (use) DO UPDATE SET not_before = excluded.not_before WHERE realm_uses.not_before < excluded.not_before`, string(u), stamp(t))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("changing the realm keys: %w", err)
	}
	return nil
}

func createRealmKey(ctx context.Context, q querier, k realm.Key) error {
	chain, err := json.Marshal(k.Chain)
	if err != nil {
		return err
	}
	_, err = exec(ctx, q, "INSERT INTO realm_keys ("+realmColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
		string(k.ID), k.Name, string(k.Algorithm), string(k.Provider), k.Priority, string(k.State), k.KID, blob(k.Public), string(chain),
		k.Material, string(k.Predecessor), stamp(k.Created), stamp(k.ActivateAt), stamp(k.Activated), stamp(k.PassiveAt),
		stamp(k.DisabledAt), stamp(k.DeletedAt), stamp(k.Compromised), k.Scheduled, string(k.Use), k.Node)
	if err == nil {
		_, err = exec(ctx, q, "DELETE FROM realm_makings WHERE material = ?", k.Material)
	}
	return err
}

// replaceRealmKey writes what may change of a key: never the key pair.
func replaceRealmKey(ctx context.Context, q querier, k realm.Key) error {
	chain, err := json.Marshal(k.Chain)
	if err != nil {
		return err
	}
	return replaced(exec(ctx, q, `UPDATE realm_keys SET name = ?, priority = ?, state = ?, chain = ?, material = ?, activate_at = ?,
		activated = ?, passive_at = ?, disabled_at = ?, deleted_at = ?, compromised = ?, scheduled = ?, revision = revision + 1
		WHERE id = ? AND revision = ?`,
		k.Name, k.Priority, string(k.State), string(chain), k.Material, stamp(k.ActivateAt), stamp(k.Activated), stamp(k.PassiveAt),
		stamp(k.DisabledAt), stamp(k.DeletedAt), stamp(k.Compromised), k.Scheduled, string(k.ID), k.Revision))
}

func scanRealmKey(r row) (realm.Key, error) {
	var k realm.Key
	var chain string
	err := r.Scan(&k.ID, &k.Name, &k.Algorithm, &k.Provider, &k.Priority, &k.State, &k.KID, &k.Public, &chain, &k.Material, &k.Predecessor,
		stampAt(&k.Created), stampAt(&k.ActivateAt), stampAt(&k.Activated), stampAt(&k.PassiveAt), stampAt(&k.DisabledAt), stampAt(&k.DeletedAt),
		stampAt(&k.Compromised), &k.Scheduled, &k.Use, &k.Node, &k.Revision)
	if err == nil {
		err = json.Unmarshal([]byte(chain), &k.Chain)
	}
	return k, err
}

const sessionColumns = "id, user_id, credential, hash, address, certificate, created, expires, revision"

// CreateSession implements realm.Sessions. Those that have expired go.
func (db *DB) CreateSession(ctx context.Context, s realm.Session) error {
	err := db.tx(ctx, func(q querier) error {
		if _, err := exec(ctx, q, "DELETE FROM sessions WHERE expires < ?", stamp(db.now())); err != nil {
			return err
		}
		_, err := exec(ctx, q, "INSERT INTO sessions ("+sessionColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
			string(s.ID), string(s.User), blob(s.Credential), blob(s.Hash), s.Address, s.Certificate, stamp(s.Created), stamp(s.Expires))
		return err
	})
	if err != nil {
		return fmt.Errorf("beginning a session: %w", err)
	}
	return nil
}

// Session implements realm.Sessions.
func (db *DB) Session(ctx context.Context, id realm.SessionID) (realm.Session, error) {
	return queryOne(ctx, db.read, scanSession, "SELECT "+sessionColumns+" FROM sessions WHERE id = ?", string(id))
}

// ReplaceSession implements realm.Sessions. Only the hash changes.
func (db *DB) ReplaceSession(ctx context.Context, s realm.Session) error {
	err := replaced(db.exec(ctx, "UPDATE sessions SET hash = ?, revision = revision + 1 WHERE id = ? AND revision = ?",
		blob(s.Hash), string(s.ID), s.Revision))
	if err != nil {
		return fmt.Errorf("renewing a session: %w", err)
	}
	return nil
}

// DeleteSession implements realm.Sessions.
func (db *DB) DeleteSession(ctx context.Context, id realm.SessionID) error {
	if _, err := db.exec(ctx, "DELETE FROM sessions WHERE id = ?", string(id)); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}

func scanSession(r row) (realm.Session, error) {
	var s realm.Session
	err := r.Scan(&s.ID, &s.User, &s.Credential, &s.Hash, &s.Address, &s.Certificate, stampAt(&s.Created), stampAt(&s.Expires), &s.Revision)
	return s, err
}
