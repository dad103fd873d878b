package manager_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/cli/manager"
	"inkan/fixtures"
	"inkan/securechannel"
	"inkan/sim"
)

var (
	pkg    = apdu.MustAID("627601FF0000")
	module = apdu.MustAID("627601FF000000")
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// counted counts the commands that reach a card.
type counted struct {
	apdu.Card
	sent int
}

func (c *counted) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.sent++
	return c.Card.Transmit(ctx, cmd)
}

func newCard(t testing.TB, model string) *counted {
	t.Helper()
	c, err := sim.New(sim.Config{Model: model})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return &counted{Card: c}
}

func open(t testing.TB, card apdu.Card, cfg manager.Config) *manager.Manager {
	t.Helper()
	m, err := manager.Open(t.Context(), card, cfg)
	must(t, err)
	return m
}

func synthetic(t testing.TB) *loadfile.File {
	t.Helper()
	b, err := fixtures.Applet(fixtures.DefaultApplet)
	must(t, err)
	f, err := loadfile.Parse(b)
	must(t, err)
	return f
}

// models are all software cards, with the level a channel gets.
var models = map[string]securechannel.Level{
	"gp-scp01": 0x03, "gp-scp02": 0x03, "gp-scp02-rmac": 0x03, "gp-scp03": 0x33, "gp-scp03-plain": 0x03, "gp-scp03-s16": 0x33, "gp-t0": 0x03,
	"gp-scp03-aes256": 0x33, "gp-legacy": 0x03, "gp-bare": 0x03, "gp-error-rmac": 0x03, "gp-counter": 0x33, "gp-steps": 0x33,
	"gp-keeps-factory": 0x03, "gp-no-cplc": 0x33, "piv": 0x33,
}

// TestModels: no model is forgotten.
func TestModels(t *testing.T) {
	t.Parallel()
	for _, m := range sim.Models() {
		if _, ok := models[m]; !ok && hasManager(t, m) {
			t.Errorf("model %s is not tested", m)
		}
	}
}

func hasManager(t *testing.T, model string) bool {
	c, err := sim.New(sim.Config{Model: model})
	must(t, err)
	defer c.Close()
	return c.Info().ISD.Len() > 0
}

// blank are the keys of a new software card.
func blank(t testing.TB, model string) manager.Keys {
	if model == "gp-scp03-aes256" {
		const k = "404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F\n"
		keys, err := manager.ParseKeys([]byte(k + k + k))
		must(t, err)
		return keys
	}
	return manager.Factory()
}

// config opens a new card of a model.
func config(t testing.TB, model string) manager.Config {
	c := manager.Config{Keys: blank(t, model)}
	if model == "gp-counter" {
		c.Dialect = securechannel.CounterWithDataOnly
	}
	return c
}

// silent are models that do not tell what they have: no CPLC, no key information,
// no load file of an application.
var silent = map[string]string{"gp-no-cplc": "cplc", "gp-bare": "keys", "gp-legacy": "relations"}

func TestContent(t *testing.T) {
	t.Parallel()
	for model, level := range models {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			m := open(t, newCard(t, model), config(t, model))
			defer m.Close()
			if m.Level() != level || (m.CPLC == nil) != (silent[model] == "cplc") || m.AID.Len() == 0 {
				t.Errorf("level %v, CPLC %v, AID %v", m.Level(), m.CPLC, m.AID)
			}
			r, err := m.List(t.Context())
			must(t, err)
			if r.Domain.AID != m.AID || len(r.Applications) != 0 || len(r.LoadFiles) != 0 || len(r.Keys) != 3 && silent[model] != "keys" {
				t.Errorf("a new card holds %+v", r)
			}
			i, err := manager.Installation{File: synthetic(t)}.Complete(r)
			must(t, err)
			must(t, m.Install(t.Context(), i))
			r, err = m.List(t.Context())
			must(t, err)
			e, related, ok := r.Find(pkg)
			if !ok || e.AID != pkg || silent[model] != "relations" && (len(related) != 1 || related[0].AID != module) {
				t.Errorf("found %+v, %+v", e, related)
			}
			if _, related, ok := r.Find(module); !ok || len(related) != 0 {
				t.Error("the applet is not found")
			}
			if _, err := (manager.Installation{File: synthetic(t)}).Complete(r); err == nil || !strings.Contains(err.Error(), "already") {
				t.Errorf("installing it twice: %v", err)
			}
			if err := m.Delete(t.Context(), pkg); !errors.Is(err, apdu.SWConditionsOfUse) || !strings.Contains(err.Error(), "still needs it") {
				t.Errorf("deleting a load file that is in use: %v", err)
			}
			must(t, m.Delete(t.Context(), pkg, module))
			r, err = m.List(t.Context())
			must(t, err)
			if len(r.Applications)+len(r.LoadFiles) != 0 {
				t.Errorf("left: %+v", r)
			}
		})
	}
}

// TestInstallRefused: what the card refuses to install does not stay loaded.
func TestInstallRefused(t *testing.T) {
	t.Parallel()
	m := open(t, newCard(t, "gp-scp03"), manager.Config{Keys: manager.Factory()})
	bad := manager.Installation{File: synthetic(t), Module: apdu.MustAID("0102030405"), Instance: apdu.MustAID("0102030405")}
	if err := m.Install(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "taken off again") {
		t.Errorf("got %v", err)
	}
	r, err := m.List(t.Context())
	must(t, err)
	if len(r.LoadFiles) != 0 {
		t.Errorf("left: %+v", r.LoadFiles)
	}
	for name, i := range map[string]manager.Installation{"no such applet": bad} {
		if _, err := i.Complete(r); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// keys are three keys of n bytes with right check values for a card, drawn from seed.
func keys(t testing.TB, seed byte, n int, kcvs ...string) manager.Keys {
	t.Helper()
	var text strings.Builder
	for i := range 3 {
		for j := range n {
			fmt.Fprintf(&text, "%02X", seed+byte(16*i+j))
		}
		if i < len(kcvs) {
			text.WriteString(" " + kcvs[i])
		}
		text.WriteString("\n")
	}
	k, err := manager.ParseKeys([]byte(text.String()))
	must(t, err)
	return k
}

// checked are keys with their own check values.
func checked(t testing.TB, m *manager.Manager, seed byte, n int) manager.Keys {
	t.Helper()
	got, err := m.Check(t.Context(), manager.KeyChange{Keys: keys(t, seed, n), Version: 0x7F})
	must(t, err)
	return keys(t, seed, n, got[0].String(), got[1].String(), got[2].String())
}

func TestKeyChange(t *testing.T) {
	t.Parallel()
	for model := range models {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			card := newCard(t, model)
			cfg := config(t, model)
			m := open(t, card, cfg)
			n := blank(t, model)[0].Value.Len() // cards replace keys by keys of the same length
			first := manager.KeyChange{Keys: checked(t, m, 0x11, n), Version: 2, Replace: m.Info().KeyVersion, Lock: true}
			_, err := m.Check(t.Context(), first)
			must(t, err)
			must(t, m.Apply(t.Context(), first))
			if m.Info().KeyVersion != 2 {
				t.Errorf("goes on under version %v", m.Info().KeyVersion)
			}
			r, err := m.List(t.Context())
			must(t, err)
			if got := gp.KeyVersions(r.Keys); silent[model] != "keys" && !slices.Equal(got, []gp.KeyVersion{2}) {
				t.Errorf("locked, the card has the key versions %v", got)
			}
			if _, err := manager.Open(t.Context(), card, manager.Config{Keys: blank(t, model)}); !errors.Is(err, securechannel.ErrCryptogram) {
				t.Errorf("the old keys: %v", err)
			}
			// One more set beside it, added from a new channel.
			cfg.Keys = first.Keys
			m = open(t, card, cfg)
			more := manager.KeyChange{Keys: keys(t, 0x51, n), Version: 3}
			_, err = m.Check(t.Context(), more)
			must(t, err)
			must(t, m.Apply(t.Context(), more))
			for v, k := range map[gp.KeyVersion]manager.Keys{2: first.Keys, 3: more.Keys} {
				cfg.Keys, cfg.Version = k, v
				open(t, card, cfg).Close()
			}
		})
	}
}

// TestDialects: a card is worked with in the forms that older cards want, too.
func TestDialects(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"no_le"}, {"empty_field"}, {"no_le", "empty_field"}} {
		d, err := manager.ParseDialect(names)
		must(t, err)
		for _, model := range []string{"gp-scp01", "gp-scp02"} {
			m := open(t, newCard(t, model), manager.Config{Keys: manager.Factory(), Dialect: d})
			r, err := m.List(t.Context())
			must(t, err)
			i, err := manager.Installation{File: synthetic(t)}.Complete(r)
			must(t, err)
			must(t, m.Install(t.Context(), i))
			must(t, m.Delete(t.Context(), pkg, module))
			must(t, m.Apply(t.Context(), manager.KeyChange{Keys: keys(t, 0x51, 16), Version: 3}))
			must(t, m.Close())
		}
	}
	if _, err := manager.ParseDialect([]string{"no_le", "no-le"}); err == nil {
		t.Error("a deviation that nobody knows is taken")
	}
}

// TestKeyChangeRefused: nothing is sent that could change the card.
func TestKeyChangeRefused(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"gp-scp01", "gp-scp02", "gp-scp03"} {
		card := newCard(t, model)
		m := open(t, card, manager.Config{Keys: manager.Factory()})
		present := m.Info().KeyVersion
		good := checked(t, m, 0x11, 16)
		known := keys(t, 0x40, 16)
		for name, tt := range map[string]struct {
			change manager.KeyChange
			text   string
		}{
			"bad check value":  {manager.KeyChange{Keys: keys(t, 0x11, 16, "000000"), Version: 2}, "check value is wrong"},
			"bad, to lock":     {manager.KeyChange{Keys: keys(t, 0x11, 16, "000000", "000000", "000000"), Version: 2, Replace: present, Lock: true}, "ENC: key check value is wrong"},
			"none, to lock":    {manager.KeyChange{Keys: keys(t, 0x11, 16), Version: 2, Replace: present, Lock: true}, "without a check value"},
			"version 00":       {manager.KeyChange{Keys: good, Version: 0}, "01 to 7F"},
			"version FF":       {manager.KeyChange{Keys: good, Version: 0xFF}, "01 to 7F"},
			"no such version":  {manager.KeyChange{Keys: good, Version: 2, Replace: 9}, "no key set of version 09"},
			"published, added": {manager.KeyChange{Keys: known, Version: 2}, ""},
		} {
			before := card.sent
			_, err := m.Check(t.Context(), tt.change)
			if (err == nil) != (tt.text == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s: %s: %v", model, name, err)
			}
			if card.sent > before+1 { // GET DATA at most
				t.Errorf("%s: %s: %d commands", model, name, card.sent-before)
			}
		}
		if _, err := m.Check(t.Context(), manager.KeyChange{Keys: checked(t, m, 0x40, 16), Version: 2, Replace: present, Lock: true}); err == nil ||
			!strings.Contains(err.Error(), "everybody knows") {
			t.Errorf("%s: locking with published keys: %v", model, err)
		}
		if present < 0x80 {
			if _, err := m.Check(t.Context(), manager.KeyChange{Keys: good, Version: present}); err == nil {
				t.Errorf("%s: a second version %v", model, present)
			}
		}
	}
	m := open(t, newCard(t, "gp-scp02"), manager.Config{Keys: manager.Factory()})
	if _, err := m.Check(t.Context(), manager.KeyChange{Keys: keys(t, 0x11, 24), Version: 2}); err == nil {
		t.Error("an SCP02 card takes keys of 24 bytes")
	}
}

func TestWrongKeys(t *testing.T) {
	t.Parallel()
	card := newCard(t, "gp-scp03")
	_, err := manager.Open(t.Context(), card, manager.Config{Keys: keys(t, 0x11, 16)})
	if !errors.Is(err, securechannel.ErrCryptogram) || !strings.Contains(err.Error(), "not the card's keys") {
		t.Errorf("got %v", err)
	}
	if _, err := manager.Open(t.Context(), card, manager.Config{Keys: manager.Factory(), AID: pkg}); !errors.Is(err, apdu.SWFileNotFound) {
		t.Errorf("no such card manager: %v", err)
	}
	if _, err := manager.Open(t.Context(), card, manager.Config{Keys: manager.Factory(), Version: 0x55}); !errors.Is(err, apdu.SWReferencedNotFound) {
		t.Errorf("no such key version: %v", err)
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	const k16 = "101112131415161718191A1B1C1D1E1F"
	for text, want := range map[string]string{
		k16 + "\n" + k16 + "\n" + k16:                                   "",
		"# mine\n\n" + k16 + " A1B2C3\r\n\t" + k16 + "\n" + k16 + "\n#": "",
		strings.Repeat(k16+k16+"\n", 3):                                 "",
		"":                                                              "0, want three",
		k16 + "\n" + k16:                                                "2, want three",
		strings.Repeat(k16+"\n", 4):                                     "more than three",
		k16 + "\n" + k16 + "\n" + k16 + k16:                             "different lengths",
		k16 + "\n" + k16[2:] + "\n" + k16:                               "MAC: the key has 15 bytes",
		k16 + "\n" + k16 + "\n" + k16[:31] + "X":                        "DEK: the key is not hexadecimal",
		k16 + " A1B2\n" + k16 + "\n" + k16:                              "six hexadecimal digits",
		k16 + " A1B2CX\n" + k16 + "\n" + k16:                            "check value is not hexadecimal",
		k16 + " A1B2C3 more\n" + k16 + "\n" + k16:                       "want a key",
	} {
		got, err := manager.ParseKeys([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), "1112131415") {
			t.Errorf("a key is in %v", err)
		}
		if err == nil && got[0].Value.Bytes()[0] != 0x10 {
			t.Errorf("%q: another key", text)
		}
	}
}

// FuzzParseKeysBounded: whatever is read has three keys of one length that cards have.
func FuzzParseKeysBounded(f *testing.F) {
	f.Add([]byte(strings.Repeat("101112131415161718191A1B1C1D1E1F A1B2C3\n", 3)))
	f.Add([]byte("# nothing\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := manager.ParseKeys(b)
		if err != nil {
			return
		}
		for _, key := range k {
			if n := key.Value.Len(); n != k[0].Value.Len() || n != 16 && n != 24 && n != 32 {
				t.Fatalf("a key of %d bytes", n)
			}
		}
	})
}

// List a new software card's keys.
func ExampleOpen() {
	card, err := sim.New(sim.Config{Model: "gp-scp03", Serial: 7})
	if err != nil {
		panic(err)
	}
	defer card.Close()
	m, err := manager.Open(context.Background(), card, manager.Config{Keys: manager.Factory()})
	if err != nil {
		panic(err)
	}
	defer m.Close()
	r, err := m.List(context.Background())
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Info().Protocol, gp.KeyVersions(r.Keys), len(r.Applications))
	// Output: SCP03 [FF] 0
}

// keeping is a card that does not let go of a key set.
type keeping struct{ *counted }

func (c keeping) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if cmd[1] == 0xE4 {
		return []byte{0x69, 0x85}, nil
	}
	return c.counted.Transmit(ctx, cmd)
}

// TestLockNotWhole: a card that keeps the keys which everybody knows is not locked,
// and that is said.
func TestLockNotWhole(t *testing.T) {
	t.Parallel()
	m := open(t, keeping{newCard(t, "gp-keeps-factory")}, config(t, "gp-keeps-factory"))
	err := m.Apply(t.Context(), manager.KeyChange{Keys: checked(t, m, 0x11, 16), Version: 2, Replace: gp.FactoryKeyVersion, Lock: true})
	if !errors.Is(err, apdu.SWConditionsOfUse) || !strings.Contains(err.Error(), "keeps those of version FF too and is open to whoever knows them") {
		t.Errorf("got %v", err)
	}
}
