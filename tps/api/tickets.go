package api

import (
	"net/http"
	"slices"

	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// NewTicket is the body of POST tickets.
type NewTicket struct {
	TokenID   string `json:"TokenID"`          // CUID of the card
	UserID    string `json:"UserID,omitempty"` // default: who asks
	Operation string `json:"Operation"`        // enroll, renew, pin-reset
}

// Ticket is the answer but for its secret "ticket".
type Ticket struct {
	NewTicket
	Expires Millis `json:"Expires"`
}

// issueTicket makes a ticket: anybody logged in for themselves, agents for anybody.
func (a *api) issueTicket(c *call) (reply, error) {
	var in NewTicket
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if in.UserID == "" {
		in.UserID = c.who.Name
	}
	if in.UserID != c.who.Name && !c.who.is(auth.Agent) {
		return reply{}, refuse(http.StatusForbidden, "a ticket for somebody else needs the role %s", auth.Agent)
	}
	cuid, err := parseCUID(in.TokenID)
	if err != nil {
		return reply{}, err
	}
	if all := tps.TicketOperations(); !slices.Contains(all, tps.Operation(in.Operation)) {
		return reply{}, badRequest("Operation %q is none of %v", in.Operation, all)
	}
	if _, err := a.Users.User(c.Context(), token.UserID(in.UserID)); err != nil {
		return reply{}, missing(err, "there is no user %s", in.UserID)
	}
	c.event.CUID = cuid.String()
	if err := a.intend(c, map[string]string{"op": "issue", "user": in.UserID, "operation": in.Operation}); err != nil {
		return reply{}, err
	}
	text, expires, err := a.Tickets.Issue(c.Context(), realm.Ticket{Person: token.UserID(in.UserID), Operation: in.Operation, CUID: cuid, By: c.who.Name})
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: struct {
		Ticket
		Text string `json:"ticket"`
	}{Ticket{in, millis(expires)}, text}}, nil
}
