package storetest

import (
	"testing"
	"time"

	"inkan/tps/token"
)

func testJournals(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[token.Journal](t)
	_, err := s.Records.Journal(ctx, "none")
	is(t, "unknown journal", err, token.ErrNotFound)
	_, err = s.Records.OpenJournal(ctx, cuid(1))
	is(t, "no open journal", err, token.ErrNotFound)

	full := token.Journal{ID: "id1", CUID: cuid(1), Operation: "enroll", Profile: "userKey", ProfileRevision: 3, UserID: "alice",
		Client: "::1", Started: at(1)}
	begun := get(s.Records.BeginJournal(ctx, full))
	full.Started, full.Revision = at(1).UTC(), 1
	same(t, "begun", begun, full)
	same(t, "open", get(s.Records.OpenJournal(ctx, cuid(1))), full)

	next := full
	next.Entries = []token.Entry{{Step: "prepare", At: at(2).UTC(), Confirmed: true, Data: map[string]string{"a": "b", "ü": "\x00\n"}}, {Step: "write"}}
	next = get(s.Records.ReplaceJournal(ctx, next))
	same(t, "with entries", get(s.Records.Journal(ctx, "id1")), next)
	_, err = s.Records.ReplaceJournal(ctx, full)
	is(t, "old revision", err, token.ErrConflict)
	_, err = s.Records.ReplaceJournal(ctx, token.Journal{ID: "none", Revision: 1})
	is(t, "replacing nothing", err, token.ErrConflict)
	_, err = s.Records.BeginJournal(ctx, token.Journal{CUID: cuid(1)})
	is(t, "a second one while one is open", err, token.ErrConflict)
	_, err = s.Records.BeginJournal(ctx, token.Journal{ID: "id1", CUID: cuid(2)})
	is(t, "same id", err, token.ErrConflict)

	next.Ended, next.Result, next.Status, next.Error = at(9), "failed", 17, "no channel"
	next = get(s.Records.ReplaceJournal(ctx, next))
	next.Ended = at(9).UTC()
	same(t, "ended", get(s.Records.Journal(ctx, "id1")), next)
	_, err = s.Records.OpenJournal(ctx, cuid(1))
	is(t, "ended, not open", err, token.ErrNotFound)
	second := get(s.Records.BeginJournal(ctx, token.Journal{CUID: cuid(1)}))
	if second.ID == "" {
		t.Error("no id")
	}
	recent(t, "started", second.Started)
	next.Ended = time.Time{}
	_, err = s.Records.ReplaceJournal(ctx, next)
	is(t, "opening one again beside another", err, token.ErrConflict)
}

func testOpenJournals(t *testing.T, s Stores) {
	ctx := t.Context()
	for _, j := range []token.Journal{
		{ID: "c", CUID: cuid(1), Started: at(3), UserID: "alice"},
		{ID: "a", CUID: cuid(2), Started: at(2), Ended: at(4)},
		{ID: "b", CUID: cuid(3), Started: at(1)},
		{ID: "d", CUID: cuid(2), Started: at(3)},
	} {
		must[token.Journal](t)(s.Records.BeginJournal(ctx, j))
	}
	ids := func(all []token.Journal) (ids string) {
		for _, j := range all {
			ids += j.ID + " "
		}
		return ids
	}
	get := must[[]token.Journal](t)
	same(t, "open, oldest first", ids(get(s.Records.OpenJournals(ctx))), "b c d ")
	two := cuid(2)
	for _, tt := range []struct {
		want string
		f    token.Filter
	}{
		{"d c a b ", token.Filter{}},
		{"c a ", token.Filter{After: "d", Limit: 2}},
		{"d a ", token.Filter{CUID: &two}},
		{"c ", token.Filter{UserID: "alice"}},
		{"c ", token.Filter{Text: "LICE"}},
		{"", token.Filter{After: "b"}},
	} {
		same(t, "list", ids(get(s.Records.Journals(ctx, tt.f))), tt.want)
	}
}
