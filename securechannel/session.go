package securechannel

import (
	"context"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/scp02"
)

// Session is an open secure channel as the host sees it: a Doer and Batcher
// around the Doer it was opened on. Commands are wrapped and answers unwrapped
// at the channel's level; their class is given plain or with the secure
// messaging bit, which makes no difference.
//
// A Session ends when the card refuses its secure messaging (6982, 6987, 6988),
// when an answer does not verify, or when it is unknown whether the card ran a
// command; every later call then returns [ErrAborted]. It also ends for the card
// at the next SELECT, which the Session does not notice. An application's error
// status ends nothing.
//
// A Session serialises its callers. Close it to wipe the session keys; the inner
// Doer stays open.
type Session struct {
	inner apdu.Doer
	info  InitUpdate
	level Level
	noLe  bool          // the card takes none after a C-MAC
	turn  chan struct{} // holds one token while a caller is at work

	// Guarded by turn.
	keys      SessionKeys
	proof     *apdu.Command // EXTERNAL AUTHENTICATE, until it is sent
	sm        messaging     // nil: aborted or closed
	chain     chain
	responses scp02.Chain
}

var (
	_ apdu.Doer    = (*Session)(nil)
	_ apdu.Batcher = (*Session)(nil)
)

// Info is what the card answered to INITIALIZE UPDATE.
func (s *Session) Info() InitUpdate { return s.info }

// Level is the channel's security level.
func (s *Session) Level() Level { return s.level }

// MaxData is the largest number of plain data bytes of a command that still
// fits a short command when wrapped. Longer ones are sent in extended length, which
// SCP01 does not have: there they are apdu.ErrUnsupported.
func (s *Session) MaxData() int {
	return MaxCommandData(s.info.Protocol, s.info.Option, s.level)
}

// Together is how many commands travel in one go, see apdu.Together.
func (s *Session) Together() int { return apdu.Together(s.inner) }

// Close wipes the session keys. The card is told nothing.
func (s *Session) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.end()
	return nil
}

// end makes the session unusable.
func (s *Session) end() {
	s.sm, s.proof = nil, nil
	s.keys.Wipe()
}

// Do implements apdu.Doer.
func (s *Session) Do(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	rs, err := s.DoAll(ctx, []apdu.Entry{{Command: cmd}})
	if err != nil {
		return apdu.Response{}, err
	}
	return rs[0], nil
}

// DoAll implements apdu.Batcher: all commands are wrapped before the first is
// sent. Entries with apdu.Plain pass unwrapped and do not touch the channel.
// After an early end the session goes on behind the last command that ran. An
// entry answered 6Cxx is wrapped and sent once more, unless it has apdu.Anyway.
// With an error come the answers received before it.
func (s *Session) DoAll(ctx context.Context, es []apdu.Entry) ([]apdu.Response, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.turn }()
	var answers []apdu.Response
	repeated := -1
	for len(answers) < len(es) {
		part, err := s.run(ctx, es[len(answers):])
		answers = append(answers, part...)
		if err != nil {
			return answers, err
		}
		last := len(answers) - 1
		e, r := es[last], answers[last]
		if r.SW == apdu.SWSuccess || e.Mode&apdu.Anyway != 0 {
			continue
		}
		if !s.wrongLe(e, r) || repeated == last {
			break
		}
		es = withNe(es, last, r.SW)
		answers, repeated = answers[:last], last
	}
	return answers, nil
}

// enter waits for the caller's turn.
func (s *Session) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.sm == nil {
		<-s.turn
		return ErrAborted
	}
	return nil
}

// wrongLe reports whether a wrapped command was answered 6Cxx: not executed, but
// its C-MAC is used up, so that only this layer can repeat it.
func (s *Session) wrongLe(e apdu.Entry, r apdu.Response) bool {
	return r.SW.SW1() == 0x6C && e.Mode&apdu.Plain == 0 && s.sm != nil && s.level&CMAC != 0
}

// withNe is es with another Ne in entry i, the one that status 6Cxx names.
func withNe(es []apdu.Entry, i int, sw apdu.StatusWord) []apdu.Entry {
	es = append([]apdu.Entry(nil), es...)
	es[i].Ne = int(sw.SW2())
	if es[i].Ne == 0 {
		es[i].Ne = apdu.MaxShortNe
	}
	return es
}

// run wraps a list, sends it and unwraps what comes back.
func (s *Session) run(ctx context.Context, es []apdu.Entry) ([]apdu.Response, error) {
	sent, exchanges, err := s.wrap(es)
	if err != nil {
		return nil, err
	}
	raw, err := s.send(ctx, sent)
	if err == nil && (len(raw) == 0 || len(raw) > len(es)) {
		err = fmt.Errorf("list of %d commands: %d answers", len(es), len(raw))
	}
	raw = raw[:min(len(raw), len(es))]
	answers := make([]apdu.Response, 0, len(raw))
	aborted := false
	for i, r := range raw {
		x := exchanges[i]
		if x == nil {
			answers = append(answers, r)
			continue
		}
		x.responses = s.responses
		out, responses, uerr := s.sm.unwrapResponse(*x, r)
		if uerr != nil {
			s.end()
			return answers, fmt.Errorf("%w: %w", ErrAborted, uerr)
		}
		s.chain, s.responses = x.after, responses
		answers = append(answers, out)
		aborted = aborted || s.level&CMAC != 0 && refusesMessaging(r.SW)
	}
	if aborted || err != nil && wrappedFrom(exchanges, len(raw)) {
		s.end()
	}
	return answers, err
}

// wrap gives every entry of a list but the plain ones its secure messaging. The
// exchange of a plain entry is nil. The session is not changed.
func (s *Session) wrap(es []apdu.Entry) ([]apdu.Entry, []*exchange, error) {
	sent := make([]apdu.Entry, len(es))
	exchanges := make([]*exchange, len(es))
	c := s.chain
	for i, e := range es {
		if e.Mode&apdu.Plain != 0 {
			sent[i] = e
			continue
		}
		wrapped, next, err := s.sm.wrap(c, e.Command)
		if err != nil {
			return nil, nil, fmt.Errorf("command %d of a list of %d: %w", i+1, len(es), err)
		}
		wrapped.Ne = s.ne(e.Ne)
		sent[i] = apdu.Entry{Command: wrapped, Mode: e.Mode & apdu.Anyway}
		exchanges[i] = &exchange{plain: e.Command, after: next}
		c = next
	}
	return sent, exchanges, nil
}

// ne is the Ne to send: with secure messaging the answer's length is not the
// caller's to know, and a 6Cxx would cost a C-MAC. With R-MAC every answer has
// data.
func (s *Session) ne(plain int) int {
	switch {
	case s.noLe && s.level&CMAC != 0:
		return 0
	case s.level == LevelAuthenticated || plain == 0 && s.level&RMAC == 0:
		return plain
	case plain <= apdu.MaxShortNe:
		return apdu.MaxShortNe
	}
	return apdu.MaxExtendedNe
}

// wrappedFrom reports whether a command from index i on was wrapped: after a
// transport error it may have run.
func wrappedFrom(exchanges []*exchange, i int) bool {
	for _, x := range exchanges[min(i, len(exchanges)):] {
		if x != nil {
			return true
		}
	}
	return false
}

// refusesMessaging reports a status with which cards refuse secure messaging;
// 6987 and 6988 are those of ISO 7816-4, some cards use them for 6982.
func refusesMessaging(sw apdu.StatusWord) bool {
	return sw == apdu.SWSecurityStatus || sw == apdu.SWSMExpected || sw == apdu.SWSMIncorrect
}
