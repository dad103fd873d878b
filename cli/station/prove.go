package station

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/wire"
)

// ErrOtherCard means that the card is not the one that was there before.
var ErrOtherCard = errors.New("another card is in the reader")

// Programs that a card was used by.
const (
	byInkan = "inkan"
	byPIVGo = "piv-go"
)

// Prove uses a card as [Use] does, and a PIV card in a PC/SC reader once more with
// piv-go, the client of somebody else, where this build has it. That one takes the
// card for itself, so Prove opens the card and has let go of it by then. Roots may be nil.
func Prove(ctx context.Context, s Source, pin secret.PIN, roots *x509.CertPool) ([]Used, error) {
	return prove(ctx, s, func(card Card) ([]Used, error) { return Use(ctx, card, pin, roots) }, pin)
}

// ProveEnrolled is [Prove] for a card that was enrolled a moment ago, by the PIN that
// was chosen then: a PIV card has to do what its certificates promise. Nothing is
// done with other cards. The card has to be the one with this number.
func ProveEnrolled(ctx context.Context, s Source, cuid string, pin secret.PIN) ([]Used, error) {
	used, err := prove(ctx, s, func(card Card) ([]Used, error) {
		now, err := CUID(ctx, card)
		if err != nil {
			return nil, err
		}
		if now != cuid {
			return nil, ErrOtherCard
		}
		return usePIV(ctx, apdu.NewConn(card), pin, nil)
	}, pin)
	if err != nil {
		err = &NotProvedError{err}
	}
	return used, err
}

// NotProvedError is an enrolled card that does not do what it should.
type NotProvedError struct{ Err error }

// Error implements error.
func (e *NotProvedError) Error() string {
	return fmt.Sprintf("the card is enrolled, but did not prove itself: %v. Try inkan card test; if that fails too, enroll the card again", e.Err)
}

// Unwrap returns the cause.
func (e *NotProvedError) Unwrap() error { return e.Err }

func prove(ctx context.Context, s Source, use func(Card) ([]Used, error), pin secret.PIN) ([]Used, error) {
	card, err := OpenCard(ctx, s)
	if err != nil {
		return nil, err
	}
	used, err := use(card)
	if err := errors.Join(err, card.Close()); err != nil {
		return used, err
	}
	r, ok := card.(inReader)
	if !ok {
		return used, nil
	}
	more, err := usePIVGo(ctx, r.Reader(), pin, used)
	return append(used, more...), err
}

// Witness is a prompter that keeps the last PIN that the person chose, so that the
// card can be proved by it. The caller wipes it.
type Witness struct {
	wire.Prompter
	PIN secret.PIN // zero where none was asked for
}

// NewPIN implements wire.Prompter.
func (w *Witness) NewPIN(ctx context.Context, min, max int) (secret.PIN, error) {
	pin, err := w.Prompter.NewPIN(ctx, min, max)
	w.PIN.Wipe()
	w.PIN = secret.PIN{}
	if err == nil {
		w.PIN = secret.PIN{Secret: pin.Clone()}
	}
	return pin, err
}
