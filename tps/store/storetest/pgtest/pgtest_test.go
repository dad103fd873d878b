//go:build unix

package pgtest_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"inkan/tps/store/storetest/pgtest"
)

func answers(t *testing.T, url string) error {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return err
	}
	return c.Close(t.Context())
}

// TestServer: a private server stops, is killed, begins again and has what it had.
func TestServer(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t)
	url := s.Database(t)
	s.ExecIn(t, url, "CREATE TABLE kept (n int)")
	for name, end := range map[string]func(testing.TB){"stop": s.Stop, "kill": s.Kill} {
		end(t)
		if err := answers(t, url); err == nil {
			t.Errorf("%s: it still answers", name)
		}
		s.Begin(t)
		s.ExecIn(t, url, "INSERT INTO kept VALUES (1)")
	}
}

// TestProxy: what is cut is cut, until it is mended.
func TestProxy(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	p := pgtest.NewProxy(t, pgtest.Shared(t).Address())
	url := p.URL(t, direct)
	if err := answers(t, url); err != nil {
		t.Fatal(err)
	}
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(t.Context())
	p.Cut()
	if err := c.Ping(t.Context()); err == nil {
		t.Error("a connection survived the cut")
	}
	if err := answers(t, url); err == nil {
		t.Error("a new connection came through")
	}
	p.Mend()
	if err := answers(t, url); err != nil {
		t.Error(err)
	}
}

// TestRole: who needs a password does not get in without.
func TestRole(t *testing.T) {
	t.Parallel()
	s := pgtest.Shared(t)
	role := s.NewRole(t, "right' one")
	for password, want := range map[string]bool{"": false, "wrong": false, "right' one": true} {
		c, err := pgx.ParseConfig(s.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		c.User, c.Password = role, password
		conn, err := pgx.ConnectConfig(t.Context(), c)
		if (err == nil) != want {
			t.Errorf("password %q: %v", password, err)
		}
		if err == nil {
			conn.Close(t.Context())
		}
	}
}
