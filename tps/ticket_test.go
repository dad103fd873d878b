package tps_test

import (
	"context"
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps"
	"inkan/tps/auth"
)

// ticketFor takes one ticket, and tells what it was asked.
type ticketFor struct {
	text string
	op   tps.Operation
	cuid apdu.CUID
}

func (f *ticketFor) Redeem(_ context.Context, ticket secret.Secret, op tps.Operation, cuid apdu.CUID) (auth.Person, string, error) {
	f.op, f.cuid = op, cuid
	if string(ticket.Bytes()) != f.text {
		return auth.Person{}, "", tps.ErrTicket
	}
	return auth.Person{ID: "ada"}, "olga", nil
}

// bearer is a person with a ticket.
type bearer struct {
	*client
	ticket string
	forms  []auth.Form
}

func (h *bearer) Login(_ context.Context, f auth.Form) (auth.Answers, error) {
	h.forms = append(h.forms, f)
	return auth.Answers{tps.FieldTicket: secret.New([]byte(h.ticket))}, nil
}

// TestTicket: a ticket stands in for the login of an enrollment, a renewal and a PIN reset, is asked
// for once and alone, and lets nobody into anything else.
func TestTicket(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	box := &ticketFor{text: "good"}
	s.adjust = func(c *tps.Config) { c.Tickets = box }
	run := func(op tps.Operation, ticket string) (*bearer, error) {
		h := &bearer{client: &client{Card: card, pins: []string{"7351924"}}, ticket: ticket}
		return h, s.engine().Run(t.Context(), tps.Request{Operation: op, Ticket: true, Client: "192.0.2.1"}, h)
	}
	h, err := run(tps.OpPINReset, "good")
	must(t, err)
	if len(h.forms) != 1 || len(h.forms[0].Fields) != 1 || !h.forms[0].Fields[0].Secret || box.op != tps.OpPINReset || box.cuid.IsZero() {
		t.Errorf("asked %+v for %s on %s", h.forms, box.op, box.cuid)
	}
	_, err = run(tps.OpRenew, "good")
	must(t, err)
	h, err = run(tps.OpPINReset, "bad")
	wantStatus(t, err, tps.StatusLogin)
	if !errors.Is(err, tps.ErrTicket) || len(h.forms) != 1 {
		t.Errorf("asked %d times: %v", len(h.forms), err)
	}
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpKeyChangeover} {
		h, err = run(op, "good")
		wantStatus(t, err, tps.StatusLogin)
		if len(h.forms) != 0 {
			t.Errorf("%s asked for a ticket", op)
		}
	}
	s.adjust = nil
	_, err = run(tps.OpPINReset, "good")
	wantStatus(t, err, tps.StatusLogin)
}
