package api

import (
	"inkan/tps/token"
)

// Activity is what happened to a card: Dogtag's ActivityData
// (tps-rest-api.md §3.4) with profile and reference besides.
type Activity struct {
	ID        string `json:"id"`
	TokenID   string `json:"TokenID,omitempty"` // empty: the card was never identified
	UserID    string `json:"UserID,omitempty"`
	IP        string `json:"IP,omitempty"`
	Operation string `json:"Operation"`
	Result    string `json:"Result"` // success, failure
	Message   string `json:"Message"`
	Type      string `json:"Type,omitempty"`      // profile
	Reference string `json:"Reference,omitempty"` // journal and audit id of the same operation
	Date      Millis `json:"Date"`
}

func describeActivity(a token.Activity) (Activity, error) {
	out := Activity{ID: a.ID, UserID: string(a.UserID), IP: a.IP, Operation: a.Operation, Result: "failure", Message: a.Message,
		Type: string(a.Profile), Reference: a.Reference, Date: millis(a.Time)}
	if a.Success {
		out.Result = "success"
	}
	if !a.CUID.IsZero() {
		out.TokenID = a.CUID.String()
	}
	return out, nil
}

func (a *api) listActivities(c *call) (reply, error) {
	p, err := c.page()
	if err != nil {
		return reply{}, err
	}
	f, err := c.filter()
	if err != nil {
		return reply{}, err
	}
	f.Operation = c.param("operation")
	return convert(p, source[token.Activity]{
		read: func(after string, limit int) ([]token.Activity, error) {
			f.After, f.Limit = after, limit
			return a.Activities.Activities(c.Context(), f)
		},
		id: func(r token.Activity) string { return r.ID },
	}, describeActivity)
}

func (a *api) showActivity(c *call) (reply, error) {
	r, err := a.Activities.Activity(c.Context(), c.PathValue("id"))
	if err != nil {
		return reply{}, missing(err, "there is no activity %s", c.PathValue("id"))
	}
	out, err := describeActivity(r)
	return reply{body: out}, err
}
