//go:build unix

package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
	"inkan/tps/token"
)

// TestPostgresRefused: whatever keeps a database from being used is said with what
// to do, by who opens it and by who only asks.
func TestPostgresRefused(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	role := s.NewRole(t, "right")
	as := func(url, name string) string { return strings.Replace(url, pgtest.Superuser, name, 1) }
	plain := s.Database(t)
	prepared := func(statement string) string {
		url := s.Database(t)
		name := url[strings.LastIndex(url, "/")+1:]
		s.ExecIn(t, url, strings.ReplaceAll(statement, "NAME", name))
		return url
	}
	newer := s.Database(t)
	openPostgres(t, newer).Close()
	s.ExecIn(t, newer, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)")
	latin := s.URL("latin")
	s.Exec(t, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	t.Cleanup(func() { s.Exec(t, "DROP DATABASE latin") })
	gone := strings.Replace(plain, s.Address(), "127.0.0.1:1", 1)
	for _, tt := range []struct {
		name, url, password, want string
		asked                     bool // connects, and says so when asked
	}{
		{"no server", gone, "", "cannot be reached", false},
		{"no password", as(plain, role), "", "password_file", false},
		{"wrong password", as(plain, role), "wrong", "password_file", false},
		{"no database", s.URL("none"), "", "createdb", false},
		{"no rights", as(plain, role), "right", "owner", true},
		{"unflushed", prepared("ALTER DATABASE NAME SET synchronous_commit = off"), "", "synchronous_commit", true},
		{"read-only", prepared("ALTER DATABASE NAME SET default_transaction_read_only = on"), "", "read-only", true},
		{"encoding", latin, "", "UTF8", true},
		{"newer", newer, "", "newer", true},
	} {
		p := store.Postgres{URL: tt.url}
		if tt.password != "" {
			p.Password = secret.New([]byte(tt.password))
		}
		db, err := store.OpenPostgres(t.Context(), p)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if newer := tt.name == "newer"; errors.Is(err, store.ErrNewer) != newer || errors.Is(err, token.ErrUnavailable) == newer {
			t.Errorf("%s: %v is of another kind", tt.name, err)
		}
		if tt.password == "wrong" && strings.Contains(err.Error(), "wrong") {
			t.Errorf("the error holds the password: %v", err)
		}
		info, err := store.AskPostgres(t.Context(), p)
		if (err == nil) != tt.asked {
			t.Errorf("%s: asked: %v", tt.name, err)
		}
		if err == nil && tt.name != "no rights" && (info.Usable() == nil || !strings.Contains(info.Usable().Error(), tt.want)) {
			t.Errorf("%s: %+v is usable: %v", tt.name, info, info.Usable())
		}
	}
}

// TestPostgresAsked: what a server says of itself, and asking changes nothing.
func TestPostgresAsked(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	info, err := store.AskPostgres(t.Context(), store.Postgres{URL: url})
	if err != nil || info.Usable() != nil || info.Migration != 0 || info.Known < 4 || info.Fsync || !info.Flushes || info.Encrypted || info.Skew.Abs() > time.Minute {
		t.Errorf("before: %+v, %v", info, err)
	}
	openPostgres(t, url)
	if info, err = store.AskPostgres(t.Context(), store.Postgres{URL: url}); err != nil || info.Migration != info.Known {
		t.Errorf("after: %+v, %v", info, err)
	}
}

// TestPostgresPassword: the password opens, and the environment gives none.
func TestPostgresPassword(t *testing.T) {
	t.Setenv("PGPASSWORD", "right")
	s := pgtest.Shared(t)
	role := s.NewRole(t, "right")
	url := s.Database(t)
	s.ExecIn(t, url, "GRANT ALL ON SCHEMA public TO "+role)
	p := store.Postgres{URL: strings.Replace(url, pgtest.Superuser, role, 1)}
	if db, err := store.OpenPostgres(t.Context(), p); err == nil {
		db.Close()
		t.Error("the password came from the environment")
	}
	p.Password = secret.New([]byte("right"))
	db, err := store.OpenPostgres(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

// TestPostgresStuck: a statement that another one holds up ends, and says so.
func TestPostgresStuck(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	db := openPostgres(t, url+"?statement_timeout=200")
	release := make(chan struct{})
	held := make(chan error)
	go func() { held <- openPostgres(t, url).Hold(t.Context(), "tokens", held, release) }()
	if err := <-held; err != nil {
		t.Fatal(err)
	}
	_, err := db.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1}})
	if !errors.Is(err, token.ErrUnavailable) || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("got %v", err)
	}
	close(release)
	if err := <-held; err != nil {
		t.Error(err)
	}
	if _, err := db.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1}}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
