package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/pressly/goose/v3"
)

// ErrNewer means that the database was written by a newer program than this one.
var ErrNewer = errors.New("database is newer than this program")

//go:embed migrations/*.sql
var migrations embed.FS

// dialect is what a database's migrations differ in.
type dialect struct {
	goose goose.Dialect
	types *strings.Replacer // of columns; nil: as they are
}

var sqliteDialect = dialect{goose: goose.DialectSQLite3}

// migrate applies the numbered migrations that the database lacks, each in its
// own transaction. There is no way back down.
func migrate(ctx context.Context, d dialect, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(d.goose, db, translated{files, d.types},
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

// newest is the version that the migrations lead to.
func newest() (int64, error) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("reading migrations: %w", err)
	}
	return goose.NumericComponent(files[len(files)-1])
}

// translated are migrations with the types of columns as another database names them.
type translated struct {
	fs.FS
	types *strings.Replacer
}

// Open implements fs.FS.
func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil || t.types == nil || path.Ext(name) != ".sql" {
		return f, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return translatedFile{f, strings.NewReader(t.types.Replace(string(b)))}, nil
}

type translatedFile struct {
	fs.File
	text io.Reader
}

// Read implements fs.File.
func (f translatedFile) Read(b []byte) (int, error) { return f.text.Read(b) }
