package tps_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/gp/loadfile"
	"inkan/fixtures"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/audit"
	familycoolkey "inkan/tps/coolkey"
	"inkan/tps/token"
)

// Load files in the folder of the tests, oldest first.
const oldApplet, midApplet, newApplet = fixtures.DefaultApplet, "1.5.66000002", "1.6.66000003"

// wanting is the test profile with another applet version and more edits.
func wanting(version string, edits ...string) string {
	e := map[string]string{oldApplet: version}
	for i := 0; i < len(edits); i += 2 {
		e[edits[i]] = edits[i+1]
	}
	return ecProfile("test", e)
}

// loads counts the LOAD and DELETE commands that reach a card.
type loads struct {
	apdu.Card
	n atomic.Int32
}

func (c *loads) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) > 1 && (cmd[1] == 0xE8 || cmd[1] == 0xE4) {
		c.n.Add(1)
	}
	return c.Card.Transmit(ctx, cmd)
}

// appletOn is the version of the applet on a card, empty where there is none.
func appletOn(t testing.TB, card apdu.Card) string {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	if err := coolkey.Select(t.Context(), conn); errors.Is(err, apdu.SWFileNotFound) {
		return ""
	}
	v, err := coolkey.ReadVersion(t.Context(), conn)
	must(t, err)
	return v.String()
}

// enrolled is a card of ada with the old or another applet.
func enrolled(t *testing.T, s *site, model, version string) *sim.Card {
	t.Helper()
	s.put(wanting(version))
	card := newCard(t, model)
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	if got := appletOn(t, card); got != version {
		t.Fatalf("the card was enrolled with applet %q, want %s", got, version)
	}
	return card
}

// TestApplet loads another version of the applet onto a card that is enrolled, or
// does not: what is on the card, what its record says, what became of the
// certificates whose keys went, and what is told of it.
func TestApplet(t *testing.T) {
	t.Parallel()
	const noUpdate, noDowngrade = "[applet]\nupdate = false", "[applet]\ndowngrade = false"
	for _, c := range []struct {
		name      string
		op        tps.Operation
		had, want string
		applet    string // the profile's [applet]
		change    string // as audited; "" = nothing is loaded
		after     string // version
		refused   tps.Status
	}{
		{name: "update", op: tps.OpEnroll, had: oldApplet, want: midApplet, change: "update", after: midApplet},
		{name: "update by two", op: tps.OpEnroll, had: oldApplet, want: newApplet, change: "update", after: newApplet},
		{name: "update", op: tps.OpFormat, had: oldApplet, want: midApplet, change: "update", after: midApplet},
		{name: "update where no downgrade is allowed", op: tps.OpEnroll, had: oldApplet, want: midApplet, applet: noDowngrade, change: "update", after: midApplet},
		{name: "update not allowed", op: tps.OpEnroll, had: oldApplet, want: midApplet, applet: noUpdate, after: oldApplet},
		{name: "format updates all the same", op: tps.OpFormat, had: oldApplet, want: midApplet, applet: noUpdate, change: "update", after: midApplet},
		{name: "downgrade", op: tps.OpEnroll, had: newApplet, want: midApplet, change: "downgrade", after: midApplet},
		{name: "downgrade", op: tps.OpFormat, had: newApplet, want: oldApplet, change: "downgrade", after: oldApplet},
		{name: "downgrade not allowed", op: tps.OpEnroll, had: newApplet, want: midApplet, applet: noDowngrade, refused: tps.StatusApplet},
		{name: "downgrade not allowed", op: tps.OpFormat, had: newApplet, want: midApplet, applet: noDowngrade, refused: tps.StatusApplet},
		{name: "newer one may stay", op: tps.OpEnroll, had: newApplet, want: midApplet, applet: noUpdate + "\ndowngrade = false", after: newApplet},
		{name: "up to date", op: tps.OpEnroll, had: midApplet, want: midApplet, after: midApplet},
		{name: "up to date", op: tps.OpFormat, had: midApplet, want: midApplet, change: "reload", after: midApplet},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.op, c.name), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := enrolled(t, s, "gp-scp03", c.had)
			cuid := onlyToken(t, s)
			before, err := s.db.CertificatesOf(t.Context(), cuid)
			must(t, err)
			edits := []string{}
			if c.applet != "" {
				edits = []string{"[applet]", c.applet}
			}
			s.put(wanting(c.want, edits...))
			log := &memoryAudit{}
			s.audit = log
			counted := &loads{Card: card}
			_, err = s.run(c.op, counted)
			if c.refused != 0 {
				wantStatus(t, err, c.refused)
				if counted.n.Load() != 0 || appletOn(t, card) != c.had || s.openOn(t, cuid) != nil {
					t.Errorf("refused, but the card was touched")
				}
				unharmed(t, s, card, cuid)
				return
			}
			must(t, err)
			rec, err := s.db.Token(t.Context(), cuid)
			must(t, err)
			if got := appletOn(t, card); got != c.after || rec.AppletID != c.after {
				t.Errorf("the card has applet %s, its record says %s, want %s", got, rec.AppletID, c.after)
			}
			if loaded := counted.n.Load() > 0; loaded != (c.change != "") {
				t.Errorf("%d commands that delete or load, want change %q", counted.n.Load(), c.change)
			}
			for _, old := range before { // their keys are gone, or replaced
				now, err := s.db.Certificate(t.Context(), old.ID)
				must(t, err)
				if now.State != token.CertRevoked {
					t.Errorf("certificate %s of before is %s", now.Serial, now.State)
				}
			}
			if c.op == tps.OpEnroll {
				unharmed(t, s, card, cuid)
			}
			toldOf(t, s, log, cuid, c.change, c.had, c.after)
		})
	}
}

// toldOf sees what audit and activity say of an applet that was loaded.
func toldOf(t *testing.T, s *site, log *memoryAudit, cuid apdu.CUID, change, from, to string) {
	t.Helper()
	var outcomes []audit.Outcome
	for _, e := range log.events {
		if e.Name != "TOKEN_APPLET_UPGRADE" {
			continue
		}
		outcomes = append(outcomes, e.Outcome)
		if f := e.Fields; f["from"] != from || f["to"] != to || f["change"] != change || !strings.Contains(f["lost"], "2 certificates") || !strings.Contains(f["lost"], "PIN") {
			t.Errorf("audited %v, want a %s from %s to %s with all that it cost", f, change, from, to)
		}
	}
	if want := map[bool]int{false: 0, true: 2}[change != ""]; len(outcomes) != want {
		t.Errorf("audited %v", outcomes)
	}
	as, err := s.db.Activities(t.Context(), token.Filter{CUID: &cuid, Limit: 1})
	must(t, err)
	text := as[0].Message
	if strings.Contains(text, "gone from the card") != (change != "") {
		t.Errorf("activity %q after %q", text, change)
	}
	if told := strings.Contains(text, fmt.Sprintf("applet %s to %s (%s)", from, to, change)); told != (from != to && change != "") {
		t.Errorf("activity %q after %q from %s to %s", text, change, from, to)
	}
}

// withFiles gives the nodes of a site other load files.
func (s *site) withFiles(files fs.FS) {
	s.adjust = func(c *tps.Config) { c.Families = []tps.Family{familycoolkey.Family{Applets: files}} }
}

func loadFile(t *testing.T, version string) []byte {
	t.Helper()
	b, err := fixtures.Applet(version)
	must(t, err)
	return b
}

// TestLoadFiles: a load file that is missing or makes another applet is found out
// before the card is touched, by format and by enroll; a card that needs none is
// enrolled without.
func TestLoadFiles(t *testing.T) {
	t.Parallel()
	foreign := bytes.ReplaceAll(loadFile(t, midApplet), []byte{0x62, 0x76, 0x01, 0xFF}, []byte{0x62, 0x76, 0x02, 0xFF})
	for _, c := range []struct {
		name, text string
		files      fs.FS
	}{
		{"missing", "folder applets", fstest.MapFS{}},
		{"folder missing", "folder applets", os.DirFS(filepath.Join(t.TempDir(), "none"))},
		{"another version's", "holds applet " + newApplet, fstest.MapFS{midApplet + ".ijc": {Data: loadFile(t, newApplet)}}},
		{"foreign applet", "not the CoolKey applet", fstest.MapFS{midApplet + ".ijc": {Data: foreign}}},
		{"torn", "load file", fstest.MapFS{midApplet + ".ijc": {Data: loadFile(t, midApplet)[:100]}}},
	} {
		t.Run("file="+c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := enrolled(t, s, "gp-scp03", oldApplet)
			s.withFiles(c.files)
			s.put(wanting(midApplet))
			for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll} {
				counted := &loads{Card: card}
				_, err := s.run(op, counted)
				wantStatus(t, err, tps.StatusMisconfiguration)
				if !strings.Contains(err.Error(), c.text) || counted.n.Load() != 0 {
					t.Errorf("%s: %v, with %d commands that delete or load", op, err, counted.n.Load())
				}
				unharmed(t, s, card, onlyToken(t, s))
			}
			s.put(wanting(oldApplet))
			_, err := s.run(tps.OpEnroll, card) // needs none
			must(t, err)
			unharmed(t, s, card, onlyToken(t, s))
		})
	}
}

// TestDEF04OneSpellingOfVersions finds files that are named in capitals, as old ones are.
func TestDEF04OneSpellingOfVersions(t *testing.T) {
	t.Parallel()
	const version = "1.3.44724dde"
	s := newSite(t)
	card := newCard(t, "gp-scp02")
	v, err := loadfile.ParseCoolKeyVersion(version)
	must(t, err)
	made, err := loadfile.Synthetic(v)
	must(t, err)
	s.withFiles(fstest.MapFS{"1.3.44724DDE.ijc": {Data: made}, "README": {Data: made}})
	s.put(wanting(version))
	_, err = s.run(tps.OpFormat, card)
	must(t, err)
	if rec, err := s.db.Token(t.Context(), onlyToken(t, s)); err != nil || rec.AppletID != version || appletOn(t, card) != version {
		t.Errorf("record %+v (%v), applet %s", rec, err, appletOn(t, card))
	}
}

// stranger has another application under the applet's name until that is deleted.
type stranger struct {
	apdu.Card
	gone bool
}

func (c *stranger) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	switch {
	case len(cmd) > 1 && cmd[1] == 0xE4:
		c.gone = true
	case !c.gone && len(cmd) > 1 && cmd[0] == 0x00 && cmd[1] == 0xA4 && bytes.Contains(cmd, coolkey.InstanceAID().Bytes()):
		return []byte{0x6F, 0x00, 0x90, 0x00}, nil
	case !c.gone && len(cmd) > 1 && cmd[0] == 0xB0:
		return []byte{0x6D, 0x00}, nil
	}
	return c.Card.Transmit(ctx, cmd)
}

// TestForeignApplet: another application that has the applet's name makes way,
// unless the profile takes no card without an applet.
func TestForeignApplet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	s.put(wanting(midApplet, "[applet]", "[applet]\nempty_card = false"))
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll} {
		_, err := s.run(op, &stranger{Card: card})
		wantStatus(t, err, tps.StatusDisabledToken)
	}
	s.put(wanting(midApplet))
	_, err := s.run(tps.OpEnroll, &stranger{Card: card})
	must(t, err)
	cuid := onlyToken(t, s)
	if rec, err := s.db.Token(t.Context(), cuid); err != nil || rec.AppletID != midApplet || appletOn(t, card) != midApplet {
		t.Errorf("record %+v (%v), applet %s", rec, err, appletOn(t, card))
	}
	unharmed(t, s, card, cuid)
}

// TestAppletGone cuts an update while the card has no applet. The profile takes no
// empty cards, but this one is known: the same operation goes on, and another one
// does after it has rolled this one back, whose record then is right.
func TestAppletGone(t *testing.T) {
	t.Parallel()
	for _, then := range []tps.Operation{tps.OpEnroll, tps.OpFormat, tps.OpPINReset} {
		t.Run("then="+string(then), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := enrolled(t, s, "gp-scp03", oldApplet)
			cuid := onlyToken(t, s)
			s.put(wanting(midApplet, "[applet]", "[applet]\nempty_card = false"))
			if _, err := s.run(tps.OpEnroll, &cutAt{Card: card, ins: 0xE8}); err == nil || appletOn(t, card) != "" {
				t.Fatalf("cut while loading: %v, applet %q", err, appletOn(t, card))
			}
			_, err := s.run(then, card)
			want := midApplet
			if then == tps.OpPINReset {
				wantStatus(t, err, tps.StatusNotPINResettable)
				want = ""
			} else {
				must(t, err)
			}
			rec, err := s.db.Token(t.Context(), cuid)
			must(t, err)
			if rec.AppletID != want || appletOn(t, card) != want {
				t.Errorf("the record says %q, the card has %q, want %q", rec.AppletID, appletOn(t, card), want)
			}
			if then == tps.OpPINReset { // rolled back: the way out
				if rec.State != token.Formatted || rec.UserID != "" {
					t.Errorf("record %+v", rec)
				}
				_, err = s.run(tps.OpEnroll, card)
				must(t, err)
			}
			if then != tps.OpFormat {
				unharmed(t, s, card, cuid)
			}
			certs, err := s.db.CertificatesOf(t.Context(), cuid)
			must(t, err)
			for _, c := range certs[:2] {
				if c.State != token.CertRevoked {
					t.Errorf("certificate %s, whose key is gone, is %s", c.Serial, c.State)
				}
			}
		})
	}
}

// cutAt loses the card at the first command with an instruction.
type cutAt struct {
	apdu.Card
	ins byte
}

func (c *cutAt) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) > 1 && cmd[1] == c.ins {
		return nil, apdu.ErrCardRemoved
	}
	return c.Card.Transmit(ctx, cmd)
}

// TestDEF16NoStaleApplet: an update that ends after the applet was loaded leaves
// a record that names the new one.
func TestDEF16NoStaleApplet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := enrolled(t, s, "gp-scp03", oldApplet)
	cuid := onlyToken(t, s)
	s.put(wanting(midApplet))
	_, err := s.run(tps.OpEnroll, &cutAt{Card: card, ins: 0x0D}) // GENERATE KEY of EC keys
	wantStatus(t, err, tps.StatusConnectionLost)
	if rec, err := s.db.Token(t.Context(), cuid); err != nil || rec.AppletID != midApplet || appletOn(t, card) != midApplet {
		t.Errorf("record %+v (%v), applet %s", rec, err, appletOn(t, card))
	}
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	unharmed(t, s, card, cuid)
}
