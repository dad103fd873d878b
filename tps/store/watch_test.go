package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/realm"
	"inkan/tps/store"
)

// TestWatch: each change of this process comes, those that wait together as one.
func TestWatch(t *testing.T) {
	t.Parallel()
	db := openDB(t, filepath.Join(t.TempDir(), "inkan.db"))
	ctx, cancel := context.WithCancel(t.Context())
	c, unread := db.Watch(ctx), db.Watch(ctx)
	for _, tt := range []struct {
		want   store.Topic
		change func() error
	}{
		{store.TopicUsers, func() error { return errOf(db.CreateUser(ctx, auth.User{ID: "a"})) }},
		{store.TopicUsers, func() error { return errOf(db.ReplaceUser(ctx, auth.User{ID: "a", Revision: 1})) }},
		{store.TopicUsers, func() error { return db.DeleteUser(ctx, "a") }},
		{store.TopicProfiles, func() error { return errOf(db.PutProfile(ctx, profile.Record{Name: "p"})) }},
		{store.TopicMappings, func() error { return errOf(db.PutResolver(ctx, profile.ResolverRecord{Name: "r"})) }},
		{store.TopicMappings, func() error { return db.DeleteResolver(ctx, "r", 1) }},
		{store.TopicRealm, func() error { return db.ChangeRealm(ctx, realm.Change{}) }},
	} {
		if err := tt.change(); err != nil {
			t.Fatal(err)
		}
		if got := <-c; got != tt.want {
			t.Errorf("got %s, want %s", got, tt.want)
		}
	}
	// What is refused is no change; the next that comes is the one after it.
	if _, err := db.PutProfile(ctx, profile.Record{Name: "p", Revision: 7}); err == nil {
		t.Error("replaced a revision that there is not")
	}
	if _, err := db.PutResolver(ctx, profile.ResolverRecord{Name: "r"}); err != nil {
		t.Fatal(err)
	}
	if got := <-c; got != store.TopicMappings {
		t.Errorf("got %s for a refused change", got)
	}
	seen := map[store.Topic]int{}
	for range 4 {
		seen[<-unread]++
	}
	if len(seen) != 4 {
		t.Errorf("who had not read got %v", seen)
	}
	cancel()
	for range c {
	}
	for range unread {
	}
}
