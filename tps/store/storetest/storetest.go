// Package storetest is the suite that every database behind Inkan's store
// interfaces has to pass ([Test]), and a store whose writes fail on demand
// ([Faults]).
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/ca/catest"
	"inkan/tps/profile"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// Records are the stores that an operation writes to.
type Records interface {
	token.Tokens
	token.Certificates
	token.Activities
	token.Journals
	token.Locks
}

// KeySets stores which key set versions are retired.
type KeySets interface {
	Retire(ctx context.Context, set tks.KeySetName, version gp.KeyVersion) error
	Retired(ctx context.Context, set tks.KeySetName, version gp.KeyVersion) (bool, error)
}

// SealGenerations stores the newest generation of each sealed file; the database of
// the records does.
type SealGenerations interface {
	SealGeneration(ctx context.Context, instance, role string) (uint64, error)
	SetSealGeneration(ctx context.Context, instance, role string, generation uint64) error
	ForgetSealGeneration(ctx context.Context, instance, role string) error
}

// Stores are all the stores of one database.
type Stores struct {
	Records   Records
	Users     auth.Users
	Profiles  profile.Store
	Resolvers profile.Resolvers
	KeySets   KeySets
	Authority func(name string) ca.Store
	Realm     realm.Store
	Sessions  realm.Sessions
	Spent     realm.Spent
	Heads     audit.Heads
	// Later has the clock go on by which the database judges silence; nil: it
	// believes the times that it is given.
	Later func(t *testing.T, d time.Duration)
}

// Test runs the suite. open returns an empty database that lives as long as its test.
func Test(t *testing.T, open func(t *testing.T) Stores) {
	for _, s := range []struct {
		name string
		run  func(t *testing.T, s Stores)
	}{
		{"Tokens", testTokens},
		{"TokenConflicts", testTokenConflicts},
		{"TokenList", testTokenList},
		{"TokenRace", testTokenRace},
		{"Certificates", testCertificates},
		{"CertificateList", testCertificateList},
		{"Unsettled", testUnsettled},
		{"Activities", testActivities},
		{"Journals", testJournals},
		{"OpenJournals", testOpenJournals},
		{"Locks", testLocks},
		{"VoidLocks", testVoidLocks},
		{"LockRace", testLockRace},
		{"Users", testUsers},
		{"Profiles", testProfiles},
		{"Resolvers", testResolvers},
		{"KeySets", testKeySets},
		{"Authorities", testAuthorities},
		{"Realm", testRealm},
		{"RealmConflicts", testRealmConflicts},
		{"RealmMakings", testRealmMakings},
		{"RealmReports", testRealmReports},
		{"Sessions", testSessions},
		{"Spent", testSpent},
		{"AuditHeads", testAuditHeads},
		{"SealGenerations", testSealGenerations},
		{"Cancelled", testCancelled},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, open(t))
		})
	}
	t.Run("Authority", func(t *testing.T) {
		catest.TestStore(t, func(t *testing.T) ca.Store { return open(t).Authority("embedded") })
	})
}

// testCancelled: a call that is given up is neither "not found" nor a conflict.
func testCancelled(t *testing.T, s Stores) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Records.Token(ctx, cuid(1))
	unavailable(t, "reading", err)
	_, err = s.Records.Tokens(ctx, token.Filter{})
	unavailable(t, "listing", err)
	_, err = s.Records.CreateToken(ctx, token.Token{CUID: cuid(1)})
	unavailable(t, "writing", err)
	unavailable(t, "locking", s.Records.Lock(ctx, token.Lock{CUID: cuid(1), Node: "n", Boot: "b", Session: "s"}))
	_, _, err = s.Authority("a").LatestCRL(ctx)
	unavailable(t, "reading a snapshot", err)
	_, err = s.Records.Token(t.Context(), cuid(1))
	is(t, "afterwards", err, token.ErrNotFound)
}

func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, token.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("%s: got %v, want unavailable because it was cancelled", what, err)
	}
}

// is fails the test unless err is want; nil means no error.
func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// must ends the test on an error.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// same compares what two values print as.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s:\ngot  %s\nwant %s", what, g, w)
	}
}
