// Package apdutest holds what tests of card software are made of: [Script], a card
// that knows its lines; [Record] and [ReadTranscript], exchanges as text; [Cut], a
// card that is pulled out; [TestCard], the suite that every apdu.Card passes.
package apdutest

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"

	"inkan/apdu"
)

// Exchange is one command and its answer, both as bytes on the line.
type Exchange struct {
	Cmd, Answer []byte
}

// Transcript is a recorded dialogue with a card. Its text form has one line per
// message, in hexadecimal: "> " a command, "< " its answer, "atr " the answer to
// reset before the first command, "reset" a reset. Blanks inside a line, empty
// lines and everything behind a # are ignored.
type Transcript struct {
	ATR   apdu.ATR
	Steps []Step
}

// Step is an [Exchange] or a reset.
type Step struct {
	Reset bool
	Exchange
}

// maxTranscriptLine is the longest line: an extended command in hexadecimal.
const maxTranscriptLine = 1 << 18

// ReadTranscript reads the text form.
func ReadTranscript(r io.Reader) (Transcript, error) {
	var t Transcript
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxTranscriptLine)
	open := false // a command waits for its answer
	for n := 1; s.Scan(); n++ {
		line, _, _ := strings.Cut(s.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		var err error
		if open, err = t.add(line, open); err != nil {
			return Transcript{}, fmt.Errorf("transcript line %d: %w", n, err)
		}
	}
	if err := s.Err(); err != nil {
		return Transcript{}, fmt.Errorf("reading transcript: %w", err)
	}
	if open {
		return Transcript{}, fmt.Errorf("reading transcript: last command has no answer")
	}
	return t, nil
}

func (t *Transcript) add(line string, open bool) (stillOpen bool, err error) {
	if open != strings.HasPrefix(line, "<") {
		return false, fmt.Errorf("%.10q… is out of turn", line)
	}
	verb, rest := line[:1], line[1:]
	if strings.HasPrefix(line, "atr ") || line == "reset" {
		verb, rest, _ = strings.Cut(line, " ")
	}
	b, err := parseHex(rest)
	if err != nil {
		return false, err
	}
	switch verb {
	case "atr":
		t.ATR = b
	case "reset":
		t.Steps = append(t.Steps, Step{Reset: true})
	case ">":
		t.Steps = append(t.Steps, Step{Exchange: Exchange{Cmd: b}})
		return true, nil
	case "<":
		t.Steps[len(t.Steps)-1].Answer = b
	default:
		return false, fmt.Errorf("%.10q… begins with none of > < atr reset", line)
	}
	return false, nil
}

// WriteTo writes the text form.
func (t Transcript) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	if len(t.ATR) > 0 {
		fmt.Fprintf(&b, "atr %v\n", t.ATR)
	}
	for _, s := range t.Steps {
		if s.Reset {
			b.WriteString("reset\n")
			continue
		}
		fmt.Fprintf(&b, "> %X\n< %X\n", s.Cmd, s.Answer)
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// parseHex reads hexadecimal with blanks anywhere.
func parseHex(s string) ([]byte, error) {
	return hex.DecodeString(strings.Join(strings.Fields(s), ""))
}

// Recorder is a Card that keeps the transcript of what passes through it. Only
// exchanges that the card answered are kept. It is safe to read while in use.
type Recorder struct {
	card apdu.Card

	mu sync.Mutex
	t  Transcript
}

// Record returns a recorder around card. Lists reach the card one by one.
func Record(card apdu.Card) *Recorder {
	r := &Recorder{card: card}
	r.t.ATR = r.ATR()
	return r
}

// Transmit implements apdu.Card.
func (r *Recorder) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	sent := append([]byte(nil), cmd...)
	answer, err := r.card.Transmit(ctx, cmd)
	if err == nil {
		r.keep(Step{Exchange: Exchange{Cmd: sent, Answer: append([]byte(nil), answer...)}})
	}
	return answer, err
}

// ATR is the card's, nil where it tells none.
func (r *Recorder) ATR() apdu.ATR { return atr(r.card) }

// Reset resets the card.
func (r *Recorder) Reset(ctx context.Context) error {
	err := reset(ctx, r.card)
	if err == nil {
		r.keep(Step{Reset: true})
	}
	return err
}

// Transcript returns what has been recorded so far.
func (r *Recorder) Transcript() Transcript {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Transcript{ATR: r.t.ATR, Steps: append([]Step(nil), r.t.Steps...)}
}

func (r *Recorder) keep(s Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.t.Steps = append(r.t.Steps, s)
}

func atr(card apdu.Card) apdu.ATR {
	if a, ok := card.(interface{ ATR() apdu.ATR }); ok {
		return a.ATR()
	}
	return nil
}

func reset(ctx context.Context, card apdu.Card) error {
	r, ok := card.(interface{ Reset(context.Context) error })
	if !ok {
		return fmt.Errorf("resetting card: %w", apdu.ErrUnsupported)
	}
	return r.Reset(ctx)
}
