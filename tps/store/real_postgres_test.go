//go:build unix

package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/store"
	"inkan/tps/store/storetest"
	"inkan/tps/store/storetest/pgtest"
	"inkan/tps/token"
)

func openPostgres(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestPostgresConformance: the suite on a real server, in whose databases texts
// sort as in English.
func TestPostgresConformance(t *testing.T) {
	t.Parallel()
	pgtest.Need(t)
	storetest.Test(t, func(t *testing.T) storetest.Stores {
		db := openPostgres(t, pgtest.Database(t))
		return storetest.Stores{Records: db, Users: db, Profiles: db, Resolvers: db, KeySets: db, Realm: db, Sessions: db, Spent: db, Heads: db,
			Authority: func(name string) ca.Store { return db.Authority(name) },
			Later: func(t *testing.T, d time.Duration) {
				if err := db.Silence(t.Context(), d); err != nil {
					t.Fatal(err)
				}
			}}
	})
}

// TestPostgresOpensTogether: of nodes that start at once one makes the tables.
func TestPostgresOpensTogether(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			db, err := store.OpenPostgres(t.Context(), store.Postgres{URL: url})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestPostgresTexts: what SQLite takes as text, and lists in the order of its bytes.
func TestPostgresTexts(t *testing.T) {
	t.Parallel()
	db := openPostgres(t, pgtest.Database(t))
	for _, id := range []token.UserID{"b", "Z", "_", "ä", "B", "a"} {
		if _, err := db.CreateUser(t.Context(), auth.User{ID: id, Name: "zero \x00, not UTF-8 \xff", Hash: "'?\\"}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := db.Users(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids string
	for _, u := range all {
		ids += string(u.ID)
		if u.Name != "zero \uFFFD, not UTF-8 \uFFFD" || u.Hash != "'?\\" {
			t.Errorf("%s is %q with %q", u.ID, u.Name, u.Hash)
		}
	}
	if ids != "BZ_abä" {
		t.Errorf("the order is %s", ids)
	}
	if _, err := db.User(t.Context(), "a\x00"); !errors.Is(err, token.ErrNotFound) {
		t.Error(err)
	}
}

// TestPostgresRaces: of the sessions of two nodes one gets each card, and of those
// who replace a record at once one succeeds, however many there are.
func TestPostgresRaces(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	dbs := []*store.DB{openPostgres(t, url), openPostgres(t, url)}
	const cards, sessions = 8, 12
	var locked, replaced [cards]atomic.Int32
	first := map[int]token.Token{}
	for c := range cards {
		v, err := dbs[0].CreateToken(t.Context(), token.Token{CUID: apdu.CUID{9: byte(c)}})
		if err != nil {
			t.Fatal(err)
		}
		first[c] = v
	}
	var wg sync.WaitGroup
	for c := range cards {
		for s := range sessions {
			wg.Go(func() {
				n := s % 2
				err := dbs[n].Lock(t.Context(), token.Lock{CUID: apdu.CUID{9: byte(c)}, Node: fmt.Sprint("n", n), Boot: "b", Session: fmt.Sprint(s)})
				if err == nil {
					locked[c].Add(1)
				} else if !errors.Is(err, token.ErrLocked) {
					t.Errorf("lock: %v", err)
				}
				if _, err = dbs[n].ReplaceToken(t.Context(), first[c]); err == nil {
					replaced[c].Add(1)
				} else if !errors.Is(err, token.ErrConflict) {
					t.Errorf("replace: %v", err)
				}
				if _, err := dbs[n].PutProfile(t.Context(), profile.Record{Name: "p"}); err != nil && !errors.Is(err, token.ErrConflict) {
					t.Errorf("profile: %v", err)
				}
			})
		}
	}
	wg.Wait()
	for c := range cards {
		if l, r := locked[c].Load(), replaced[c].Load(); l != 1 || r != 1 {
			t.Errorf("card %d: locked %d times, replaced %d times", c, l, r)
		}
	}
}

// TestPostgresClocks: nodes whose clocks are wrong by minutes neither take each
// other's locks nor keep their own after they fell silent.
func TestPostgresClocks(t *testing.T) {
	t.Parallel()
	ctx, url := t.Context(), pgtest.Database(t)
	late, early := openPostgres(t, url), openPostgres(t, url)
	wrong := map[*store.DB]time.Duration{late: -10 * time.Minute, early: 10 * time.Minute}
	for db, by := range wrong {
		db.SetNow(func() time.Time { return time.Now().Add(by) })
	}
	lock := func(db *store.DB, node string) error {
		return db.Lock(ctx, token.Lock{CUID: apdu.CUID{1}, Node: node, Boot: "b", Session: node, Since: time.Now().Add(wrong[db])})
	}
	if err := lock(late, "late"); err != nil {
		t.Fatal(err)
	}
	if err := lock(early, "early"); !errors.Is(err, token.ErrLocked) {
		t.Errorf("a node that is early took the lock: %v", err)
	}
	if err := late.Silence(ctx, 31*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := late.Heartbeat(ctx, "late", "b", time.Now().Add(-10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := lock(early, "early"); !errors.Is(err, token.ErrLocked) {
		t.Errorf("a heartbeat by a clock that is late did not count: %v", err)
	}
	if err := late.Silence(ctx, 31*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := lock(early, "early"); err != nil {
		t.Errorf("the lock of a silent node: %v", err)
	}
	if err := early.Silence(ctx, 31*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := lock(late, "late"); err != nil {
		t.Errorf("the lock of a silent node that was early: %v", err)
	}
}
