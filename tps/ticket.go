package tps

import (
	"context"
	"errors"
	"slices"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/audit"
	"inkan/tps/auth"
)

// Tickets stand in for a login: each is for one person, operation and card, and good
// once.
type Tickets interface {
	// Redeem uses a ticket up and returns its person, without roles, and who issued it;
	// [ErrTicket] where it is none, or not for this.
	Redeem(ctx context.Context, ticket secret.Secret, op Operation, cuid apdu.CUID) (p auth.Person, by string, err error)
}

// ErrTicket means that a ticket is not accepted: another one has to be issued.
var ErrTicket = errors.New("the ticket is not accepted")

// TicketOperations are those in which a ticket stands in for a login.
func TicketOperations() []Operation { return []Operation{OpEnroll, OpRenew, OpPINReset} }

// FieldTicket is the one field of the form that asks for a ticket.
const FieldTicket = "TICKET"

// takeTicket asks for a ticket, once: it does not become right by being typed again.
func (r *run) takeTicket(ctx context.Context) error {
	if r.dry != nil {
		return refuse(StatusLogin, "a ticket is good once, and a dry run takes none: log in")
	}
	if r.e.Tickets == nil || !slices.Contains(TicketOperations(), r.req.Operation) {
		return refuse(StatusLogin, "%s takes no tickets: log in", r.req.Operation)
	}
	answers, err := r.cl.Login(ctx, auth.Form{Title: "Ticket", Description: "Enter the ticket that you were given for this card.",
		Fields: []auth.Field{{ID: FieldTicket, Name: "Ticket", Description: "Good once, for 15 minutes", Secret: true}}})
	if err != nil {
		return within(StatusLogin, StepAuthenticate, err)
	}
	defer answers.Wipe()
	p, by, err := r.e.Tickets.Redeem(ctx, answers[FieldTicket], r.req.Operation, r.card.CUID)
	if err != nil {
		aerr := r.audit(ctx, "TOKEN_AUTH", audit.Failure, map[string]string{"authenticator": "ticket", "info": err.Error()})
		return errors.Join(within(StatusLogin, StepAuthenticate, err), aerr)
	}
	r.person = p
	return r.audit(ctx, "TOKEN_AUTH", audit.Success, map[string]string{"authenticator": "ticket", "issued_by": by})
}
