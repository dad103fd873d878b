//go:build unix

package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm/softkey"
	"inkan/tps/api"
	"inkan/tps/seal"
	"inkan/tps/store/storetest/pgtest"
	"inkan/tps/token"
)

// postgresFolder makes a folder whose records are at url, for a user with a password.
func postgresFolder(t *testing.T, url, password string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "password")
	must(t, os.WriteFile(file, []byte(password+"\n"), 0o600))
	c, err := config.Config{Node: config.Node{Name: "pg", Lab: true}, Listen: config.Listen{Address: "127.0.0.1:0"},
		Database: config.Database{URL: url, PasswordFile: file}}.Complete()
	must(t, err)
	folder := filepath.Join(dir, "data")
	params := softkey.FloorParams()
	must(t, server.Create(t.Context(), folder, server.Answers{Config: c, KeyParams: &params}))
	return folder
}

// TestPostgresFolder: the records are in PostgreSQL, the rest of the folder is
// backed up and says so, and what is in the way is named by the doctor.
func TestPostgresFolder(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	role := s.NewRole(t, "pass word")
	superuser := s.Database(t)
	s.ExecIn(t, superuser, "GRANT ALL ON SCHEMA public TO "+role)
	url := strings.Replace(superuser, pgtest.Superuser, role, 1)
	folder := postgresFolder(t, url, "pass word")
	if _, err := os.Stat(filepath.Join(folder, "inkan.db")); err == nil {
		t.Error("there is an SQLite file too")
	}
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	_, err = n.DB.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1}, State: token.Unformatted})
	must(t, err)
	path := filepath.Join(t.TempDir(), "copy.age")
	got, err := n.BackUpFolder(t.Context(), api.FolderBackupRequest{Path: path, Recipient: recoveryRecipient}, secret.Secret{})
	must(t, err)
	if !slices.ContainsFunc(got.Left, func(l string) bool { return strings.Contains(l, "pg_dump") }) {
		t.Errorf("the backup does not say that the records are not in it: %+v", got)
	}
	must(t, n.Close())
	to := filepath.Join(t.TempDir(), "data")
	restored, err := server.Restore(t.Context(), path, to, secret.New([]byte(recoveryIdentity)), secret.Secret{}, server.Options{})
	must(t, err)
	if restored.Problem != "" {
		t.Errorf("restored: %+v", restored)
	}
	n, err = server.Open(t.Context(), to, server.Options{})
	must(t, err)
	if _, err := n.DB.Token(t.Context(), apdu.CUID{1}); err != nil {
		t.Errorf("the restored folder does not find the records: %v", err)
	}
	must(t, n.Close())

	diagnosed(t, folder, "database", sealing.Fine, "PostgreSQL")
	diagnosed(t, folder, "clock", sealing.Fine, "differs")
	diagnosed(t, folder, "database disk", sealing.Warning, "power cut")
	password := filepath.Join(filepath.Dir(folder), "password")
	must(t, os.WriteFile(password, []byte("wrong"), 0o644))
	must(t, os.Chmod(password, 0o644))
	diagnosed(t, folder, "database password", sealing.Warning, "0644")
	diagnosed(t, folder, "database", sealing.Failed, "password_file")
	must(t, os.Remove(password))
	diagnosed(t, folder, "database", sealing.Failed, "password_file")
	must(t, os.WriteFile(password, []byte("pass word"), 0o600))
	s.ExecIn(t, superuser, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)")
	diagnosed(t, folder, "database", sealing.Failed, "newer")
}

// diagnosed looks for a finding of the doctor.
func diagnosed(t *testing.T, folder, check string, v sealing.Verdict, evidence string) {
	t.Helper()
	all := sealing.Diagnose(t.Context(), folder, false, server.Options{})
	if !slices.ContainsFunc(all, func(f sealing.Finding) bool {
		return f.Check == check && f.Verdict == v && strings.Contains(f.Evidence+f.Next, evidence)
	}) {
		t.Errorf("no finding %s %s with %q: %+v", check, v, evidence, all)
	}
}

// TestMoveDatabase: the records of a plain and of a sealed folder move to PostgreSQL,
// and are where they were if that does not end well.
func TestMoveDatabase(t *testing.T) {
	t.Parallel()
	pgtest.Need(t)
	for name, folder := range map[string]string{"plain": prepared(t, filepath.Join(t.TempDir(), "data")), "sealed": sealedFolder(t, place{})} {
		n, err := server.Open(t.Context(), folder, server.Options{})
		must(t, err)
		_, err = n.DB.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{7}, State: token.Unformatted})
		must(t, err)
		users, err := n.DB.Users(t.Context())
		must(t, err)
		to := config.Database{URL: pgtest.Database(t)}
		if _, err := sealing.MoveDatabase(t.Context(), folder, to, server.Options{}); !errors.Is(err, server.ErrInUse) && !errors.Is(err, seal.Locked) {
			t.Errorf("%s: while a node runs: %v", name, err)
		}
		must(t, n.Close())
		if _, err := sealing.MoveDatabase(t.Context(), folder, config.Database{URL: to.URL + "none"}, server.Options{}); err == nil {
			t.Errorf("%s: moved to no database", name)
		}
		n, err = server.Open(t.Context(), folder, server.Options{})
		must(t, err)
		if n.Config.Database.File != "inkan.db" {
			t.Errorf("%s: after a failure: %+v", name, n.Config.Database)
		}
		must(t, n.Close())
		moved, err := sealing.MoveDatabase(t.Context(), folder, to, server.Options{})
		must(t, err)
		if len(moved.Tables) < 15 || (moved.Generation > 0) != (name == "sealed") {
			t.Errorf("%s: %+v", name, moved)
		}
		must(t, os.Remove(filepath.Join(folder, "inkan.db")))
		n, err = server.Open(t.Context(), folder, server.Options{})
		must(t, err)
		got, err := n.DB.Users(t.Context())
		if _, e := n.DB.Token(t.Context(), apdu.CUID{7}); e != nil || err != nil || len(got) != len(users) || n.Config.Database != to {
			t.Errorf("%s: %v, users %v (%v), in %+v", name, e, got, err, n.Config.Database)
		}
		must(t, n.Close())
		if _, err := sealing.MoveDatabase(t.Context(), folder, to, server.Options{}); !errors.Is(err, sealing.ErrMoved) {
			t.Errorf("%s: again: %v", name, err)
		}
	}
}
