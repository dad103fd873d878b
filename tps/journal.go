package tps

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"inkan/tps/auth"
	"inkan/tps/token"
)

// begin makes the operation durable before its first step that changes anything,
// with that step's intent.
func (r *run) begin(ctx context.Context, intent ...token.Entry) error {
	j, err := r.e.Stores.Journals.BeginJournal(ctx, token.Journal{
		ID: r.id, CUID: r.card.CUID, Operation: string(r.req.Operation),
		Profile: r.profile.Name, ProfileRevision: r.profile.Revision,
		UserID: r.person.ID, Client: r.req.Client, Started: r.e.Now(), Entries: append(r.about(), intent...),
	})
	if err != nil {
		return fmt.Errorf("beginning the journal: %w", err)
	}
	r.journal = j
	return nil
}

// attribute marks what else is known of a person.
const attribute = "attribute "

// about is what the certificates of an enrollment or renewal will say of its person, so that
// somebody else can finish it for them.
func (r *run) about() []token.Entry {
	if r.req.Operation != OpEnroll && r.req.Operation != OpRenew {
		return nil
	}
	p := r.person
	data := map[string]string{"name": p.Name, "mail": p.Mail, "upn": p.UPN}
	for name, value := range p.Attributes {
		data[attribute+name] = value
	}
	return []token.Entry{{Step: string(StepAuthenticate), At: r.e.Now(), Confirmed: true, Data: data}}
}

// personOf is the person of a journal. It has no roles: who finishes the
// operation acts with their own.
func personOf(j token.Journal) auth.Person {
	p := auth.Person{ID: j.UserID, Name: string(j.UserID), Attributes: map[string]string{}}
	e, ok := historyOf(&j).last(StepAuthenticate)
	if !ok {
		return p
	}
	p.Name, p.Mail, p.UPN = e.Data["name"], e.Data["mail"], e.Data["upn"]
	for name, value := range e.Data {
		if a, ok := strings.CutPrefix(name, attribute); ok {
			p.Attributes[a] = value
		}
	}
	return p
}

// holder is whom the card is for: the person of the operation that is being
// finished, else who logged in.
func (r *run) holder(open *token.Journal) auth.Person {
	if open != nil && open.UserID != r.person.ID {
		return personOf(*open)
	}
	return r.person
}

// intend writes that a step is about to act.
func (r *run) intend(ctx context.Context, s Step) error {
	e := token.Entry{Step: string(s.Name), At: r.e.Now(), Data: maps.Clone(s.Intent)}
	if r.journal.ID == "" {
		return within(StatusDatabase, s.Name, r.begin(ctx, e))
	}
	r.journal.Entries = append(slices.Clone(r.journal.Entries), e)
	if s.Late {
		return nil
	}
	return r.keepJournal(ctx)
}

// note adds a fact to the entry of the step that runs; confirm stores it.
func (r *run) note(key, value string) {
	e := &r.journal.Entries[len(r.journal.Entries)-1]
	if e.Data == nil {
		e.Data = map[string]string{}
	}
	e.Data[key] = value
}

// confirm notes that the step has happened. That is stored with the next intent,
// which comes before anything else that changes the card, or when the operation
// ends: whoever is cut before finds a step that may have happened, as if cut right
// behind it.
func (r *run) confirm(step StepName) error {
	for i := len(r.journal.Entries) - 1; i >= 0; i-- {
		if r.journal.Entries[i].Step == string(step) {
			r.journal.Entries[i].Confirmed = true
			r.behind = true
			return nil
		}
	}
	return fmt.Errorf("confirming %s: no such entry", step)
}

// flush stores what confirm noted.
func (r *run) flush(ctx context.Context) error {
	if !r.behind || !r.journal.Ended.IsZero() {
		return nil
	}
	return r.keepJournal(ctx)
}

func (r *run) keepJournal(ctx context.Context) error {
	j, err := r.e.Stores.Journals.ReplaceJournal(ctx, r.journal)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	r.journal, r.behind = j, false
	return nil
}

// endJournal closes a journal with its result.
func (e *Engine) endJournal(ctx context.Context, j token.Journal, result string) (token.Journal, error) {
	j.Ended, j.Result = e.Now(), result
	j, err := e.Stores.Journals.ReplaceJournal(ctx, j)
	if err != nil {
		return j, fmt.Errorf("closing the journal: %w", err)
	}
	return j, nil
}

// history answers what a journal knows of a step.
type history struct{ entries []token.Entry }

func historyOf(j *token.Journal) history {
	if j == nil {
		return history{}
	}
	return history{j.Entries}
}

// last returns the last entry of a step. A step that began to prepare the applet
// wipes what came before it on the card, so earlier entries no longer count;
// making a key anew does the same to that key's entries.
func (h history) last(step StepName) (token.Entry, bool) {
	for i := len(h.entries) - 1; i >= 0; i-- {
		e := h.entries[i]
		if e.Step == string(step) {
			return e, true
		}
		if e.Step == string(StepPrepare) && step != StepChangeKeys && step != StepAuthenticate {
			return token.Entry{}, false
		}
	}
	return token.Entry{}, false
}

// done reports whether a step is known to have happened.
func (h history) done(step StepName) bool {
	e, ok := h.last(step)
	return ok && e.Confirmed
}

// begun reports whether a step may have happened.
func (h history) begun(step StepName) bool {
	_, ok := h.last(step)
	return ok
}

// begunAnywhere reports whether a step may have happened, whatever came after it.
func (h history) begunAnywhere(step StepName) bool { return h.count(step) > 0 }

// count is how often a step was begun.
func (h history) count(step StepName) int {
	n := 0
	for _, e := range h.entries {
		if e.Step == string(step) {
			n++
		}
	}
	return n
}

// made returns the last entry of the step that gives the card a key pair of a type,
// whoever made that: the profile of a journal knows one of the two.
func (h history) made(keyType string) (e token.Entry, begun bool) {
	if e, begun = h.last(StepImportKey.of(keyType)); begun {
		return e, true
	}
	return h.last(StepGenerateKey.of(keyType))
}

// timesMade is how often that step was begun.
func (h history) timesMade(keyType string) int {
	return h.count(StepImportKey.of(keyType)) + h.count(StepGenerateKey.of(keyType))
}

// changedCard reports whether any step began that changed keys, PIN or contents
// of the applet beyond the PIN.
func (h history) changedCard() bool {
	return slices.ContainsFunc(h.entries, func(e token.Entry) bool {
		switch name, _ := StepName(e.Step).split(); name {
		case StepPrepare, StepGenerateKey, StepImportKey, StepWrite:
			return true
		}
		return false
	})
}
