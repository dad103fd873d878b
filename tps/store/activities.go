package store

import (
	"context"
	"fmt"
	"strings"

	"inkan/tps/token"
)

const activityColumns = "id, time, cuid, user_id, ip, operation, success, message, profile, reference"

// AddActivity implements token.Activities. An empty id and a zero time are
// filled in; token.ErrConflict if the id is taken.
func (db *DB) AddActivity(ctx context.Context, a token.Activity) error {
	if a.ID == "" {
		a.ID = token.NewID()
	}
	if a.Time.IsZero() {
		a.Time = db.now()
	}
	success := 0
	if a.Success {
		success = 1
	}
	_, err := db.exec(ctx, "INSERT INTO activities ("+activityColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		a.ID, stamp(a.Time), a.CUID.String(), string(a.UserID), a.IP, a.Operation, success, a.Message,
		string(a.Profile), a.Reference)
	if err != nil {
		return fmt.Errorf("adding activity: %w", err)
	}
	return nil
}

// Activity implements token.Activities.
func (db *DB) Activity(ctx context.Context, id string) (token.Activity, error) {
	return queryOne(ctx, db.read, scanActivity, "SELECT "+activityColumns+" FROM activities WHERE id = ?", id)
}

// Activities implements token.Activities. Text is looked for in id, CUID and user.
func (db *DB) Activities(ctx context.Context, f token.Filter) ([]token.Activity, error) {
	var w where
	w.text(f.Text, "id", "cuid", "user_id")
	w.common(f)
	if f.Operation != "" {
		operation := strings.ToLower(f.Operation)
		if operation == "cert_unrevocation" { // DEF-49
			operation = "cert_restoration"
		}
		w.add("LOWER(operation) = ?", operation)
	}
	if f.After != "" {
		w.add("(time, id) < (SELECT time, id FROM activities WHERE id = ?)", f.After)
	}
	rest, args := w.page("time DESC, id DESC", f.Limit)
	return queryAll(ctx, db.read, scanActivity, "SELECT "+activityColumns+" FROM activities"+rest, args...)
}

func scanActivity(r row) (token.Activity, error) {
	var a token.Activity
	var success int64
	err := r.Scan(&a.ID, stampAt(&a.Time), parsed{&a.CUID}, &a.UserID, &a.IP, &a.Operation, &success, &a.Message,
		&a.Profile, &a.Reference)
	a.Success = success != 0
	return a, err
}
