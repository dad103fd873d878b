//go:build unix

package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/cli/server"
	"inkan/fixtures"
	"inkan/tks/hsm/hsmtest"
	"inkan/tps/profile"
	"inkan/tps/store/storetest/pgtest"
)

// TestRealPostgres: a folder is made whose records are in PostgreSQL, a card is
// enrolled, the server of the database restarts under the node, and another card
// is enrolled. Then it is killed: the doctor says so, and the node finds it again by
// itself.
func TestRealPostgres(t *testing.T) {
	pg := pgtest.Start(t, "fsync=on")
	s := newNode(t, hsmtest.SoftHSM(t))
	role := pg.NewRole(t, s.secret("Quince-Marble-31"))
	database := pg.Database(t)
	pg.ExecIn(t, database, "GRANT ALL ON SCHEMA public TO "+role)
	database = strings.Replace(database, pgtest.Superuser, role, 1)

	b, err := os.ReadFile(s.answers(t))
	if err != nil {
		t.Fatal(err)
	}
	section := fmt.Sprintf("[database]\nurl = %q\npassword_file = %q\n", database, s.file(t, "database-password", "Quince-Marble-31\n"))
	s.run(t, "init", "--answers", s.file(t, "answers.toml", string(b)+section))
	if _, err := os.Stat(filepath.Join(s.data, "inkan.db")); err == nil {
		t.Error("there is an SQLite file too")
	}
	s.allowSimulator(t)
	st := stories[2]
	n, err := server.Open(t.Context(), s.data, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.DB.PutProfile(t.Context(), profile.Record{Name: "pg", State: profile.Enabled, Document: st.document("pg", "p256", 2)})
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	applet, err := fixtures.Applet(fixtures.DefaultApplet)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.data, server.AppletFolder, fixtures.DefaultApplet+".ijc"), applet, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, st := range stories[:2] {
		s.addUser(t, person{st.user, s.password(st.user)}, st.fullName)
	}
	s.serve(t)
	s.enrollInPostgres(t, stories[0].user)
	pg.Stop(t)
	pg.Begin(t)
	s.enrollInPostgres(t, stories[1].user)

	pg.Kill(t)
	if r := s.call(t, "doctor", "--json"); r.code != 1 || !strings.Contains(r.out, "cannot be reached") {
		t.Errorf("doctor without a database: exit %d\n%s", r.code, r.out)
	}
	pg.Begin(t)
	if out := s.cardInPostgres(t, "format", stories[1].user, s.admin); out.code != 0 {
		t.Errorf("format after the database came back: exit %d\n%s%s", out.code, out.out, out.err)
	}
	s.run(t, "user", "list")
	s.stop(t)
	s.checkSecrets(t)
}

// enrollInPostgres makes a software card, formats and enrolls it, and has its records
// shown.
func (s *site) enrollInPostgres(t *testing.T, who string) {
	t.Helper()
	s.run(t, "sim", "new", "--image", filepath.Join(s.dir, who+".img"), "--model", "gp-scp03")
	if out := s.cardInPostgres(t, "format", who, s.admin); out.code != 0 {
		t.Fatalf("format: exit %d\n%s%s", out.code, out.out, out.err)
	}
	if out := s.cardInPostgres(t, "enroll", who, person{who, s.password(who)}); out.code != 0 {
		t.Fatalf("enroll: exit %d\n%s%s", out.code, out.out, out.err)
	}
	if r := s.run(t, "token", "list", "--json"); !strings.Contains(r.out, who) || !strings.Contains(r.out, "ACTIVE") {
		t.Errorf("the records do not show %s's card:\n%s", who, r.out)
	}
}

// cardInPostgres runs an operation on somebody's software card.
func (s *site) cardInPostgres(t *testing.T, op, whose string, as person) result {
	t.Helper()
	args := []string{"card", op, "--json", "--sim", filepath.Join(s.dir, whose+".img"), "--server", s.url(), "--trust", s.ca(),
		"--user", as.id, "--password-file", s.secretFile(t, as.password), "--profile", "pg"}
	if op == "enroll" {
		args = append(args, "--pin-file", s.secretFile(t, s.secret("Term-4711")))
	}
	return s.call(t, args...)
}
