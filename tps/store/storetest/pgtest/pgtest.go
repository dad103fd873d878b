//go:build unix

// Package pgtest gives tests a real PostgreSQL of their own.
//
// [Database] makes an empty database and returns its URL, without a password;
// [NewRole] makes a role that needs one. All databases of a test process are in
// one cluster, which begins with the first of them (about a second) and ends with
// the process, however that ends; it does not flush to disk. A test that stops,
// kills or configures a server begins one of its own with [Start].
// [NewProxy] is a way to a server that can be cut.
//
// Tests run with INKAN_REAL=1 only, and then fail where PostgreSQL is missing:
// without it all functions that begin something skip the test. Run as root, the
// server runs as user postgres. Its sort order is English, not that of bytes, so
// that whoever relies on the order of bytes without saying so is found out.
package pgtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// patience is how long a server may take to begin or to end.
const patience = time.Minute

// Need skips the test unless INKAN_REAL=1.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs PostgreSQL; set INKAN_REAL=1")
	}
}

// shared is the cluster of this test process. It is not ended by a test: its
// janitor does that when the process has ended.
var shared = sync.OnceValues(func() (*Server, error) { return begin("fsync=off", "max_connections=200") })

// Shared returns the server that all tests of this process share.
func Shared(t testing.TB) *Server {
	t.Helper()
	Need(t)
	s, err := shared()
	if err != nil {
		t.Fatalf("beginning PostgreSQL: %v", err)
	}
	return s
}

// Database makes an empty database on the shared server, which goes with the
// test, and returns its URL.
func Database(t testing.TB) string {
	t.Helper()
	return Shared(t).Database(t)
}

// Database makes an empty database, which goes with the test, and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := "t" + strings.ToLower(rand.Text())
	s.Exec(t, "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if s.running() { // else it goes with the server
			_ = s.exec(ctx, s.URL("postgres"), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		}
	})
	return s.URL(name)
}

// NewRole makes a role that may do nothing and has to show its password.
func (s *Server) NewRole(t testing.TB, password string) (name string) {
	t.Helper()
	name = lockedPrefix + strings.ToLower(rand.Text())
	s.Exec(t, "CREATE ROLE "+name+" LOGIN IN ROLE "+lockedGroup+" PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"'")
	return name
}

// Exec runs a statement as superuser in the database postgres.
func (s *Server) Exec(t testing.TB, statement string) {
	t.Helper()
	s.ExecIn(t, s.URL("postgres"), statement)
}

// ExecIn runs a statement in the database at url.
func (s *Server) ExecIn(t testing.TB, url, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience) // also in a Cleanup
	defer cancel()
	if err := s.exec(ctx, url, statement); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) exec(ctx context.Context, url, statement string) error {
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	if _, err := c.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
