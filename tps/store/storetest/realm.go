package storetest

import (
	"testing"
	"time"

	"inkan/tps/audit"
	"inkan/tps/realm"
	"inkan/tps/token"
)

func realmKey(id string, priority int64) realm.Key {
	return realm.Key{ID: realm.ID(id), Name: "name of " + id, Algorithm: realm.ES256, Provider: realm.Generated, Use: realm.ForAudit, Node: "n1", Priority: priority,
		State: realm.Active, KID: "kid of " + id, Public: []byte{0x30, 1}, Chain: [][]byte{{0x30, 2}, {0x30, 3}}, Material: "m" + id,
		Created: at(1), Activated: at(1)}
}

func notBefore(n int) map[realm.Use]time.Time {
	return map[realm.Use]time.Time{realm.ForSessions: at(n)}
}

// testRealm: every field comes back, in the order of choice, and a change is all of it.
func testRealm(t *testing.T, s Stores) {
	ctx := t.Context()
	low, high, second := realmKey("1", -1<<63), realmKey("2", 1<<62), realmKey("3", 1<<62)
	high.ActivateAt, high.PassiveAt, high.DisabledAt, high.DeletedAt, high.Compromised = at(2), at(3), at(4), at(5), at(6)
	high.State, high.Scheduled, high.Predecessor = realm.Passive, true, "1"
	is(t, "creating", s.Realm.ChangeRealm(ctx, realm.Change{Create: []realm.Key{low, second, high}}), nil)
	got := must[realm.Records](t)(s.Realm.Realm(ctx))
	for _, k := range []*realm.Key{&low, &high, &second} {
		k.Revision = 1
		for _, f := range []*time.Time{&k.Created, &k.ActivateAt, &k.Activated, &k.PassiveAt, &k.DisabledAt, &k.DeletedAt, &k.Compromised} {
			if !f.IsZero() {
				*f = f.UTC()
			}
		}
	}
	same(t, "keys", got.Keys, []realm.Key{high, second, low})
	if len(got.NotBefore) > 0 {
		t.Errorf("not before %v in a new realm", got.NotBefore)
	}

	low.Name, low.Priority, low.State, low.Material, low.Chain = "other", 5, realm.Disabled, "", [][]byte{{9}}
	low.DisabledAt, low.Compromised, low.Scheduled = at(7).UTC(), at(7).UTC(), true
	made := realmKey("4", 6)
	is(t, "changing", s.Realm.ChangeRealm(ctx, realm.Change{Create: []realm.Key{made}, Replace: []realm.Key{low}, NotBefore: notBefore(8)}), nil)
	got = must[realm.Records](t)(s.Realm.Realm(ctx))
	low.Revision = 2
	same(t, "replaced", got.Keys[3], low)
	if len(got.Keys) != 4 || !got.NotBefore["sig"].Equal(at(8)) {
		t.Errorf("%d keys, not before %v", len(got.Keys), got.NotBefore)
	}
	is(t, "earlier", s.Realm.ChangeRealm(ctx, realm.Change{NotBefore: notBefore(7)}), nil)
	if got = must[realm.Records](t)(s.Realm.Realm(ctx)); !got.NotBefore["sig"].Equal(at(8)) {
		t.Errorf("not before went back to %v", got.NotBefore)
	}
}

// testRealmConflicts: of a change that cannot be made whole nothing is made.
func testRealmConflicts(t *testing.T, s Stores) {
	ctx := t.Context()
	a := realmKey("1", 1)
	is(t, "creating", s.Realm.ChangeRealm(ctx, realm.Change{Create: []realm.Key{a}}), nil)
	stale, twin := a, realmKey("9", 1)
	stale.Revision, twin.KID = 7, a.KID
	next := realmKey("5", 2)
	next.State, next.Predecessor = realm.Pending, "1"
	other := realmKey("6", 2)
	other.State, other.Predecessor = realm.Pending, "1"
	for name, ch := range map[string]realm.Change{
		"the same id":           {Create: []realm.Key{realmKey("2", 1), a}, NotBefore: notBefore(3)},
		"the same key":          {Create: []realm.Key{twin}},
		"another revision":      {Create: []realm.Key{realmKey("2", 1)}, Replace: []realm.Key{stale}, NotBefore: notBefore(3)},
		"two that come next":    {Create: []realm.Key{next, other}},
		"one that is not there": {Replace: []realm.Key{realmKey("8", 1)}},
	} {
		is(t, name, s.Realm.ChangeRealm(ctx, ch), token.ErrConflict)
	}
	got := must[realm.Records](t)(s.Realm.Realm(ctx))
	if len(got.Keys) != 1 || len(got.NotBefore) > 0 {
		t.Errorf("left behind: %+v", got)
	}
}

func testSessions(t *testing.T, s Stores) {
	ctx := t.Context()
	_, err := s.Sessions.Session(ctx, "1")
	is(t, "none", err, token.ErrNotFound)
	now := time.Now()
	a := realm.Session{ID: "1", User: "ada", Credential: []byte{1}, Hash: []byte{2}, Address: "192.0.2.1", Certificate: "x5t", Created: now, Expires: now.Add(time.Hour)}
	is(t, "creating", s.Sessions.CreateSession(ctx, a), nil)
	is(t, "again", s.Sessions.CreateSession(ctx, a), token.ErrConflict)
	got := must[realm.Session](t)(s.Sessions.Session(ctx, "1"))
	if got.User != "ada" || got.Credential[0] != 1 || got.Hash[0] != 2 || got.Address != a.Address || got.Certificate != "x5t" || !got.Created.Equal(now) || !got.Expires.Equal(a.Expires) || got.Revision != 1 {
		t.Errorf("got %+v", got)
	}
	got.Hash = []byte{3}
	is(t, "replacing", s.Sessions.ReplaceSession(ctx, got), nil)
	is(t, "replacing again", s.Sessions.ReplaceSession(ctx, got), token.ErrConflict)
	if got = must[realm.Session](t)(s.Sessions.Session(ctx, "1")); got.Hash[0] != 3 || got.Certificate != "x5t" || got.Revision != 2 {
		t.Errorf("replaced %+v", got)
	}
	old := realm.Session{ID: "2", User: "bob", Created: now.Add(-2 * time.Hour), Expires: now.Add(-time.Hour)}
	is(t, "an expired one", s.Sessions.CreateSession(ctx, old), nil)
	is(t, "another", s.Sessions.CreateSession(ctx, realm.Session{ID: "3", Expires: now.Add(time.Hour)}), nil)
	_, err = s.Sessions.Session(ctx, "2")
	is(t, "the expired one", err, token.ErrNotFound)
	is(t, "deleting", s.Sessions.DeleteSession(ctx, "1"), nil)
	is(t, "deleting again", s.Sessions.DeleteSession(ctx, "1"), nil)
	_, err = s.Sessions.Session(ctx, "1")
	is(t, "deleted", err, token.ErrNotFound)
}

// testRealmMakings: an unfinished key is there until it is forgotten or has its record.
func testRealmMakings(t *testing.T, s Stores) {
	ctx := t.Context()
	a := realm.Making{Material: "m1", Node: "n1", Held: "n1", Started: at(1).UTC()}
	b := realm.Making{Material: "m2", Node: "n2", Started: at(2).UTC()}
	is(t, "beginning", s.Realm.BeginKey(ctx, a), nil)
	is(t, "beginning another", s.Realm.BeginKey(ctx, b), nil)
	is(t, "twice", s.Realm.BeginKey(ctx, a), token.ErrConflict)
	same(t, "unfinished", must[[]realm.Making](t)(s.Realm.Makings(ctx)), []realm.Making{a, b})
	is(t, "its record", s.Realm.ChangeRealm(ctx, realm.Change{Create: []realm.Key{realmKey("1", 1)}, First: realm.ForAudit}), nil)
	same(t, "after the record", must[[]realm.Making](t)(s.Realm.Makings(ctx)), []realm.Making{b})
	is(t, "a second first one", s.Realm.ChangeRealm(ctx, realm.Change{Create: []realm.Key{realmKey("2", 1)}, First: realm.ForAudit}), token.ErrConflict)
	same(t, "after a refused record", must[[]realm.Making](t)(s.Realm.Makings(ctx)), []realm.Making{b})
	is(t, "forgetting", s.Realm.EndKey(ctx, "m2"), nil)
	is(t, "forgetting again", s.Realm.EndKey(ctx, "m2"), nil)
	if left := must[[]realm.Making](t)(s.Realm.Makings(ctx)); len(left) != 0 {
		t.Errorf("left %+v", left)
	}
}

// testRealmReports: the newest report of each node, until it is forgotten.
func testRealmReports(t *testing.T, s Stores) {
	ctx := t.Context()
	a := realm.Report{Node: "a", Signing: map[string]string{"sig ES256": "k1"}, Seen: at(1).UTC()}
	b := realm.Report{Node: "b", Signing: map[string]string{}, Problem: "no HSM", Seen: at(2).UTC()}
	is(t, "b", s.Realm.Report(ctx, b), nil)
	is(t, "a", s.Realm.Report(ctx, realm.Report{Node: "a", Problem: "old"}), nil)
	is(t, "a again", s.Realm.Report(ctx, a), nil)
	same(t, "reports", must[[]realm.Report](t)(s.Realm.Reports(ctx)), []realm.Report{a, b})
	is(t, "forgetting", s.Realm.ForgetNode(ctx, "a"), nil)
	same(t, "left", must[[]realm.Report](t)(s.Realm.Reports(ctx)), []realm.Report{b})
}

// testSpent: what is good once is used once, and forgotten an hour after it is good for nothing.
func testSpent(t *testing.T, s Stores) {
	ctx := t.Context()
	now := time.Now()
	is(t, "using", s.Spent.Spend(ctx, "1", now.Add(time.Minute)), nil)
	is(t, "using again", s.Spent.Spend(ctx, "1", now.Add(time.Minute)), token.ErrConflict)
	is(t, "long ago", s.Spent.Spend(ctx, "2", now.Add(-2*time.Hour)), nil)
	is(t, "another", s.Spent.Spend(ctx, "3", now.Add(time.Minute)), nil)
	is(t, "forgotten", s.Spent.Spend(ctx, "2", now.Add(time.Minute)), nil)
}

// testAuditHeads: a node's head goes forward only.
func testAuditHeads(t *testing.T, s Stores) {
	ctx := t.Context()
	_, err := s.Heads.AuditHead(ctx, "a")
	is(t, "none", err, token.ErrNotFound)
	for _, h := range []audit.Head{{Seq: 5, Hash: "05"}, {Seq: 7, Hash: "07"}, {Seq: 6, Hash: "06"}} {
		is(t, "keeping", s.Heads.KeepAuditHead(ctx, "a", h), nil)
	}
	is(t, "another node's", s.Heads.KeepAuditHead(ctx, "b", audit.Head{Seq: 1, Hash: "01"}), nil)
	same(t, "head", must[audit.Head](t)(s.Heads.AuditHead(ctx, "a")), audit.Head{Seq: 7, Hash: "07"})
}
