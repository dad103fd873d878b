package tps

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"inkan/tps/ca"
)

// Sweep does what unfinished business needs no card: it settles operations whose
// cards are done, repeats revocations that an authority did not answer, and
// revokes certificates that stayed unconfirmed for OrphanAfter. Run it at start
// and every minute; it leaves cards alone that a session works on.
func (e *Engine) Sweep(ctx context.Context) error {
	return errors.Join(e.sweepJournals(ctx), e.sweepCertificates(ctx))
}

func (e *Engine) sweepJournals(ctx context.Context) error {
	js, err := e.Stores.Journals.OpenJournals(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, j := range js {
		if _, ok := settled(j); !ok {
			continue
		}
		errs = append(errs, e.unlocked(ctx, j.CUID, func() error {
			fresh, err := e.Stores.Journals.Journal(ctx, j.ID)
			if err != nil || !fresh.Ended.IsZero() {
				return err
			}
			return e.finish(ctx, fresh)
		}))
	}
	return errors.Join(errs...)
}

func (e *Engine) sweepCertificates(ctx context.Context) error {
	certs, err := e.Stores.Certificates.Unsettled(ctx, e.Now().Add(-e.OrphanAfter))
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range certs {
		reason := ca.Reason(c.Reason)
		if c.Pending == "" {
			reason = ca.ReasonCessationOfOperation
		}
		errs = append(errs, e.unlocked(ctx, c.CUID, func() error {
			fresh, err := e.Stores.Certificates.Certificate(ctx, c.ID)
			if err != nil || fresh.Revision != c.Revision { // a session has just seen to it
				return err
			}
			return e.revoke(ctx, fresh, reason)
		}))
	}
	return errors.Join(errs...)
}

// heartbeat is how often a node says that it is there; its locks are void after
// 30 s without (design.md §3).
const heartbeat = 5 * time.Second

// Tend heartbeats and sweeps until ctx ends: the node's housekeeping. A sweep that
// takes long, because an authority does not answer, does not hold up the heartbeat.
func (e *Engine) Tend(ctx context.Context, every time.Duration) {
	var both sync.WaitGroup
	both.Go(func() {
		repeat(ctx, heartbeat, func() {
			e.freeOwed(ctx)
			if err := e.Stores.Locks.Heartbeat(ctx, e.Node, e.Boot, e.Now()); err != nil {
				e.Log.WarnContext(ctx, "heartbeat", slog.Any("err", err))
			}
		})
	})
	both.Go(func() {
		repeat(ctx, every, func() {
			if err := e.Sweep(ctx); err != nil {
				e.Log.WarnContext(ctx, "sweeping", slog.Any("err", err))
			}
		})
	})
	both.Wait()
}

// repeat runs do at once and then every so often until ctx ends.
func repeat(ctx context.Context, every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
