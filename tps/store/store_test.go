package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps/ca"
	"inkan/tps/store"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

func openDB(t *testing.T, path string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Test(t, func(t *testing.T) storetest.Stores {
		db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
		return storetest.Stores{Records: db, Users: db, Profiles: db, Resolvers: db, KeySets: db, Realm: db, Sessions: db, Spent: db, Heads: db,
			Authority: func(name string) ca.Store { return db.Authority(name) }}
	})
}

func TestReopenKeepsRecords(t *testing.T) {
	t.Parallel()
	// Characters that mean something in the address of a database.
	path := filepath.Join(t.TempDir(), "a ?#%41&x=1.db")
	db := openDB(t, path)
	want, err := db.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1}, State: token.Unformatted})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode %o, want 600", got)
	}
	got, err := openDB(t, path).Token(t.Context(), want.CUID)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Created.Equal(want.Created) || got.Revision != 1 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOpenFailsWithoutFolder(t *testing.T) {
	t.Parallel()
	if _, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "none", "inkan.db")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want not exist", err)
	}
}

func TestOpenRefusesNewer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inkan.db")
	db := openDB(t, path)
	if err := db.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := store.Open(t.Context(), path); !errors.Is(err, store.ErrNewer) || !strings.Contains(err.Error(), "99") {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inkan.db")
	text := strings.Repeat("this is no database\n", 100)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), path); !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != text {
		t.Errorf("the file was changed: %v", err)
	}
}

// TestMigrationsAreForward: numbered from 1 upwards, and none goes back.
func TestMigrationsAreForward(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(store.Migrations, "migrations/*.sql")
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`^migrations/[0-9]{5}_`)
	for i, name := range files {
		b, err := fs.ReadFile(store.Migrations, name)
		if err != nil {
			t.Fatal(err)
		}
		if !number.MatchString(name) || i > 0 && name[:16] == files[i-1][:16] || strings.Contains(string(b), "+goose Down") {
			t.Errorf("%s", name)
		}
	}
	if len(files) < 2 {
		t.Errorf("%d migrations", len(files))
	}
}

func TestDurability(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	for name, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000"} {
		write, read, err := db.Pragma(t.Context(), name)
		if err != nil || write != want || read != want {
			t.Errorf("%s is %s and %s, want %s (%v)", name, write, read, want, err)
		}
	}
	if write, read, err := db.Pragma(t.Context(), "query_only"); err != nil || write != "0" || read != "1" {
		t.Errorf("query_only is %s and %s (%v)", write, read, err)
	}
}

// TestFullDisk: what does not fit is refused, what was there stays, and with
// space the work goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	kept, err := db.CreateToken(ctx, token.Token{CUID: apdu.CUID{1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.LimitSize(ctx, 1); err != nil { // no page more than there are
		t.Fatal(err)
	}
	big := token.Certificate{ID: "big", DER: make([]byte, 100_000)}
	_, err = db.CreateCertificate(ctx, big)
	if !errors.Is(err, token.ErrUnavailable) || !strings.Contains(err.Error(), "no space left on the disk") {
		t.Errorf("certificate: %v", err)
	}
	err = db.Authority("a").CreateIssued(ctx, ca.Issued{RequestID: "r", TBS: make([]byte, 100_000)}) // within a transaction
	if !errors.Is(err, token.ErrUnavailable) {
		t.Errorf("request: %v", err)
	}
	if got, err := db.Token(ctx, kept.CUID); err != nil || got.Revision != 1 {
		t.Errorf("what was there: %+v, %v", got, err)
	}
	for _, err := range []error{errOf(db.Certificate(ctx, "big")), errOf(db.Authority("a").Issued(ctx, "r"))} {
		if !errors.Is(err, token.ErrNotFound) {
			t.Errorf("what was refused: %v", err)
		}
	}
	if err := db.LimitSize(ctx, 1<<30); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateCertificate(ctx, big); err != nil {
		t.Errorf("with space: %v", err)
	}
}

func errOf[T any](_ T, err error) error { return err }

func TestClosedIsUnavailable(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	if err := db.Ready(t.Context()); err != nil {
		t.Errorf("open: %v", err)
	}
	db.Close()
	for what, err := range map[string]error{
		"ready": db.Ready(t.Context()),
		"read":  errOf(db.Token(t.Context(), apdu.CUID{})),
		"list":  errOf(db.Users(t.Context())),
		"write": errOf(db.CreateToken(t.Context(), token.Token{})),
		"lock":  db.Lock(t.Context(), token.Lock{}),
	} {
		if !errors.Is(err, token.ErrUnavailable) || errors.Is(err, token.ErrNotFound) || errors.Is(err, token.ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestBrokenRecords: what cannot be read is never "not found".
func TestBrokenRecords(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	cuid := apdu.CUID{1}
	if _, err := db.CreateToken(ctx, token.Token{CUID: cuid}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.BeginJournal(ctx, token.Journal{ID: "j", CUID: cuid}); err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"tokens SET kdd = 'XY'", "tokens SET kdd = '', key_info = 'F'", "tokens SET key_info = '', created = 'now'",
		"tokens SET created = 7", "tokens SET created = '', cuid = '41'", "journals SET entries = '{'"} {
		if err := db.Exec(ctx, "UPDATE "+change); err != nil {
			t.Fatal(err)
		}
		_, err := db.Tokens(ctx, token.Filter{})
		if strings.HasPrefix(change, "journals") {
			_, err = db.Journal(ctx, "j")
		}
		if !errors.Is(err, token.ErrUnavailable) {
			t.Errorf("%s: %v", change, err)
		}
	}
}

func TestModifiedTimes(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	first, later := time.Unix(1, 0), time.Unix(2, 0)
	db.SetNow(func() time.Time { return first })
	v, err := db.CreateToken(ctx, token.Token{CUID: apdu.CUID{1}})
	if err != nil {
		t.Fatal(err)
	}
	db.SetNow(func() time.Time { return later })
	if v, err = db.ReplaceToken(ctx, v); err != nil {
		t.Fatal(err)
	}
	if !v.Created.Equal(first) || !v.Modified.Equal(later) {
		t.Errorf("created %v, modified %v", v.Created, v.Modified)
	}
}

func TestRetiredVersions(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	for _, v := range []gp.KeyVersion{3, 1} {
		if err := db.Retire(t.Context(), "site", v); err != nil {
			t.Fatal(err)
		}
	}
	all, err := db.RetiredVersions(t.Context())
	if err != nil || len(all) != 2 || all[0].Version != 1 || all[1].Set != "site" || all[1].Since.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
}

func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		fmt.Println(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	db, err := store.Open(ctx, filepath.Join(dir, "inkan.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	t, err := db.CreateToken(ctx, token.Token{CUID: apdu.CUID{0x40, 0x90}, State: token.Unformatted})
	fmt.Println(t.CUID, t.State, t.Revision, err)
	t.State = token.Formatted
	_, err = db.ReplaceToken(ctx, t)
	fmt.Println(err)
	_, err = db.ReplaceToken(ctx, t) // with the old revision
	fmt.Println(errors.Is(err, token.ErrConflict))
	// Output:
	// 40900000000000000000 UNFORMATTED 1 <nil>
	// <nil>
	// true
}

// TestFindsByIndex: what every operation looks for, and the sweeper every minute, is
// found by an index, however many cards and operations there have been.
func TestFindsByIndex(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	for index, search := range store.Searches {
		plan, err := db.Plan(t.Context(), search)
		if err != nil || !strings.Contains(plan, "USING INDEX "+index) {
			t.Errorf("%s: %q (%v)", index, plan, err)
		}
	}
}

// TestCopyTo: a copy has what was there, and not what came after.
func TestCopyTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := openDB(t, filepath.Join(dir, "inkan.db"))
	if _, err := db.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{1}, State: token.Unformatted}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a 'copy'.db")
	if err := db.CopyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateToken(t.Context(), token.Token{CUID: apdu.CUID{2}, State: token.Unformatted}); err != nil {
		t.Fatal(err)
	}
	if err := db.CopyTo(t.Context(), path); err == nil {
		t.Error("copied over a file")
	}
	copied := openDB(t, path)
	if _, err := copied.Token(t.Context(), apdu.CUID{1}); err != nil {
		t.Error(err)
	}
	if _, err := copied.Token(t.Context(), apdu.CUID{2}); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("the copy has what came after it: %v", err)
	}
}

// TestNameTaken: of two processes under one name both hear of it, and one that
// starts again does not.
func TestNameTaken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "inkan.db")
	first, second := openDB(t, path), openDB(t, path)
	beat := func(db *store.DB, boot string) error { return db.Heartbeat(t.Context(), "n", boot, time.Now()) }
	for _, tt := range []struct {
		db   *store.DB
		boot string
		want error
	}{
		{first, "b1", nil}, {first, "b1", nil},
		{second, "b2", nil}, // it may be the first one that starts again
		{first, "b1", store.ErrNameTaken}, {second, "b2", store.ErrNameTaken}, {first, "b1", store.ErrNameTaken},
		{first, "b1", nil}, {first, "b1", nil},
		{first, "b3", nil},
	} {
		if err := beat(tt.db, tt.boot); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: got %v, want %v", tt.boot, err, tt.want)
		}
	}
}
