package store_test

import (
	"strings"
	"testing"

	"inkan/tps/store"
)

// TestCheckURL: what names no database, or holds a secret, is refused without
// repeating it.
func TestCheckURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ url, want string }{
		{"postgres://inkan@db.example.org/inkan", ""},
		{"postgresql://inkan@db.example.org:5433/inkan?sslmode=verify-ca&connect_timeout=3", ""},
		{"postgres://inkan@one:5432,two:5432/inkan?target_session_attrs=read-write", ""},
		{"postgres:///inkan?host=/var/run/postgresql&user=inkan", ""},
		{"postgres://inkan@[::1]/inkan", ""},
		{"postgres://inkan:hunter2@db/inkan", "password_file"},
		{"postgres://inkan:@db/inkan", "password_file"},
		{"postgres://inkan@db/inkan?password=hunter2", "password_file"},
		{"postgres://inkan@db/inkan?sslpassword=hunter2", "password_file"},
		{"postgres://inkan@db", "names no database"},
		{"postgres://inkan@db/", "names no database"},
		{"host=db dbname=inkan password=hunter2", "does not begin"},
		{"mysql://inkan@db/inkan", "does not begin"},
		{"postgres://inkan:hunter2@db:x/inkan", "no URL"},
		{"postgres://inkan@db/inkan?sslmode=sometimes", "sslmode"},
		{"postgres://inkan@db/inkan?sslrootcert=/nonexistent/ca.pem&sslmode=verify-full", ""},
		{"", "does not begin"},
	} {
		err := store.CheckURL(tt.url)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.url, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats the password: %v", tt.url, err)
		}
	}
}

// TestVerified: a server elsewhere has to prove who it is, unless somebody says that
// it need not.
func TestVerified(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"postgres://inkan@db.example.org/inkan":                           true,
		"postgres://inkan@localhost,db.example.org/inkan":                 true,
		"postgres://inkan@192.0.2.7/inkan":                                true,
		"postgres://inkan@/inkan?host=db.example.org":                     true,
		"postgres://inkan@db.example.org/inkan?sslmode=require":           false,
		"postgres://inkan@localhost/inkan":                                false,
		"postgres://inkan@127.0.0.1:5433/inkan":                           false,
		"postgres:///inkan?host=/var/run/postgresql":                      false,
		"postgres://inkan@[::1]:5433/inkan":                               false,
		"postgres://inkan@db.example.org:5433/inkan?application_name=one": true,
	} {
		if got, err := store.Verifies(url); err != nil || got != want {
			t.Errorf("%s: %t (%v)", url, got, err)
		}
	}
}

// TestMissingRoots: a file that the URL names and is not there is named when the
// database is opened.
func TestMissingRoots(t *testing.T) {
	t.Parallel()
	_, err := store.OpenPostgres(t.Context(), store.Postgres{URL: "postgres://inkan@db/inkan?sslrootcert=/nonexistent/ca.pem"})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/ca.pem") {
		t.Errorf("got %v", err)
	}
}

func FuzzCheckURL(f *testing.F) {
	f.Add("postgres://inkan@db.example.org:5432/inkan?sslmode=verify-full")
	f.Add("postgres://inkan:secret@one,two/inkan?host=/tmp")
	f.Add("postgres:///%zz?%=&&host=,")
	f.Fuzz(func(t *testing.T, url string) {
		if store.CheckURL(url) == nil && !strings.HasPrefix(strings.ToLower(url), "postgres") {
			t.Errorf("%q is taken", url)
		}
	})
}

// TestDollars: every question mark outside of quotes is a number.
func TestDollars(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"SELECT 1":                       "SELECT 1",
		"a = ? AND b LIKE ? ESCAPE '\\'": "a = $1 AND b LIKE $2 ESCAPE '\\'",
		"a <> '?' AND 'it''s ?' = ?":     "a <> '?' AND 'it''s ?' = $1",
		strings.Repeat("?,", 11):         "$1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,",
	} {
		if got := store.Dollars(query); got != want {
			t.Errorf("%s: got %s", query, got)
		}
	}
}

// TestUsable: what keeps a server from being used.
func TestUsable(t *testing.T) {
	t.Parallel()
	fine := store.ServerInfo{Version: 13, Encoding: "UTF8", Flushes: true}
	for want, edit := range map[string]func(*store.ServerInfo){
		"":                   func(*store.ServerInfo) {},
		"PostgreSQL 12":      func(i *store.ServerInfo) { i.Version = 12 },
		"SQL_ASCII":          func(i *store.ServerInfo) { i.Encoding = "SQL_ASCII" },
		"stand-by":           func(i *store.ServerInfo) { i.ReadOnly = true },
		"synchronous_commit": func(i *store.ServerInfo) { i.Flushes = false },
		"newer":              func(i *store.ServerInfo) { i.Migration = 7 },
	} {
		i := fine
		edit(&i)
		if err := i.Usable(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", want, err)
		}
	}
}
