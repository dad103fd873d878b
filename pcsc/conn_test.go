package pcsc_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inkan/apdu"
	"inkan/pcsc"
)

var _ apdu.Card = (*pcsc.Conn)(nil)

var selectCommand = []byte{0x00, 0xA4, 0x04, 0x00}

// fakeCard is a service with one reader and a card, connected.
func fakeCard(t *testing.T) (*pcsc.Fake, *pcsc.Conn) {
	t.Helper()
	f := pcsc.NewFake()
	f.AddReader("A")
	f.Insert("A", atr)
	s := openFake(t, f)
	c, err := s.Connect(t.Context(), "A")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, c
}

func TestConn(t *testing.T) {
	t.Parallel()
	f, c := fakeCard(t)
	if c.Reader() != "A" || c.ATR().String() != atr.String() {
		t.Errorf("reader %s, ATR %s", c.Reader(), c.ATR())
	}
	res, err := c.Transmit(t.Context(), selectCommand)
	if err != nil || !bytes.Equal(res, []byte{0x90, 0x00}) {
		t.Errorf("response %X, %v", res, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Transmit(ctx, selectCommand)
	wantError(t, err, context.Canceled)
	wantError(t, c.Reset(ctx), context.Canceled)
	if len(f.Sent) != 1 {
		t.Errorf("%d commands sent", len(f.Sent))
	}
	if err := c.Reset(t.Context()); err != nil || f.Resets != 1 {
		t.Errorf("reset: %v, %d", err, f.Resets)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if f.Resets != 2 {
		t.Errorf("%d resets: closing must leave the card reset", f.Resets)
	}
	if _, err := c.Transmit(t.Context(), selectCommand); err == nil {
		t.Error("closed connection sends")
	}
	if err := c.Reset(t.Context()); err == nil {
		t.Error("closed connection resets")
	}
}

func TestConnectFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(*pcsc.Fake)
		reader  string
		want    error
	}{
		"no reader":    {func(*pcsc.Fake) {}, "", pcsc.ErrNoReader},
		"wrong reader": {func(f *pcsc.Fake) { f.AddReader("A") }, "B", pcsc.ErrReaderName},
		"no card":      {func(f *pcsc.Fake) { f.AddReader("A") }, "A", pcsc.ErrNoCard},
		"mute card":    {func(f *pcsc.Fake) { f.AddReader("A"); f.Insert("A", nil) }, "A", pcsc.ErrMute},
		"removed": {func(f *pcsc.Fake) {
			f.AddReader("A")
			f.Insert("A", atr)
			f.Status = pcsc.CodeRemoved
		}, "A", apdu.ErrCardRemoved},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := pcsc.NewFake()
			tc.prepare(f)
			_, err := openFake(t, f).Connect(t.Context(), tc.reader)
			wantError(t, err, tc.want)
		})
	}
	f := pcsc.NewFake()
	f.AddReader("A")
	f.Insert("A", atr)
	f.Protocol = 4
	if _, err := openFake(t, f).Connect(t.Context(), "A"); err == nil || !strings.Contains(err.Error(), "protocol 4") {
		t.Errorf("raw protocol: %v", err)
	}
}

func TestConnectShared(t *testing.T) {
	t.Parallel()
	busy := func(n int) (out []error) {
		for range n {
			out = append(out, pcsc.CodeSharing)
		}
		return out
	}
	for name, tc := range map[string]struct {
		busy int
		want error
	}{
		"moment":  {5, nil},
		"forever": {1000, pcsc.ErrInUse},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := pcsc.NewFake()
				f.AddReader("A")
				f.Insert("A", atr)
				f.Connects = busy(tc.busy)
				began := time.Now()
				c, err := openFake(t, f).Connect(t.Context(), "A")
				if !errors.Is(err, tc.want) || time.Since(began) > 4*time.Second {
					t.Errorf("after %s: %v, want %v", time.Since(began), err, tc.want)
				}
				if err == nil {
					_ = c.Close()
				}
			})
		})
	}
}

func TestRemoval(t *testing.T) {
	t.Parallel()
	f, c := fakeCard(t)
	f.Remove("A")
	for range 2 {
		_, err := c.Transmit(t.Context(), selectCommand)
		wantError(t, err, apdu.ErrCardRemoved)
	}
	f.Insert("A", atr) // not the card of this connection
	wantError(t, c.Reset(t.Context()), apdu.ErrCardRemoved)
	_, err := c.Transmit(t.Context(), selectCommand)
	wantError(t, err, apdu.ErrCardRemoved)
	if len(f.Sent) != 1 {
		t.Errorf("%d commands sent", len(f.Sent))
	}
}

// TestRemovalShowsLate: the exchange fails first, or ends without an answer; the
// service knows why only later.
func TestRemovalShowsLate(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{"not transacted": pcsc.CodeNotTransacted, "no answer": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, c := fakeCard(t)
				f.Answer = func([]byte) ([]byte, error) {
					time.AfterFunc(400*time.Millisecond, func() { f.Remove("A") })
					return nil, failure
				}
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel) // who gave up is told the reason all the same
				_, err := c.Transmit(ctx, selectCommand)
				wantError(t, err, apdu.ErrCardRemoved)
			})
		})
	}
}

func TestBrokenUntilReset(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer []byte
		err    error
		want   error
	}{
		"reset":          {nil, pcsc.CodeReset, pcsc.ErrReset},
		"not transacted": {nil, pcsc.CodeNotTransacted, pcsc.CodeNotTransacted},
		"no status word": {[]byte{0x90}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, c := fakeCard(t)
				f.Answer = func([]byte) ([]byte, error) { return tc.answer, tc.err }
				_, first := c.Transmit(t.Context(), selectCommand)
				if first == nil || tc.want != nil && !errors.Is(first, tc.want) || errors.Is(first, apdu.ErrCardRemoved) {
					t.Errorf("error %v, want %v", first, tc.want)
				}
				f.Answer = nil
				_, err := c.Transmit(t.Context(), selectCommand)
				if err == nil || len(f.Sent) != 1 {
					t.Errorf("sent %d commands, %v: nothing may be sent before a reset", len(f.Sent), err)
				}
				if err := c.Reset(t.Context()); err != nil {
					t.Error(err)
				}
				if _, err := c.Transmit(t.Context(), selectCommand); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestResetFindsAnotherCard(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string]func(*pcsc.Fake){
		"none":    func(f *pcsc.Fake) { f.Remove("A") },
		"another": func(f *pcsc.Fake) { f.Insert("A", apdu.ATR{0x3B, 0x00}) },
	} {
		t.Run(name, func(t *testing.T) {
			f, c := fakeCard(t)
			swap(f)
			wantError(t, c.Reset(t.Context()), apdu.ErrCardRemoved)
			_, err := c.Transmit(t.Context(), selectCommand)
			wantError(t, err, apdu.ErrCardRemoved)
			if len(f.Sent) != 0 {
				t.Error("the other card was sent a command")
			}
		})
	}
}

func TestServiceLost(t *testing.T) {
	t.Parallel()
	f, c := fakeCard(t)
	f.Answer = func([]byte) ([]byte, error) { return nil, pcsc.CodeInvalidHandle }
	_, err := c.Transmit(t.Context(), selectCommand)
	wantError(t, err, pcsc.ErrNoService)
}

// TestReaderHangs: a call that never comes back costs the connection, not the program.
func TestReaderHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := pcsc.NewFake()
		f.AddReader("A")
		f.Insert("A", atr)
		s, err := f.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Connect(t.Context(), "A")
		if err != nil {
			t.Fatal(err)
		}
		free := make(chan struct{})
		f.Answer = func([]byte) ([]byte, error) { <-free; return nil, pcsc.CodeRemoved }
		began := time.Now()
		if _, err := c.Transmit(t.Context(), selectCommand); err == nil || time.Since(began) != pcsc.CommandTimeout {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		if err := c.Reset(t.Context()); err == nil {
			t.Error("reset of a connection that hangs")
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		close(free)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFrame(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("AB", 300)
	for _, tc := range []struct {
		name, apdu, t0 string
	}{
		{"case 1", "00A40400", "00A4040000"},
		{"case 2", "00CA9F7F00", "00CA9F7F00"},
		{"case 3", "00A4040002A000", "00A4040002A000"},
		{"case 4", "00A4040002A00000", "00A4040002A000"},
		{"case 2 extended", "00CA9F7F000000", ""},
		{"case 3 extended", "00D6000000012C" + long, ""},
		{"case 4 extended", "00D6000000012C" + long + "0000", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd, err := hex.DecodeString(tc.apdu)
			if err != nil {
				t.Fatal(err)
			}
			before := bytes.Clone(cmd)
			if got, err := pcsc.Frame(pcsc.T1, cmd); err != nil || !bytes.Equal(got, cmd) {
				t.Errorf("T=1: %X, %v", got, err)
			}
			got, err := pcsc.Frame(pcsc.T0, cmd)
			if tc.t0 == "" {
				wantError(t, err, apdu.ErrUnsupported)
			} else if err != nil || strings.ToUpper(hex.EncodeToString(got)) != tc.t0 {
				t.Errorf("T=0: %X, %v; want %s", got, err, tc.t0)
			}
			if !bytes.Equal(cmd, before) {
				t.Error("command changed")
			}
		})
	}
	for _, n := range []int{0, 3, 65545} {
		if _, err := pcsc.Frame(pcsc.T1, make([]byte, n)); err == nil {
			t.Errorf("command of %d bytes passed", n)
		}
	}
	if _, err := pcsc.Frame(pcsc.T0, []byte{0, 0xA4, 4, 0, 5, 1}); err == nil {
		t.Error("cut command passed over T=0")
	}
}

// FuzzFrameNoPanic: whatever is to be sent over T=0 becomes a TPDU that says its
// own length, or an error.
func FuzzFrameNoPanic(f *testing.F) {
	for _, s := range []string{"00A40400", "00CA9F7F00", "00A4040002A000", "00A4040002A00000", "00CA9F7F000000"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, cmd []byte) {
		got, err := pcsc.Frame(pcsc.T0, cmd)
		if err != nil {
			return
		}
		if len(got) < 5 || len(got) > 5 && len(got) != 5+int(got[4]) {
			t.Errorf("%X became %X", cmd, got)
		}
	})
}
