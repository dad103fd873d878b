//go:build unix

package server_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/tps/token"
)

// recipe is the profile of the README's recipe for tpsclient.
func recipe(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	must(t, err)
	_, rest, found := strings.Cut(string(b), "    name = \"softToken\"\n")
	if !found {
		t.Fatal("the README has no profile softToken")
	}
	doc := "name = \"softToken\"\n"
	for line := range strings.Lines(rest) {
		if line != "\n" && !strings.HasPrefix(line, "    ") {
			return doc
		}
		doc += strings.TrimPrefix(line, "    ")
	}
	return doc
}

// Operations of BEGIN_OP.
const (
	opEnroll   = 1
	opResetPIN = 3
	opFormat   = 5
)

func (p *plainNode) client(last byte, profile string) *tpsClient {
	return &tpsClient{address: p.at.Plain, token: newSoftToken(last), user: "ada", pass: "analytical", pin: "p4ssword",
		extensions: []string{"tokenType=" + profile}}
}

// TestTPSClient formats, enrolls and resets the PIN of Dogtag's soft token with
// the README's profile, and with C-MAC alone; with the logins, extensions and
// addresses that its scripts may use.
func TestTPSClient(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "127.0.0.1:0")
	doc := recipe(t)
	p.put(t, doc)
	p.put(t, strings.NewReplacer(`"softToken"`, `"macToken"`, `level = "enc"`, `level = "mac"`, "empty_field = true", "empty_field = false",
		"[compat]", "[enroll]\nseveral_active = true\n[compat]").Replace(doc))
	for i, c := range []struct {
		profile, path string
		more          []string
		mac           bool
	}{
		{profile: "softToken"},
		{profile: "macToken", path: "/tps/tps", more: []string{"statusUpdate=true", "clientVersion=ESC/1.0", "extendedLoginRequest=true"}},
	} {
		cl := p.client(byte(i), c.profile)
		cl.path, cl.extensions = c.path, append(c.more, cl.extensions...)
		for _, op := range []int{opFormat, opEnroll, opResetPIN} {
			cl.pin = fmt.Sprintf("p4ssword%d", op)
			got, err := cl.run(t, op)
			if err != nil || got != (result{operation: op}) {
				t.Fatalf("profile %s, operation %d: %+v, %v\n%s", c.profile, op, got, err, p.log)
			}
		}
		if string(cl.token.pin) != "p4ssword3" || cl.token.wrong != 0 || cl.token.commands == 0 {
			t.Errorf("PIN %q, %d of %d commands refused", cl.token.pin, cl.token.wrong, cl.token.commands)
		}
		if slices.Contains(cl.types, 32) {
			t.Error("batches for a client that did not ask for them")
		}
		if login := map[bool]int{false: 3, true: 16}[len(c.more) > 0]; !slices.Contains(cl.types, login) {
			t.Errorf("messages %v, want %d among them", cl.types, login)
		}
		if told := slices.Contains(cl.tasks, "PROGRESS_KEY_GENERATION"); told != (len(c.more) > 0) {
			t.Errorf("status updates %q", cl.tasks)
		}
		rec, err := p.DB.Token(t.Context(), cl.token.cuid)
		must(t, err)
		if rec.State != token.Active || rec.UserID != "ada" || rec.KeySet != "factory" || !bytes.Equal(rec.KeyInfo, []byte{1, 1}) {
			t.Errorf("record %+v", rec)
		}
		for _, a := range activities(t, p, cl.token) {
			if !a.Success {
				t.Errorf("activity %+v", a)
			}
		}
		certs, err := p.DB.CertificatesOf(t.Context(), cl.token.cuid)
		must(t, err)
		if len(certs) != 1 || certs[0].State != token.CertActive {
			t.Errorf("certificates %+v", certs)
		}
	}
}

func activities(t *testing.T, p *plainNode, s *softToken) []token.Activity {
	t.Helper()
	all, err := p.DB.Activities(t.Context(), token.Filter{CUID: (*apdu.CUID)(&s.cuid)})
	must(t, err)
	if len(all) < 4 { // added, formatted, enrolled, PIN reset
		t.Errorf("activities %+v", all)
	}
	return all
}

// TestCompat turns every switch that the soft token needs the other way: the
// operation in question fails, and the client is told.
func TestCompat(t *testing.T) {
	t.Parallel()
	p := servedPlain(t, "127.0.0.1:0")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	for i, c := range []struct {
		name, on, off string
		fails         int // operation
		left          bool
	}{
		{"no-le", "no_le = true", "no_le = false", opEnroll, false},
		{"empty-field", "empty_field = true", "empty_field = false", opEnroll, true},
		{"list-keys", "list_keys = false", "list_keys = true", opFormat, true},
		{"clear-slots", "clear_slots = false", "clear_slots = true", opEnroll, true},
		{"read-back", "read_back = false", "read_back = true", opEnroll, false},
		{"applet-check", "applet_check = false", "applet_check = true", opFormat, false},
	} {
		t.Run("switch="+c.name, func(t *testing.T) {
			doc := recipe(t)
			if !strings.Contains(doc, c.on) {
				t.Fatalf("the recipe does not say %s", c.on)
			}
			p.put(t, strings.NewReplacer(`"softToken"`, `"`+c.name+`"`, c.on, c.off).Replace(doc))
			cl := p.client(byte(0x10+i), c.name)
			cl.token.newKey = func(_ int, challenge []byte) []byte { return resultOf(key, challenge) }
			for _, op := range []int{opFormat, opEnroll} {
				got, err := cl.run(t, op)
				if op != c.fails {
					if err != nil || got.result != 0 {
						t.Fatalf("operation %d: %+v, %v", op, got, err)
					}
					continue
				}
				if c.left != errors.Is(err, errLeft) || !c.left && (err != nil || got.result != 1) {
					t.Errorf("operation %d with %s: %+v, %v", op, c.off, got, err)
				}
				return
			}
		})
	}
}

// TestSoftTokenTranscript holds our soft token against Dogtag's: the answers that
// the real one gave to recorded commands, byte for byte. Its challenges and keys
// are taken from the record.
func TestSoftTokenTranscript(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]byte{"tpsclient-enc.txt": 0xC9, "tpsclient-mac.txt": 0xCA} {
		f, err := os.Open(filepath.Join("..", "..", "fixtures", "transcripts", name))
		must(t, err)
		defer f.Close()
		tr, err := apdutest.ReadTranscript(f)
		must(t, err)
		s := newSoftToken(last)
		changed := false
		for i, x := range tr.Steps {
			ins := x.Cmd[1]
			if ins == 0x50 && len(x.Answer) > 2 {
				s.challenge = func() [8]byte { return [8]byte(x.Answer[12:]) }
			}
			s.newKey = func(int, []byte) []byte { return recordedKey(tr.Steps[i+1:]) }
			changed = changed || ins == 0xD8
			got, err := s.transmit(x.Cmd)
			if err != nil || !bytes.Equal(got, x.Answer) {
				t.Fatalf("%s, exchange %d, command %X:\n got %X, %v\nwant %X", name, i+1, x.Cmd, got, err, x.Answer)
			}
		}
		if s.wrong != 0 || s.commands < 20 || changed != (name == "tpsclient-mac.txt") {
			t.Errorf("%s: %d of %d commands refused, keys changed: %t", name, s.wrong, s.commands, changed)
		}
	}
}

// recordedKey puts the pieces together in which a key was read.
func recordedKey(steps []apdutest.Step) (key []byte) {
	for _, x := range steps {
		if x.Cmd[1] != 0x56 {
			break
		}
		key = append(key, x.Answer[:len(x.Answer)-2]...)
	}
	return key
}
