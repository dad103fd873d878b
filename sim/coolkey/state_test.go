package coolkey_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/coolkey"
)

// TestLoadRefusals changes a good state in one place after the other.
func TestLoadRefusals(t *testing.T) {
	t.Parallel()
	f := exampleCard(t, coolkey.Extended)
	ec := must(ck.GenerateEC(t.Context(), f, ck.Slots{Private: 6, Public: 7}, 256, f.wrap(challenge)))(t)
	if ec == 0 {
		t.Fatal("no EC key")
	}
	saved := f.save()
	type object = map[string]any
	at := func(s object, path ...string) object {
		for _, p := range path {
			s = s[p].(object)
		}
		return s
	}
	key := func(s object, n int) object { return s["Keys"].([]any)[n].(object) }
	first := func(s object) object { return at(s, "Heap")["Objects"].([]any)[0].(object) }
	for name, change := range map[string]func(s object){
		"format":     func(s object) { s["Format"] = 2 },
		"issuer":     func(s object) { s["Issuer"] = "AAAA" },
		"slots":      func(s object) { s["Keys"] = []any{} },
		"heap":       func(s object) { at(s, "Heap")["Size"] = 0x8000 },
		"small heap": func(s object) { at(s, "Heap")["Size"] = 100 },
		"no object":  func(s object) { at(s, "Heap")["Objects"] = []any{nil} },
		"offset":     func(s object) { first(s)["Offset"] = -1 },
		"block":      func(s object) { first(s)["Block"] = 10 },
		"end":        func(s object) { first(s)["Offset"] = 4990 },
		"sequence":   func(s object) { first(s)["Seq"] = 0 },
		"twice": func(s object) {
			h := at(s, "Heap")
			h["Objects"] = append(h["Objects"].([]any), h["Objects"].([]any)[0])
		},
		"PIN":               func(s object) { s["PINs"].([]any)[0].(object)["Value"] = "MTI=" },
		"tries":             func(s object) { s["PINs"].([]any)[0].(object)["Tries"] = 128 },
		"key type":          func(s object) { key(s, 2)["Type"] = 9 },
		"key bits":          func(s object) { key(s, 2)["Bits"] = 2048 },
		"mate":              func(s object) { key(s, 2)["Mate"] = 24 },
		"public as private": func(s object) { key(s, 3)["Type"] = 3 },
		"no material":       func(s object) { delete(key(s, 2), "RSA") },
		"modulus":           func(s object) { at(key(s, 2), "RSA")["N"] = at(key(s, 4), "RSA")["N"] },
		"exponent":          func(s object) { at(key(s, 2), "RSA")["DP"] = at(key(s, 2), "RSA")["DQ"] },
		"inverse":           func(s object) { at(key(s, 2), "RSA")["Inverse"] = "AQ==" },
		"EC point":          func(s object) { at(key(s, 6), "EC")["Point"] = "BAA=" },
		"EC secret":         func(s object) { at(key(s, 6), "EC")["D"] = strings.Repeat("AAAA", 11) },
		"EC bits":           func(s object) { key(s, 6)["Bits"] = 384 },
		"EC public":         func(s object) { key(s, 6)["Type"] = 0x0A },
		"wrong kind":        func(s object) { s["Heap"] = "x" },
	} {
		var s object
		check(t, json.Unmarshal(saved, &s))
		change(s)
		b := must(json.Marshal(s))(t)
		if err := f.applet.Load(b); err == nil {
			t.Errorf("case=%s: loaded", name)
		}
	}
	for name, b := range map[string][]byte{"empty": {}, "text": []byte("x"), "huge": make([]byte, 2<<20)} {
		if err := f.applet.Load(b); err == nil {
			t.Errorf("case=%s: loaded", name)
		}
	}
	if !bytes.Equal(f.save(), saved) {
		t.Error("a refused state changed the applet")
	}
	check(t, f.applet.Load(saved))
}

func TestSavedStateWorks(t *testing.T) {
	t.Parallel()
	f := exampleCard(t, coolkey.Extended)
	a := f.again()
	check(t, a.Load(f.save()))
	f.applet = a
	f.want("B03C000010", "01010106 00001388 0000101E 01 04 0000 9000")
	login := ck.Login(must(ck.VerifyPIN(t.Context(), f, 0, pinOf(t, "1234")))(t))
	if _, err := ck.ComputeRSA(t.Context(), f, login, 2, ck.Sign, append([]byte{0}, bytes.Repeat([]byte{1}, 127)...)); err != nil {
		t.Error(err)
	}
}

func TestKWPVectors(t *testing.T) {
	t.Parallel()
	for _, v := range getVectors(t).KWP {
		got, ok := coolkey.UnwrapKWP(v.KEK, v.Wrapped)
		if !ok || !bytes.Equal(got, v.Key) {
			t.Errorf("unwrapped %x, %t", got, ok)
		}
		for i := range v.Wrapped {
			bad := bytes.Clone(v.Wrapped)
			bad[i] ^= 1
			if _, ok := coolkey.UnwrapKWP(v.KEK, bad); ok {
				t.Errorf("changed at %d: unwrapped", i)
			}
		}
		for n := range v.Wrapped {
			if _, ok := coolkey.UnwrapKWP(v.KEK, v.Wrapped[:n]); ok {
				t.Errorf("%d bytes: unwrapped", n)
			}
		}
	}
}

// fuzzCard is a card with something of everything on it.
func fuzzCard(f testing.TB) []byte {
	card := exampleCard(f, coolkey.Extended)
	must(ck.GenerateEC(f.Context(), card, ck.Slots{Private: 6, Public: 7, Owner: ck.OwnerAnyone}, 256, card.wrap(challenge)))(f)
	must(apdu.RunAll(f.Context(), card, ck.ReplaceObjectEntries(ck.Channel(), ck.IDImport, ck.ImportObjectACL, make([]byte, 644))))(f)
	return card.save()
}

// FuzzAppletProcess: the applet survives any sequence of commands, its answers
// stay short, and whatever state it is in can be saved and loaded.
func FuzzAppletProcess(f *testing.F) {
	saved := fuzzCard(f)
	for _, seed := range []string{
		"\x04\xB0\x42\x00\x00\x041234", "\x04\x84\x0C\x02\x03\x17\x80\x04\x00", "\x04\xB0\x36\x02\x04\x05\x00\x03\x02\x00\x00",
		"\x04\x84\x5A\x00\x00\x0E\x64\x30\x00\x00\x00\x00\x00\x10\xFF\xFF\xFF\xFF\xFF\xFF", "\x04\x84\x55\x00\x00\x02\x02\x03",
		"\x04\x84\x0A\x04\x05\x24\xFF\x00\xFF\xF3\x88\x10", "\x04\x84\x32\x0A\x0B\x0A\xFF\x00\xFF\xF3",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		card := newCard(t, coolkey.Config{}, "")
		check(t, card.applet.Load(saved))
		for range 8 { // length of command, command
			if len(script) < 5 {
				break
			}
			n := min(4+int(script[0]), len(script)-1)
			c, err := apdu.ParseCommand(script[1 : 1+n])
			script = script[1+n:]
			if err != nil {
				continue
			}
			if _, err := card.Do(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzAppletLoad: a state that is loaded cannot make the applet fail later.
func FuzzAppletLoad(f *testing.F) {
	f.Add(fuzzCard(f))
	f.Add([]byte(`{"Format":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		card := newCard(t, coolkey.Config{}, "")
		if card.applet.Load(b) != nil {
			return
		}
		card.reload()
		for _, c := range []string{"B03C000010", "B03A00000B", "B05800000E", "840400000431323334", "B03806042B 01 0020" + strings.Repeat("11", 32) + zeros(8)} {
			card.send(c)
		}
	})
}

func BenchmarkComputeRSA(b *testing.B) {
	for _, bits := range []int{2048, 4096} {
		b.Run("bits="+map[int]string{2048: "2048", 4096: "4096"}[bits], func(b *testing.B) {
			f := newCard(b, coolkey.Config{}, "")
			must(ck.GenerateRSA(b.Context(), f, ck.Slots{Private: 2, Public: 3, Owner: ck.OwnerAnyone}, bits, f.wrap(challenge)))(b)
			block := make([]byte, bits/8)
			rand.Read(block[1:])
			b.ReportAllocs()
			for b.Loop() {
				must(ck.ComputeRSA(b.Context(), f, ck.Anonymous(), 2, ck.Decrypt, block))(b)
			}
		})
	}
}
