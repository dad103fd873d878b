package apdutest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
)

// TestCard runs the suite that every apdu.Card on a GlobalPlatform card passes,
// wherever the card is. open returns a card just powered on and, if need be,
// registers its closing with t.Cleanup; every test opens its own. The suite writes
// nothing to the card and tries no key or PIN.
func TestCard(t *testing.T, open func(t *testing.T) apdu.Card) {
	for name, test := range map[string]func(*testing.T, apdu.Card){
		"select default":    testSelectDefault,
		"select unknown":    testSelectUnknown,
		"cplc":              testCPLC,
		"cplc short le":     testShortLe,
		"unknown command":   testUnknownCommand,
		"cancelled context": testCancelled,
		"slices":            testSlices,
		"garbage":           testGarbage,
		"get response":      testGetResponse,
		"atr":               testATR,
		"reset":             testReset,
		"list":              testList,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var (
	selectDefault = []byte{0x00, 0xA4, 0x04, 0x00, 0x00}
	getCPLC       = []byte{0x80, 0xCA, 0x9F, 0x7F, 0x00}
	unknownAID    = apdu.MustAID("F0494E4B414E2D6E6F2D73756368")
)

// send transmits and checks what holds for every answer.
func send(t *testing.T, card apdu.Card, cmd []byte) apdu.Response {
	t.Helper()
	b, err := card.Transmit(t.Context(), cmd)
	if err != nil {
		t.Fatalf("%X: %v", cmd, err)
	}
	r, err := apdu.ParseResponse(b)
	if err != nil {
		t.Fatalf("%X: %v", cmd, err)
	}
	if sw1 := r.SW.SW1(); sw1&0xF0 != 0x60 && sw1&0xF0 != 0x90 || sw1 == 0x60 {
		t.Fatalf("%X: status %v is none of ISO 7816-4", cmd, uint16(r.SW))
	}
	return r
}

func testSelectDefault(t *testing.T, card apdu.Card) {
	r := send(t, card, selectDefault)
	switch sw1 := r.SW.SW1(); {
	case r.SW == apdu.SWSuccess, r.SW == apdu.SWCardLocked, sw1 == 0x61, sw1 == 0x6C:
	default:
		t.Fatalf("default SELECT: %v", r.SW)
	}
	fci, err := gp.Select(t.Context(), apdu.NewConn(card), apdu.AID{})
	if err != nil {
		t.Fatal(err)
	}
	if fci.AID.Len() < 5 {
		t.Errorf("FCI %X names no AID", fci.Raw)
	}
	if _, err := gp.Select(t.Context(), apdu.NewConn(card), fci.AID); err != nil {
		t.Errorf("the card does not know the AID of its own FCI: %v", err)
	}
}

func testSelectUnknown(t *testing.T, card apdu.Card) {
	conn := apdu.NewConn(card)
	if _, err := gp.Select(t.Context(), conn, unknownAID); !errors.Is(err, apdu.SWFileNotFound) {
		t.Errorf("unknown AID: %v, want 6A82", err)
	}
	if _, err := gp.Select(t.Context(), conn, apdu.AID{}); err != nil {
		t.Errorf("default SELECT after a failed one: %v", err)
	}
}

func testCPLC(t *testing.T, card apdu.Card) {
	conn := apdu.NewConn(card)
	if _, err := gp.Select(t.Context(), conn, apdu.AID{}); err != nil {
		t.Fatal(err)
	}
	first, err := gp.ReadCPLC(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	second, err := gp.ReadCPLC(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Errorf("CPLC changed between two readings: %+v, then %+v", first, second)
	}
	if first.CUID().IsZero() {
		t.Error("CPLC gives an empty CUID")
	}
}

// testShortLe asks for the CPLC as Dogtag does, with Le 2D, and with an Le that is
// too short: the card names the length, or sends everything.
func testShortLe(t *testing.T, card apdu.Card) {
	send(t, card, selectDefault)
	for _, le := range []byte{0x2D, 0x10} {
		cmd := append(append([]byte(nil), getCPLC[:4]...), le)
		r := send(t, card, cmd)
		if r.SW.SW1() == 0x6C {
			cmd[4] = r.SW.SW2()
			r = send(t, card, cmd)
		}
		if r.SW != apdu.SWSuccess && r.SW.SW1() != 0x61 {
			t.Errorf("%X: %v", cmd, r.SW)
		}
	}
}

func testUnknownCommand(t *testing.T, card apdu.Card) {
	send(t, card, selectDefault)
	for _, cmd := range [][]byte{{0x80, 0xFE, 0x00, 0x00}, {0x00, 0xFE, 0x00, 0x00, 0x00}, {0x80, 0x0B, 0x12, 0x34, 0x02, 0xAA, 0xBB}} {
		r := send(t, card, cmd)
		if r.SW.SW1()&0xF0 != 0x60 || r.SW.SW1() == 0x61 || len(r.Data) != 0 {
			t.Errorf("%X: %v with %d bytes of data, want an error status", cmd, r.SW, len(r.Data))
		}
	}
	send(t, card, selectDefault)
}

func testCancelled(t *testing.T, card apdu.Card) {
	send(t, card, selectDefault)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, err := card.Transmit(ctx, selectDefault); err == nil {
		t.Errorf("cancelled context: answer %X, want an error", b)
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled context: %v is not context.Canceled", err)
	}
	send(t, card, selectDefault) // the card is still there
}

// testSlices: the answer belongs to the caller, the command is neither changed nor
// kept.
func testSlices(t *testing.T, card apdu.Card) {
	send(t, card, selectDefault)
	cmd := append([]byte(nil), getCPLC...)
	transmit := func() []byte {
		b, err := card.Transmit(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := transmit()
	keep := append([]byte(nil), first...)
	if !bytes.Equal(cmd, getCPLC) {
		t.Errorf("the card changed the command into %X", cmd)
	}
	for i := range first[:cap(first)] {
		first[:cap(first)][i] = 0xA5
	}
	second := transmit()
	if !bytes.Equal(second, keep) {
		t.Errorf("writing to an answer changed the next: %X, then %X", keep, second)
	}
	for i := range cmd {
		cmd[i] = 0xFF
	}
	if r := send(t, card, selectDefault); r.SW.SW1()&0xF0 == 0x60 && r.SW.SW1() != 0x61 && r.SW.SW1() != 0x6C && r.SW != apdu.SWCardLocked {
		t.Errorf("SELECT after the caller reused its command: %v", r.SW)
	}
	if !bytes.Equal(second, keep) {
		t.Errorf("a later exchange changed an earlier answer: %X, was %X", second, keep)
	}
}

// testGarbage: what is no command is refused, by the card with a status or on the
// way with an error, and the card works afterwards.
func testGarbage(t *testing.T, card apdu.Card) {
	for _, cmd := range [][]byte{
		nil, {0x00}, {0x00, 0xA4}, {0x00, 0xA4, 0x04},
		{0x00, 0xA4, 0x04, 0x00, 0x10, 0xA0},             // Lc says more
		{0x00, 0xA4, 0x04, 0x00, 0x01, 0xA0, 0x00, 0x00}, // Lc says less
		{0x80, 0xCA, 0x9F, 0x7F, 0x00, 0x00},             // cut extended length
		{0xFF, 0xFF, 0xFF, 0xFF},
	} {
		b, err := card.Transmit(t.Context(), cmd)
		if err != nil {
			continue
		}
		r, err := apdu.ParseResponse(b)
		if err != nil || r.SW.SW1()&0xF0 != 0x60 || len(r.Data) > 0 {
			t.Errorf("%X: answer %X, want an error status", cmd, b)
		}
	}
	send(t, card, selectDefault)
	if _, err := gp.ReadCPLC(t.Context(), apdu.NewConn(card)); err != nil {
		t.Errorf("the card does not work after garbage: %v", err)
	}
}

// testGetResponse: hosts ask for an answer that is not there.
func testGetResponse(t *testing.T, card apdu.Card) {
	send(t, card, selectDefault)
	r := send(t, card, []byte{0x00, 0xC0, 0x00, 0x00, 0x00})
	if len(r.Data) > 0 && r.SW.SW1()&0xF0 == 0x60 && r.SW.SW1() != 0x61 {
		t.Errorf("GET RESPONSE: %v with %d bytes of data", r.SW, len(r.Data))
	}
	if _, err := gp.ReadCPLC(t.Context(), apdu.NewConn(card)); err != nil {
		t.Errorf("the card does not work after GET RESPONSE: %v", err)
	}
}

func testATR(t *testing.T, card apdu.Card) {
	a, ok := card.(interface{ ATR() apdu.ATR })
	if !ok {
		return // optional
	}
	b := a.ATR()
	if b == nil {
		return // a card behind this one may tell none
	}
	if len(b) < 2 || len(b) > 33 || b[0] != 0x3B && b[0] != 0x3F {
		t.Errorf("ATR %v", b)
	}
}

// testReset: after a reset the default application is selected again.
func testReset(t *testing.T, card apdu.Card) {
	r, ok := card.(interface{ Reset(context.Context) error })
	if !ok {
		return // optional
	}
	send(t, card, selectDefault)
	before, err := gp.ReadCPLC(t.Context(), apdu.NewConn(card))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Reset(t.Context()); errors.Is(err, apdu.ErrUnsupported) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	send(t, card, selectDefault)
	after, err := gp.ReadCPLC(t.Context(), apdu.NewConn(card))
	if err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Errorf("another card after the reset: %v, was %v", after.CUID(), before.CUID())
	}
}

// testList holds a card that takes lists against the rules of
// apdu.FrameTransmitter, and every card against those of apdu.DoAll.
func testList(t *testing.T, card apdu.Card) {
	unknown := []byte{0x80, 0xFE, 0x00, 0x00}
	for _, tc := range []struct {
		frames []apdu.Frame
		want   int
	}{
		{[]apdu.Frame{{Cmd: selectDefault}, {Cmd: getCPLC}, {Cmd: getCPLC}}, 3},
		{[]apdu.Frame{{Cmd: selectDefault}, {Cmd: unknown}, {Cmd: getCPLC}}, 2},
		{[]apdu.Frame{{Cmd: selectDefault}, {Cmd: unknown, Anyway: true}, {Cmd: getCPLC}}, 3},
	} {
		got, err := runFrames(t.Context(), card, tc.frames)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != tc.want {
			t.Errorf("list of %d: %d answers, want %d", len(tc.frames), len(got), tc.want)
		}
		for i, r := range got {
			if bytes.Equal(tc.frames[i].Cmd, getCPLC) && (r.SW != apdu.SWSuccess || len(r.Data) != 45) {
				t.Errorf("answer %d: %v with %d bytes, want the CPLC", i+1, r.SW, len(r.Data))
			}
		}
	}
	testListCancelled(t, card)
}

// runFrames runs frames as the card takes lists, or through a Conn.
func runFrames(ctx context.Context, card apdu.Card, frames []apdu.Frame) ([]apdu.Response, error) {
	es := make([]apdu.Entry, len(frames))
	for i, f := range frames {
		c, err := apdu.ParseCommand(f.Cmd)
		if err != nil {
			return nil, err
		}
		es[i].Command = c
		if f.Anyway {
			es[i].Mode = apdu.Anyway
		}
	}
	ft, ok := card.(apdu.FrameTransmitter)
	if !ok {
		return apdu.DoAll(ctx, apdu.NewConn(card), es)
	}
	raw, err := ft.TransmitAll(ctx, frames)
	if err != nil {
		return nil, err
	}
	rs := make([]apdu.Response, len(raw))
	for i, b := range raw {
		if rs[i], err = apdu.ParseResponse(b); err != nil {
			return nil, fmt.Errorf("answer %d: %w", i+1, err)
		}
	}
	return rs, nil
}

func testListCancelled(t *testing.T, card apdu.Card) {
	ft, ok := card.(apdu.FrameTransmitter)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := ft.TransmitAll(ctx, []apdu.Frame{{Cmd: selectDefault}}); err == nil || len(got) > 0 {
		t.Errorf("list with a cancelled context: %d answers, %v", len(got), err)
	}
}
