package apdu_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
)

func TestConnDo(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("AB", 300)
	for name, tc := range map[string]struct {
		cfg    apdu.ConnConfig
		cmd    apdu.Command
		script []string
		want   string // data and status
	}{
		"plain":              {cmd: apdu.Command{INS: 0xB0, Ne: 2}, script: []string{"00B0000002", "01029000"}, want: "01029000"},
		"status is no error": {cmd: apdu.Command{INS: 0xB0, Ne: 2}, script: []string{"00B0000002", "6A82"}, want: "6A82"},
		"more data": {
			cmd:    apdu.Command{CLA: 0x80, INS: 0xCA, Ne: 256},
			script: []string{"80CA000000", "01 6102", "00C0000002", "0203 6101", "00C0000001", "04 9000"},
			want:   "01020304 9000",
		},
		"more data, 256 bytes": {
			cmd:    apdu.Command{INS: 0xB0, Ne: 256},
			script: []string{"00B0000000", "6100", "00C0000000", "05 9000"},
			want:   "05 9000",
		},
		"more data ends with an error": {
			cmd:    apdu.Command{INS: 0xB0, Ne: 256},
			script: []string{"00B0000000", "6102", "00C0000002", "6F00"},
			want:   "6F00",
		},
		"GET RESPONSE with the wrong length": {
			cmd:    apdu.Command{INS: 0xB0, Ne: 256},
			script: []string{"00B0000000", "6110", "00C0000010", "6C02", "00C0000002", "0102 9000"},
			want:   "0102 9000",
		},
		"wrong Le": {
			cmd:    apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0x9F, P2: 0x7F, Ne: 45},
			script: []string{"80CA9F7F2D", "6C02", "80CA9F7F02", "0102 9000"},
			want:   "0102 9000",
		},
		"wrong Le, then more data": {
			cmd:    apdu.Command{INS: 0xB0, Ne: 1},
			script: []string{"00B0000001", "6C00", "00B0000000", "01 6101", "00C0000001", "02 9000"},
			want:   "0102 9000",
		},
		"wrong Le twice is an answer": {
			cmd:    apdu.Command{INS: 0xB0, Ne: 1},
			script: []string{"00B0000001", "6C02", "00B0000002", "6C03"},
			want:   "6C03",
		},
		"no Le, the card wants one": {
			cmd:    apdu.Command{INS: 0xA4, P1: 4, Data: []byte{1, 2}},
			script: []string{"00A40400020102", "6C03", "00A4040002010203", "0A0B0C 9000"},
			want:   "0A0B0C 9000",
		},
		"secured command is never repeated": {
			cmd:    apdu.Command{CLA: 0x84, INS: 0xCA, Data: []byte{1}, Ne: 256},
			script: []string{"84CA0000010100", "6C10"},
			want:   "6C10",
		},
		"secured command on channel 5 is never repeated": {
			cmd:    apdu.Command{CLA: 0xE1, INS: 0xCA, Data: []byte{1}, Ne: 256},
			script: []string{"E1CA0000010100", "6C10"},
			want:   "6C10",
		},
		"secured command, more data": {
			cmd:    apdu.Command{CLA: 0x84, INS: 0xCA, Data: []byte{1}, Ne: 256},
			script: []string{"84CA0000010100", "6101", "00C0000001", "07 9000"},
			want:   "07 9000",
		},
		"GET RESPONSE on channel 2": {
			cmd:    apdu.Command{CLA: 0x82, INS: 0xCA, Ne: 256},
			script: []string{"82CA000000", "6101", "02C0000001", "07 9000"},
			want:   "07 9000",
		},
		"GET RESPONSE on channel 7": {
			cmd:    apdu.Command{CLA: 0xE3, INS: 0xCA, Ne: 256},
			script: []string{"E3CA000000", "6101", "43C0000001", "07 9000"},
			want:   "07 9000",
		},
		"extended": {
			cmd:    apdu.Command{INS: 0xDB, Data: unhex(t, long)},
			script: []string{"00DB0000 00012C" + long, "9000"},
			want:   "9000",
		},
		"chained": {
			cfg:    apdu.ConnConfig{LongData: apdu.CommandChaining},
			cmd:    apdu.Command{INS: 0xDB, P1: 0x3F, P2: 0xFF, Data: unhex(t, long), Ne: 1000},
			script: []string{"10DB3FFF FF" + long[:510], "9000", "00DB3FFF 2D" + long[510:] + "00", "01 9000"},
			want:   "01 9000",
		},
		"chained, refused on the way": {
			cfg:    apdu.ConnConfig{LongData: apdu.CommandChaining},
			cmd:    apdu.Command{INS: 0xDB, Data: unhex(t, long)},
			script: []string{"10DB0000 FF" + long[:510], "6A80"},
			want:   "6A80",
		},
		"long answer without extended length": {
			cfg:    apdu.ConnConfig{LongData: apdu.CommandChaining},
			cmd:    apdu.Command{INS: 0xCB, Data: []byte{1}, Ne: 65536},
			script: []string{"00CB0000010100", "02 9000"},
			want:   "02 9000",
		},
		"T=0 case 4": {
			cfg:    apdu.ConnConfig{Case4: apdu.StripLe},
			cmd:    apdu.Command{INS: 0xA4, P1: 4, Data: []byte{1}, Ne: 256},
			script: []string{"00A404000101", "6102", "00C0000002", "0A0B 9000"},
			want:   "0A0B 9000",
		},
		"T=0 case 2 keeps Le": {
			cfg:    apdu.ConnConfig{Case4: apdu.StripLe},
			cmd:    apdu.Command{INS: 0xB0, Ne: 2},
			script: []string{"00B0000002", "0A0B 9000"},
			want:   "0A0B 9000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := apdu.NewConn(apdutest.NewScript(t, tc.script...), tc.cfg)
			r, err := conn.Do(t.Context(), tc.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, tc.want); !bytes.Equal(r.Encode(), want) {
				t.Errorf("got %X, want %X", r.Encode(), want)
			}
		})
	}
}

// cardFunc is a function as a Card.
type cardFunc func(ctx context.Context, cmd []byte) ([]byte, error)

func (f cardFunc) Transmit(ctx context.Context, cmd []byte) ([]byte, error) { return f(ctx, cmd) }

// TestConnBounds: whatever a card answers, it is bounded.
func TestConnBounds(t *testing.T) {
	t.Parallel()
	part := append(make([]byte, 256), 0x61, 0x00)
	for name, answer := range map[string][]byte{
		"endless parts":       part,
		"endless empty parts": {0x61, 0x01},
		"a huge answer":       make([]byte, 65539),
		"no status word":      {0x90},
		"nothing":             nil,
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			card := cardFunc(func(context.Context, []byte) ([]byte, error) { n++; return answer, nil })
			if r, err := apdu.NewConn(card).Do(t.Context(), apdu.Command{INS: 0xB0, Ne: 256}); err == nil {
				t.Errorf("answer of %d bytes, want an error", len(r.Data))
			}
			if n > 1100 {
				t.Errorf("%d exchanges", n)
			}
		})
	}
	// The largest answer there may be.
	sent := 0
	card := cardFunc(func(context.Context, []byte) ([]byte, error) {
		if sent += 256; sent == 65536 {
			return append(make([]byte, 256), 0x90, 0x00), nil
		}
		return part, nil
	})
	r, err := apdu.NewConn(card).Do(t.Context(), apdu.Command{INS: 0xB0, Ne: 256})
	if err != nil || len(r.Data) != 65536 {
		t.Errorf("%d bytes, %v", len(r.Data), err)
	}
}

func TestConnErrors(t *testing.T) {
	t.Parallel()
	gone := cardFunc(func(context.Context, []byte) ([]byte, error) {
		return nil, fmt.Errorf("reader: %w", apdu.ErrCardRemoved)
	})
	conn := apdu.NewConn(gone)
	if _, err := conn.Do(t.Context(), apdu.Command{}); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("card gone: %v", err)
	}
	if _, err := conn.Do(t.Context(), apdu.Command{Ne: -1}); err == nil || errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("command that cannot be encoded: %v", err)
	}
	if err := conn.Reset(t.Context()); !errors.Is(err, apdu.ErrUnsupported) {
		t.Errorf("reset: %v", err)
	}
	if conn.ATR() != nil {
		t.Errorf("ATR %v", conn.ATR())
	}
	chain := apdu.NewConn(gone, apdu.ConnConfig{LongData: apdu.CommandChaining})
	if _, err := chain.Do(t.Context(), apdu.Command{CLA: 0xB0, Data: make([]byte, 300)}); !errors.Is(err, apdu.ErrUnsupported) {
		t.Errorf("chaining class B0: %v", err)
	}
}

// TestConnCancel: cancellation acts between APDUs, before the next one is sent.
func TestConnCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	card := cardFunc(func(context.Context, []byte) ([]byte, error) {
		n++
		cancel()
		return []byte{0x61, 0x01}, nil
	})
	conn := apdu.NewConn(card)
	if _, err := conn.Do(ctx, apdu.Command{INS: 0xB0}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while running: %v", err)
	}
	if _, err := conn.Do(ctx, apdu.Command{INS: 0xB0}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if err := conn.Reset(ctx); err == nil {
		t.Error("cancelled reset: no error")
	}
	if n != 1 {
		t.Errorf("%d commands reached the card, want 1", n)
	}
}

// TestConnSerialises: callers take turns, and one that waits can be cancelled.
func TestConnSerialises(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan bool), make(chan bool)
	var mu sync.Mutex
	inside := 0
	card := cardFunc(func(context.Context, []byte) ([]byte, error) {
		mu.Lock()
		inside++
		if inside > 1 {
			t.Error("two callers at once")
		}
		mu.Unlock()
		entered <- true
		<-leave
		mu.Lock()
		inside--
		mu.Unlock()
		return []byte{0x90, 0x00}, nil
	})
	conn := apdu.NewConn(card)
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := conn.Do(t.Context(), apdu.Command{})
			done <- err
		}()
	}
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error)
	go func() {
		_, err := conn.DoAll(ctx, []apdu.Entry{{}})
		waiting <- err
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("waiting caller: %v", err)
	}
	leave <- true
	<-entered
	leave <- true
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestConnATRAndReset(t *testing.T) {
	t.Parallel()
	script := apdutest.Replay(t, apdutest.Transcript{ATR: apdu.ATR{0x3B, 0x80}, Steps: []apdutest.Step{{Reset: true}}})
	conn := apdu.NewConn(script)
	if conn.ATR().String() != "3B80" {
		t.Errorf("ATR %v", conn.ATR())
	}
	if err := conn.Reset(t.Context()); err != nil {
		t.Error(err)
	}
}
