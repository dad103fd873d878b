package storetest_test

import (
	"errors"
	"path/filepath"
	"testing"

	"inkan/apdu"
	"inkan/tps/store"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

func open(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "inkan.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestFaults has each of the nine writes fail, and looks whether it was stored.
func TestFaults(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	cuid := apdu.CUID{1}
	for _, tt := range []struct {
		moment storetest.Moment
		stored bool
	}{{storetest.Before, false}, {storetest.After, true}} {
		db := open(t)
		f := storetest.NewFaults(db)
		fails := func(what string, write func() error, stored func() bool) {
			t.Helper()
			f.FailAt(1, tt.moment)
			if err := write(); !errors.Is(err, storetest.ErrFault) || !errors.Is(err, token.ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
			if got := stored(); got != tt.stored {
				t.Errorf("%s: stored %t, want %t", what, got, tt.stored)
			}
			if f.Writes() != 1 {
				t.Errorf("%s: %d writes", what, f.Writes())
			}
			if !tt.stored { // it is the first write only that fails
				if err := write(); err != nil {
					t.Errorf("%s again: %v", what, err)
				}
			}
		}
		mine := token.Lock{CUID: cuid, Node: "n", Boot: "b", Session: "s"}
		fails("CreateToken", func() error { _, err := f.CreateToken(ctx, token.Token{CUID: cuid}); return err },
			func() bool { _, err := db.Token(ctx, cuid); return err == nil })
		fails("ReplaceToken", func() error { _, err := f.ReplaceToken(ctx, token.Token{CUID: cuid, Revision: 1}); return err },
			func() bool { v, err := db.Token(ctx, cuid); return err == nil && v.Revision == 2 })
		fails("CreateCertificate", func() error { _, err := f.CreateCertificate(ctx, token.Certificate{ID: "c"}); return err },
			func() bool { _, err := db.Certificate(ctx, "c"); return err == nil })
		fails("ReplaceCertificate", func() error {
			_, err := f.ReplaceCertificate(ctx, token.Certificate{ID: "c", Revision: 1})
			return err
		}, func() bool { v, err := db.Certificate(ctx, "c"); return err == nil && v.Revision == 2 })
		fails("AddActivity", func() error { return f.AddActivity(ctx, token.Activity{ID: "a"}) },
			func() bool { _, err := db.Activity(ctx, "a"); return err == nil })
		fails("BeginJournal", func() error { _, err := f.BeginJournal(ctx, token.Journal{ID: "j", CUID: cuid}); return err },
			func() bool { _, err := db.Journal(ctx, "j"); return err == nil })
		fails("ReplaceJournal", func() error { _, err := f.ReplaceJournal(ctx, token.Journal{ID: "j", Revision: 1}); return err },
			func() bool { v, err := db.Journal(ctx, "j"); return err == nil && v.Revision == 2 })
		another := mine
		another.Session = "other"
		fails("Lock", func() error { return f.Lock(ctx, mine) }, func() bool {
			free := db.Lock(ctx, another) == nil
			db.Unlock(ctx, another)
			return !free
		})
		fails("Unlock", func() error { return f.Unlock(ctx, mine) }, func() bool {
			free := db.Lock(ctx, another) == nil
			db.Unlock(ctx, another)
			return free
		})
	}
}

func TestFaultsCount(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := storetest.NewFaults(open(t))
	add := func() error { return f.AddActivity(ctx, token.Activity{}) }
	f.FailAt(3, storetest.Before)
	for n := 1; n <= 5; n++ {
		f.Heartbeat(ctx, "n", "b", token.Lock{}.Since) // does not count
		if _, err := f.Activities(ctx, token.Filter{}); err != nil {
			t.Errorf("reading: %v", err)
		}
		if err := add(); errors.Is(err, storetest.ErrFault) != (n == 3) {
			t.Errorf("write %d: %v", n, err)
		}
	}
	if f.Writes() != 5 {
		t.Errorf("%d writes", f.Writes())
	}
	// A write that fails by itself keeps its own error.
	f.FailAt(1, storetest.After)
	if _, err := f.ReplaceToken(ctx, token.Token{}); !errors.Is(err, token.ErrConflict) || errors.Is(err, storetest.ErrFault) {
		t.Errorf("got %v", err)
	}
}

// TestFaultsDie: who is dead stores nothing more.
func TestFaultsDie(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for moment, want := range map[storetest.Moment]int{storetest.Before: 1, storetest.After: 2} {
		db := open(t)
		f := storetest.NewFaults(db)
		f.DieAt(2, moment)
		for n := range 4 {
			if f.Dead() != (n >= 2) {
				t.Errorf("dead before write %d: %t", n+1, f.Dead())
			}
			if err := f.AddActivity(ctx, token.Activity{}); errors.Is(err, storetest.ErrFault) != (n >= 1) {
				t.Errorf("write %d: %v", n+1, err)
			}
		}
		all, err := db.Activities(ctx, token.Filter{})
		if err != nil || len(all) != want {
			t.Errorf("%d activities, want %d (%v)", len(all), want, err)
		}
	}
}
