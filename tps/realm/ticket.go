package realm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// TicketLife is how long a ticket is good.
const TicketLife = 15 * time.Minute

// Ticket is what a card client may do once for a person, without their password.
type Ticket struct {
	Person    token.UserID
	Operation string // of package tps
	CUID      apdu.CUID
	By        string // who issued it
}

// Spent remembers what is good once.
type Spent interface {
	// Spend notes that a token was used; token.ErrConflict where it was before.
	Spend(ctx context.Context, id string, expires time.Time) error
}

// Tickets issues and takes tickets. It is safe for concurrent use.
type Tickets struct {
	realm  *Realm
	spent  Spent
	people People
}

// NewTickets returns the tickets of a realm.
func NewTickets(r *Realm, s Spent, p People) *Tickets { return &Tickets{realm: r, spent: s, people: p} }

type ticketClaims struct {
	Claims
	Operation string    `json:"op"`
	CUID      apdu.CUID `json:"cuid"`
	By        string    `json:"act"`
}

// Issue makes a ticket for a person who is known. Whoever issues it audits that.
func (t *Tickets) Issue(ctx context.Context, n Ticket) (text string, expires time.Time, err error) {
	if n.Operation == "" || n.CUID.IsZero() {
		return "", time.Time{}, fmt.Errorf("a ticket is for one operation on one card: %w", ErrInput)
	}
	if _, err := t.people.User(ctx, n.Person); err != nil {
		return "", time.Time{}, fmt.Errorf("reading user %s: %w", n.Person, err)
	}
	c := &ticketClaims{Claims: Claims{Subject: string(n.Person), Audience: t.realm.cfg.Issuer, ID: rand.Text()}, Operation: n.Operation, CUID: n.CUID, By: n.By}
	text, err = t.realm.Sign(ctx, ticketType, TicketLife, c)
	return text, time.Unix(c.Expires, 0), err
}

// Redeem takes a ticket for an operation on a card, and is who it was issued for:
// without the roles, as a ticket is about their own card. From then on it is used,
// whatever becomes of the operation. Errors wrap [ErrToken] where the ticket is to
// blame.
func (t *Tickets) Redeem(ctx context.Context, text, operation string, cuid apdu.CUID) (auth.Person, string, error) {
	var c ticketClaims
	if err := t.realm.Verify(ctx, text, ticketType, &c); err != nil {
		return auth.Person{}, "", err
	}
	switch {
	case c.Audience != t.realm.cfg.Issuer || c.Subject == "" || c.ID == "":
		return auth.Person{}, "", fmt.Errorf("a ticket for another service: %w", ErrToken)
	case c.CUID != cuid:
		return auth.Person{}, "", fmt.Errorf("a ticket for the card %s: %w", c.CUID, ErrToken)
	case c.Operation != operation:
		return auth.Person{}, "", fmt.Errorf("a ticket for %s: %w", c.Operation, ErrToken)
	}
	u, err := t.people.User(ctx, token.UserID(c.Subject))
	if errors.Is(err, token.ErrNotFound) {
		return auth.Person{}, "", fmt.Errorf("a ticket of somebody who is not known any more: %w", ErrToken)
	}
	if err != nil {
		return auth.Person{}, "", err
	}
	if err := t.realm.spend(ctx, t.spent, c.Claims); err != nil {
		return auth.Person{}, "", err
	}
	p := u.Person()
	p.Roles = nil
	return p, c.By, nil
}

// spend uses a token up.
func (r *Realm) spend(ctx context.Context, s Spent, c Claims) error {
	err := s.Spend(ctx, c.ID, time.Unix(c.Expires, 0))
	if errors.Is(err, token.ErrConflict) {
		return fmt.Errorf("used before: %w", ErrToken)
	}
	return err
}
