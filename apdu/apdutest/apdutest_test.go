package apdutest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
)

// miniCard is the least that TestCard calls a card.
type miniCard struct {
	resets int
}

var (
	miniFCI  = "\x6F\x10\x84\x08\xA0\x00\x00\x00\x03\x00\x00\x00\xA5\x04\x9F\x65\x01\xFF"
	miniCPLC = "\x9F\x7F\x2A" + "INKA" + strings.Repeat("\x01", 38)
	miniAID  = apdu.MustAID("A000000003000000")
)

func (c *miniCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.answer(cmd).Encode(), nil
}

func (c *miniCard) answer(b []byte) apdu.Response {
	cmd, err := apdu.ParseCommand(b)
	switch {
	case err != nil:
		return apdu.Response{SW: apdu.SWWrongLength}
	case cmd.CLA == 0x00 && cmd.INS == 0xA4:
		aid, err := apdu.NewAID(cmd.Data)
		if err != nil || !miniAID.HasPrefix(aid) {
			return apdu.Response{SW: apdu.SWFileNotFound}
		}
		return apdu.Response{Data: []byte(miniFCI), SW: apdu.SWSuccess}
	case cmd.CLA == 0x00 && cmd.INS == 0xC0:
		return apdu.Response{SW: apdu.SWConditionsOfUse}
	case cmd.CLA == 0x80 && cmd.INS == 0xCA && cmd.P1 == 0x9F && cmd.P2 == 0x7F:
		if cmd.Ne < len(miniCPLC) {
			return apdu.Response{SW: 0x6C00 | apdu.StatusWord(len(miniCPLC))}
		}
		return apdu.Response{Data: []byte(miniCPLC), SW: apdu.SWSuccess}
	}
	return apdu.Response{SW: apdu.SWInsNotSupported}
}

func (c *miniCard) ATR() apdu.ATR { return apdu.ATR{0x3B, 0x80, 0x01, 0x81} }

func (c *miniCard) Reset(ctx context.Context) error {
	c.resets++
	return ctx.Err()
}

// miniLister also takes lists.
type miniLister struct{ miniCard }

func (c *miniLister) TransmitAll(ctx context.Context, frames []apdu.Frame) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out [][]byte
	for _, f := range frames {
		r := c.answer(f.Cmd)
		out = append(out, r.Encode())
		if r.SW != apdu.SWSuccess && !f.Anyway {
			break
		}
	}
	return out, nil
}

func TestSuite(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) apdu.Card{
		"card":     func(*testing.T) apdu.Card { return &miniCard{} },
		"lists":    func(*testing.T) apdu.Card { return &miniLister{} },
		"bare":     func(*testing.T) apdu.Card { return struct{ apdu.Card }{&miniCard{}} },
		"recorder": func(*testing.T) apdu.Card { return apdutest.Record(&miniCard{}) },
		"uncut":    func(*testing.T) apdu.Card { return apdutest.Cut(&miniCard{}, 0, apdutest.After) },
	} {
		t.Run(name, func(t *testing.T) { apdutest.TestCard(t, open) })
	}
}

// FuzzTranscriptRoundTrip: a transcript that can be read can be written, and reads
// back the same.
func FuzzTranscriptRoundTrip(f *testing.F) {
	f.Add("atr 3B80\n> 00A40400 00 # SELECT\n< 6F00 9000\nreset\n")
	f.Add(">\n<\n")
	f.Add("> 00\n")
	f.Fuzz(func(t *testing.T, text string) {
		tr, err := apdutest.ReadTranscript(strings.NewReader(text))
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if _, err := tr.WriteTo(&first); err != nil {
			t.Fatal(err)
		}
		again, err := apdutest.ReadTranscript(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("%q: %v", first.String(), err)
		}
		if _, err := again.WriteTo(&second); err != nil {
			t.Fatal(err)
		}
		if first.String() != second.String() {
			t.Errorf("%q, then %q", first.String(), second.String())
		}
	})
}

// TestRecordReplay records a dialogue, writes and reads it, and plays it again.
func TestRecordReplay(t *testing.T) {
	t.Parallel()
	talk := func(card apdu.Card) string {
		conn := apdu.NewConn(card)
		var out []string
		for _, c := range []apdu.Command{{INS: 0xA4, P1: 4, Ne: 256}, {CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: 16}, {INS: 0x99}} {
			r, err := conn.Do(t.Context(), c)
			out = append(out, fmt.Sprintf("%X %v", r.Encode(), err))
		}
		return strings.Join(append(out, fmt.Sprint(conn.Reset(t.Context())), conn.ATR().String()), "\n")
	}
	rec := apdutest.Record(&miniCard{})
	want := talk(rec)
	var text bytes.Buffer
	if _, err := rec.Transcript().WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text.String(), "atr 3B800181\n> 00A4040000\n< 6F10") || !strings.HasSuffix(text.String(), "< 6D00\nreset\n") {
		t.Errorf("transcript:\n%s", text.String())
	}
	tr, err := apdutest.ReadTranscript(&text)
	if err != nil {
		t.Fatal(err)
	}
	if got := talk(apdutest.Replay(t, tr)); got != want {
		t.Errorf("replayed:\n%s\nwant:\n%s", got, want)
	}
}

func TestReadTranscriptRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"> 00", "< 9000", "> 00\n> 00", "> 0", "> 00\nreset\n< 9000", "reset 00x", "nonsense", "atr zz", "> 00\n< 9"} {
		if tr, err := apdutest.ReadTranscript(strings.NewReader(s)); err == nil {
			t.Errorf("%q: %+v, want an error", s, tr)
		}
	}
	if _, err := apdutest.ReadTranscript(strings.NewReader("> " + strings.Repeat("0", 1<<19))); err == nil {
		t.Error("a line that is too long: no error")
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	cmd := []byte{0x00, 0xA4, 0x04, 0x00, 0x00}
	for _, when := range []apdutest.When{apdutest.Before, apdutest.After} {
		inner := &counter{}
		card := apdutest.Cut(inner, 3, when)
		for i := 1; i <= 5; i++ {
			_, err := card.Transmit(t.Context(), cmd)
			if wantErr := i >= 3; wantErr != errors.Is(err, apdu.ErrCardRemoved) {
				t.Errorf("%v, exchange %d: %v", when, i, err)
			}
			if card.Happened() != (i >= 3) {
				t.Errorf("%v, exchange %d: happened %v", when, i, card.Happened())
			}
		}
		if want := 2 + int(when); inner.n != want {
			t.Errorf("%v: the card saw %d commands, want %d", when, inner.n, want)
		}
		if card.Exchanges() != 3 {
			t.Errorf("%v: %d exchanges", when, card.Exchanges())
		}
		if err := card.Reset(t.Context()); !errors.Is(err, apdu.ErrCardRemoved) {
			t.Errorf("%v: reset: %v", when, err)
		}
	}
	whole := apdutest.Cut(&miniCard{}, 0, apdutest.Before)
	if _, err := whole.Transmit(t.Context(), cmd); err != nil || whole.Happened() || whole.Exchanges() != 1 {
		t.Errorf("no cut: %v", err)
	}
	if err := whole.Reset(t.Context()); err != nil || whole.ATR() == nil {
		t.Errorf("no cut: %v, ATR %v", err, whole.ATR())
	}
	if apdutest.Before.String() != "before" || apdutest.After.String() != "after" {
		t.Error("names of the sides")
	}
}

// counter counts commands and refuses nothing.
type counter struct{ n int }

func (c *counter) Transmit(context.Context, []byte) ([]byte, error) {
	c.n++
	return []byte{0x90, 0x00}, nil
}

// TestCutPassesErrors: a card that fails by itself at the cut is not hidden.
func TestCutPassesErrors(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := apdutest.Cut(&miniCard{}, 1, apdutest.After).Transmit(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// spy is a testing.TB that notes failures instead of failing.
type spy struct {
	testing.TB
	failures []string
	cleanup  []func()
}

func (s *spy) Helper()                   {}
func (s *spy) Failed() bool              { return len(s.failures) > 0 }
func (s *spy) Cleanup(f func())          { s.cleanup = append(s.cleanup, f) }
func (s *spy) finish()                   { s.cleanup[0]() }
func (s *spy) Errorf(f string, a ...any) { s.failures = append(s.failures, fmt.Sprintf(f, a...)) }
func (s *spy) Fatalf(f string, a ...any) {
	s.Errorf(f, a...)
	panic(s)
}

func (s *spy) run(f func()) {
	defer func() {
		if r := recover(); r != nil && r != any(s) {
			panic(r)
		}
	}()
	f()
}

// TestScriptFails: a script notices everything that is not in it.
func TestScriptFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lines []string
		use   func(*apdutest.Script)
	}{
		"wrong command": {[]string{"00A4", "9000"}, func(s *apdutest.Script) { s.Transmit(t.Context(), []byte{0x00, 0xB0}) }},
		"one too many": {[]string{"00A4", "9000"}, func(s *apdutest.Script) {
			s.Transmit(t.Context(), []byte{0x00, 0xA4})
			s.Transmit(t.Context(), []byte{0x00, 0xA4})
		}},
		"not finished":        {[]string{"00A4", "9000"}, func(*apdutest.Script) {}},
		"reset not in script": {[]string{"00A4", "9000"}, func(s *apdutest.Script) { s.Reset(t.Context()) }},
		"reset after the end": {nil, func(s *apdutest.Script) { s.Reset(t.Context()) }},
		"odd lines":           {[]string{"00A4"}, nil},
		"no hex, command":     {[]string{"zz", "9000"}, nil},
		"no hex, answer":      {[]string{"00A4", "zz"}, nil},
	} {
		s := &spy{TB: t}
		s.run(func() {
			script := apdutest.NewScript(s, tc.lines...)
			tc.use(script)
			s.finish()
		})
		if len(s.failures) == 0 {
			t.Errorf("%s: the script found nothing wrong", name)
		}
	}
}

// TestScriptPasses: and nothing in what is.
func TestScriptPasses(t *testing.T) {
	t.Parallel()
	s := &spy{TB: t}
	script := apdutest.NewScript(s, "00A4 0400", "9000")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := script.Transmit(ctx, []byte{0x00, 0xA4, 0x04, 0x00}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := script.Reset(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled reset: %v", err)
	}
	b, err := script.Transmit(t.Context(), []byte{0x00, 0xA4, 0x04, 0x00})
	if err != nil || !bytes.Equal(b, []byte{0x90, 0x00}) {
		t.Errorf("%X, %v", b, err)
	}
	s.finish()
	if len(s.failures) > 0 {
		t.Errorf("%v", s.failures)
	}
}

// TestResetUnsupported: a wrapper does not invent a reset.
func TestResetUnsupported(t *testing.T) {
	t.Parallel()
	for _, card := range []interface {
		ATR() apdu.ATR
		Reset(context.Context) error
	}{apdutest.Record(&counter{}), apdutest.Cut(&counter{}, 0, apdutest.Before)} {
		if err := card.Reset(t.Context()); !errors.Is(err, apdu.ErrUnsupported) || card.ATR() != nil {
			t.Errorf("%T: %v, %v", card, err, card.ATR())
		}
	}
}
