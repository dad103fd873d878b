package storetest

import (
	"fmt"
	"testing"

	"inkan/tps/token"
)

func testActivities(t *testing.T, s Stores) {
	ctx := t.Context()
	_, err := s.Records.Activity(ctx, "none")
	is(t, "unknown activity", err, token.ErrNotFound)
	full := token.Activity{ID: "id", Time: at(1), CUID: cuid(1), UserID: "alice", IP: "2001:db8::1", Operation: "enrollment", Success: true,
		Message: "enrolled\nÄ", Profile: "userKey", Reference: "ref"}
	is(t, "adding", s.Records.AddActivity(ctx, full), nil)
	is(t, "same id", s.Records.AddActivity(ctx, full), token.ErrConflict)
	full.Time = full.Time.UTC()
	same(t, "read", must[token.Activity](t)(s.Records.Activity(ctx, "id")), full)
	is(t, "adding without id and time", s.Records.AddActivity(ctx, token.Activity{Operation: "add"}), nil)
	bare := must[[]token.Activity](t)(s.Records.Activities(ctx, token.Filter{Limit: 1}))
	if len(bare) != 1 || bare[0].ID == "" || bare[0].Operation != "add" || bare[0].Success || !bare[0].CUID.IsZero() {
		t.Fatalf("got %+v", bare)
	}
	recent(t, "time", bare[0].Time)

	for n := range 5 { // two at each moment, later ones with lower ids
		a := token.Activity{ID: fmt.Sprint("x", 9-n), Time: at(10 + n/2), CUID: cuid(5), UserID: "bob"}
		is(t, "adding", s.Records.AddActivity(ctx, a), nil)
	}
	five := cuid(5)
	for _, tt := range []struct {
		name, want string
		f          token.Filter
	}{
		{"newest first", "x5 x7 x6 x9 x8 ", token.Filter{CUID: &five}},
		{"page", "x7 x6 ", token.Filter{CUID: &five, After: "x5", Limit: 2}},
		{"page in the middle of a moment", "x6 x9 x8 ", token.Filter{UserID: "bob", After: "x7"}},
		{"last page", "", token.Filter{UserID: "bob", After: "x8"}},
		{"text", "x6 ", token.Filter{Text: "X6"}},
		{"operation", "id ", token.Filter{Operation: "Enrollment"}},
		{"operation of another card", "", token.Filter{Operation: "enrollment", CUID: &five}},
		{"behind what there is not", "", token.Filter{After: "none"}},
	} {
		got := ""
		for _, a := range must[[]token.Activity](t)(s.Records.Activities(ctx, tt.f)) {
			got += a.ID + " "
		}
		same(t, tt.name, got, tt.want)
	}
}
