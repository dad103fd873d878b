package kiosk_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/cli/kiosk"
	"inkan/cli/station"
	"inkan/pcsc"
	"inkan/tps/auth"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// scenes are the screens that matter, each after the one before.
var scenes = []struct {
	name string
	play func(*kiosk.Bench)
	ends string // what stands last in the pane and must not be cut off
}{
	{"choosing", func(b *kiosk.Bench) { b.Shows("Gemalto PC Twin Reader 01 00", issued) }, "Format: empty the card"},
	{"losing", func(b *kiosk.Bench) { b.Press("up", "enter") }, "Yes, format"},
	{"working", func(b *kiosk.Bench) {
		b.Press("y")
		b.Tells("Gemalto PC Twin Reader 01 00", 45, "PROGRESS_APPLET_BLOCK")
	}, "Do not take the card out."},
	{"stopping", func(b *kiosk.Bench) { b.Press("esc") }, "Yes, stop"},
	{"failed", func(b *kiosk.Bench) {
		b.Ends("Gemalto PC Twin Reader 01 00", end(28, nil))
		b.Shows("Gemalto PC Twin Reader 01 00", begun)
	}, "(Code 28.)"},
	{"login", func(b *kiosk.Bench) {
		b.Press("enter")
		b.AsksLogin("Gemalto PC Twin Reader 01 00", auth.Form{Title: "Log in", Description: "Enter your user name and password.", Invalid: true, Fields: login.Fields})
	}, "Password"},
	{"pin", func(b *kiosk.Bench) {
		b.AsksPIN("Gemalto PC Twin Reader 01 00", 4, 10)
		b.Press("4711", "enter", "47")
	}, "Once more"},
	{"done", func(b *kiosk.Bench) {
		b.Press("11", "enter")
		b.Ends("Gemalto PC Twin Reader 01 00", nil)
		b.Shows("Gemalto PC Twin Reader 01 00", issued)
	}, "The card may be taken out."},
	{"waiting", func(b *kiosk.Bench) { b.Pull("Gemalto PC Twin Reader 01 00") }, "Insert a card."},
}

// TestScreens draws every scene for one reader and for three, and compares those of
// an ordinary terminal with the golden files. On the smallest screen nothing that
// matters is cut off.
func TestScreens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		readers       []string
		width, height int
	}{
		{"one", nil, 80, 24}, {"wide", otherReaders, 132, 30}, {"narrow", otherReaders, 80, 24},
	} {
		b := kiosk.NewBench()
		for _, r := range c.readers {
			b.Reader(pcsc.ReaderAdded, r)
		}
		b.Insert("Gemalto PC Twin Reader 01 00")
		var all strings.Builder
		for _, s := range scenes {
			s.play(b)
			text := b.Screen(c.width, c.height)
			all.WriteString("--- " + s.name + "\n" + text + "\n")
			if small := flat(b.Screen(60, 20)); !strings.Contains(small, s.ends) {
				t.Errorf("%s, %s: the smallest screen does not show %q:\n%s", c.name, s.name, s.ends, b.Screen(60, 20))
			}
			checkSize(t, b, c.width, c.height)
			checkSize(t, b, 60, 20)
		}
		golden(t, filepath.Join("testdata", c.name+".golden"), all.String())
	}
}

var otherReaders = []string{"HID Global OMNIKEY 3x21 Smart Card Reader 00 00", "Alcor Micro AU9560 02 00"}

// checkSize fails where a screen does not fit its terminal.
func checkSize(t *testing.T, b *kiosk.Bench, width, height int) {
	t.Helper()
	lines := strings.Split(b.Screen(width, height), "\n")
	if len(lines) != height {
		t.Errorf("a screen of %d lines has %d", height, len(lines))
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > width {
			t.Errorf("a line of %d cells is longer than %d: %q", n, width, l)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite it with -update after a look):\n%s", file, got)
	}
}

// TestSmall: too small a window says so, and what is typed then does nothing.
func TestSmall(t *testing.T) {
	t.Parallel()
	b := with(t, station.Info{CUID: "C1"})
	for _, size := range [][2]int{{59, 30}, {100, 19}, {1, 1}} {
		if s := b.Screen(size[0], size[1]); !strings.Contains(s, "too small") {
			t.Errorf("%v: %s", size, s)
		}
	}
	if s := b.Screen(0, 0); s != "" {
		t.Errorf("before its size is known a terminal is sent %q", s)
	}
}
