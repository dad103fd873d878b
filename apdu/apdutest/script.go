package apdutest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"inkan/apdu"
)

// Script is a Card that expects given commands in a given order and gives the
// answers beside them. A command that is not the next one fails the test, and so
// does a line that was never spoken.
type Script struct {
	tb testing.TB

	mu    sync.Mutex
	atr   apdu.ATR
	steps []Step
	next  int
}

// NewScript makes a script of lines, a command and its answer in turn, in
// hexadecimal with blanks anywhere. At the end of the test all must have been used.
func NewScript(tb testing.TB, lines ...string) *Script {
	tb.Helper()
	var t Transcript
	if len(lines)%2 != 0 {
		tb.Fatalf("script of %d lines: the last command has no answer", len(lines))
	}
	for i := 0; i < len(lines); i += 2 {
		cmd, err := parseHex(lines[i])
		if err != nil {
			tb.Fatalf("script line %d: %v", i+1, err)
		}
		answer, err := parseHex(lines[i+1])
		if err != nil {
			tb.Fatalf("script line %d: %v", i+2, err)
		}
		t.Steps = append(t.Steps, Step{Exchange: Exchange{Cmd: cmd, Answer: answer}})
	}
	return Replay(tb, t)
}

// Replay makes a script of a transcript.
func Replay(tb testing.TB, t Transcript) *Script {
	s := &Script{tb: tb, atr: t.ATR, steps: t.Steps}
	tb.Cleanup(func() {
		if left := len(s.steps) - s.next; left > 0 && !tb.Failed() {
			tb.Errorf("%d of %d steps of the script were not used, next: %X", left, len(s.steps), s.steps[s.next].Cmd)
		}
	})
	return s
}

// Transmit implements apdu.Card.
func (s *Script) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	s.tb.Helper()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	st, err := s.step(fmt.Sprintf("command %X", cmd))
	if err != nil {
		return nil, err
	}
	if st.Reset || !bytes.Equal(st.Cmd, cmd) {
		s.tb.Errorf("step %d of the script:\n got %X\nwant %s", s.next, cmd, st)
		return nil, fmt.Errorf("command %X is not in the script", cmd)
	}
	return append([]byte(nil), st.Answer...), nil
}

// ATR is the transcript's, else nil.
func (s *Script) ATR() apdu.ATR { return s.atr }

// Reset is a step like any other.
func (s *Script) Reset(ctx context.Context) error {
	s.tb.Helper()
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := s.step("reset")
	if err == nil && !st.Reset {
		s.tb.Errorf("step %d of the script:\n got reset\nwant %s", s.next, st)
	}
	return err
}

func (s *Script) step(what string) (Step, error) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == len(s.steps) {
		s.tb.Errorf("%s after the end of the script", what)
		return Step{}, fmt.Errorf("%s after the end of the script", what)
	}
	s.next++
	return s.steps[s.next-1], nil
}

// String is the command in hexadecimal, or "reset".
func (s Step) String() string {
	if s.Reset {
		return "reset"
	}
	return fmt.Sprintf("%X", s.Cmd)
}
