package sim_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/sim"
)

func transmit(t *testing.T, card *sim.Card, hexCmd string) (data []byte, sw apdu.StatusWord) {
	t.Helper()
	b, err := card.Transmit(t.Context(), unhex(t, hexCmd))
	if err != nil {
		t.Fatal(err)
	}
	r, err := apdu.ParseResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	return r.Data, r.SW
}

// exchange is one command and what the answer must be; "*" stands for any data.
type exchange struct {
	cmd, data string
	sw        apdu.StatusWord
}

func TestTransport(t *testing.T) {
	const fci = "6F108408A000000003000000A5049F6501FF"
	for _, c := range []struct {
		name, model string
		steps       []exchange
	}{
		{"t=1 answers at once", "gp-scp03", []exchange{
			{"00A4040000", fci, 0x9000},
			{"00A40400", fci, 0x9000},
			{"00A4040006A000000003000000", "", 0x6700}, // more bytes than Lc says
			{"00C0000000", "", 0x6985},
			{"80CA9F7F2D", "*", 0x9000},
			{"80CA9F7F10", "", 0x6C2D},
		}},
		{"t=0 case 4", "gp-t0", []exchange{
			{"00A4040008A000000003000000", "", 0x6112},
			{"00C0000004", fci[:8], 0x610E},
			{"00C000000E", fci[8:], 0x9000},
			{"00C0000001", "", 0x6985},
		}},
		{"t=0 an answer is lost with the next command", "gp-t0", []exchange{
			{"00A4040008A000000003000000", "", 0x6112},
			{"80CA000000", "", 0x6A88},
			{"00C0000012", "", 0x6985},
		}},
		{"t=0 wrong le", "gp-t0", []exchange{
			{"80CA00CF00", "*", 0x9000},
			{"80CA00CF05", "", 0x6C0C},
			{"80CA00CF0C", "*", 0x9000},
		}},
		{"command chaining", "gp-scp03", []exchange{
			{"10A4040004A0000000", "", 0x9000},
			{"00A4040004030000 00", fci, 0x9000},
			{"10A4040004A0000000", "", 0x9000},
			{"80CA00CF00", "*", 0x9000}, // drops the chain
			{"00A404000403000000", "", 0x6A82},
		}},
		{"no command", "gp-scp03", []exchange{{"00", "", 0x6700}, {"", "", 0x6700}, {"00A40400050102", "", 0x6700}}},
		{"logical channels", "gp-scp03", []exchange{
			{"0070000001", "", 0x6881}, {"01A4040000", "", 0x6881}, {"81CA9F7F00", "", 0x6881}, {"C0CA9F7F00", "", 0x6881},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := newCard(t, sim.Config{Model: c.model})
			for i, s := range c.steps {
				data, sw := transmit(t, card, strings.ReplaceAll(s.cmd, " ", ""))
				if sw != s.sw || s.data != "*" && !bytes.Equal(data, unhex(t, s.data)) {
					t.Errorf("step %d, %s: %X %04X, want %s %04X", i+1, s.cmd, data, uint16(sw), s.data, uint16(s.sw))
				}
			}
		})
	}
}

// TestLongAnswer reads an object longer than a short answer, whole and in parts.
func TestLongAnswer(t *testing.T) {
	doc := shipped(t) + "\n[quirk]\nresponse_61 = true\n"
	file := filepath.Join(t.TempDir(), "steps.toml")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	for model, want := range map[string]apdu.StatusWord{"gp-scp03": 0x6103, file: 0x6100} {
		card := newCard(t, sim.Config{Model: model})
		conn := apdu.NewConn(card)
		mustOpen(t, conn, factoryKeys(t), request(0, 0))
		object := append([]byte{0xBF, 0x0C, 0x81, 0xFF}, bytes.Repeat([]byte{0x11}, 255)...)
		for i, part := range [][]byte{object[:200], object[200:]} {
			cmd := apdu.Command{CLA: 0x80, INS: 0xE2, P1: 0x10 | byte(i)<<7, P2: byte(i), Data: part}
			if _, err := apdu.Run(t.Context(), conn, cmd); err != nil {
				t.Fatal(err)
			}
		}
		if _, sw := transmit(t, card, "80CABF0C00"); sw != want {
			t.Errorf("model %s: first answer %04X, want %04X", model, uint16(sw), uint16(want))
		}
		if b, err := apdu.Run(t.Context(), conn, apdu.Command{CLA: 0x80, INS: 0xCA, P1: 0xBF, P2: 0x0C, Ne: 256}); err != nil || !bytes.Equal(b, object) {
			t.Errorf("model %s: %X, %v", model, b, err)
		}
		if data, sw := transmit(t, card, "80CABF0C000000"); model == "gp-scp03" && (sw != 0x9000 || len(data) != len(object)) {
			t.Errorf("extended length: %d bytes %04X", len(data), uint16(sw))
		}
	}
}

// TestPresetCoolkey is a card of a model with CoolKey already on it.
func TestPresetCoolkey(t *testing.T) {
	doc := shipped(t) + "\n[[applet]]\nload_file = \"627601FF0000\"\ninstance = \"627601FF000000\"\nparams = \"00021388\"\n"
	file := filepath.Join(t.TempDir(), "ready.toml")
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "card.img")
	card, err := sim.Create(image, file, 1)
	if err != nil {
		t.Fatal(err)
	}
	card.Close()
	card = newCard(t, sim.Config{Path: image})
	if _, sw := transmit(t, card, "00A4040007627601FF000000"); sw != apdu.SWSuccess {
		t.Fatalf("SELECT: %04X", uint16(sw))
	}
	if data, sw := transmit(t, card, "B03C000010"); sw != apdu.SWSuccess || len(data) != 16 {
		t.Errorf("GET STATUS: %X %04X", data, uint16(sw))
	}
}

func TestIdentity(t *testing.T) {
	card := newCard(t, sim.Config{Serial: 0x0102_A1B2C3D4})
	i := card.Info()
	if got := i.CUID.String(); got != "494E4B410102A1B2C3D4" {
		t.Errorf("CUID %s", got)
	}
	if got := i.KDD.String(); got != "00006001A1B2C3D40102" {
		t.Errorf("KDD %s", got)
	}
	if data, _ := transmit(t, card, "80CA00CF00"); !bytes.Equal(data[2:], i.KDD[:]) {
		t.Errorf("tag CF %X", data)
	}
	if data, _ := transmit(t, card, "8050000008000102030405060700"); !bytes.Equal(data[:10], i.KDD[:]) {
		t.Errorf("INITIALIZE UPDATE %X", data)
	}
	a, b := newCard(t, sim.Config{}), newCard(t, sim.Config{})
	if a.Info().CUID == b.Info().CUID {
		t.Error("two cards drew the same serial number")
	}
}

func TestModels(t *testing.T) {
	names := sim.Models()
	for _, want := range []string{"gp-scp02", "gp-scp03"} {
		if !slices.Contains(names, want) {
			t.Errorf("no model %s in %v", want, names)
		}
	}
	for _, name := range names {
		m, err := sim.LoadModel(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if m.Name != name || len(m.ATR) < 2 {
			t.Errorf("model %s: %+v", name, m.Name)
		}
	}
	if m, err := sim.LoadModel(""); err != nil || m.Name != sim.DefaultModel {
		t.Errorf("default model: %v, %v", m.Name, err)
	}
	file := filepath.Join(t.TempDir(), "mine.toml")
	if err := os.WriteFile(file, []byte(shipped(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := newCard(t, sim.Config{Model: file}); c.Info().Model != "mine" {
		t.Errorf("model of a file: %q", c.Info().Model)
	}
}

func shipped(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("models/gp-scp03.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestModelRefusals(t *testing.T) {
	good := shipped(t)
	for name, change := range map[string][2]string{
		"unknown key":         {"memory", "memori"},
		"unknown quirk":       {"[[key_set]]", "[quirk]\nt1 = true\n[[key_set]]"},
		"implicit SCP02":      {`protocol = "03", option = "70"`, `protocol = "02", option = "0A"`},
		"SCP01 with AES keys": {`protocol = "03", option = "70"`, `protocol = "01", option = "05"`},
		"option of SCP01":     {`protocol = "03", option = "70"`, `protocol = "01", option = "55"`},
		"SCP04":               {`protocol = "03", option = "70"`, `protocol = "04", option = "05"`},
		"R-ENC without R-MAC": {`option = "70"`, `option = "40"`},
		"not hexadecimal":     {`option = "70"`, `option = "seventy"`},
		"foreign CPLC":        {"494E4B41", "40906155"},
		"short CPLC":          {"494E4B41", "494E4B"},
		"key length":          {`"aes-128"`, `"aes-256"`},
		"key type":            {`"aes-128"`, `"aes"`},
		"keys nobody uses":    {`"aes-128"`, `"des3"`},
		"no key set":          {"[[key_set]]", "[[applet]]"},
		"life cycle":          {`"07"`, `"05"`},
		"coolkey":             {`"extended"`, `"2.0"`},
		"memory":              {"131072", "12"},
		"atr":                 {"3B868001436F6F6C4B791A", "3B"},
		"isd":                 {`"A000000003000000"`, `"A0"`},
	} {
		t.Run(name, func(t *testing.T) {
			doc := strings.Replace(good, change[0], change[1], 1)
			if doc == good {
				t.Fatal("nothing changed")
			}
			if _, err := sim.ParseModel("x", []byte(doc)); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestKeyPool(t *testing.T) {
	a, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p := sim.NewKeyPool(a)
	for range 2 {
		if k, err := p.RSA(1024); err != nil || k != a {
			t.Errorf("RSA: %v", err)
		}
	}
	if _, err := p.RSA(2048); err == nil {
		t.Error("a key of a size that the pool does not have")
	}
	if k, err := p.EC(elliptic.P256()); err != nil || k.Curve != elliptic.P256() {
		t.Errorf("EC: %v", err)
	}
}

func FuzzParseModelNoPanic(f *testing.F) {
	f.Add([]byte(shipped(f)))
	f.Add([]byte("[[applet]]\nload_file = \"D0D1D2D3D4\"\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, err := sim.ParseModel("fuzz", doc)
		if err == nil && len(m.ATR) == 0 {
			t.Error("a model without ATR")
		}
	})
}

// FuzzSimTransmit sends any bytes, each command behind two bytes of length, with
// the host authenticated so that they reach the card manager. The card survives:
// it answers everything with at least a status, without a programming error.
func FuzzSimTransmit(f *testing.F) {
	seed := func(cmds ...string) {
		var b []byte
		for _, c := range cmds {
			raw := unhexF(f, c)
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(raw))), raw...)
		}
		f.Add(b)
	}
	seed("00A4040000", "80CA9F7F2D", "80CA00E000", "80F28002024F0000", "80F24000024F0000")
	seed("80E60200", "80E6020013 06627601FF0000 00 00 06 EF04C602012E 00", "80E8800005C403010203", "80E40000074F05D0D1D2D3D4")
	seed("80E60C0027 07A0000001515350 08A000000151535041 09A00000015153504101 03800000 02C900 00", "80F0408009A00000015153504101", "00A4040009A00000015153504101")
	seed("80D8000101 02", "80D8FF81 00", "80E4000003D20101", "80E29000 06 4F04A0000000", "80E280000B9F66080102030405060708")
	seed("80F0800F", "80F0807F", "80F080FF", "80CA9F7F00", "8050000008000102030405060700", "8482030010000102030405060708090A0B0C0D0E0F")
	keys := unhexF(f, factory)
	f.Fuzz(func(t *testing.T, b []byte) {
		card, err := sim.New(sim.Config{Serial: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer card.Close()
		if _, err := open(t.Context(), apdu.NewConn(card), staticKeys{keys, keys, keys}, request(0, 0)); err != nil {
			t.Fatal(err)
		}
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			cmd := b[2 : 2+n]
			b = b[2+n:]
			resp, err := card.Transmit(t.Context(), cmd)
			if err != nil || len(resp) < 2 {
				t.Fatalf("%X: %X, %v", cmd, resp, err)
			}
			if err := card.Err(); err != nil {
				t.Fatalf("%X: %v", cmd, err)
			}
		}
	})
}

func unhexF(f *testing.F, s string) []byte {
	f.Helper()
	return unhex(f, strings.ReplaceAll(s, " ", ""))
}
