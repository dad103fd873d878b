package api

import (
	"context"
	"log/slog"

	"inkan/tps/token"
)

// modifyToken gives a card another policy (tps-operations.md §14). It is stored in its
// canonical text; the empty one gives the card the default again.
func (a *api) modifyToken(c *call) (reply, error) {
	var in struct {
		Policy *string `json:"Policy"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	t, err := a.token(c)
	if err != nil {
		return reply{}, err
	}
	if err := c.matches(t.Revision); err != nil {
		return reply{}, err
	}
	if in.Policy == nil {
		return reply{}, badRequest("Policy is all of a card's record that can be changed, and it is not there")
	}
	was := t.Policy
	if t.Policy = *in.Policy; t.Policy != "" {
		p, err := token.ParsePolicy(t.Policy)
		if err != nil {
			return reply{}, badRequest("%v", err)
		}
		t.Policy = p.String()
	}
	c.event.CUID = t.CUID.String()
	if err := a.intend(c, map[string]string{"op": "modify", "from": was, "policy": t.Policy}); err != nil {
		return reply{}, err
	}
	next, err := a.Tokens.ReplaceToken(c.Context(), t)
	a.noteModified(c, token.Activity{CUID: t.CUID, Profile: t.Profile}, policyText(t.Policy), err)
	if err != nil {
		return reply{}, err
	}
	out, err := a.describeToken(c, next)
	return reply{body: out, revision: next.Revision}, err
}

// policyText says in an activity what a card's policy is now.
func policyText(policy string) string {
	if policy == "" {
		return "policy: the default"
	}
	return "policy: " + policy
}

// noteModified leaves an activity on a card whose record somebody changed: text, or why
// it could not be.
func (a *api) noteModified(c *call, about token.Activity, text string, err error) {
	about.UserID, about.IP, about.Operation = token.UserID(c.who.Name), c.who.Address, "token_modify"
	about.Success, about.Message = err == nil, text
	if err != nil {
		about.Message = err.Error()
	}
	if aerr := a.Activities.AddActivity(context.WithoutCancel(c.Context()), about); aerr != nil {
		a.Log.ErrorContext(c.Context(), "writing the activity", slog.String("cuid", about.CUID.String()), slog.Any("err", aerr))
	}
}
