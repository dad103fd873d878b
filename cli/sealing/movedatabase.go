package sealing

import (
	"context"
	"errors"
	"fmt"

	"inkan/cli/config"
	"inkan/tps/store"
)

// Moved says what [MoveDatabase] has done.
type Moved struct {
	Tables     []store.Copied `json:"Tables"`
	From       string         `json:"From"` // the file, which stays and is used no more
	To         string         `json:"To"`
	Generation uint64         `json:"Generation"` // of a sealed configuration
}

// ErrMoved means that the records are in PostgreSQL already.
var ErrMoved = errors.New("the records of this folder are in PostgreSQL already")

// MoveDatabase copies the records of a folder that no node has open from its file
// to an empty PostgreSQL database, and then has the configuration name that. Until
// the configuration is written the file counts.
func MoveDatabase(ctx context.Context, folder string, to config.Database, o Options) (Moved, error) {
	d, err := ReadConfig(ctx, folder, o)
	if err != nil {
		return Moved{}, err
	}
	if d.Config.Database.URL != "" {
		return Moved{}, ErrMoved
	}
	out := Moved{From: Within(folder, d.Config.Database.File), To: to.URL}
	text, err := config.Set(d.Text, config.Assignment{Key: "database.file"}, config.Assignment{Key: "database.url", Value: to.URL},
		config.Assignment{Key: "database.password_file", Value: to.PasswordFile})
	if err != nil {
		return Moved{}, err
	}
	out.Generation, err = writeConfig(ctx, folder, d.Generation, text, func() (err error) {
		out.Tables, err = moveRecords(ctx, d.Config.Database, to, func(name string) string { return Within(folder, name) })
		return err
	}, o)
	return out, err
}

func moveRecords(ctx context.Context, from, to config.Database, path func(string) string) (tables []store.Copied, err error) {
	file, err := OpenDatabase(ctx, from, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	server, err := OpenDatabase(ctx, to, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	tables, err = store.CopyToPostgres(ctx, file, server)
	if errors.Is(err, store.ErrNotEmpty) {
		err = fmt.Errorf("%w: the records go to a new database: dropdb and createdb make it one", err)
	}
	return tables, err
}
