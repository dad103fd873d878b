package wire_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// deleteApplet is a command that a dry run never sends.
var deleteApplet = []byte{0x80, 0xE4, 0, 0, 7, 0x4F, 5, 1, 2, 3, 4, 5}

var selectManager = []byte{0x00, 0xA4, 0x04, 0x00, 0x00}

func TestDryRun(t *testing.T) {
	t.Parallel()
	report := bytes.Repeat([]byte("report"), 8000) // longer than other messages
	for _, batch := range []int{0, 64} {
		for _, status := range []int{0, 26} {
			t.Run(fmt.Sprintf("batch=%d/status=%d", batch, status), func(t *testing.T) {
				t.Parallel()
				s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
					if !s.DryRun() {
						t.Error("no dry run was asked for")
					}
					if err := s.AgreeToDryRun(ctx); err != nil {
						t.Error(err)
					}
					var card apdu.Card = s
					if b := s.Batching(); b != nil {
						card = b
					}
					for _, c := range []struct {
						cmd []byte
						bad bool
					}{{selectManager, false}, {deleteApplet, true}, {selectManager, false}} {
						if _, err := card.Transmit(ctx, c.cmd); c.bad != errors.Is(err, wire.ErrDryRun) || !c.bad && err != nil {
							t.Errorf("command %X: %v", c.cmd, err)
						}
					}
					if _, err := s.NewPIN(ctx, 4, 8); !errors.Is(err, wire.ErrDryRun) {
						t.Errorf("a PIN was asked for: %v", err)
					}
					if _, err := s.Login(ctx, loginForm); err != nil {
						t.Error(err)
					}
					if err := s.Report(ctx, bytes.Repeat([]byte{1}, 1<<16)); err == nil {
						t.Error("a report that fits no message was sent")
					}
					if err := s.Report(ctx, report); err != nil {
						t.Error(err)
					}
					return status
				})
				card := &fakeCard{}
				res, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format, DryRun: true, Batch: batch}, card, &person{})
				if status == 0 && err != nil || status != 0 && endStatus(t, err) != status {
					t.Errorf("ended with %v", err)
				}
				if !bytes.Equal(res.Report, report) || len(card.commands()) != 2 {
					t.Errorf("report of %d bytes, commands %X", len(res.Report), card.commands())
				}
				if status != 0 && !strings.Contains(err.Error(), "dry run of format failed (status 26)") {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}

// TestNoDryRun: a server that does the operation in place of telling what it would do
// gets nothing done.
func TestNoDryRun(t *testing.T) {
	t.Parallel()
	pdu := func(cmd []byte) string {
		return fmt.Sprintf("msg_type=9&pdu_size=%d&pdu_data=%s", len(cmd), escapedBytes(cmd))
	}
	batch := "msg_type=32&pdu_count=2&pdu_data=" + base64.RawURLEncoding.EncodeToString(
		slices.Concat([]byte{0, 0, 5}, selectManager, []byte{0, 0, byte(len(deleteApplet))}, deleteApplet))
	const (
		agree = "msg_type=34"
		form  = "msg_type=16&invalid_pw=0&blocked=0&title=T&description=D&required_parameter0=id%%3D%s%%26name%%3DN%%26desc%%3D%%26type%%3Dpassword%%26option%%3D"
	)
	for _, c := range []struct {
		name string
		asks []string
		want error
		sent int // commands that reach the card
	}{
		{"old server", []string{pdu(selectManager)}, wire.ErrNoDryRun, 0},
		{"old server with batches", []string{batch}, wire.ErrNoDryRun, 0},
		{"login first", []string{"msg_type=3&invalid_pw=0&blocked=0"}, wire.ErrNoDryRun, 0},
		{"form first", []string{fmt.Sprintf(form, "UID")}, wire.ErrNoDryRun, 0},
		{"status first", []string{"msg_type=14&current_state=0&next_task_name=X"}, wire.ErrNoDryRun, 0},
		{"command that writes", []string{agree, pdu(selectManager), pdu(deleteApplet)}, wire.ErrDryRun, 1},
		{"batch with a command that writes", []string{agree, batch}, wire.ErrDryRun, 0},
		{"new PIN", []string{agree, "msg_type=11&minimum_length=4&maximum_length=8"}, wire.ErrDryRun, 0},
		{"PIN of the card", []string{agree, fmt.Sprintf(form, "UID"), fmt.Sprintf(form, "UID"), fmt.Sprintf(form, "CARD_PIN")}, wire.ErrDryRun, 0},
		{"no report", []string{agree, pdu(selectManager), "msg_type=13&operation=5&result=0&message=0"}, wire.ErrNoDryRun, 1},
		{"success at once", []string{"msg_type=13&operation=5&result=0&message=0"}, wire.ErrNoDryRun, 0},
	} {
		t.Run("case="+c.name, func(t *testing.T) {
			t.Parallel()
			cl := scripted(t, func(s *rawClient) {
				s.accept(responseHead)
				for _, a := range c.asks[:len(c.asks)-1] {
					s.ask(a)
				}
				last := c.asks[len(c.asks)-1]
				s.send(last)
				if got := s.chunk(); got != "" {
					t.Errorf("answered with %q", got)
				}
				if !strings.HasPrefix(last, "msg_type=13&") {
					s.send("msg_type=13&operation=5&result=1&message=28")
				}
			})
			card := &fakeCard{}
			p := &person{
				login: func(context.Context, auth.Form) (auth.Answers, error) { return auth.Answers{"UID": sec("x")}, nil },
				pin: func(context.Context, int, int) (secret.PIN, error) {
					t.Error("a PIN was asked for")
					return secret.PIN{}, errRefused
				},
			}
			res, err := wire.Run(t.Context(), cl, wire.Begin{Operation: wire.Format, DryRun: true, Batch: 64}, card, p)
			if endStatus(t, err) != 8 || !errors.Is(err, c.want) || !strings.Contains(err.Error(), "the card was not changed; have the server updated") {
				t.Errorf("error %v", err)
			}
			if len(card.commands()) != c.sent || len(res.Report) > 0 {
				t.Errorf("commands %X, report %q", card.commands(), res.Report)
			}
		})
	}
}

// escapedBytes writes all of b as %XX.
func escapedBytes(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		fmt.Fprintf(&s, "%%%02X", c)
	}
	return s.String()
}

// TestReports: nobody gets a report who did not ask for a dry run.
func TestReports(t *testing.T) {
	t.Parallel()
	s := serve(t, wire.Config{}, func(ctx context.Context, s *wire.Session) int {
		if err := s.AgreeToDryRun(ctx); !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("server: %v", err)
		}
		return 28
	})
	_, err := wire.Run(t.Context(), s.client(), wire.Begin{Operation: wire.Format}, &fakeCard{}, &person{})
	if endStatus(t, err) != 28 || !errors.Is(err, wire.ErrProtocol) {
		t.Errorf("error %v", err)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cmd  string
		want bool
	}{
		{"\x00\xA4\x04\x00", true}, {"\x00\xA4\x00\x00\x02\x3F\x00", false}, {"\x80\x50\x00\x00\x08........\x00", true},
		{"\x80\xCA\x9F\x7F\x00", true}, {"\x84\xCA\x9F\x7F\x08........", false}, {"\x84\x82\x33\x00\x10", false},
		{"\x00\x20\x00\x80", true}, {"\x00\x20\x00\x80\x00", true}, {"\x00\x20\x00\x80\x08123456\xFF\xFF", false}, {"\x00\x20\xFF\x80", false},
		{"\x00\x20\x00\x80\x01", false}, {"\x00\x87\x03\x9B\x04\x7C\x02\x80\x00", true}, {"\x00\x87\x11\x9A\x04\x7C\x02\x80\x00", false},
		{"\x10\x87\x03\x9B\x04\x7C\x02\x80\x00", false}, {"\x00\xCB\x3F\xFF\x05\x5C\x03\x5F\xC1\x05\x00", true}, {"\x00\xDB\x3F\xFF\x01\x00", false},
		{"\x00\xFB\x00\x00", false}, {"\x00\xF9\x9A\x00", false}, {"\xB0\x42\x00\x00\x04....", false}, {"\xB0\x56\x00\x00\x09.........", true}, {"\x00\xCA", false}, {"", false},
	} {
		if got := wire.Reads([]byte(c.cmd)); got != c.want {
			t.Errorf("%X: %t", c.cmd, got)
		}
	}
}
