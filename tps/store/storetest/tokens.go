package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tps/token"
)

func cuid(n byte) apdu.CUID { return apdu.CUID{0x40, 0x90, 9: n} }

func kdd(n byte) *gp.KDD { return &gp.KDD{0x0A, 9: n} }

// at is a moment n seconds after the others, with nanoseconds, elsewhere than in UTC.
func at(n int) time.Time {
	return time.Date(2026, 3, 4, 5, 6, n, 123456789, time.FixedZone("", 2*3600))
}

func recent(t *testing.T, what string, v time.Time) {
	t.Helper()
	if d := time.Since(v); d < -time.Minute || d > time.Minute || v.Location() != time.UTC {
		t.Errorf("%s is %v", what, v)
	}
}

// printable replaces the pointer, for same.
func printable(v token.Token) any {
	k := "nil"
	if v.KDD != nil {
		k = v.KDD.String()
	}
	v.KDD = nil
	return struct {
		token.Token
		KDD string
	}{v, k}
}

func testTokens(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[token.Token](t)
	_, err := s.Records.Token(ctx, cuid(1))
	is(t, "unknown token", err, token.ErrNotFound)
	bare := get(s.Records.CreateToken(ctx, token.Token{CUID: cuid(2), State: token.Unformatted}))
	same(t, "bare token", printable(get(s.Records.Token(ctx, cuid(2)))), printable(bare))
	if bare.KDD != nil || bare.KeyInfo != nil || bare.Revision != 1 {
		t.Errorf("bare token: %+v", bare)
	}
	recent(t, "created", bare.Created)
	recent(t, "modified", bare.Modified)

	full := token.Token{CUID: cuid(1), KDD: kdd(1), UserID: "Ärger'; --", Profile: "userKey", State: token.Active, Reason: token.OnHold,
		AppletID: "1.4.58768072", KeySet: "site", KeyInfo: token.KeyInfo{0x02, 0x03, 0x70}, Policy: "RENEW=YES", Created: at(1),
		AppletKeys: token.AppletKeys{Set: "piv", Version: 1, Algorithm: 0x0A}}
	created := get(s.Records.CreateToken(ctx, full))
	full.Created, full.Modified, full.Revision = at(1).UTC(), created.Modified, 1
	same(t, "created", printable(created), printable(full))
	same(t, "read", printable(get(s.Records.Token(ctx, cuid(1)))), printable(full))
	same(t, "read by KDD", printable(get(s.Records.TokenByKDD(ctx, *kdd(1)))), printable(full))
	_, err = s.Records.TokenByKDD(ctx, *kdd(9))
	is(t, "unknown KDD", err, token.ErrNotFound)

	next := full
	next.KDD, next.UserID, next.State, next.KeyInfo, next.AppletKeys, next.Created = nil, "", token.Formatted, nil, token.AppletKeys{}, time.Time{}
	replaced := get(s.Records.ReplaceToken(ctx, next))
	next.Modified, next.Revision = replaced.Modified, 2
	next.Created = full.Created // never changes
	same(t, "replaced", printable(get(s.Records.Token(ctx, cuid(1)))), printable(next))
}

func testTokenConflicts(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[token.Token](t)
	one := get(s.Records.CreateToken(ctx, token.Token{CUID: cuid(1), KDD: kdd(1)}))
	_, err := s.Records.CreateToken(ctx, token.Token{CUID: cuid(1)})
	is(t, "same CUID", err, token.ErrConflict)
	_, err = s.Records.CreateToken(ctx, token.Token{CUID: cuid(2), KDD: kdd(1)})
	is(t, "same KDD", err, token.ErrConflict)

	one.UserID = "alice"
	get(s.Records.ReplaceToken(ctx, one))
	one.UserID = "bob"
	_, err = s.Records.ReplaceToken(ctx, one)
	is(t, "old revision", err, token.ErrConflict)
	if got := get(s.Records.Token(ctx, cuid(1))); got.UserID != "alice" || got.Revision != 2 {
		t.Errorf("the loser wrote: %+v", got)
	}
	_, err = s.Records.ReplaceToken(ctx, token.Token{CUID: cuid(9), Revision: 1})
	is(t, "replacing nothing", err, token.ErrConflict)

	three := get(s.Records.CreateToken(ctx, token.Token{CUID: cuid(3)}))
	three.KDD = kdd(1)
	_, err = s.Records.ReplaceToken(ctx, three)
	is(t, "taking another's KDD", err, token.ErrConflict)
	for n := byte(4); n < 6; n++ { // all zero is no name
		get(s.Records.CreateToken(ctx, token.Token{CUID: cuid(n), KDD: &gp.KDD{}}))
	}
	_, err = s.Records.TokenByKDD(ctx, gp.KDD{})
	is(t, "all zero", err, token.ErrNotFound)
}

func testTokenList(t *testing.T, s Stores) {
	ctx := t.Context()
	for n := range byte(130) {
		v := token.Token{CUID: cuid(n), State: token.Formatted, UserID: "alice"}
		if n%2 == 1 {
			v.UserID, v.State = "b%b_\\", token.Active
		}
		must[token.Token](t)(s.Records.CreateToken(ctx, v))
	}
	seven := cuid(7)
	for _, tt := range []struct {
		name        string
		f           token.Filter
		n           int
		first, last byte
	}{
		{"all, one page", token.Filter{}, 100, 0, 99},
		{"second page", token.Filter{After: cuid(99).String()}, 30, 100, 129},
		{"larger page", token.Filter{Limit: 120}, 120, 0, 119},
		{"too large a page", token.Filter{Limit: 5000}, 130, 0, 129},
		{"limit", token.Filter{Limit: 3}, 3, 0, 2},
		{"user", token.Filter{UserID: "alice", Limit: 5}, 5, 0, 8},
		{"state", token.Filter{State: token.Active, Limit: 2, After: cuid(10).String()}, 2, 11, 13},
		{"CUID", token.Filter{CUID: &seven}, 1, 7, 7},
		{"substring of the user, any case", token.Filter{Text: "LIC", Limit: 1}, 1, 0, 0},
		{"signs that mean something", token.Filter{Text: `%B_\`, Limit: 1}, 1, 1, 1},
		{"substring of the CUID", token.Filter{Text: "00000000000000007"}, 1, 7, 7},
		{"everything together", token.Filter{Text: "lic", UserID: "alice", State: token.Formatted, Limit: 1, After: cuid(0).String()}, 1, 2, 2},
	} {
		got := must[[]token.Token](t)(s.Records.Tokens(ctx, tt.f))
		if len(got) != tt.n {
			t.Errorf("%s: %d tokens, want %d", tt.name, len(got), tt.n)
			continue
		}
		if got[0].CUID != cuid(tt.first) || got[tt.n-1].CUID != cuid(tt.last) {
			t.Errorf("%s: %s to %s", tt.name, got[0].CUID, got[tt.n-1].CUID)
		}
	}
	for name, f := range map[string]token.Filter{"wildcard": {Text: "a%e"}, "one letter wildcard": {Text: "al_ce"},
		"nobody": {UserID: "alic"}, "behind the end": {After: "FF"}, "reverse": {UserID: "alice", State: token.Active}} {
		if got := must[[]token.Token](t)(s.Records.Tokens(ctx, f)); len(got) != 0 {
			t.Errorf("%s: %d tokens", name, len(got))
		}
	}
}

// testTokenRace: of ten who replace the same revision one succeeds.
func testTokenRace(t *testing.T, s Stores) {
	v := must[token.Token](t)(s.Records.CreateToken(t.Context(), token.Token{CUID: cuid(1)}))
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			switch _, err := s.Records.ReplaceToken(t.Context(), v); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, token.ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 9 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}
