package store

import (
	"context"
	"errors"
	"fmt"

	"inkan/tps/profile"
	"inkan/tps/token"
)

const (
	resolverColumns = "name, revision, document, created, modified"
	resolverByName  = "SELECT " + resolverColumns + " FROM profile_mappings WHERE name = ?"
)

// Resolver implements profile.Resolvers.
func (db *DB) Resolver(ctx context.Context, name string) (profile.ResolverRecord, error) {
	return queryOne(ctx, db.read, scanResolver, resolverByName, name)
}

// Resolvers implements profile.Resolvers.
func (db *DB) Resolvers(ctx context.Context) ([]profile.ResolverRecord, error) {
	return queryAll(ctx, db.read, scanResolver, "SELECT "+resolverColumns+" FROM profile_mappings ORDER BY name")
}

// PutResolver implements profile.Resolvers. Created is that of the first revision.
func (db *DB) PutResolver(ctx context.Context, r profile.ResolverRecord) (profile.ResolverRecord, error) {
	err := db.change(ctx, TopicMappings, func(q querier) error {
		was, err := queryOne(ctx, q, scanResolver, resolverByName, r.Name)
		if err != nil && !errors.Is(err, token.ErrNotFound) {
			return err
		}
		if was.Revision != r.Revision {
			return token.ErrConflict
		}
		r.Modified = normal(db.now())
		if r.Created = was.Created; r.Created.IsZero() {
			r.Created = r.Modified
		}
		r.Revision++
		_, err = exec(ctx, q, `INSERT INTO profile_mappings (`+resolverColumns+`) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, document = excluded.document, modified = excluded.modified`,
			r.Name, r.Revision, r.Document, stamp(r.Created), stamp(r.Modified))
		return err
	})
	if err != nil {
		return profile.ResolverRecord{}, fmt.Errorf("storing mappings %s: %w", r.Name, err)
	}
	return r, nil
}

// DeleteResolver implements profile.Resolvers.
func (db *DB) DeleteResolver(ctx context.Context, name string, revision int) error {
	err := db.change(ctx, TopicMappings, func(q querier) error {
		if _, err := queryOne(ctx, q, scanResolver, resolverByName, name); err != nil {
			return err
		}
		return replaced(exec(ctx, q, "DELETE FROM profile_mappings WHERE name = ? AND revision = ?", name, revision))
	})
	if err != nil {
		return fmt.Errorf("deleting mappings %s: %w", name, err)
	}
	return nil
}

func scanResolver(r row) (profile.ResolverRecord, error) {
	var p profile.ResolverRecord
	err := r.Scan(&p.Name, &p.Revision, &p.Document, stampAt(&p.Created), stampAt(&p.Modified))
	return p, err
}
