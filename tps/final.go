package tps

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// A refusal in the middle of an operation that the same request would meet again is not
// left to be finished, as a cut is: that would go on with the profile revision that led
// there, whatever was mended since. The operation is rolled back at once, and the next
// request begins anew, with the profile as it is then.

// finalError is a refusal that doing the same again does not change.
type finalError struct{ error }

// Unwrap returns the refusal.
func (e finalError) Unwrap() error { return e.error }

// Final marks a refusal that the same step would meet again: what has to change is the
// profile, the card or the person's record. Whoever is not sure returns the error as it is.
func Final(err error) error {
	if err == nil {
		return nil
	}
	return finalError{err}
}

// FinalIf is Final where err is one of causes: what a card answered, or what a family or
// the key service says of it. Every other error stays as it is.
func FinalIf(err error, causes ...error) error {
	if slices.ContainsFunc(causes, func(cause error) bool { return errors.Is(err, cause) }) {
		return Final(err)
	}
	return err
}

// isFinal reports a refusal of a family or of an authority that is for good.
func isFinal(err error) bool {
	var f finalError
	return errors.As(err, &f) || errors.Is(err, ca.ErrRefused)
}

// withdrawable reports whether nothing of an operation has to stay: neither records of a
// card that is done nor what a renewal wrote, whose keys are the ones before.
func withdrawable(j token.Journal) bool {
	_, done := settled(j)
	return j.ID != "" && !done && (Operation(j.Operation) != OpRenew || !historyOf(&j).begun(StepWrite))
}

// withdraw rolls the operation back where err, which ended it, is final. What cannot be
// rolled back now stays open, and is refused and rolled back when it is asked for again.
func (r *run) withdraw(ctx context.Context, err error) error {
	if err == nil || !isFinal(err) || !withdrawable(r.journal) {
		return err
	}
	prepared := historyOf(&r.journal).done(StepPrepare)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.e.OperationTimeout)
	defer cancel()
	r.keepFailure(ctx, err)
	if rerr := r.e.rollBack(ctx, r.journal, r.facts.appletAfter(prepared)); rerr != nil {
		r.e.Log.WarnContext(ctx, "rolling back what was refused", slog.String("cuid", r.card.CUID.String()), slog.Any("err", rerr))
		return err
	}
	r.journal.Ended, r.behind = r.e.Now(), false
	var e *Error
	if errors.As(err, &e) {
		e.Err = fmt.Errorf("%w; what was begun has been rolled back: once the cause is mended the same begins anew", e.Err)
	}
	return err
}
