package wire

import (
	"context"
	"fmt"
	"strconv"

	"inkan/apdu"
)

// batchSize is the N of pduBatch=N; 0 where the client offers no batches. A
// number above the limit is the limit, anything else is no offer.
func (m BeginOp) batchSize() int {
	n, err := strconv.Atoi(m.Extensions.Get(ExtPDUBatch))
	if err != nil || n < 1 {
		return 0
	}
	return min(n, MaxBatchFrames)
}

// Batching is a [Session] whose client takes batches: an apdu.FrameTransmitter.
// Progress rides with the next commands instead of costing a round trip.
type Batching struct {
	*Session
	max     int
	pending *StatusUpdateRequest // not told yet; guarded by Session.mu
}

var (
	_ apdu.Card             = (*Batching)(nil)
	_ apdu.FrameTransmitter = (*Batching)(nil)
)

// Batching returns the session with batches, nil where the client did not offer
// them (design.md §4). Use the one or the other, not both.
func (s *Session) Batching() *Batching {
	if n := s.begin.batchSize(); n > 0 {
		return &Batching{Session: s, max: n}
	}
	return nil
}

// MaxFrames is how many commands travel in one message at most.
func (b *Batching) MaxFrames() int { return b.max }

// Progress is [Session.Progress] that costs no round trip: it is told with the
// next commands to the card. What follows the last of them is not told, END_OP
// says the rest.
func (b *Batching) Progress(_ context.Context, percent int, task string) error {
	if !b.begin.Extensions.IsTrue(ExtStatusUpdate) {
		return nil
	}
	percent = b.clip(percent)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = &StatusUpdateRequest{Percent: percent, Task: task}
	return nil
}

// takeProgress returns what is not told yet, if there is something.
func (b *Batching) takeProgress() *StatusUpdateRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pending
	b.pending = nil
	return p
}

// Transmit is [Session.Transmit]; an APDU that is too long for other clients'
// buffers travels as a batch of one.
func (b *Batching) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	answers, err := b.piece(ctx, []apdu.Frame{{Cmd: cmd, Anyway: true}})
	if err != nil {
		return nil, err
	}
	return answers[0], nil
}

// TransmitAll implements apdu.FrameTransmitter, in as many messages as the limits
// of a batch demand. Once a message is sent its answer is awaited whatever ctx
// does. With an error come the answers received before it; the commands of the
// message that has no answer may have run, all or some of them.
func (b *Batching) TransmitAll(ctx context.Context, frames []apdu.Frame) ([][]byte, error) {
	var all [][]byte
	for len(all) < len(frames) {
		rest := frames[len(all):]
		rest = rest[:b.fitting(rest)]
		answers, err := b.piece(ctx, rest)
		all = append(all, answers...)
		if err != nil || len(answers) < len(rest) || stopsBatch(rest[len(rest)-1], answers[len(answers)-1]) {
			return all, err
		}
	}
	return all, nil
}

// fitting is how many of frames one message takes, at least one: the commands, and
// the answers they ask for, stay below the limits.
func (b *Batching) fitting(frames []apdu.Frame) int {
	commands, answers := 0, 0
	for i, f := range frames {
		commands += 3 + len(f.Cmd)
		answers += 2 + expected(f.Cmd)
		if i > 0 && (i == b.max || commands > batchRoom || answers > batchRoom) {
			return i
		}
	}
	return len(frames)
}

// expected is how long the answer to a command may be, in bytes. A command that
// names no Le may still be answered, with 61xx.
func expected(cmd []byte) int {
	c, err := apdu.ParseCommand(cmd)
	if err != nil {
		return apdu.MaxShortNe + 2
	}
	return max(c.Ne, apdu.MaxShortNe) + 2
}

// stopsBatch reports whether an answer ends the batch behind f.
func stopsBatch(f apdu.Frame, answer []byte) bool {
	return !f.Anyway && (answer[len(answer)-2] != 0x90 || answer[len(answer)-1] != 0)
}

// piece runs one message's commands.
func (b *Batching) piece(ctx context.Context, frames []apdu.Frame) ([][]byte, error) {
	for _, f := range frames {
		if err := b.mayTransmit(f.Cmd); err != nil {
			return nil, err
		}
	}
	req := TokenPDUBatchRequest{Frames: frames, Progress: b.takeProgress()}
	m, err := b.exchange(ctx, req, TypeTokenPDUBatchResponse)
	if err != nil {
		return nil, fmt.Errorf("sending %d APDUs to the client: %w", len(frames), err)
	}
	answers := m.(TokenPDUBatchResponse).APDUs
	if err := checkAnswers(frames, answers); err != nil {
		return nil, fmt.Errorf("sending %d APDUs to the client: %w", len(frames), b.fail(err))
	}
	return answers, nil
}

// checkAnswers refuses answers that the commands cannot have.
func checkAnswers(frames []apdu.Frame, answers [][]byte) error {
	if len(answers) > len(frames) {
		return fmt.Errorf("%w: %d answers to a batch of %d commands", ErrProtocol, len(answers), len(frames))
	}
	for i, a := range answers {
		if stops := stopsBatch(frames[i], a); stops != (i+1 == len(answers)) && (stops || len(answers) < len(frames)) {
			return fmt.Errorf("%w: batch of %d commands ended behind %d, not where its answers say", ErrProtocol, len(frames), len(answers))
		}
	}
	return nil
}
