package tps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// run is one operation on one card. Each field is written by the step named
// beside it.
type run struct {
	e     *Engine
	req   Request
	cl    Client
	start time.Time
	id    string     // of the session: journal, activity and audit carry it
	dry   *rehearsal // nil: the operation is done, not only told of

	conn    *apdu.Conn      // identify
	card    Card            // identify, prove
	profile profile.Profile // resolve
	family  Family          // resolve
	target  profile.Target  // resolve: keys and applet of a mapping
	person  auth.Person     // authenticate
	lock    *token.Lock     // lock
	facts   Facts           // gather
	link    *link           // gather
	plan    Plan            // operate
	journal token.Journal   // begin; zero until the first irreversible step
	behind  bool            // confirm, keepJournal: the stored journal lacks a confirmation
	at      StepName        // execute: the step that runs
	percent int             // progress
	window  [2]int          // execute: percent at the start and at the end of the step that runs

	pin     secret.PIN                   // ask-pin
	cardPIN secret.PIN                   // ask-card-pin
	applet  Applet                       // personalize
	keys    map[string]KeyResult         // generate-key, import-key, keep-certificate
	certs   map[string]token.Certificate // issue-certificate
}

// operate is the operation: what design.md §3 lists, in that order.
func (r *run) operate(ctx context.Context) error {
	if _, ok := planners[r.req.Operation]; !ok {
		return refuse(StatusCannotPerform, "operation %q does not exist", r.req.Operation)
	}
	if err := r.steps(ctx,
		ahead{StepIdentify, r.identify}, ahead{"resolve-profile", r.resolve},
		ahead{StepAuthenticate, r.authenticate}, ahead{"lock-card", r.acquire}, ahead{StepRead, r.gather},
	); err != nil {
		return err
	}
	if err := r.renewInstead(ctx); err != nil {
		return err
	}
	if done, err := r.settleOpen(ctx); done || err != nil {
		return err
	}
	if err := r.rollback(ctx); err != nil {
		return err
	}
	if open := r.facts.Open; open != nil && Operation(open.Operation) != r.req.Operation {
		if err := r.finishOpen(ctx); err != nil || r.dry != nil {
			return err
		}
	}
	if err := r.renewInstead(ctx); err != nil { // what was in its way is settled
		return err
	}
	return r.perform(ctx)
}

// ahead is a step before the plan: it changes nothing on the card.
type ahead struct {
	name StepName
	do   func(context.Context) error
}

func (r *run) steps(ctx context.Context, as ...ahead) error {
	for _, a := range as {
		r.at = a.name
		if err := ctx.Err(); err != nil {
			return within(StatusConnectionLost, a.name, err)
		}
		if err := a.do(ctx); err != nil {
			return within(StatusInternal, a.name, err)
		}
	}
	return nil
}

// perform plans from the facts and executes.
func (r *run) perform(ctx context.Context) error {
	r.dry.veil(ctx, r)
	plan, err := MakePlan(r.facts)
	if err != nil {
		return r.dry.refused(err)
	}
	r.plan = plan
	r.e.Log.DebugContext(ctx, "planned", slog.String("op", string(r.req.Operation)), slog.String("cuid", r.card.CUID.String()), slog.Any("steps", plan.Names()))
	if r.facts.Open != nil {
		r.journal = *r.facts.Open
		r.dry.open(r.journal, FateContinued)
	}
	if r.dry != nil {
		return r.rehearse(ctx)
	}
	return r.withdraw(ctx, r.execute(ctx))
}

// finishOpen finishes the unfinished operation of the card, with the profile
// revision it was begun with, before the one that was asked for.
func (r *run) finishOpen(ctx context.Context) error {
	asked := r.req.Operation
	r.req.Operation = Operation(r.facts.Open.Operation)
	defer func() { r.req.Operation = asked }()
	r.facts.Asked = r.req
	if err := r.perform(ctx); err != nil {
		return fmt.Errorf("finishing the unfinished %s: %w", r.facts.Open.Operation, err)
	}
	if r.dry != nil {
		r.dry.finishFirst()
		return nil
	}
	r.journal, r.behind = token.Journal{}, false
	r.wipe()
	r.req.Operation = asked
	return r.steps(ctx, ahead{"resolve-profile", r.resolve}, ahead{StepRead, r.gather})
}

// execute runs the plan: intent, step, confirmation. From the first step that
// changes the card on, the operation no longer listens to its client's hanging
// up, only to its own deadline.
func (r *run) execute(ctx context.Context) error {
	total, done, detached := 0, 0, false
	for _, s := range r.plan {
		total += s.Weight
	}
	for _, s := range r.plan {
		r.at = s.Name
		if err := ctx.Err(); err != nil {
			return within(StatusConnectionLost, s.Name, err)
		}
		if s.Kind != Harmless && !detached {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), r.e.OperationTimeout)
			defer cancel()
			detached = true
		}
		if err := r.ready(ctx, s); err != nil {
			return within(StatusDatabase, s.Name, err)
		}
		r.window = [2]int{100 * done / max(total, 1), 100 * (done + s.Weight) / max(total, 1)}
		r.progress(ctx, r.window[0], s.Task)
		if err := r.do(ctx, s); err != nil {
			return within(s.Fail, s.Name, err)
		}
		done += s.Weight
	}
	return within(StatusDatabase, r.at, r.flush(ctx))
}

// ready has the journal ready for a step: begun where the step itself does not begin
// it with its intent, and complete where the next one may be long.
func (r *run) ready(ctx context.Context, s Step) error {
	switch {
	case s.Kind == Harmless:
		return r.flush(ctx)
	case s.Kind == Settling && r.journal.ID == "":
		return r.begin(ctx)
	}
	return nil
}

// do runs one step.
func (r *run) do(ctx context.Context, s Step) error {
	began := r.e.Now()
	if s.Kind == Irreversible {
		if err := r.audit(ctx, s.Event, audit.Attempt, s.Intent); err != nil {
			return err
		}
		if err := r.intend(ctx, s); err != nil {
			return err
		}
	}
	err := s.Do(ctx, r)
	if s.Kind == Irreversible {
		err = r.conclude(ctx, s, err)
	}
	r.e.Log.DebugContext(ctx, "step", slog.String("op", string(r.req.Operation)), slog.String("step", string(s.Name)),
		slog.String("cuid", r.card.CUID.String()), slog.Duration("dur", r.e.Now().Sub(began)), slog.Bool("ok", err == nil))
	return err
}

// conclude confirms a step that succeeded, and audits the outcome of either.
func (r *run) conclude(ctx context.Context, s Step, err error) error {
	if err == nil {
		err = r.confirm(s.Name)
	}
	if err == nil {
		return r.audit(ctx, s.Event, audit.Success, s.Intent)
	}
	if aerr := r.audit(ctx, s.Event, audit.Failure, s.Intent); aerr != nil {
		return errors.Join(err, aerr)
	}
	return err
}

// progress tells the client; a client that does not listen is no error.
func (r *run) progress(ctx context.Context, percent int, task string) {
	r.percent = max(r.percent, percent)
	if err := r.cl.Progress(ctx, r.percent, task); err != nil {
		r.e.Log.DebugContext(ctx, "progress not taken", slog.Any("err", err))
	}
}

// inStep tells how much of the step that runs is done.
func (r *run) inStep(ctx context.Context, done, total int) {
	for _, s := range r.plan {
		if s.Name == r.at && total > 0 {
			r.progress(ctx, r.window[0]+(r.window[1]-r.window[0])*done/total, s.Task)
			return
		}
	}
}

// close frees what the operation held.
func (r *run) close() {
	r.wipe()
	if r.link != nil {
		r.link.end()
	}
}

func (r *run) wipe() {
	r.pin.Wipe()
	r.cardPIN.Wipe()
	r.cardPIN = secret.PIN{} // zero is an answer of its own: nobody was asked
	r.applet, r.keys, r.certs = nil, nil, nil
}
