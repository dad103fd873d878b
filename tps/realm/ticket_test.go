package realm_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// TestTicket: a ticket is good once, for its person without roles, operation and card,
// for a quarter of an hour, and no other token passes for one.
func TestTicket(t *testing.T) {
	t.Parallel()
	n, l := loggedIn(t)
	ctx := t.Context()
	tickets := realm.NewTickets(n.Realm, n.db, n.db)
	card, other := apdu.CUID{1}, apdu.CUID{2}
	issue := func() string {
		text, expires, err := tickets.Issue(ctx, realm.Ticket{Person: "ada", Operation: "pin-reset", CUID: card, By: "olga"})
		must(t, err)
		if d := expires.Sub(n.clock.now()); d > 15*time.Minute || d < 14*time.Minute {
			t.Errorf("good for %s", d)
		}
		return text
	}
	text := issue()
	_, _, err := tickets.Redeem(ctx, text, "enroll", card)
	refused(t, "another operation", err, realm.ErrToken)
	_, _, err = tickets.Redeem(ctx, text, "pin-reset", other)
	refused(t, "another card", err, realm.ErrToken)
	p, by, err := tickets.Redeem(ctx, text, "pin-reset", card)
	if err != nil || p.ID != "ada" || p.Is(auth.Agent) || by != "olga" {
		t.Fatalf("%+v by %s, %v", p, by, err)
	}
	_, _, err = tickets.Redeem(ctx, text, "pin-reset", card)
	refused(t, "used before", err, realm.ErrToken)
	late := issue()
	n.clock.add(15*time.Minute + time.Second)
	_, _, err = tickets.Redeem(ctx, late, "pin-reset", card)
	refused(t, "too late", err, realm.ErrToken)

	g, err := l.Login(ctx, "ada", "")
	must(t, err)
	_, _, err = tickets.Redeem(ctx, g.Access, "pin-reset", card)
	refused(t, "an access token", err, realm.ErrToken)
	_, err = l.Person(ctx, issue(), realm.Connection{})
	refused(t, "a ticket as an access token", err, realm.ErrToken)
	if kidOf(t, g.Access) == kidOf(t, issue()) {
		t.Error("one key signs logins and tickets")
	}
	_, _, err = tickets.Issue(ctx, realm.Ticket{Person: "nobody", Operation: "pin-reset", CUID: card})
	refused(t, "for nobody", err, token.ErrNotFound)
	_, _, err = tickets.Issue(ctx, realm.Ticket{Person: "ada", CUID: card})
	refused(t, "for nothing", err, realm.ErrInput)
	gone := issue()
	must(t, n.db.DeleteUser(ctx, "ada"))
	_, _, err = tickets.Redeem(ctx, gone, "pin-reset", card)
	refused(t, "of somebody who is gone", err, realm.ErrToken)
}

// TestTicketRace: of many who present a ticket at once, on several nodes, one is let in.
func TestTicketRace(t *testing.T) {
	t.Parallel()
	n, _ := loggedIn(t)
	text, _, err := realm.NewTickets(n.Realm, n.db, n.db).Issue(t.Context(), realm.Ticket{Person: "ada", Operation: "enroll", CUID: apdu.CUID{1}})
	must(t, err)
	var in atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		tickets := realm.NewTickets(n.another(t), n.db, n.db)
		all.Go(func() {
			if _, _, err := tickets.Redeem(t.Context(), text, "enroll", apdu.CUID{1}); err == nil {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if in.Load() != 1 {
		t.Errorf("%d were let in", in.Load())
	}
}
