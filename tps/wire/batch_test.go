package wire_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/tps/wire"
)

// frames are n commands that the cards below number in their answers.
func frames(n int) []apdu.Frame {
	fs := make([]apdu.Frame, n)
	for i := range fs {
		fs[i].Cmd = []byte{0x80, 0xE8, byte(i >> 8), byte(i)}
	}
	return fs
}

// batched runs f in a session with batches and returns the client's result.
func batched(t *testing.T, n int, card apdu.Card, p *person, f func(ctx context.Context, b *wire.Batching) int) (wire.Result, error) {
	t.Helper()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		b := s.Batching()
		if b == nil {
			t.Error("no batches were offered")
			return 1
		}
		return f(ctx, b)
	})
	return wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format, Batch: n}, card, p)
}

func TestBatchIsOffered(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "", -1: "", 1: "1", 64: "64", 256: "256", 1000: "256"} {
		s := serve(t, wire.Config{}, func(_ context.Context, s *wire.Session) int {
			if got := s.Begin().Extensions.Get(wire.ExtPDUBatch); got != want {
				t.Errorf("Batch %d: pduBatch=%s, want %s", n, got, want)
			}
			if b := s.Batching(); (b != nil) != (want != "") || b != nil && fmt.Sprint(b.MaxFrames()) != want {
				t.Errorf("Batch %d: %+v", n, b)
			}
			if _, ok := any(s).(apdu.FrameTransmitter); ok {
				t.Error("a session without batches takes lists")
			}
			return 0
		})
		if _, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format, Batch: n}, &fakeCard{}, &person{}); err != nil {
			t.Error(err)
		}
	}
}

// Other clients may write anything behind pduBatch.
func TestBatchOfferMalformed(t *testing.T) {
	t.Parallel()
	for _, offer := range []string{"0", "-5", "many", "1.5", ""} {
		s := serve(t, wire.Config{}, func(_ context.Context, s *wire.Session) int {
			if s.Batching() != nil {
				t.Errorf("pduBatch=%s is taken for an offer", offer)
			}
			return 0
		})
		c := dialRaw(t, s)
		c.open("POST", "/tps/tps")
		c.send("msg_type=2&operation=5&extensions=pduBatch%3D" + offer)
		c.expectEnd(5, 0)
	}
}

func TestBatchRunsInOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ frames, max, trips int }{{1, 64, 1}, {5, 64, 1}, {64, 64, 1}, {65, 64, 2}, {7, 1, 7}, {256, 256, 2}, {300, 256, 2}} {
		t.Run(fmt.Sprintf("frames=%d/max=%d", c.frames, c.max), func(t *testing.T) {
			t.Parallel()
			card := &fakeCard{answer: func(_ int, cmd []byte) ([]byte, error) { return append(bytes.Clone(cmd), 0x90, 0), nil }}
			res, err := batched(t, c.max, card, &person{}, func(ctx context.Context, b *wire.Batching) int {
				fs := frames(c.frames)
				answers, err := b.TransmitAll(ctx, fs)
				if err != nil || len(answers) != len(fs) {
					t.Errorf("%d answers to %d commands, %v", len(answers), len(fs), err)
					return 1
				}
				for i, f := range fs {
					if !bytes.Equal(answers[i], append(bytes.Clone(f.Cmd), 0x90, 0)) {
						t.Errorf("answer %d: %X", i, answers[i])
					}
				}
				return 0
			})
			if err != nil || res.APDUs != c.frames || res.Trips != c.trips || len(card.commands()) != c.frames {
				t.Errorf("result %+v, %v; want %d commands in %d round trips", res, err, c.frames, c.trips)
			}
		})
	}
}

// A batch and its answers keep below the largest message whatever their sizes are.
func TestBatchSizes(t *testing.T) {
	t.Parallel()
	long := append([]byte{0x80, 0xE8, 0, 0, 0, 0x75, 0x30}, bytes.Repeat([]byte{0xFF}, 30000)...) // extended length
	read := []byte{0x84, 0x56, 0, 0, 0}                                                           // 256 bytes
	card := &fakeCard{answer: func(_ int, cmd []byte) ([]byte, error) {
		return append(make([]byte, 256), 0x90, 0), nil
	}}
	res, err := batched(t, 256, card, &person{}, func(ctx context.Context, b *wire.Batching) int {
		for _, fs := range [][]apdu.Frame{{{Cmd: long}, {Cmd: long}, {Cmd: read}}, slices.Repeat([]apdu.Frame{{Cmd: read}}, 256)} {
			if answers, err := b.TransmitAll(ctx, fs); err != nil || len(answers) != len(fs) {
				t.Errorf("%d answers to %d commands, %v", len(answers), len(fs), err)
				return 1
			}
		}
		if _, err := b.TransmitAll(ctx, []apdu.Frame{{Cmd: bytes.Repeat(long, 2)}}); err == nil {
			t.Error("a command longer than a message was sent")
		}
		_, err := b.Transmit(ctx, read) // nothing is broken by that
		if err != nil {
			t.Error(err)
		}
		return 0
	})
	if err != nil || res.Trips != 5 {
		t.Errorf("result %+v, %v", res, err)
	}
}

func TestBatchStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answers []string // of the card, one per command
		anyway  []int
		want    []string
	}{
		{"first refused", []string{"\x6A\x82"}, nil, []string{"\x6A\x82"}},
		{"second refused", []string{"\x90\x00", "\x69\x82"}, nil, []string{"\x90\x00", "\x69\x82"}},
		{"warning stops", []string{"\x62\x83"}, nil, []string{"\x62\x83"}},
		{"wrong Le is an answer", []string{"\x90\x00", "\x6C\x10"}, nil, []string{"\x90\x00", "\x6C\x10"}},
		{"anyway", []string{"\x6A\x88", "\x6C\x01", "\x90\x00", "\x90\x00"}, []int{0, 1}, []string{"\x6A\x88", "\x6C\x01", "\x90\x00", "\x90\x00"}},
		{"last refused", []string{"\x90\x00", "\x90\x00", "\x90\x00", "\x6A\x80"}, nil, []string{"\x90\x00", "\x90\x00", "\x90\x00", "\x6A\x80"}},
		{"long answer", []string{"ab\x61\x02", "cd\x90\x00", "\x69\x85"}, nil, []string{"abcd\x90\x00", "\x69\x85"}},
		{"long answer refused", []string{"ab\x61\x02", "cd\x62\x82"}, nil, []string{"abcd\x62\x82"}},
	} {
		for _, size := range []int{64, 2} { // in one message, and in two
			t.Run(fmt.Sprintf("case=%s/max=%d", c.name, size), func(t *testing.T) {
				t.Parallel()
				card := &fakeCard{answer: func(n int, _ []byte) ([]byte, error) { return []byte(c.answers[n]), nil }}
				_, err := batched(t, size, card, &person{}, func(ctx context.Context, b *wire.Batching) int {
					fs := frames(4)
					for _, i := range c.anyway {
						fs[i].Anyway = true
					}
					answers, err := b.TransmitAll(ctx, fs)
					if err != nil || !slices.EqualFunc(answers, c.want, func(a []byte, b string) bool { return string(a) == b }) {
						t.Errorf("answers %X, %v, want %X", answers, err, c.want)
					}
					return 0
				})
				if err != nil || len(card.commands()) != len(c.answers) {
					t.Errorf("%v; the card got %X", err, card.commands())
				}
			})
		}
	}
}

// A card that leaves in the middle ends the operation; nothing is sent twice.
func TestBatchCardLeaves(t *testing.T) {
	t.Parallel()
	card := &fakeCard{answer: func(n int, _ []byte) ([]byte, error) {
		if n == 2 {
			return nil, fmt.Errorf("transmitting: %w", apdu.ErrCardRemoved)
		}
		return []byte{0x90, 0}, nil
	}}
	_, err := batched(t, 64, card, &person{}, func(ctx context.Context, b *wire.Batching) int {
		if answers, err := b.TransmitAll(ctx, frames(5)); len(answers) != 0 || !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("answers %X, %v, want a client that is gone", answers, err)
		}
		if _, err := b.Transmit(ctx, frames(1)[0].Cmd); !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("afterwards: %v", err)
		}
		return 28
	})
	if !errors.Is(err, apdu.ErrCardRemoved) || endStatus(t, err) != 8 || len(card.commands()) != 3 {
		t.Errorf("%v; the card got %X", err, card.commands())
	}
}

// Cancelling a client stops it between two commands of a batch.
func TestBatchCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	card := &fakeCard{answer: func(n int, _ []byte) ([]byte, error) {
		if n == 1 {
			cancel()
		}
		return []byte{0x90, 0}, nil
	}}
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		if _, err := s.Batching().TransmitAll(ctx, frames(5)); !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("error %v", err)
		}
		return 28
	})
	_, err := wire.Run(ctx, s.client(), wire.Begin{Operation: wire.Format, Batch: 64}, card, &person{})
	if !errors.Is(err, context.Canceled) || len(card.commands()) != 2 {
		t.Errorf("%v after %d commands", err, len(card.commands()))
	}
}

// Progress rides with the commands.
func TestBatchProgress(t *testing.T) {
	t.Parallel()
	p := &person{}
	res, err := batched(t, 64, &fakeCard{}, p, func(ctx context.Context, b *wire.Batching) int {
		for i, task := range []string{"ONE", "TWO", "THREE", "FOUR"} {
			if err := b.Progress(ctx, 10*i, task); err != nil {
				t.Error(err)
			}
			if i == 0 {
				continue // not told: another follows before the card is asked
			}
			if _, err := b.TransmitAll(ctx, frames(2)); err != nil {
				t.Error(err)
			}
		}
		return 0
	})
	if want := []string{"10 TWO", "20 THREE", "30 FOUR", "100 PROGRESS_DONE"}; err != nil || res.Trips != 3 || !slices.Equal(p.progress, want) {
		t.Errorf("%+v, %v, progress %q, want %q", res, err, p.progress, want)
	}
}

// A client that answers what no batch can answer has broken the protocol.
func TestBatchAnswersChecked(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"too few":            "msg_type=33&pdu_count=1&pdu_data=AAKQAA",
		"too many":           "msg_type=33&pdu_count=4&pdu_data=AAKQAAACkAAAApAAAAKQAA",
		"behind a refusal":   "msg_type=33&pdu_count=3&pdu_data=AAKQAAACaoIAApAA",
		"not a batch answer": "msg_type=10&pdu_size=2&pdu_data=%90%00",
	} {
		t.Run("case="+name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
				if answers, err := s.Batching().TransmitAll(ctx, frames(3)); len(answers) != 0 || !errors.Is(err, wire.ErrProtocol) || !errors.Is(err, wire.ErrClientGone) {
					t.Errorf("answers %X, %v", answers, err)
				}
				return 8
			})
			c := dialRaw(t, s)
			c.open("POST", "/tps/tps")
			c.send("msg_type=2&operation=5&extensions=pduBatch%3D64")
			c.expect("msg_type=32&pdu_count=3&pdu_data=AAAEgOgAAAAABIDoAAEAAASA6AAC")
			c.send(answer)
			c.expectEnd(5, 8)
		})
	}
}

// A server that sends more than was offered is not obeyed.
func TestBatchUnasked(t *testing.T) {
	t.Parallel()
	for _, offered := range []int{0, 1} {
		cl := scripted(t, func(c *rawClient) {
			c.head()
			c.chunk()
			c.write(responseHead)
			c.send("msg_type=32&pdu_count=2&pdu_data=AAAFgMqffy0BAASEUgAA")
			c.chunk()
		})
		card := &fakeCard{}
		if _, err := wire.Run(t.Context(), cl, wire.Begin{Operation: wire.Format, Batch: offered}, card, &person{}); !errors.Is(err, wire.ErrProtocol) {
			t.Errorf("offered %d: %v", offered, err)
		}
		if n := len(card.commands()); n != 0 {
			t.Errorf("offered %d: %d commands ran", offered, n)
		}
	}
}
