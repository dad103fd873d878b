package apdutest

import (
	"context"
	"fmt"
	"sync"

	"inkan/apdu"
)

// When says on which side of the card's action a cut falls.
type When uint8

// Sides.
const (
	Before When = iota // the card never saw the command
	After              // the card acted, the answer is lost
)

// String is "before" or "after".
func (w When) String() string {
	if w == After {
		return "after"
	}
	return "before"
}

// CutCard is a Card that is pulled out of its reader at a given exchange.
type CutCard struct {
	card apdu.Card
	at   int
	when When

	mu  sync.Mutex
	ran int
	out bool
}

// Cut returns a card that fails its n-th exchange, counted from 1, before or after
// card acted, and everything afterwards, with apdu.ErrCardRemoved. With n = 0 it
// only counts. Lists reach the card one by one. What a real card loses when it is
// pulled out (selection, channels, logins) card loses at its next Reset.
func Cut(card apdu.Card, n int, when When) *CutCard {
	return &CutCard{card: card, at: n, when: when}
}

// Transmit implements apdu.Card.
func (c *CutCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out {
		return nil, apdu.ErrCardRemoved
	}
	c.ran++
	if c.ran != c.at {
		return c.card.Transmit(ctx, cmd)
	}
	c.out = true
	if c.when == Before {
		return nil, fmt.Errorf("exchange %d, before the card acted: %w", c.at, apdu.ErrCardRemoved)
	}
	if _, err := c.card.Transmit(ctx, cmd); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("exchange %d, after the card acted: %w", c.at, apdu.ErrCardRemoved)
}

// ATR is the card's, nil where it tells none.
func (c *CutCard) ATR() apdu.ATR { return atr(c.card) }

// Reset resets the card, unless it is out.
func (c *CutCard) Reset(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out {
		return apdu.ErrCardRemoved
	}
	return reset(ctx, c.card)
}

// Exchanges is the number of exchanges so far, the cut one included.
func (c *CutCard) Exchanges() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ran
}

// Happened reports whether the card is out.
func (c *CutCard) Happened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out
}
