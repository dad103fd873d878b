package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

// ErrNewer means that the database was written by a newer program than this one.
var ErrNewer = errors.New("database is newer than this program")

//go:embed migrations/*.sql
var migrations embed.FS

// migrate applies the numbered migrations that the database lacks, each in its
// own transaction. There is no way back down.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("reading migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return wrap("reading the database version", err)
	}
	if have > want {
		return fmt.Errorf("%w: it has version %d, the program knows %d", ErrNewer, have, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return wrap("migrating the database", err)
	}
	return nil
}
