package pcsc

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"inkan/apdu"
)

// Event is something that happened at a reader.
type Event struct {
	Kind   EventKind
	Reader string   // full name
	ATR    apdu.ATR // with CardInserted
}

// EventKind says what happened.
type EventKind int

// Kinds of events.
const (
	ReaderAdded EventKind = iota + 1
	ReaderRemoved
	CardInserted
	CardMute // a card was inserted and does not answer
	CardRemoved
)

// String names the kind.
func (k EventKind) String() string {
	switch k {
	case ReaderAdded:
		return "reader added"
	case ReaderRemoved:
		return "reader removed"
	case CardInserted:
		return "card inserted"
	case CardMute:
		return "card does not answer"
	case CardRemoved:
		return "card removed"
	}
	return "unknown event"
}

// Times of a watch.
const (
	watchRound = 2 * time.Second        // longest wait before the readers are listed again
	watchRetry = time.Second            // between attempts to reach a service that is gone
	watchPause = 200 * time.Millisecond // between rounds that end at once without news
	cancelStep = 50 * time.Millisecond  // between attempts to end a wait
)

// Watch reports readers and cards: first those that are there, then every change,
// until the context ends or the loop is left. A reader that goes takes its card
// with it (two events). A card exchanged faster than the service looks is reported
// as removed and inserted.
//
// An error is reported once when the service cannot be reached; everything that
// was there is then reported as removed, and the watch goes on as soon as the
// service is back. It has a PC/SC context of its own.
func (s *Service) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{sys: s.sys, yield: yield}
		w.run(ctx)
	}
}

// watch is one run over Watch.
type watch struct {
	sys   system
	yield func(Event, error) bool
	known []slot
	left  bool // the consumer has left the loop
}

func (w *watch) run(ctx context.Context) {
	reported := false
	for ctx.Err() == nil && !w.left {
		began := time.Now()
		err := w.session(ctx)
		if errors.Is(err, codeCommunication) { // no card is asked here: it is the service that was lost
			err = codeServiceStopped
		}
		if ctx.Err() != nil || w.left {
			return
		}
		w.update(nil) // whatever was there is gone
		if reported = reported && time.Since(began) < watchRound; !reported && !w.left {
			w.left = !w.yield(Event{}, explain("watching the readers", err))
			reported = true
		}
		_ = pause(ctx, watchRetry)
	}
}

// session watches through one PC/SC context until the service is lost.
func (w *watch) session(ctx context.Context) error {
	se, err := w.sys.establish()
	if err != nil {
		return err
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		cancelWhenDone(ctx, se, done)
	}()
	defer func() {
		close(done)
		<-stopped
		_ = se.release()
	}()
	for ctx.Err() == nil && !w.left {
		if err := w.round(ctx, se); err != nil {
			return err
		}
	}
	return nil
}

// cancelWhenDone ends the waiting of a session when the context ends. A cancel
// that comes before the wait has begun is lost, hence the repetition.
func cancelWhenDone(ctx context.Context, se session, done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	ticker := time.NewTicker(cancelStep)
	defer ticker.Stop()
	for {
		_ = se.cancel()
		select {
		case <-done:
			return
		case <-ticker.C:
		}
	}
}

// round lists the readers, waits for a change and reports it.
func (w *watch) round(ctx context.Context, se session) error {
	names, err := readerNames(se)
	if err != nil {
		return err
	}
	slots := make([]slot, 0, len(names)+1)
	for _, n := range names {
		i := slices.IndexFunc(w.known, func(k slot) bool { return k.name == n })
		if i < 0 {
			slots = append(slots, slot{name: n})
			continue
		}
		slots = append(slots, slot{name: n, current: w.known[i].event &^ flagChanged, atr: w.known[i].atr})
	}
	slots = append(slots, slot{name: notification, current: flags(len(names) << 16)})
	began := time.Now()
	err = se.statusChange(slots, watchRound)
	switch {
	case errors.Is(err, codeCancelled), errors.Is(err, codeUnknownReader): // ended, or a reader left: list again
		return nil
	case errors.Is(err, codeTimeout):
		// Readers that have gone since the last round are news even so.
		slots = slices.DeleteFunc(slots, func(s slot) bool { return s.event == 0 && s.current == 0 })
		for i := range slots {
			if slots[i].event == 0 {
				slots[i].event = slots[i].current
			}
		}
	case err != nil:
		return err
	}
	slots = slices.DeleteFunc(slots, func(s slot) bool { return s.name == notification || s.event&flagUnknown != 0 })
	if !w.update(slots) && time.Since(began) < watchPause {
		_ = pause(ctx, watchPause)
	}
	return nil
}

// update reports what differs between the known slots and those that are, and
// takes these for known.
func (w *watch) update(now []slot) (news bool) {
	events := changes(w.known, now)
	w.known = now
	for _, e := range events {
		if w.left || !w.yield(e, nil) {
			w.left = true
			return true
		}
	}
	return len(events) > 0
}

// changes are the events between two states of the readers.
func changes(before, now []slot) []Event {
	var out []Event
	for _, b := range before {
		if slices.ContainsFunc(now, func(n slot) bool { return n.name == b.name }) {
			continue
		}
		if b.event.hasCard() {
			out = append(out, Event{Kind: CardRemoved, Reader: b.name})
		}
		out = append(out, Event{Kind: ReaderRemoved, Reader: b.name})
	}
	for _, n := range now {
		i := slices.IndexFunc(before, func(b slot) bool { return b.name == n.name })
		if i < 0 {
			out = append(out, Event{Kind: ReaderAdded, Reader: n.name})
			out = append(out, inserted(n)...)
			continue
		}
		out = append(out, cardChange(before[i], n)...)
	}
	return out
}

func cardChange(before, now slot) []Event {
	same := before.event.count() == now.event.count() && before.event&flagMute == now.event&flagMute
	if before.event.hasCard() == now.event.hasCard() && (same || !now.event.hasCard()) {
		return nil
	}
	var out []Event
	if before.event.hasCard() {
		out = append(out, Event{Kind: CardRemoved, Reader: now.name})
	}
	return append(out, inserted(now)...)
}

func inserted(s slot) []Event {
	switch {
	case s.event&flagMute != 0:
		return []Event{{Kind: CardMute, Reader: s.name}}
	case s.event&flagPresent != 0:
		return []Event{{Kind: CardInserted, Reader: s.name, ATR: slices.Clone(s.atr)}}
	}
	return nil
}

func (f flags) hasCard() bool { return f&(flagPresent|flagMute) != 0 }
