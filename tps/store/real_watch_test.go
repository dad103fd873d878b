//go:build unix

package store_test

import (
	"context"
	"testing"
	"time"

	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/store"
	"inkan/tps/store/storetest/pgtest"
)

// await reads until the topic comes.
func await(t *testing.T, c <-chan store.Topic, want store.Topic) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case got, ok := <-c:
			if got == want {
				return
			}
			if !ok {
				t.Fatalf("the channel closed before %s came", want)
			}
		case <-deadline:
			t.Fatalf("%s did not come", want)
		}
	}
}

// drained reads what comes at the beginning: every topic.
func drained(t *testing.T, c <-chan store.Topic) {
	t.Helper()
	for _, topic := range []store.Topic{store.TopicRealm, store.TopicProfiles, store.TopicMappings, store.TopicUsers} {
		await(t, c, topic)
	}
}

// TestPostgresWatch: another node's changes come at once, and after a cut all do.
func TestPostgresWatch(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	p := pgtest.NewProxy(t, pgtest.Shared(t).Address())
	here, there := openPostgres(t, p.URL(t, direct)), openPostgres(t, direct)
	ctx, cancel := context.WithCancel(t.Context())
	c := here.Watch(ctx)
	drained(t, c)
	for range 3 {
		if _, err := there.CreateUser(t.Context(), auth.User{ID: "a"}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		await(t, c, store.TopicUsers)
		t.Logf("a notice took %s", time.Since(begun))
		if err := there.DeleteUser(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		await(t, c, store.TopicUsers)
	}
	if _, err := there.PutProfile(t.Context(), profile.Record{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	await(t, c, store.TopicProfiles)
	p.Drop()
	drained(t, c)
	cancel()
	for range c { // it closes
	}
}
