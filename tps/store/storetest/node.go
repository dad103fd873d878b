package storetest

import (
	"testing"

	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
)

func testUsers(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[auth.User](t)
	_, err := s.Users.User(ctx, "alice")
	is(t, "unknown user", err, token.ErrNotFound)
	full := auth.User{ID: "alice", Name: "Ä", Mail: "a@b", UPN: "a@c", Roles: []auth.Role{auth.Admin, auth.Operator}, Hash: "$argon2id$"}
	created := get(s.Users.CreateUser(ctx, full))
	recent(t, "created", created.Created)
	full.Created, full.Modified, full.Revision = created.Created, created.Modified, 1
	same(t, "read", get(s.Users.User(ctx, "alice")), full)
	_, err = s.Users.CreateUser(ctx, full)
	is(t, "same id", err, token.ErrConflict)
	_, err = s.Users.User(ctx, "Alice")
	is(t, "another case", err, token.ErrNotFound)

	full.Roles, full.Hash = nil, "other"
	replaced := get(s.Users.ReplaceUser(ctx, full))
	_, err = s.Users.ReplaceUser(ctx, full)
	is(t, "old revision", err, token.ErrConflict)
	full.Modified, full.Revision = replaced.Modified, 2
	same(t, "replaced", get(s.Users.User(ctx, "alice")), full)

	get(s.Users.CreateUser(ctx, auth.User{ID: "aaron"}))
	all := must[[]auth.User](t)(s.Users.Users(ctx))
	if len(all) != 2 || all[0].ID != "aaron" || all[1].ID != "alice" {
		t.Errorf("users %+v", all)
	}
	is(t, "delete", s.Users.DeleteUser(ctx, "alice"), nil)
	is(t, "delete again", s.Users.DeleteUser(ctx, "alice"), token.ErrNotFound)
	_, err = s.Users.ReplaceUser(ctx, full)
	is(t, "replacing what was deleted", err, token.ErrConflict)
}

func testProfiles(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[profile.Record](t)
	_, err := s.Profiles.Profile(ctx, "card")
	is(t, "unknown profile", err, token.ErrNotFound)
	first := get(s.Profiles.PutProfile(ctx, profile.Record{Name: "card", State: profile.Enabled, Document: "name = \"Ä\"\n"}))
	recent(t, "created", first.Created)
	if first.Revision != 1 {
		t.Errorf("first revision %d", first.Revision)
	}
	same(t, "read", get(s.Profiles.Profile(ctx, "card")), first)
	_, err = s.Profiles.PutProfile(ctx, profile.Record{Name: "card"})
	is(t, "new, but known", err, token.ErrConflict)
	_, err = s.Profiles.PutProfile(ctx, profile.Record{Name: "card", Revision: 2})
	is(t, "revision to come", err, token.ErrConflict)
	_, err = s.Profiles.PutProfile(ctx, profile.Record{Name: "other", Revision: 1})
	is(t, "change of what there is not", err, token.ErrConflict)

	second := first
	second.State = profile.Disabled
	second = get(s.Profiles.PutProfile(ctx, second))
	if second.Revision != 2 || !second.Created.Equal(first.Created) {
		t.Errorf("second: %+v", second)
	}
	same(t, "newest", get(s.Profiles.Profile(ctx, "card")), second)
	same(t, "first", get(s.Profiles.ProfileRevision(ctx, "card", 1)), first)
	_, err = s.Profiles.ProfileRevision(ctx, "card", 3)
	is(t, "unknown revision", err, token.ErrNotFound)
	other := get(s.Profiles.PutProfile(ctx, profile.Record{Name: "another", State: profile.Pending}))
	same(t, "all, newest of each", must[[]profile.Record](t)(s.Profiles.Profiles(ctx)), []profile.Record{other, second})
}

func testResolvers(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[profile.ResolverRecord](t)
	_, err := s.Resolvers.Resolver(ctx, "enroll")
	is(t, "unknown resolver", err, token.ErrNotFound)
	is(t, "delete of an unknown one", s.Resolvers.DeleteResolver(ctx, "enroll", 1), token.ErrNotFound)
	if all := must[[]profile.ResolverRecord](t)(s.Resolvers.Resolvers(ctx)); len(all) != 0 {
		t.Errorf("resolvers %+v", all)
	}
	first := get(s.Resolvers.PutResolver(ctx, profile.ResolverRecord{Name: "enroll", Document: "name = \"Ä\"\n"}))
	recent(t, "created", first.Created)
	same(t, "read", get(s.Resolvers.Resolver(ctx, "enroll")), first)
	_, err = s.Resolvers.PutResolver(ctx, profile.ResolverRecord{Name: "enroll"})
	is(t, "new, but known", err, token.ErrConflict)
	_, err = s.Resolvers.PutResolver(ctx, profile.ResolverRecord{Name: "other", Revision: 1})
	is(t, "change of what there is not", err, token.ErrConflict)

	second := first
	second.Document = "name = \"B\"\n"
	second = get(s.Resolvers.PutResolver(ctx, second))
	if second.Revision != 2 || !second.Created.Equal(first.Created) {
		t.Errorf("second: %+v", second)
	}
	_, err = s.Resolvers.PutResolver(ctx, first)
	is(t, "old revision", err, token.ErrConflict)
	other := get(s.Resolvers.PutResolver(ctx, profile.ResolverRecord{Name: "a"}))
	same(t, "all", must[[]profile.ResolverRecord](t)(s.Resolvers.Resolvers(ctx)), []profile.ResolverRecord{other, second})

	is(t, "delete of an old revision", s.Resolvers.DeleteResolver(ctx, "enroll", 1), token.ErrConflict)
	is(t, "delete", s.Resolvers.DeleteResolver(ctx, "enroll", 2), nil)
	same(t, "the rest", must[[]profile.ResolverRecord](t)(s.Resolvers.Resolvers(ctx)), []profile.ResolverRecord{other})
	if again := get(s.Resolvers.PutResolver(ctx, profile.ResolverRecord{Name: "enroll"})); again.Revision != 1 {
		t.Errorf("made again: %+v", again)
	}
}

func testKeySets(t *testing.T, s Stores) {
	for range 2 { // twice is the same
		is(t, "retire", s.KeySets.Retire(t.Context(), "site", 2), nil)
	}
	for _, tt := range []struct {
		set     string
		version byte
		want    bool
	}{{"site", 2, true}, {"site", 1, false}, {"corp", 2, false}} {
		got, err := s.KeySets.Retired(t.Context(), keySet(tt.set), keyVersion(tt.version))
		if err != nil || got != tt.want {
			t.Errorf("%s %d: %t, %v", tt.set, tt.version, got, err)
		}
	}
}
