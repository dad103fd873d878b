package store

import (
	"context"
	"errors"
	"fmt"

	"inkan/tps/profile"
	"inkan/tps/token"
)

const (
	profileColumns = "name, revision, state, document, created, modified"
	newestProfile  = "SELECT " + profileColumns + " FROM profiles WHERE name = ? ORDER BY revision DESC LIMIT 1"
)

// Profile implements profile.Store.
func (db *DB) Profile(ctx context.Context, name token.ProfileName) (profile.Record, error) {
	return queryOne(ctx, db.read, scanProfile, newestProfile, string(name))
}

// ProfileRevision implements profile.Store.
func (db *DB) ProfileRevision(ctx context.Context, name token.ProfileName, revision int) (profile.Record, error) {
	return queryOne(ctx, db.read, scanProfile, "SELECT "+profileColumns+
		" FROM profiles WHERE name = ? AND revision = ?", string(name), revision)
}

// Profiles implements profile.Store: the newest revision of each, ordered by name.
func (db *DB) Profiles(ctx context.Context) ([]profile.Record, error) {
	return queryAll(ctx, db.read, scanProfile, "SELECT "+profileColumns+
		" FROM profiles p WHERE revision = (SELECT MAX(revision) FROM profiles WHERE name = p.name) ORDER BY name")
}

// PutProfile implements profile.Store. Created is that of the first revision.
func (db *DB) PutProfile(ctx context.Context, r profile.Record) (profile.Record, error) {
	var put profile.Record
	err := db.change(ctx, TopicProfiles, func(q querier) error {
		newest, err := queryOne(ctx, q, scanProfile, newestProfile, string(r.Name))
		if err != nil && !errors.Is(err, token.ErrNotFound) {
			return err
		}
		if newest.Revision != r.Revision {
			return token.ErrConflict
		}
		put = r
		put.Modified = normal(db.now())
		if put.Created = newest.Created; put.Created.IsZero() {
			put.Created = put.Modified
		}
		put.Revision++
		_, err = exec(ctx, q, "INSERT INTO profiles ("+profileColumns+") VALUES (?, ?, ?, ?, ?, ?)",
			string(put.Name), put.Revision, string(put.State), put.Document, stamp(put.Created), stamp(put.Modified))
		return err
	})
	if err != nil {
		return profile.Record{}, fmt.Errorf("storing profile %s: %w", r.Name, err)
	}
	return put, nil
}

func scanProfile(r row) (profile.Record, error) {
	var p profile.Record
	err := r.Scan(&p.Name, &p.Revision, &p.State, &p.Document, stampAt(&p.Created), stampAt(&p.Modified))
	return p, err
}
