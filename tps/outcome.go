package tps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"inkan/tps/audit"
	"inkan/tps/token"
)

// outcomeTimeout bounds the writes that record an outcome.
const outcomeTimeout = 10 * time.Second

// events are the audit events of whole operations (§22).
var events = map[Operation]string{
	OpFormat: "TOKEN_FORMAT", OpEnroll: "TOKEN_ENROLLMENT", OpRenew: "TOKEN_RENEWAL",
	OpPINReset: "TOKEN_PIN_RESET", OpKeyChangeover: "TOKEN_KEY_CHANGEOVER",
}

// outcome records what happened, once: activity, audit, one line of log. It
// frees the lock. A record that cannot be written never turns a success into a
// failure: the card is done.
func (r *run) outcome(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	defer r.release(ctx)
	err = r.classify(err)
	r.keepFailure(ctx, err)
	activity := token.Activity{
		ID: token.NewID(), Time: r.e.Now(), CUID: r.card.CUID, UserID: r.person.ID, IP: r.req.Client,
		Operation: r.req.Operation.activity(), Success: err == nil, Message: r.message(err),
		Profile: r.profile.Name, Reference: r.id,
	}
	if aerr := r.e.Stores.Activities.AddActivity(ctx, activity); aerr != nil {
		r.e.Log.ErrorContext(ctx, "writing the activity", slog.String("cuid", r.card.CUID.String()), slog.Any("err", aerr))
	}
	event, ok := events[r.req.Operation]
	if !ok {
		event = "TOKEN_OP_REQUEST"
	}
	result, fields := audit.Success, map[string]string{"profile": string(r.profile.Name)}
	if err != nil {
		result = audit.Failure
		fields["info"], fields["status"] = err.Error(), fmt.Sprint(int(StatusOf(err)))
	}
	if aerr := r.audit(ctx, event, result, fields); aerr != nil {
		r.e.Log.ErrorContext(ctx, "writing the audit record", slog.Any("err", aerr))
	}
	r.logLine(ctx, "operation", err)
	if err == nil {
		r.progress(ctx, 100, doneTasks[r.req.Operation])
	}
	return err
}

// keepFailure notes in an unfinished journal why it is unfinished. The journal
// does without the note where it cannot be written.
func (r *run) keepFailure(ctx context.Context, err error) {
	if err == nil || r.journal.ID == "" || !r.journal.Ended.IsZero() {
		return
	}
	r.journal.Status, r.journal.Error = int(StatusOf(err)), err.Error()
	if err := r.keepJournal(ctx); err != nil {
		r.e.Log.DebugContext(ctx, "noting the failure in the journal", slog.Any("err", err))
	}
}

// doneTasks are the last tasks of the operations' status updates.
var doneTasks = map[Operation]string{
	OpFormat: "PROGRESS_DONE", OpEnroll: "PROGRESS_DONE_ENROLLMENT", OpRenew: "PROGRESS_DONE_ENROLLMENT",
	OpPINReset: "PROGRESS_PIN_RESET_COMPLETE", OpKeyChangeover: "PROGRESS_DONE",
}

// classify turns every error into an *Error with its operation, step and card.
func (r *run) classify(err error) error {
	if err == nil {
		return nil
	}
	out := &Error{Status: StatusOf(err), Op: r.req.Operation, Step: r.at, Token: r.card.CUID, Err: err}
	var e *Error
	if errors.As(err, &e) && e.Step != "" {
		out.Step = e.Step
	}
	if error(e) == err { // say the step once
		out.Err = e.Err
	}
	return out
}

// message is the activity's text.
func (r *run) message(err error) string {
	if err == nil {
		return fmt.Sprintf("%s done, profile %s%s", r.req.Operation, r.profile.Name, appletStory(r.journal))
	}
	text := err.Error()
	if r.journal.ID != "" && r.journal.Ended.IsZero() {
		text += "; unfinished: the same operation on this card finishes it"
	}
	return text
}

func (r *run) logLine(ctx context.Context, what string, err error) {
	attrs := []slog.Attr{
		slog.String("op", string(r.req.Operation)), slog.String("cuid", r.card.CUID.String()),
		slog.String("profile", string(r.profile.Name)), slog.String("user", string(r.person.ID)),
		slog.String("peer", r.req.Client), slog.Duration("dur", r.e.Now().Sub(r.start)), slog.String("ref", r.id),
	}
	if err != nil {
		attrs = append(attrs, slog.String("step", string(r.at)), slog.Int("status", int(StatusOf(err))), slog.Any("err", err))
		r.e.Log.LogAttrs(ctx, slog.LevelWarn, what+" failed", attrs...)
		return
	}
	r.e.Log.LogAttrs(ctx, slog.LevelInfo, what+" done", attrs...)
}

// audit writes one audit record; a step whose record cannot be written must not act.
func (r *run) audit(ctx context.Context, event string, o audit.Outcome, fields map[string]string) error {
	f := maps.Clone(fields)
	if f == nil {
		f = map[string]string{}
	}
	f["op"] = string(r.req.Operation)
	if r.at != "" {
		f["step"] = string(r.at)
	}
	e := audit.Event{Name: event, Outcome: o, Subject: string(r.person.ID), Reference: r.id, IP: r.req.Client, Fields: f}
	if !r.card.CUID.IsZero() {
		e.CUID = r.card.CUID.String()
	}
	if err := r.e.Audit.Record(context.WithoutCancel(ctx), e); err != nil { // a client that hangs up leaves no gap
		return fmt.Errorf("writing the audit record: %w", err)
	}
	return nil
}
