package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/tps/token"
)

// TestWritesTogether: many writers at once, some of whom are refused: each gets its
// own answer, and what is there afterwards is what succeeded.
func TestWritesTogether(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	var wg sync.WaitGroup
	var mu sync.Mutex
	locked := 0
	for i := range 200 {
		wg.Go(func() {
			// Every card twice, as a statement of its own and in a transaction with others.
			cuid := apdu.CUID{9: byte(i / 2)}
			_, err := db.CreateToken(t.Context(), token.Token{CUID: cuid, Policy: fmt.Sprint(i)})
			if err != nil && !errors.Is(err, token.ErrConflict) {
				t.Errorf("token %d: %v", i, err)
			}
			kept, rerr := db.Token(t.Context(), cuid)
			if rerr != nil || (err == nil) != (kept.Policy == fmt.Sprint(i)) {
				t.Errorf("token %d: %v, and there is %q (%v)", i, err, kept.Policy, rerr)
			}
			err = db.Lock(t.Context(), token.Lock{CUID: cuid, Node: "n", Boot: "b", Session: fmt.Sprint(i)})
			if err != nil && !errors.Is(err, token.ErrLocked) {
				t.Errorf("lock %d: %v", i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				locked++
			}
		})
	}
	wg.Wait()
	all, err := db.Tokens(t.Context(), token.Filter{Limit: 1000})
	if err != nil || len(all) != 100 || locked != 100 {
		t.Errorf("%d tokens, %d locks, want 100 of each (%v)", len(all), locked, err)
	}
}

// TestFullDiskTogether: where one of many does not fit, the others do not suffer.
func TestFullDiskTogether(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	for i := range 50 {
		if _, err := db.CreateToken(ctx, token.Token{CUID: apdu.CUID{9: byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.LimitSize(ctx, 1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			was, err := db.Token(ctx, apdu.CUID{9: byte(i)})
			if err == nil {
				was.Policy = "x"
				_, err = db.ReplaceToken(ctx, was)
			}
			if err != nil {
				t.Errorf("token %d: %v", i, err)
			}
		})
		wg.Go(func() {
			if _, err := db.CreateCertificate(ctx, token.Certificate{ID: fmt.Sprint(i), DER: make([]byte, 100_000)}); !errors.Is(err, token.ErrUnavailable) {
				t.Errorf("certificate %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

// TestWritePanics: a write that panics leaves nothing behind and holds nobody up.
func TestWritePanics(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	func() {
		defer func() { recover() }()
		db.Broken(ctx, "INSERT INTO nodes (node, boot, seen) VALUES ('n', 'b', '')")
	}()
	if _, err := db.CreateToken(ctx, token.Token{CUID: apdu.CUID{1}}); err != nil {
		t.Error(err)
	}
	if n, err := db.Count(ctx, "nodes"); err != nil || n != 0 {
		t.Errorf("%d rows of the write that panicked (%v)", n, err)
	}
}

// TestWriteCancelled: what is not begun is not done.
func TestWriteCancelled(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := db.CreateToken(ctx, token.Token{CUID: apdu.CUID{1}})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, token.ErrUnavailable) {
		t.Error(err)
	}
}
