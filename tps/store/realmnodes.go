package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"inkan/tps/audit"
	"inkan/tps/realm"
)

// BeginKey implements realm.Makings.
func (db *DB) BeginKey(ctx context.Context, m realm.Making) error {
	_, err := db.exec(ctx, "INSERT INTO realm_makings (material, node, held, started) VALUES (?, ?, ?, ?)", m.Material, m.Node, m.Held, stamp(m.Started))
	return err
}

// EndKey implements realm.Makings.
func (db *DB) EndKey(ctx context.Context, material string) error {
	if _, err := db.exec(ctx, "DELETE FROM realm_makings WHERE material = ?", material); err != nil {
		return fmt.Errorf("forgetting an unfinished realm key: %w", err)
	}
	return nil
}

// Makings implements realm.Makings.
func (db *DB) Makings(ctx context.Context) ([]realm.Making, error) {
	return queryAll(ctx, db.read, func(r row) (m realm.Making, err error) {
		err = r.Scan(&m.Material, &m.Node, &m.Held, stampAt(&m.Started))
		return m, err
	}, "SELECT material, node, held, started FROM realm_makings ORDER BY started, material")
}

// Report implements realm.Reports.
func (db *DB) Report(ctx context.Context, p realm.Report) error {
	signing, err := json.Marshal(p.Signing)
	if err != nil {
		return err
	}
	_, err = db.exec(ctx, `INSERT INTO realm_nodes (node, signing, problem, seen) VALUES (?, ?, ?, ?)
		ON CONFLICT (node) DO UPDATE SET signing = excluded.signing, problem = excluded.problem, seen = excluded.seen`,
		p.Node, string(signing), p.Problem, stamp(p.Seen))
	if err != nil {
		return fmt.Errorf("reporting what this node signs with: %w", err)
	}
	return nil
}

// Reports implements realm.Reports.
func (db *DB) Reports(ctx context.Context) ([]realm.Report, error) {
	return queryAll(ctx, db.read, func(r row) (realm.Report, error) {
		var p realm.Report
		var signing string
		err := r.Scan(&p.Node, &signing, &p.Problem, stampAt(&p.Seen))
		if err == nil {
			err = json.Unmarshal([]byte(signing), &p.Signing)
		}
		return p, err
	}, "SELECT node, signing, problem, seen FROM realm_nodes ORDER BY node")
}

// ForgetNode implements realm.Reports.
func (db *DB) ForgetNode(ctx context.Context, node string) error {
	_, err := db.exec(ctx, "DELETE FROM realm_nodes WHERE node = ?", node)
	return err
}

// Spend implements realm.Spent.
func (db *DB) Spend(ctx context.Context, id string, expires time.Time) error {
	return db.tx(ctx, func(q querier) error {
		if _, err := exec(ctx, q, "DELETE FROM realm_spent WHERE expires < ?", stamp(db.now().Add(-time.Hour))); err != nil {
			return err
		}
		_, err := exec(ctx, q, "INSERT INTO realm_spent (id, expires) VALUES (?, ?)", id, stamp(expires))
		return err
	})
}

// AuditHead implements audit.Heads.
func (db *DB) AuditHead(ctx context.Context, node string) (audit.Head, error) {
	return queryOne(ctx, db.read, func(r row) (h audit.Head, err error) { err = r.Scan(&h.Seq, &h.Hash); return h, err },
		"SELECT seq, hash FROM audit_heads WHERE node = ?", node)
}

// KeepAuditHead implements audit.Heads.
func (db *DB) KeepAuditHead(ctx context.Context, node string, h audit.Head) error {
	_, err := db.exec(ctx, `INSERT INTO audit_heads (node, seq, hash) VALUES (?, ?, ?)
		ON CONFLICT (node) DO UPDATE SET seq = excluded.seq, hash = excluded.hash WHERE audit_heads.seq < excluded.seq`, node, h.Seq, h.Hash)
	return err
}
