package api

import (
	"strconv"

	"inkan/tps"
	"inkan/tps/token"
)

// Operation is the journal of one operation on a card, without the facts that
// its steps noted.
type Operation struct {
	ID        string          `json:"id"`
	TokenID   string          `json:"TokenID"`
	Operation string          `json:"Operation"` // format, enroll, renew, pin-reset, key-changeover
	Type      string          `json:"Type"`      // profile
	UserID    string          `json:"UserID"`
	IP        string          `json:"IP,omitempty"`
	Started   Millis          `json:"Started"`
	Ended     Millis          `json:"Ended,omitempty"`  // 0: unfinished
	Result    string          `json:"Result,omitempty"` // done, failed, rolled-back; empty while unfinished
	Message   string          `json:"Message,omitempty"`
	Steps     []OperationStep `json:"Steps"`
	Card      CardState       `json:"Card,omitempty"` // of an unfinished one
}

// CardState is what an unfinished operation means for its card.
type CardState string

// Card states.
const (
	CardUnchanged CardState = "unchanged" // nothing was written
	CardCut       CardState = "cut"       // perhaps half-written, not lost: the operation asked again finishes it, another one rolls it back
	CardDone      CardState = "done"      // complete: only records are missing, and the node writes them by itself
)

// OperationStep is a step that changed something, or was about to.
type OperationStep struct {
	Name      string `json:"Name"`
	Time      Millis `json:"Time"`
	Confirmed bool   `json:"Confirmed"` // it is known to have happened
}

func describeOperation(j token.Journal) (Operation, error) {
	out := Operation{
		ID: j.ID, TokenID: j.CUID.String(), Operation: j.Operation, Type: string(j.Profile), UserID: string(j.UserID), IP: j.Client,
		Started: millis(j.Started), Ended: millis(j.Ended), Result: j.Result, Message: j.Error, Steps: []OperationStep{},
	}
	for _, e := range j.Entries {
		out.Steps = append(out.Steps, OperationStep{Name: e.Step, Time: millis(e.At), Confirmed: e.Confirmed})
	}
	if j.Ended.IsZero() {
		out.Card = cardState(j)
	}
	return out, nil
}

// cardState judges by the steps that began. Those that settle records come last:
// once one of them began, the card is done.
func cardState(j token.Journal) CardState {
	if len(j.Entries) == 0 {
		return CardUnchanged
	}
	switch tps.StepName(j.Entries[len(j.Entries)-1].Step) {
	case tps.StepRecord, tps.StepRevoke:
		return CardDone
	}
	return CardCut
}

func (a *api) listOperations(c *call) (reply, error) {
	t, err := a.token(c)
	if err != nil {
		return reply{}, err
	}
	return a.operations(c, token.Filter{CUID: &t.CUID})
}

func (a *api) listAllOperations(c *call) (reply, error) {
	f, err := c.filter()
	if err != nil {
		return reply{}, err
	}
	return a.operations(c, f)
}

// operations lists journals, newest first.
func (a *api) operations(c *call, f token.Filter) (reply, error) {
	p, err := c.page()
	if err != nil {
		return reply{}, err
	}
	s := source[token.Journal]{
		read: func(after string, limit int) ([]token.Journal, error) {
			f.After, f.Limit = after, limit
			return a.Journals.Journals(c.Context(), f)
		},
		id: func(j token.Journal) string { return j.ID },
	}
	if v := c.param("open"); v != "" {
		open, err := strconv.ParseBool(v)
		if err != nil {
			return reply{}, badRequest("open is true or false, not %q", v)
		}
		s.keep = func(j token.Journal) bool { return j.Ended.IsZero() == open }
	}
	return convert(p, s, describeOperation)
}

func (a *api) showOperation(c *call) (reply, error) {
	id := c.PathValue("id")
	j, err := a.Journals.Journal(c.Context(), id)
	if err != nil {
		return reply{}, missing(err, "there is no operation %s", id)
	}
	out, err := describeOperation(j)
	return reply{body: out, revision: j.Revision}, err
}
