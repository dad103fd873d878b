package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/tps/token"
)

const journalColumns = "id, cuid, operation, profile, profile_revision, user_id, client, started, ended, result, status, error, entries, revision"

// BeginJournal implements token.Journals. An empty id and a zero start are
// filled in. token.ErrConflict if the card has an open journal already.
func (db *DB) BeginJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	if j.ID == "" {
		j.ID = token.NewID()
	}
	if j.Started = normal(j.Started); j.Started.IsZero() {
		j.Started = normal(db.now())
	}
	j.Revision = 1
	entries, err := json.Marshal(j.Entries)
	if err != nil {
		return token.Journal{}, fmt.Errorf("encoding journal %s: %w", j.ID, err)
	}
	_, err = db.exec(ctx, "INSERT INTO journals ("+journalColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		j.ID, j.CUID.String(), j.Operation, string(j.Profile), j.ProfileRevision, string(j.UserID), j.Client,
		stamp(j.Started), stamp(j.Ended), j.Result, j.Status, j.Error, string(entries), j.Revision)
	if err != nil {
		return token.Journal{}, fmt.Errorf("beginning journal %s: %w", j.ID, err)
	}
	return j, nil
}

// ReplaceJournal implements token.Journals. CUID and start never change.
func (db *DB) ReplaceJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	entries, err := json.Marshal(j.Entries)
	if err != nil {
		return token.Journal{}, fmt.Errorf("encoding journal %s: %w", j.ID, err)
	}
	err = replaced(db.exec(ctx, `UPDATE journals SET operation = ?, profile = ?, profile_revision = ?, user_id = ?,
		client = ?, ended = ?, result = ?, status = ?, error = ?, entries = ?, revision = revision + 1
		WHERE id = ? AND revision = ?`,
		j.Operation, string(j.Profile), j.ProfileRevision, string(j.UserID),
		j.Client, stamp(j.Ended), j.Result, j.Status, j.Error, string(entries), j.ID, j.Revision))
	if err != nil {
		return token.Journal{}, fmt.Errorf("replacing journal %s: %w", j.ID, err)
	}
	j.Revision++
	return j, nil
}

// OpenJournal implements token.Journals.
func (db *DB) OpenJournal(ctx context.Context, cuid apdu.CUID) (token.Journal, error) {
	return queryOne(ctx, db.read, scanJournal, "SELECT "+journalColumns+
		" FROM journals WHERE cuid = ? AND ended = ''", cuid.String())
}

// openJournals has no order: with one, SQLite would read all journals there are in that
// order, instead of the open ones by their index.
const openJournals = "SELECT " + journalColumns + " FROM journals WHERE ended = ''"

// OpenJournals returns the unfinished journals of all cards, oldest first: what
// the sweeper looks through.
func (db *DB) OpenJournals(ctx context.Context) ([]token.Journal, error) {
	all, err := queryAll(ctx, db.read, scanJournal, openJournals)
	slices.SortFunc(all, func(a, b token.Journal) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return all, err
}

// Journal implements token.Journals.
func (db *DB) Journal(ctx context.Context, id string) (token.Journal, error) {
	return queryOne(ctx, db.read, scanJournal, "SELECT "+journalColumns+" FROM journals WHERE id = ?", id)
}

// Journals implements token.Journals. Text is looked for in id, CUID and user.
func (db *DB) Journals(ctx context.Context, f token.Filter) ([]token.Journal, error) {
	var w where
	w.text(f.Text, "id", "cuid", "user_id")
	w.common(f)
	if f.After != "" {
		w.add("(started, id) < (SELECT started, id FROM journals WHERE id = ?)", f.After)
	}
	rest, args := w.page("started DESC, id DESC", f.Limit)
	return queryAll(ctx, db.read, scanJournal, "SELECT "+journalColumns+" FROM journals"+rest, args...)
}

func scanJournal(r row) (token.Journal, error) {
	var j token.Journal
	var entries string
	err := r.Scan(&j.ID, parsed{&j.CUID}, &j.Operation, &j.Profile, &j.ProfileRevision, &j.UserID, &j.Client,
		stampAt(&j.Started), stampAt(&j.Ended), &j.Result, &j.Status, &j.Error, &entries, &j.Revision)
	if err != nil {
		return token.Journal{}, err
	}
	if err := json.Unmarshal([]byte(entries), &j.Entries); err != nil {
		return token.Journal{}, fmt.Errorf("decoding entries of journal %s: %w", j.ID, err)
	}
	return j, nil
}
