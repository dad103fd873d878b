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
	a.notePolicy(c, t, err)
	if err != nil {
		return reply{}, err
	}
	out, err := a.describeToken(c, next)
	return reply{body: out, revision: next.Revision}, err
}

// notePolicy leaves an activity on the card.
func (a *api) notePolicy(c *call, t token.Token, err error) {
	text := "policy: " + t.Policy
	switch {
	case err != nil:
		text = err.Error()
	case t.Policy == "":
		text = "policy: the default"
	}
	aerr := a.Activities.AddActivity(context.WithoutCancel(c.Context()), token.Activity{
		CUID: t.CUID, UserID: token.UserID(c.who.Name), IP: c.who.Address, Operation: "token_modify", Success: err == nil, Message: text, Profile: t.Profile,
	})
	if aerr != nil {
		a.Log.ErrorContext(c.Context(), "writing the activity", slog.String("cuid", t.CUID.String()), slog.Any("err", aerr))
	}
}
