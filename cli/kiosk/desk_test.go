package kiosk_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/cli/kiosk"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/auth"
	"inkan/tps/wire"
)

// Cards as they show themselves.
var (
	blank    = station.Info{CUID: "C1", Manager: "A000000151000000"}
	empty    = station.Info{CUID: "C1", Applet: &station.Applet{PIN: "none"}}
	begun    = station.Info{CUID: "C1", Applet: &station.Applet{PIN: "set, 3 tries left"}}
	issued   = station.Info{CUID: "C1", Applet: &station.Applet{PIN: "set, 3 tries left", Certificates: certificates(2027)}}
	blocked  = station.Info{CUID: "C1", Applet: &station.Applet{PIN: "blocked", Certificates: certificates(2027)}}
	outdated = station.Info{CUID: "C1", Applet: &station.Applet{PIN: "set", Certificates: certificates(2025)}}
	ending   = until(2026, 12, 20)
	ended    = until(2026, 11, 1)
	foreign  = station.Info{ATR: "3B00"}
)

func until(year, month, day int) station.Info {
	end := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	return station.Info{CUID: "C1", Applet: &station.Applet{PIN: "set", Certificates: []station.Certificate{{NotAfter: end}}}}
}

func certificates(year int) []station.Certificate {
	end := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	return []station.Certificate{{NotAfter: end}, {NotAfter: end.AddDate(1, 0, 0)}}
}

var login = auth.Form{Title: "Log in", Fields: []auth.Field{{ID: "UID", Name: "User name"}, {ID: "PASSWORD", Name: "Password", Secret: true}}}

// shows fails unless the screen has all texts.
func shows(t *testing.T, b *kiosk.Bench, texts ...string) {
	t.Helper()
	s := flat(b.Screen(100, 30))
	for _, x := range texts {
		if !strings.Contains(s, x) {
			t.Errorf("the screen does not show %q:\n%s", x, b.Screen(100, 30))
		}
	}
}

// flat is a screen as one line, without frames, so that wrapped text is found.
func flat(s string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("┃", " ", "│", " ", "\n", " ").Replace(s)), " ")
}

func wants(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("the desk wants %q done, should be %q", got, want)
	}
}

// with is a bench with a card in reader r.
func with(t *testing.T, i station.Info) *kiosk.Bench {
	t.Helper()
	b := kiosk.NewBench()
	wants(t, b.Insert("r"), "look r")
	wants(t, b.Shows("r", i), "")
	return b
}

// TestOffers: what a card is called, and what is offered first.
func TestOffers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		card  station.Info
		shows []string
		enter string // what Enter begins, after yes where that is asked
	}{
		{"blank", blank, []string{"A new card", "▸ Enroll", "Format"}, "enroll r C1"},
		{"empty", empty, []string{"An empty card", "▸ Enroll", "Format", "Change the card's own keys"}, "enroll r C1"},
		{"begun", begun, []string{"not finished", "▸ Finish", "Enroll", "Format"}, "enroll r C1 resume"},
		{"issued", issued, []string{"A card in use", "2 certificates, until 2027-01-01.", "PIN set, 3 tries left.", "▸ Set a new PIN", "Enroll again", "Format"}, "reset-pin r C1"},
		{"blocked", blocked, []string{"Its PIN is blocked.", "▸ Set a new PIN"}, "reset-pin r C1"},
		{"about to end", ending, []string{"▸ Renew: new certificates, the same keys", "Set a new PIN", "Enroll again", "Format"}, "renew r C1"},
		{"just ended", ended, []string{"▸ Renew", "Enroll again"}, "renew r C1"},
		{"outdated", outdated, []string{"▸ Enroll again", "Set a new PIN"}, "enroll r C1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := with(t, c.card)
			shows(t, b, c.shows...)
			got := b.Press("enter")
			if got == "" {
				shows(t, b, "This will be lost:", "[ No, keep it ]")
				wants(t, b.Press("enter"), "")
				shows(t, b, "What shall be done with it?")
				got = b.Press("enter", "right", "enter")
			}
			wants(t, got, c.enter)
		})
	}
}

// TestLosses: nothing of a person goes before the person has seen what, and said yes.
func TestLosses(t *testing.T) {
	t.Parallel()
	b := with(t, issued)
	wants(t, b.Press("up", "enter"), "") // the last offer
	shows(t, b, "Format erases the card. This will be lost:", "2 certificates, until 2027-01-01.", "cannot be read with this card again", "Its PIN.", "[ No, keep it ] Yes, format")
	wants(t, b.Press("n"), "")
	wants(t, b.Press("enter", "esc"), "")
	wants(t, b.Press("enter", "y"), "format r C1")
	b = with(t, blank)
	wants(t, b.Press("down", "enter"), "")
	shows(t, b, "Whatever else it is used for.")
	b = with(t, station.Info{CUID: "C1", PIV: &station.PIV{PIN: "3 tries left of 3", Slots: []station.PIVSlot{{Slot: "82", Retired: true}, {Slot: "83", Retired: true}}}})
	wants(t, b.Press("up", "enter"), "")
	shows(t, b, "Format erases the card. This will be lost:", "Its PIN.", "2 former keys, for what was encrypted to them.")
}

// TestEnroll is a whole enrollment.
func TestEnroll(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	wants(t, b.Press("enter"), "enroll r C1")
	shows(t, b, "Do not take the card out.")
	b.AsksLogin("r", login)
	shows(t, b, "Log in", "▸ User name ▏")
	wants(t, b.Press("ada", "enter", "enter"), "")
	shows(t, b, "Password is missing.")
	wants(t, b.Press("pässx", "backspace", "enter"), "login")
	if string(b.Answers["UID"].Bytes()) != "ada" || string(b.Answers["PASSWORD"].Bytes()) != "päss" {
		t.Errorf("the desk answers %q, %q", b.Answers["UID"].Bytes(), b.Answers["PASSWORD"].Bytes())
	}
	again := login
	again.Invalid = true
	b.AsksLogin("r", again)
	shows(t, b, "User name or password is wrong.", "User name ada", "▸ Password ▏")
	wants(t, b.Press("secret", "enter"), "login")
	b.AsksLogin("r", auth.Form{Title: "PIN of the card", Description: "Wrong PIN, 2 tries left.", Invalid: true, Fields: []auth.Field{{ID: "CARD_PIN", Name: "PIN of the card", Secret: true}}})
	shows(t, b, "Wrong PIN, 2 tries left.", "That was not right.", "▸ PIN of the card")
	wants(t, b.Press("271828", "enter"), "login")
	b.AsksPIN("r", 4, 8)
	shows(t, b, "Choose a PIN", "4 to 8 characters")
	for _, bad := range []struct{ first, second, says string }{
		{"4711", "4712", "The two are not the same."}, {"471", "471", "The PIN has to have 4 to 8 characters."},
		{"47111112&", "47111112&", "4 to 8 characters"}, {"47&11", "47&11", "cannot have these characters"},
	} {
		wants(t, b.Press(bad.first, "enter", bad.second, "enter"), "")
		shows(t, b, bad.says)
		if b.Typed() != "" {
			t.Errorf("a refused PIN is still held: %q", b.Typed())
		}
	}
	wants(t, b.Press("12345", "enter", "12345", "enter"), "pin")
	b.AsksPIN("r", 4, 8)
	shows(t, b, "too simple")
	wants(t, b.Press("4711", "enter", "4711", "enter"), "pin")
	if b.PIN != "4711" || b.Typed() != "" {
		t.Errorf("PIN %q, still held %q", b.PIN, b.Typed())
	}
	b.Tells("r", 40, "generate-key signing")
	shows(t, b, "40 %", "Generate key signing", "Do not take the card out.")
	wants(t, b.Ends("r", nil), "look r")
	shows(t, b, "The card is complete.", "The card may be taken out.")
	b.Shows("r", issued)
	shows(t, b, "A card in use", "The card may be taken out.")
	wants(t, b.Pull("r"), "")
	shows(t, b, "Insert a card.", "The card is complete.")
	wants(t, b.Insert("r"), "look r")
}

// TestSecretsStayOffScreen types every secret and looks at the screen.
func TestSecretsStayOffScreen(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	b.Press("enter")
	b.AsksLogin("r", auth.Form{Fields: []auth.Field{{ID: "A", Name: "Answer", Secret: true}, {ID: "B", Secret: true}}})
	b.Press("Sesame-1", "enter", "Sesame-2")
	shows(t, b, "Answer ••••••••", "▸ B ••••••••▏")
	if s := b.Screen(100, 30); strings.Contains(s, "Sesame") {
		t.Errorf("the screen shows a secret:\n%s", s)
	}
	b.Withdraws("r")
	if b.Typed() != "" {
		t.Errorf("after the end of a question %q is still held", b.Typed())
	}
}

// failures: how an operation can end, and what the person is told.
var failures = []struct {
	name    string
	written bool // the server had begun to write to the card
	err     error
	shows   string
	finish  bool // the next offer is to finish it
}{
	{"server gone before", false, end(47, errors.New("connection refused")), "The server could not be reached. The card was not changed. Check the server's address", false},
	{"server gone in between", true, end(28, errors.New("EOF")), "The connection ended before the operation did. The card may be half written but is not lost", true},
	{"busy", false, end(1, nil), "another operation holds this card", false},
	{"login", false, end(14, nil), "The login was not accepted. The card was not changed.", false},
	{"unknown card", false, end(16, nil), "Have an operator format the card first. (Code 16.)", false},
	{"not proved", false, end(17, nil), "could not prove themselves", false},
	{"terminated", false, end(35, nil), "This card may not be used any more. Give it to an agent.", false},
	{"owner", false, end(43, nil), "belongs to somebody else", false},
	{"published", true, end(24, nil), "The card itself is in order.", false},
	{"unknown code", true, end(99, nil), "Note the code and ask the help desk. (Code 99.)", false},
	{"other card", false, errors.New("x"), "The card cannot be reached. The card was not changed. Take it out", false},
	{"in use", false, fmt.Errorf("connecting: %w", pcsc.ErrInUse), "Another program is using this card.", false},
	{"keys fail", true, &station.NotProvedError{Err: errors.New("x")}, "The card is enrolled, but a try of its keys failed.", false},
	{"changed", false, station.ErrOtherCard, "This is not the card that was here before.", false},
	{"removed", true, end(8, fmt.Errorf("sending: %w", apdu.ErrCardRemoved)), "The card was taken out too early. It is not lost: insert it again to finish.", true},
}

func end(status int, err error) error {
	return &wire.EndError{Operation: wire.Enroll, Status: status, Err: err}
}

// TestFailures: every failure ends in a sentence, and the reader is ready again.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			b := with(t, blank)
			b.Press("enter")
			if f.written {
				b.Tells("r", 30, "PROGRESS_APPLET_BLOCK")
			}
			wants(t, b.Ends("r", f.err), "look r")
			b.Shows("r", empty)
			shows(t, b, f.shows)
			first := "▸ Enroll"
			if f.finish {
				first = "▸ Finish: enroll the card"
			}
			shows(t, b, first)
			if got := b.Press("enter"); !strings.HasPrefix(got, "enroll r C1") || strings.HasSuffix(got, "resume") != f.finish {
				t.Errorf("Enter begins %q", got)
			}
		})
	}
}

// TestPulled takes the card out at every stage and puts it in again.
func TestPulled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		until  func(*kiosk.Bench)
		todo   string // at the removal
		ends   error  // how the operation then ends; nil: none runs
		shows  string
		finish bool
	}{
		{"choosing", func(b *kiosk.Bench) {}, "", nil, "The card was not changed.", false},
		{"asked", func(b *kiosk.Bench) { b.Press("down", "enter") }, "", nil, "The card was not changed.", false},
		{"server looks", func(b *kiosk.Bench) { b.Press("enter") }, "cancel", end(8, context.Canceled), "The card was not changed. Insert it again.", false},
		{"login", func(b *kiosk.Bench) { b.Press("enter"); b.AsksLogin("r", login); b.Press("ada") }, "cancel", end(8, context.Canceled), "The card was not changed.", false},
		{"PIN", func(b *kiosk.Bench) { b.Press("enter"); b.AsksPIN("r", 4, 8); b.Press("4711") }, "cancel", end(8, context.Canceled), "The card was not changed.", false},
		{"writing", func(b *kiosk.Bench) { b.Press("enter"); b.Tells("r", 5, "PROGRESS_APPLET_BLOCK") }, "cancel", end(8, apdu.ErrCardRemoved), "It is not lost: insert it again to finish.", true},
		{"finished at the last moment", func(b *kiosk.Bench) { b.Press("enter"); b.Tells("r", 99, "finish-card") }, "cancel", errNone, "The card is complete.", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := with(t, blank)
			c.until(b)
			wants(t, b.Pull("r"), c.todo)
			if b.Typed() != "" {
				t.Errorf("still held: %q", b.Typed())
			}
			if c.ends != nil {
				shows(t, b, "The card was taken out. Ending")
				err := c.ends
				if errors.Is(err, errNone) {
					err = nil
				}
				wants(t, b.Ends("r", err), "")
			}
			shows(t, b, "Ready. Insert a card.", c.shows)
			wants(t, b.Insert("r"), "look r")
			b.Shows("r", empty)
			if c.finish {
				shows(t, b, "A card that was not finished", "▸ Finish: enroll the card")
			} else {
				shows(t, b, "▸ Enroll")
			}
		})
	}
}

var errNone = errors.New("no error")

// TestSwapped puts another card in before the operation with the first has ended.
func TestSwapped(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	b.Press("enter")
	b.Tells("r", 5, "PROGRESS_APPLET_BLOCK")
	wants(t, b.Pull("r"), "cancel")
	wants(t, b.Insert("r"), "")
	wants(t, b.Ends("r", end(8, apdu.ErrCardRemoved)), "look r")
	other := blank
	other.CUID = "C2"
	b.Shows("r", other)
	shows(t, b, "A new card", "The card was taken out too early.")
	// The first one is known in whatever reader it comes back.
	wants(t, b.Insert("s"), "look s")
	b.Shows("s", empty)
	b.Press("f2")
	shows(t, b, "▸ Finish: enroll the card")
}

// TestReading: a look at a card that fails, or is overtaken.
func TestReading(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		err   error
		shows string
		enter string
	}{
		{"gone", apdu.ErrCardRemoved, "Insert it again.", "look r"},
		{"in use", pcsc.ErrInUse, "Another program is using this card. Close it, then press Enter.", "look r"},
		{"mute", pcsc.ErrMute, "insert it with the chip in front", "look r"},
		{"reset", pcsc.ErrReset, "Another program disturbed the reading.", "look r"},
		{"other", errors.New("bad"), "The card cannot be read.", "look r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := kiosk.NewBench()
			b.Insert("r")
			shows(t, b, "Reading the card")
			b.Fails("r", fmt.Errorf("looking: %w", c.err))
			shows(t, b, c.shows)
			wants(t, b.Press("enter"), c.enter)
			b.Shows("r", blank)
			shows(t, b, "A new card")
		})
	}
	b := kiosk.NewBench()
	b.Insert("r")
	b.Pull("r")
	wants(t, b.Insert("r"), "") // the reading of the first goes on
	wants(t, b.Shows("r", issued), "look r")
	b.Shows("r", blank)
	shows(t, b, "A new card")
	b.Reader(pcsc.CardMute, "s")
	b.Press("f2")
	shows(t, b, "The card does not answer.")
	b.Pull("s")
	shows(t, b, "Ready. Insert a card.")
	b = with(t, foreign)
	shows(t, b, "Not a card for this desk", "Take it out and use another one.")
	wants(t, b.Pull("r"), "")
	b.Insert("r")
	b.Damaged("r", blank)
	shows(t, b, "A card that was not finished", "▸ Finish what was begun on it")
}

// TestReaders: readers come and go, and so does the service.
func TestReaders(t *testing.T) {
	t.Parallel()
	b := kiosk.NewBench()
	shows(t, b, "No card reader is connected.", "Plug one in.")
	b.ServiceLost(fmt.Errorf("opening: %w", errors.New("no PC/SC service: start pcscd")))
	shows(t, b, "No PC/SC service: start pcscd.", "goes on by itself")
	for _, r := range []string{"b", "a", "c"} {
		b.Reader(pcsc.ReaderAdded, r)
	}
	if b.Readers() != "a b c" || b.Focus() != "b" {
		t.Errorf("readers %q, focus on %q", b.Readers(), b.Focus())
	}
	b.Reader(pcsc.ReaderRemoved, "a")
	b.Reader(pcsc.CardRemoved, "a") // late news
	if b.Readers() != "b c" || b.Focus() != "b" {
		t.Errorf("readers %q, focus on %q", b.Readers(), b.Focus())
	}
	// A reader whose card is being written keeps its place until that has ended.
	b.Insert("c")
	b.Shows("c", blank)
	b.Press("f2", "enter")
	b.Tells("c", 50, "PROGRESS_APPLET_BLOCK")
	wants(t, b.Pull("c"), "cancel")
	wants(t, b.Reader(pcsc.ReaderRemoved, "c"), "cancel")
	b.ServiceLost(errors.New("PC/SC service stopped"))
	wants(t, b.Ends("c", end(8, apdu.ErrCardRemoved)), "")
	shows(t, b, "The reader was unplugged. It is not lost: plug it in again and insert the card to finish.")
	b.Reader(pcsc.ReaderAdded, "c")
	wants(t, b.Insert("c"), "look c")
	b.Shows("c", empty)
	shows(t, b, "▸ Finish: enroll the card")
	b.Pull("c")
	b.Reader(pcsc.ReaderRemoved, "c")
	b.Reader(pcsc.ReaderRemoved, "b")
	if b.Readers() != "" || b.Press("enter", "ctrl+n", "f1", "f9") != "" {
		t.Errorf("readers %q are left", b.Readers())
	}
	// One that never comes back is cleared away by Enter.
	b.Insert("d")
	b.Shows("d", blank)
	b.Press("enter")
	b.Reader(pcsc.ReaderRemoved, "d")
	b.Ends("d", end(8, context.Canceled))
	shows(t, b, "The reader was unplugged. The card was not changed. Plug it in again.")
	b.Press("enter")
	shows(t, b, "No card reader is connected.")
}

// TestFocus: keys go to the card that asks, and never away from who is typing.
func TestFocus(t *testing.T) {
	t.Parallel()
	b := kiosk.NewBench()
	at := func(reader string) {
		t.Helper()
		if b.Focus() != reader {
			t.Fatalf("the keys go to %q, should go to %q", b.Focus(), reader)
		}
	}
	for _, r := range []string{"a", "b", "c"} {
		b.Reader(pcsc.ReaderAdded, r)
	}
	b.Insert("b")
	b.Insert("c")
	b.Shows("c", blank)
	at("c")
	b.Shows("b", blank)
	at("c")
	b.Press("enter")
	at("c") // the server is about to ask
	b.AsksLogin("c", login)
	b.Press("ada", "tab", "x", "tab")
	at("c")
	b.Press("tab", "enter")
	b.AsksPIN("c", 4, 8)
	b.Press("4711", "enter", "4711", "enter")
	at("c")
	b.Tells("c", 3, "register-token")
	at("b") // c can be left alone now
	b.Press("ctrl+n")
	at("c")
	b.Tells("c", 9, "PROGRESS_APPLET_BLOCK")
	at("c") // the person went there
	b.Press("ctrl+n", "ctrl+n")
	at("b")
	b.Press("tab")
	at("c")
	b.Press("shift+tab", "shift+tab")
	at("a")
	b.Insert("a")
	b.Shows("a", blank)
	at("a")
	b.Press("f3", "f9")
	at("c")
}

// TestStop: Esc stops an operation, after a question where it would be cut.
func TestStop(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	b.Press("enter")
	b.AsksLogin("r", login)
	wants(t, b.Press("ada", "esc"), "cancel")
	wants(t, b.Press("enter", "esc", "x"), "")
	wants(t, b.AsksPIN("r", 4, 8), "cancel") // a question that crossed it
	wants(t, b.Ends("r", end(14, context.Canceled)), "look r")
	b.Shows("r", blank)
	shows(t, b, "Stopped. The card was not changed.")
	b.Press("enter")
	b.Tells("r", 20, "PROGRESS_APPLET_BLOCK")
	wants(t, b.Press("esc"), "")
	shows(t, b, "Stop? The card is not lost", "[ No, go on ]")
	wants(t, b.Press("enter"), "")
	shows(t, b, "20 %")
	wants(t, b.Press("esc", "y"), "cancel")
	wants(t, b.Ends("r", end(8, context.Canceled)), "look r")
	b.Shows("r", empty)
	shows(t, b, "Stopped. It is not lost: go on with it now or later.", "▸ Finish: enroll the card")
}

// TestLeave: the kiosk leaves at once where nothing runs, else it asks.
func TestLeave(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	wants(t, b.Press("ctrl+c"), "wait, leave")
	b = with(t, blank)
	b.Press("enter")
	b.AsksLogin("r", login)
	b.Press("ada", "tab", "Sesame")
	wants(t, b.Press("ctrl+c"), "")
	shows(t, b, "An operation is running.", "[ No, go on ]")
	wants(t, b.Press("esc"), "")
	shows(t, b, "▸ Password ••••••▏")
	wants(t, b.Press("ctrl+c", "right", "enter"), "cancel, wait")
	shows(t, b, "Ending the work on the cards.")
	wants(t, b.Press("ctrl+c", "enter"), "")
	if b.Typed() != "" {
		t.Errorf("still held: %q", b.Typed())
	}
	wants(t, b.Ends("r", end(8, context.Canceled)), "leave")
	b = with(t, blank)
	b.Press("enter")
	wants(t, b.Interrupt(), "cancel, wait")
	wants(t, b.Interrupt(), "")
	wants(t, b.PatienceEnds(), "leave")
}

// TestLate: news of what has ended already changes nothing.
func TestLate(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	b.Press("enter")
	wants(t, b.Ends("r", nil), "look r")
	b.Shows("r", issued)
	before := b.Screen(100, 30)
	for _, todo := range []string{b.Ends("r", errors.New("x")), b.AsksLogin("r", login), b.AsksPIN("r", 1, 2), b.Tells("r", 5, "x"), b.Withdraws("r"), b.Shows("r", blank)} {
		wants(t, todo, "")
	}
	if after := b.Screen(100, 30); after != before {
		t.Errorf("late news changed the screen to\n%s", after)
	}
}

// TestForeignText: what a card or a server says cannot move the cursor.
func TestForeignText(t *testing.T) {
	t.Parallel()
	b := with(t, blank)
	b.Press("enter")
	b.AsksLogin("r", auth.Form{Title: "\x1b[2J\u202eTitle", Description: "a\tb\r\n", Blocked: true, Fields: []auth.Field{{ID: "x\x07"}}})
	b.Press("one\x1b[31m two")
	shows(t, b, "Title", "▸ x one[31m two▏", "Too many wrong answers.")
}
