package store

import (
	"context"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
)

// RetiredVersion is a key set version that no new card gets. Its master keys
// stay: cards that have it go on working.
type RetiredVersion struct {
	Set     tks.KeySetName
	Version gp.KeyVersion
	Since   time.Time
}

// Retire marks a key set version as retired. Doing it again changes nothing.
func (db *DB) Retire(ctx context.Context, set tks.KeySetName, version gp.KeyVersion) error {
	_, err := db.exec(ctx, `INSERT INTO retired_key_sets (key_set, version, since) VALUES (?, ?, ?)
		ON CONFLICT (key_set, version) DO NOTHING`, string(set), int64(version), stamp(db.now()))
	return err
}

// Retired says whether a key set version is retired.
func (db *DB) Retired(ctx context.Context, set tks.KeySetName, version gp.KeyVersion) (bool, error) {
	n, err := queryOne(ctx, db.read, scanInt, "SELECT COUNT(*) FROM retired_key_sets WHERE key_set = ? AND version = ?",
		string(set), int64(version))
	return n > 0, err
}

// RetiredVersions lists all of them, ordered by set and version.
func (db *DB) RetiredVersions(ctx context.Context) ([]RetiredVersion, error) {
	return queryAll(ctx, db.read, scanRetired, "SELECT key_set, version, since FROM retired_key_sets ORDER BY key_set, version")
}

func scanRetired(r row) (RetiredVersion, error) {
	var v RetiredVersion
	err := r.Scan(&v.Set, &v.Version, stampAt(&v.Since))
	return v, err
}

func scanInt(r row) (int64, error) {
	var n int64
	err := r.Scan(&n)
	return n, err
}
