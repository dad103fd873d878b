package sealing

import (
	"context"
	"fmt"
	"os"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/tps/store"
)

// OpenDatabase opens the records where the configuration says that they are.
func OpenDatabase(ctx context.Context, c config.Database, path func(string) string) (*store.DB, error) {
	if c.URL == "" {
		return store.Open(ctx, path(c.File))
	}
	p, err := postgres(c, path)
	if err != nil {
		return nil, err
	}
	defer p.Password.Wipe()
	return store.OpenPostgres(ctx, p)
}

// AskDatabase says why a PostgreSQL database would not do, before anything is made;
// of a file it says nothing.
func AskDatabase(ctx context.Context, c config.Database, path func(string) string) error {
	if c.URL == "" {
		return nil
	}
	p, err := postgres(c, path)
	if err != nil {
		return err
	}
	defer p.Password.Wipe()
	i, err := store.AskPostgres(ctx, p)
	if err != nil {
		return err
	}
	return i.Usable()
}

// postgres is the server that the configuration names; the caller wipes its password.
func postgres(c config.Database, path func(string) string) (store.Postgres, error) {
	p := store.Postgres{URL: c.URL}
	if c.PasswordFile == "" {
		return p, nil
	}
	b, err := os.ReadFile(path(c.PasswordFile))
	if err != nil {
		return p, fmt.Errorf("reading [database] password_file: %w", err)
	}
	if b = trimNewline(b); len(b) == 0 {
		return p, fmt.Errorf("[database] password_file %s is empty", c.PasswordFile)
	}
	p.Password = secret.New(b)
	return p, nil
}
