package apdu_test

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
)

// traceLog returns a logger at debug level and what it wrote, without times.
func traceLog() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "dur" {
			return slog.Attr{}
		}
		return a
	}})
	return slog.New(h), &b
}

func TestTrace(t *testing.T) {
	t.Parallel()
	const secret = "53454352" // must not show
	for name, tc := range map[string]struct{ cmd, answer, want string }{
		"SELECT":                  {"00A4040005A000000003", "6F02840090 00", "apdu=00A40400 lc=5 len=4 sw=9000 data=A000000003 answer=6F028400"},
		"SELECT on channel 1":     {"01A4040005A000000003", "9000", "apdu=01A40400 lc=5 len=0 sw=9000 data=A000000003"},
		"SELECT on channel 4":     {"40A4040005A000000003", "9000", "apdu=40A40400 lc=5 len=0 sw=9000 data=A000000003"},
		"GET DATA":                {"80CA009F00", "019000", "apdu=80CA009F lc=0 len=1 sw=9000 answer=01"},
		"GET STATUS":              {"80F28002024F00", "6A88", "apdu=80F28002 lc=2 len=0 sw=6A88 data=4F00"},
		"INITIALIZE UPDATE":       {"8050000008 0102030405060708", "6A88", "apdu=80500000 lc=8 len=0 sw=6A88 data=0102030405060708"},
		"wrapped GET STATUS":      {"84F2800204" + secret, secret + "9000", "apdu=84F28002 lc=4 len=4 sw=9000"},
		"wrapped on channel 4":    {"E0CA000004" + secret, secret + "9000", "apdu=E0CA0000 lc=4 len=4 sw=9000"},
		"VERIFY":                  {"0020000104" + secret, "63C2", "apdu=00200001 lc=4 len=0 sw=63C2"},
		"applet command 50":       {"B050000004" + secret, secret + "9000", "apdu=B0500000 lc=4 len=4 sw=9000"},
		"PIV GET DATA":            {"00CB3FFF04" + secret, secret + "9000", "apdu=00CB3FFF lc=4 len=4 sw=9000"},
		"GET RESPONSE":            {"00C0000004", secret + "9000", "apdu=00C00000 lc=0 len=4 sw=9000"},
		"malformed":               {"0020000109" + secret, "6700", "apdu=malformed lc=9"},
		"answer without a status": {"0020000104" + secret, "90", "apdu=00200001 lc=4"},
	} {
		t.Run(name, func(t *testing.T) {
			log, out := traceLog()
			card := apdu.Trace(apdutest.NewScript(t, tc.cmd, tc.answer), log)
			if _, err := card.Transmit(t.Context(), unhex(t, tc.cmd)); err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(out.String()); got != "level=DEBUG msg=exchange "+tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
			if strings.Contains(out.String(), secret) {
				t.Error("the trace shows what it must not")
			}
		})
	}
}

func TestTraceDoerShowsNoData(t *testing.T) {
	t.Parallel()
	log, out := traceLog()
	d := apdu.TraceDoer(apdu.NewConn(&listCard{status: map[byte]string{3: "gone"}}), log)
	data := []byte{0x53, 0x45, 0x43, 0x52}
	if _, err := d.Do(t.Context(), apdu.Command{CLA: 0x80, INS: 0xF2, Data: data}); err != nil {
		t.Fatal(err)
	}
	es := append(list(1), apdu.Entry{Command: apdu.Command{INS: 3, Data: data}})
	if rs, err := apdu.DoAll(t.Context(), d, es); !errors.Is(err, apdu.ErrCardRemoved) || len(rs) != 1 {
		t.Errorf("%d answers, %v", len(rs), err)
	}
	if _, err := d.Do(t.Context(), es[1].Command); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Error(err)
	}
	got := out.String()
	if strings.Contains(got, "53454352") || strings.Contains(got, "data=") {
		t.Errorf("data in the trace:\n%s", got)
	}
	for _, want := range []string{`apdu=80F20000 lc=4 len=1 sw=9000\n`, `apdu=00010000 lc=0 len=1 sw=9000\n`, `apdu=list ran=1 err="?card removed`, `apdu=00030000 lc=4 err="?card removed`} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("no line %s in\n%s", want, got)
		}
	}
}

// TestTraceKeepsAbilities: what can be found by assertion on the card can be found
// on the traced card, and nothing else.
func TestTraceKeepsAbilities(t *testing.T) {
	t.Parallel()
	log, out := traceLog()
	script := apdutest.Replay(t, apdutest.Transcript{ATR: apdu.ATR{0x3B, 0x80}, Steps: []apdutest.Step{{Reset: true}}})
	conn := apdu.NewConn(apdu.Trace(script, log))
	if conn.ATR().String() != "3B80" {
		t.Errorf("ATR %v", conn.ATR())
	}
	if err := conn.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "apdu=reset") {
		t.Errorf("no line for the reset: %s", out)
	}
	if _, ok := apdu.Trace(script, log).(apdu.FrameTransmitter); ok {
		t.Error("a card that takes no lists takes them when traced")
	}
	frames := &framesCard{listCard: listCard{status: map[byte]string{3: "gone"}}}
	plain := apdu.NewConn(apdu.Trace(frames, log))
	if rs, err := plain.DoAll(t.Context(), list(1, 2)); err != nil || len(rs) != 2 || frames.lists != 1 {
		t.Errorf("%d answers, %v, %d lists", len(rs), err, frames.lists)
	}
	if _, err := plain.DoAll(t.Context(), list(1, 3)); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Error(err)
	}
	if plain.ATR() != nil {
		t.Errorf("ATR %v", plain.ATR())
	}
	if err := plain.Reset(t.Context()); !errors.Is(err, apdu.ErrUnsupported) {
		t.Error(err)
	}
	for _, want := range []string{"apdu=00020000 lc=0 len=1 sw=9000", "apdu=list ran=1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
}

func TestTraceOff(t *testing.T) {
	t.Parallel()
	card := &listCard{}
	quiet := slog.New(slog.DiscardHandler)
	if apdu.Trace(card, quiet) != apdu.Card(card) || apdu.Trace(card, nil) != apdu.Card(card) {
		t.Error("a card is wrapped although nobody reads the trace")
	}
	conn := apdu.NewConn(card)
	if apdu.TraceDoer(conn, quiet) != apdu.Doer(conn) || apdu.TraceDoer(conn, nil) != apdu.Doer(conn) {
		t.Error("a Doer is wrapped although nobody reads the trace")
	}
}
