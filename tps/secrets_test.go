package tps_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/token"
)

// spying is a key service that notes every secret it hands out or is given, so
// that they can be searched for.
type spying struct {
	tks.Service
	mu   sync.Mutex
	seen map[string]string // what it is, by its value
}

func (s *spying) note(what string, secrets ...secret.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range secrets {
		if v.Len() > 0 {
			s.seen[string(v.Bytes())] = what
		}
	}
}

func (s *spying) DeriveSession(ctx context.Context, r tks.SessionRequest) (tks.SessionReply, error) {
	rep, err := s.Service.DeriveSession(ctx, r)
	s.note("session key", rep.ENC, rep.MAC, rep.RMAC)
	return rep, err
}

func (s *spying) Encrypt(ctx context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	s.note("challenge", r.Data)
	return s.Service.Encrypt(ctx, r)
}

// listening collects everything that anybody could read afterwards.
type listening struct {
	text, json bytes.Buffer
	out        []string // errors, tasks
}

func (l *listening) logger() *slog.Logger {
	debug := &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}
	return slog.New(slog.NewMultiHandler(slog.NewTextHandler(&l.text, debug), slog.NewJSONHandler(&l.json, debug)))
}

// everything returns it all as one text, with records as JSON and as Go prints them.
func (l *listening) everything(t *testing.T, s *site) string {
	t.Helper()
	ctx := t.Context()
	var w strings.Builder
	put := func(v any, err error) {
		must(t, err)
		b, err := json.Marshal(v)
		must(t, err)
		fmt.Fprintf(&w, "%s\n%+v\n%#v\n", b, v, v)
	}
	w.WriteString(l.text.String() + l.json.String() + strings.Join(l.out, "\n"))
	put(s.audit.(*memoryAudit).events, nil)
	activities, err := s.db.Activities(ctx, token.Filter{Limit: 1000})
	put(activities, err)
	journals, err := s.db.Journals(ctx, token.Filter{Limit: 1000})
	put(journals, err)
	tokens, err := s.db.Tokens(ctx, token.Filter{Limit: 1000})
	put(tokens, err)
	certs, err := s.db.Certificates(ctx, token.Filter{Limit: 1000})
	for i := range certs { // printed as lists of numbers they only cost time
		certs[i].DER, certs[i].Issuer, certs[i].AKI = nil, nil, nil
	}
	put(certs, err)
	return w.String()
}

// spellings are the ways in which bytes get into a text.
func spellings(b []byte) []string {
	var dec, goHex []string
	for _, c := range b {
		dec, goHex = append(dec, fmt.Sprint(c)), append(goHex, fmt.Sprintf("0x%x", c))
	}
	quoted := fmt.Sprintf("%q", b)
	return []string{
		string(b), quoted[1 : len(quoted)-1], hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), fmt.Sprintf("% x", b), fmt.Sprintf("% X", b),
		strings.Join(dec, " "), strings.Join(dec, ","), strings.Join(dec, ", "), strings.Join(goHex, ", "), strings.Join(goHex, ","),
		base64.StdEncoding.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b),
	}
}

// leaked says which secrets are in a text, all in one pass over it.
func leaked(text string, secrets map[string]string) (names []string) {
	const mark = "\x00LEAK\x00"
	var pairs []string
	for value, what := range secrets {
		for _, spelling := range spellings([]byte(value)) {
			pairs = append(pairs, spelling, mark+what+mark)
		}
	}
	found := strings.Split(strings.NewReplacer(pairs...).Replace(text), mark)
	for i := 1; i < len(found); i += 2 {
		if !slices.Contains(names, found[i]) {
			names = append(names, found[i])
		}
	}
	slices.Sort(names)
	return names
}

// TestDEF22NoSecretLeaks runs all operations, also failing ones, with everything logged
// that can be, and searches log, trace, audit, activities, journals, records,
// errors and progress for every PIN, password and key that was used.
func TestDEF22NoSecretLeaks(t *testing.T) {
	t.Parallel()
	for model, set := range map[string]string{"gp-scp02": "des", "gp-scp03": "site", "gp-scp03-s16": "site"} {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			l := &listening{}
			s := newSite(t)
			spy := &spying{Service: s.local, seen: map[string]string{}}
			s.keys, s.log = spy, l.logger()
			archive := s.archive()
			s.put(ecProfile("test", withServerMade("coolkey", map[string]string{
				`set = "site"`: fmt.Sprintf("set = %q", set), "[applet]": "[enroll]\nseveral_active = true\n[applet]",
			})))
			leakingLife(t, s, l, spy, model)
			for _, cut := range []int{12, 24, 33, 41} { // everywhere in an enrollment, also while the PIN is on its way
				leakingCut(t, s, l, model, cut)
			}
			text := l.everything(t, s)
			for _, k := range archive.keys {
				spy.note("private key", k.Private, secret.New(scalar(t, k)))
			}
			for what, value := range knownSecrets {
				spy.seen[value] = what
			}
			if got := leaked(text, spy.seen); len(got) > 0 {
				t.Errorf("in the open: %s", strings.Join(got, ", "))
			}
			seesEnough(t, text, spy.seen)
		})
	}
}

// knownSecrets are what people type, and the factory keys. The PINs are as long as can
// be, so that no time in the log, in nanoseconds, has one by chance.
var knownSecrets = map[string]string{
	"password": "right", "wrong password": "Wr0ngPassw0rd", "first PIN": "8260417935", "second PIN": "5917360824", "simple PIN": "123456789", "long PIN": "90817263544536271809",
	"factory key": "\x40\x41\x42\x43\x44\x45\x46\x47\x48\x49\x4A\x4B\x4C\x4D\x4E\x4F",
	"passphrase":  "passphrase of the test",
}

// did keeps what an operation told.
func (l *listening) did(c *client, err error) error {
	l.out = append(l.out, c.tasks...)
	for e := err; e != nil; e = errors.Unwrap(e) {
		l.out = append(l.out, e.Error(), fmt.Sprintf("%+v %#v", e, e))
	}
	return err
}

// leakingLife is a card's life with all that goes wrong in it.
func leakingLife(t *testing.T, s *site, l *listening, spy *spying, model string) {
	path := filepath.Join(t.TempDir(), "card.img")
	card, err := sim.Create(path, model, 0)
	must(t, err)
	defer card.Close()
	traced := apdu.Trace(card, s.log)
	pin := func(pins ...string) func(*client, *tps.Request) {
		return func(c *client, _ *tps.Request) { c.pins = pins }
	}
	for _, step := range []struct {
		op   tps.Operation
		edit func(*client, *tps.Request)
		fail bool
	}{
		{op: tps.OpFormat, edit: func(c *client, _ *tps.Request) { c.password = "Wr0ngPassw0rd" }, fail: true},
		{op: tps.OpEnroll, edit: pin("123456789", "123456789", "123456789"), fail: true},
		{op: tps.OpEnroll, edit: pin("90817263544536271809", "8260417935")},
		{op: tps.OpPINReset, edit: pin("5917360824")},
		{op: tps.OpPINReset, edit: as("bob"), fail: true},
		{op: tps.OpKeyChangeover, edit: pin("5917360824")},
		{op: tps.OpPINReset, edit: pin("8260417935")},
		{op: tps.OpEnroll, edit: pin("5917360824")},
		{op: tps.OpFormat, edit: pin("5917360824")},
	} {
		if err := l.did(s.run(step.op, traced, step.edit)); (err != nil) != step.fail {
			t.Errorf("%s: %v, want an error: %v", step.op, err, step.fail)
		}
		spy.onImage(t, path)
	}
}

// leakingCut enrolls a card that leaves in the middle, breaks its answers, and
// comes back; a key service that fails is among it.
func leakingCut(t *testing.T, s *site, l *listening, model string, n int) {
	card := newCard(t, model)
	traced := apdu.Trace(card, s.log)
	pin := func(c *client, _ *tps.Request) { c.pins = []string{"8260417935"} }
	card.Cut(n, sim.After)
	if l.did(s.run(tps.OpEnroll, traced, pin)) == nil {
		t.Errorf("cut %d was not noticed", n)
	}
	card.Insert()
	whole := s.keys
	s.keys = &faultyKeys{Service: whole, n: 6, after: true}
	_ = l.did(s.run(tps.OpEnroll, traced, pin))
	s.keys = whole
	for _, ins := range []byte{0x82, 0x40, 0x04, 0x0D, 0x0A, 0x54} { // the card refuses what carries or needs a secret
		_ = l.did(s.run(tps.OpEnroll, &refusing{Card: traced, ins: ins, sw: apdu.SWNoMemory}, pin))
	}
	must(t, l.did(s.run(tps.OpEnroll, traced, pin)))
	_ = l.did(s.run(tps.OpKeyChangeover, &refusing{Card: traced, ins: 0xD8, sw: apdu.SWNoMemory}))
}

// seesEnough makes sure that the search could have found something: the log holds
// what it should, and secrets of every kind were searched for.
func seesEnough(t *testing.T, text string, secrets map[string]string) {
	t.Helper()
	for _, want := range []string{"exchange", "operation failed", "operation done", `"msg":"step"`, "TOKEN_PIN_SET", "TOKEN_KEY_CHANGEOVER", "generate-key", "import-key", "PROGRESS_"} {
		if !strings.Contains(text, want) {
			t.Errorf("nothing says %q: was anything logged?", want)
		}
	}
	kinds := map[string]int{}
	for _, what := range secrets {
		kinds[what]++
	}
	if kinds["session key"] < 20 || kinds["challenge"] < 8 || kinds["private key"] < 8 || kinds["card key"] != 3 { // of the site; the factory's is known
		t.Errorf("searched for %v", kinds)
	}
	planted := text + fmt.Sprintf("%x", knownSecrets["factory key"]) + `PIN=5917360824` + base64.StdEncoding.EncodeToString([]byte(knownSecrets["wrong password"]))
	if got := leaked(planted, secrets); !slices.Equal(got, []string{"factory key", "second PIN", "wrong password"}) {
		t.Errorf("planted three secrets, found %q", got)
	}
}

// onImage notes the keys that a card has according to its image file: also those
// that only the key service and the card know.
func (s *spying) onImage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	var image struct {
		Card struct {
			Sets []struct{ Keys []struct{ Value []byte } }
		}
	}
	const header = 8 + 2 + 4 + 32 // magic, format, length, checksum
	must(t, json.Unmarshal(b[header:], &image))
	for _, set := range image.Card.Sets {
		for _, k := range set.Keys {
			s.note("card key", secret.New(k.Value))
		}
	}
}
