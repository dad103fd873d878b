package tps

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"inkan/tps/audit"
	"inkan/tps/token"
)

// A dry run is an operation up to its plan: the card is identified, the person logs in,
// the card is locked and read, the planner says what would be done, or why not. What would
// be written to records is written to a [shadow] of them, so that the code that revokes,
// rolls back and records is the one that tells of it.
//
// The card gets commands that read, and proves its keys: by INITIALIZE UPDATE, the applet
// of a PIV card by its management key. No channel is opened on it, no PIN is presented.
//
// A dry run leaves an audit record of its own beside that of the login, since somebody read
// a card and had its keys used, and no activity: these tell what was done with a card.

// DryRun says what Run would do now and does nothing of it. Whoever may not do the
// operation is refused with the same status; where the planner refuses, the preview says
// why. The error is an *Error. A ticket is not taken: it would be used up.
func (e *Engine) DryRun(ctx context.Context, req Request, cl Client) (Preview, error) {
	r := &run{req: req, cl: cl, start: e.Now(), id: token.NewID(), dry: &rehearsal{records: newShadow(e.Stores)}}
	r.e = e.over(r.dry.records)
	defer r.close()
	err := r.rehearsed(ctx, r.operate(ctx))
	return r.dry.preview, err
}

// rehearsal is what a dry run finds. Of an operation that is done it is nil, and its
// methods do nothing.
type rehearsal struct {
	records *shadow
	preview Preview
	forgot  bool // a card that is rolled back would have been made to forget its keys
}

// eventDryRun is the audit event of a dry run, whatever the operation.
const eventDryRun = "TOKEN_DRY_RUN"

// rehearsed is outcome for a dry run.
func (r *run) rehearsed(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), outcomeTimeout)
	defer cancel()
	defer r.release(ctx)
	err = r.classify(err)
	r.dry.end(r, err)
	result, fields := audit.Success, map[string]string{"profile": string(r.profile.Name)}
	if err != nil {
		result = audit.Failure
		fields["info"], fields["status"] = err.Error(), fmt.Sprint(int(StatusOf(err)))
	}
	if aerr := r.audit(ctx, eventDryRun, result, fields); aerr != nil {
		r.e.Log.ErrorContext(ctx, "writing the audit record", slog.Any("err", aerr))
	}
	r.logLine(ctx, "dry run", err)
	return err
}

// rehearse tells of the plan's steps, and runs those that need no card on the shadow.
func (r *run) rehearse(ctx context.Context) error {
	for _, s := range r.plan {
		r.at = s.Name
		r.dry.tell(r.facts, r.plan, s)
		name, keyType := s.Name.split()
		if name == StepIssue && !r.plan.makes(keyType) {
			r.holdIssued(keyType)
		}
		if s.Kind != Settling && name != StepKeep && name != StepForget { // of which there is no more than its record here
			continue
		}
		if err := r.ready(ctx, s); err != nil {
			return within(StatusDatabase, s.Name, err)
		}
		if err := s.Do(ctx, r); err != nil {
			return within(s.Fail, s.Name, err)
		}
	}
	return nil
}

// holdIssued takes what the operation that is continued had issued for a key that stays:
// asking again returns it.
func (r *run) holdIssued(keyType string) {
	for _, c := range r.facts.Certs {
		if r.facts.Open != nil && c.Operation == r.facts.Open.ID && c.KeyType == keyType && writable(c) {
			r.hold(keyType, c)
		}
	}
}

// split undoes of.
func (n StepName) split() (name StepName, keyType string) {
	before, after, _ := strings.Cut(string(n), " ")
	return StepName(before), after
}

// has reports a step of the plan.
func (p Plan) has(names ...StepName) bool {
	return slices.ContainsFunc(p, func(s Step) bool { return slices.Contains(names, s.Name) })
}

// makes reports whether the plan has a key pair made.
func (p Plan) makes(keyType string) bool {
	return p.has(StepGenerateKey.of(keyType), StepImportKey.of(keyType))
}

// detail is what a step does, as its intent says.
func (s Step) detail() string {
	d := s.Intent
	from, to := strings.TrimSpace(d["from_set"]+" "+d["from"]), strings.TrimSpace(d["to_set"]+" "+d["to"])
	switch to {
	case "":
		return d["alg"]
	case from:
		return to
	}
	return cmp.Or(from, "none") + " to " + to
}

// replaced says which key of the card another one takes the place of.
func (f Facts) replaced(keyType string) (names []string) {
	for _, k := range f.Profile.Key {
		at := slices.IndexFunc(f.Contents.Slots, func(s Slot) bool { return s.Number == k.PrivateSlot() })
		if k.Type != keyType || at < 0 {
			continue
		}
		name := "the " + k.Type + " key"
		if k.Retire > 0 {
			name += " (moved to a retired slot where the card can do that)"
		}
		names = append(names, name)
	}
	return names
}

// tell notes a step and what it means.
func (d *rehearsal) tell(f Facts, plan Plan, s Step) {
	p := &d.preview
	p.Steps = append(p.Steps, PreviewStep{Name: s.Name, Task: cmp.Or(s.Task, string(s.Name)), Detail: short(s.detail()), Irreversible: s.Kind == Irreversible})
	switch name, keyType := s.Name.split(); name {
	case StepAskPIN:
		p.Asks = append(p.Asks, fmt.Sprintf("a new PIN of %d to %d characters", f.Profile.PIN.Min, f.Profile.PIN.Max))
	case StepCardPIN:
		if f.asksCardPIN() {
			p.Asks = append(p.Asks, "the PIN that the card has now")
		}
	case StepPrepare:
		p.Lost = shortList(f.losses())
	case StepGenerateKey, StepImportKey:
		if !plan.has(StepPrepare) { // it is lost already
			p.Replaced = shortList(append(p.Replaced, f.replaced(keyType)...))
		}
	case StepIssue:
		if s.Intent["replaces"] != "" {
			p.Replaced = shortList(append(p.Replaced, "the "+keyType+" certificate"))
		}
	case StepSetPIN:
		if !plan.has(StepPrepare) && f.Contents.HasPIN {
			p.Replaced = shortList(append(p.Replaced, "the PIN"))
		}
	}
}

// open tells what becomes of an unfinished operation. It is called when the person may
// know of it.
func (d *rehearsal) open(j token.Journal, fate string) {
	if d != nil && d.preview.Open == nil {
		d.preview.Open = &PreviewOpen{Operation: Operation(j.Operation), User: j.UserID, Started: j.Started, Fate: fate}
	}
}

// rolledBack makes of a card that was read again what rolling back would have made of it.
func (d *rehearsal) rolledBack(f *Facts) {
	if d != nil && d.forgot {
		f.Contents = f.Family.(PINKeyed).Forgotten(f.Contents)
	}
}

// finishFirst tells that the plan is that of the unfinished operation.
func (d *rehearsal) finishFirst() {
	o := d.preview.Open
	o.Fate, o.Steps, d.preview.Steps = FateFinished, d.preview.Steps, nil
}

// refused tells the planner's refusal, and returns it.
func (d *rehearsal) refused(err error) error {
	if d != nil && err != nil {
		d.preview.Refusal = &PreviewRefusal{Status: StatusOf(err), Text: shortened(err.Error(), maxPreviewRefusal)}
	}
	return err
}

// veil hides from the refusals of the planner what the node's surroundings said: it is
// for the log.
func (d *rehearsal) veil(ctx context.Context, r *run) {
	if d == nil {
		return
	}
	for _, e := range []*error{&r.facts.Ready.CA, &r.facts.Ready.Applet, &r.facts.Ready.Archive} {
		if *e != nil {
			r.e.Log.WarnContext(ctx, "not ready", slog.Any("err", *e))
			*e = veiled{*e}
		}
	}
}

// veiled is an error whose text is not for everybody.
type veiled struct{ error }

// Error implements error.
func (veiled) Error() string { return "what the server needs for it is missing; its log says more" }

// Unwrap returns the cause, which has the status.
func (v veiled) Unwrap() error { return v.error }

// end fills in what it was about, and what the records say for who may know it.
func (d *rehearsal) end(r *run, err error) {
	p := &d.preview
	p.Operation, p.Card, p.Profile, p.Revision = r.req.Operation, r.card.CUID.String(), r.profile.Name, r.profile.Revision
	if err != nil && p.Open == nil {
		return
	}
	p.Before, p.After = recordOf(d.records.tokens.before), recordOf(d.records.tokens.after)
	p.Certificates = d.records.certificates.changes()
}

func recordOf(t *token.Token) PreviewRecord {
	if t == nil {
		return PreviewRecord{}
	}
	return PreviewRecord{State: t.State, User: t.UserID}
}
