package store_test

import (
	"context"
	"path/filepath"
	"sync"
	"testing"

	"inkan/tps/store"
)

// TestColdReads: first reads, in and beside snapshots, do not wait for each other: a
// snapshot has a connection and looks for its statements while another one that
// waits for a connection prepares one.
func TestColdReads(t *testing.T) {
	t.Parallel()
	for range 20 {
		db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "inkan.db"))
		if err != nil {
			t.Fatal(err)
		}
		start := make(chan struct{})
		var all sync.WaitGroup
		for i := range 32 {
			all.Go(func() {
				<-start
				if i%2 == 0 {
					db.Realm(context.Background())
				} else {
					db.User(context.Background(), "ada")
				}
			})
		}
		close(start)
		all.Wait()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
