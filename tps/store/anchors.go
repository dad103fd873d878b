package store

import (
	"context"
	"errors"

	"inkan/tps/token"
)

// SealGeneration is the newest generation of a sealed file (tps/seal); 0 where none
// was recorded.
func (db *DB) SealGeneration(ctx context.Context, instance, role string) (uint64, error) {
	g, err := queryOne(ctx, db.read, scanInt, "SELECT generation FROM seal_anchors WHERE instance = ? AND role = ?", instance, role)
	if errors.Is(err, token.ErrNotFound) {
		return 0, nil
	}
	return uint64(g), err
}

// SetSealGeneration records the newest generation of a sealed file.
func (db *DB) SetSealGeneration(ctx context.Context, instance, role string, generation uint64) error {
	_, err := db.exec(ctx, `INSERT INTO seal_anchors (instance, role, generation) VALUES (?, ?, ?)
		ON CONFLICT (instance, role) DO UPDATE SET generation = excluded.generation`, instance, role, int64(generation))
	return err
}

// ForgetSealGeneration removes the record; that there is none is no error.
func (db *DB) ForgetSealGeneration(ctx context.Context, instance, role string) error {
	_, err := db.exec(ctx, "DELETE FROM seal_anchors WHERE instance = ? AND role = ?", instance, role)
	return err
}
