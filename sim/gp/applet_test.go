package gp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/securechannel/scp03"
	"inkan/sim/gp"
)

// toy is an applet that shows what the runtime gives it. INS: 01 tells CLA and
// level, 02 stores data, 03 returns them, 04 decrypts, 05 sets the life cycle, 06
// panics, 07 answers with an error.
type toy struct {
	stored    []byte
	resets    int
	deselects int
}

func (a *toy) Select(gp.Env) apdu.Response { return apdu.Response{SW: apdu.SWSuccess} }
func (a *toy) Deselect(gp.Env)             { a.deselects++ }
func (a *toy) Reset()                      { a.resets++ }
func (a *toy) Save() ([]byte, error)       { return a.stored, nil }
func (a *toy) Load(b []byte) error         { a.stored = b; return nil }
func (a *toy) AcceptsLevel(l securechannel.Level) bool {
	return l != securechannel.LevelAuthenticated
}

func (a *toy) Process(env gp.Env, cmd apdu.Command) apdu.Response {
	r := apdu.Response{SW: apdu.SWSuccess}
	switch cmd.INS {
	case 0x01:
		r.Data = []byte{cmd.CLA, byte(env.Level())}
	case 0x02:
		a.stored = bytes.Clone(cmd.Data)
		env.Touch()
	case 0x03:
		r.Data = a.stored
	case 0x04:
		plain, ok := env.Unwrap(cmd.Data)
		if r.Data = plain; !ok {
			r.SW = apdu.SWWrongData
		}
	case 0x05:
		if !env.SetLifeCycle(cmd.P1) {
			r.SW = apdu.SWConditionsOfUse
		}
		r.Data = []byte{env.LifeCycle()}
	case 0x06:
		panic("a defect with a secret in it")
	default:
		r.SW = apdu.SWInsNotSupported
	}
	return r
}

var toyPackage = apdu.MustAID("627601FF0000")

// withToy is an authenticated card with the toy installed and selected.
func withToy(t *testing.T, params string) (*gp.Manager, *toy, gp.Config) {
	t.Helper()
	var last *toy
	want := code(t)
	cfg := gp.Config{Applets: map[apdu.AID]gp.Factory{toyPackage: func(aid apdu.AID, p, c []byte) (gp.Applet, error) {
		if len(p) > 0 && p[0] == 0xEE {
			return nil, errors.New("wrong parameters")
		}
		if !bytes.Equal(c, want) {
			return nil, errors.New("not the code that was loaded")
		}
		last = &toy{stored: p}
		return last, nil
	}}}
	m := loaded(t, cfg)
	runSteps(t, m, []step{
		{"80E60C00#06627601FF0000 07627601FF000000 07627601FF000000 0100 03C901EE 00", "", 0x6A80},
		{"80E60C00#06627601FF0000 07627601FF000000 07627601FF000000 0100" + params + "00", "00", 0x9000},
		{"00A4040007627601FF000000", "", 0x9000},
	})
	return m, last, cfg
}

func TestAppletContract(t *testing.T) {
	m, a, cfg := withToy(t, "05C903AABBCC")
	runSteps(t, m, []step{
		{"8003000000", "AABBCC", 0x9000}, // the value of C9
		{"B001000000", "B0FF", 0x9000},   // plain: level -1
		{"8004000010" + testKey, "", 0x6A80},
		{"8482000010 00010203040506070809101112131415", "", 0x6985}, // level refused
		{"80050F0000", "0F", 0x9000},
		{"8005030000", "0F", 0x6985},
		{"80058F0000", "0F", 0x6985},
		{"84010000080102030405060708", "", 0x6985}, // wrapped, no session
	})
	s := openWith(t, m, unhex(t, testKey), 0x33)
	if b, err := apdu.Run(t.Context(), s, apdu.Command{CLA: 0x80, INS: 0x01, Ne: 256}); err != nil || !bytes.Equal(b, []byte{0x84, 0x33}) {
		t.Errorf("wrapped command: %X, %v", b, err)
	}
	runSteps(t, m, []step{{"B001000000", "B0FF", 0x9000}, {"B099000000", "", 0x6D00}}) // plain in between: the chain is left alone
	ct, err := scp03.EncryptDEK(unhex(t, testKey), []byte("sixteen bytes ok"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := apdu.Run(t.Context(), s, apdu.Command{CLA: 0x80, INS: 0x04, Data: ct, Ne: 256}); err != nil || string(b) != "sixteen bytes ok" {
		t.Errorf("Unwrap: %q, %v", b, err)
	}
	if _, err := apdu.Run(t.Context(), s, apdu.Command{CLA: 0x80, INS: 0x99}); !errors.Is(err, apdu.SWInsNotSupported) {
		t.Errorf("an error of the applet: %v", err)
	}
	m.Changed()
	if _, err := apdu.Run(t.Context(), s, apdu.Command{CLA: 0x80, INS: 0x02, Data: []byte("kept")}); err != nil || !m.Changed() {
		t.Errorf("an error of the applet closed the channel, or Touch did nothing: %v", err)
	}
	before := a.resets
	runSteps(t, m, []step{{"00A4040007627601FF000000", "", 0x9000}, {"84010000080102030405060708", "", 0x6985}})
	if m.Reset(); a.deselects != 1 || a.resets != before+1 {
		t.Errorf("%d deselects, %d resets", a.deselects, a.resets-before)
	}
	m = reborn(t, m, cfg)
	runSteps(t, m, []step{{"00A4040007627601FF000000", "", 0x9000}, {"8003000000", "6B657074", 0x9000}, {"8005000000", "0F", 0x6985}})
}

func TestPanicInApplet(t *testing.T) {
	m, _, _ := withToy(t, "02C900")
	if r := do(t, m, "8006000000"); r.SW != apdu.SWUnknown || len(r.Data) != 0 {
		t.Errorf("answer %X %04X", r.Data, uint16(r.SW))
	}
	if err := m.Fault(); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("fault %v", err)
	}
	if r := do(t, m, "B001000000"); r.SW != apdu.SWSuccess || m.Fault() != nil {
		t.Errorf("afterwards %04X, %v", uint16(r.SW), m.Fault())
	}
}

func TestPersonalization(t *testing.T) {
	m, _, _ := withToy(t, "02C900")
	runSteps(t, m, []step{{"00A4040008A000000151000000", "*", 0x9000}})
	openWith(t, m, unhex(t, testKey), 0)
	runSteps(t, m, []step{
		{"80E62000#00 00 07627601FF000000 00 00 00", "00", 0x9000},
		{"80E2800003010203", "", 0x6D00}, // the toy's answer
		{"80E2900003420101", "", 0x9000}, // the card manager's again
	})
}

// TestSegments sends commands whose MAC stands at the end of the last segment, and
// commands of several blocks with a MAC each.
func TestSegments(t *testing.T) {
	long := apdu.Command{CLA: 0x80, INS: 0xE6, P1: 0x0C, Data: unhex(t, "06627601FF0000 07627601FF000000 07627601FF000000 0100 820106 C9820102"+strings.Repeat("5A", 0x102)+"00")}
	t.Run("one MAC", func(t *testing.T) {
		m := loaded(t, gp.Config{})
		c, first, chain := channelOf(t, m, 0x03)
		if r := m.Do(first); r.SW != apdu.SWSuccess {
			t.Fatal(r.SW)
		}
		wrapped, _, err := c.Wrap(chain, long)
		if err != nil {
			t.Fatal(err)
		}
		for data := wrapped.Data; len(data) > 0; {
			part := wrapped
			part.Data = data[:min(255, len(data))]
			if data = data[len(part.Data):]; len(data) > 0 {
				part.P1 |= 0x80
			}
			if r := m.Do(part); r.SW != apdu.SWSuccess {
				t.Fatalf("segment: %04X", uint16(r.SW))
			}
		}
		runSteps(t, m, []step{{"00A4040007627601FF000000", "", 0x9000}})
	})
	t.Run("a MAC each", func(t *testing.T) {
		m := loaded(t, gp.Config{})
		s := openWith(t, m, unhex(t, testKey), 0x03)
		a, b := long, long
		a.P1, a.Data, b.Data = 0x8C, long.Data[:200], long.Data[200:]
		if _, err := apdu.RunAll(t.Context(), s, apdu.Entries(0, a, b)); err != nil {
			t.Fatal(err)
		}
		runSteps(t, m, []step{{"00A4040007627601FF000000", "", 0x9000}})
	})
	t.Run("wrong MAC", func(t *testing.T) {
		m := loaded(t, gp.Config{})
		s := openWith(t, m, unhex(t, testKey), 0x03)
		runSteps(t, m, []step{{"84E68C0010" + testKey, "", 0x9000}, {"84E60C0010" + testKey, "", 0x6982}})
		if _, err := agp.GetStatus(t.Context(), s, agp.ScopeIssuerDomain, apdu.AID{}); err == nil {
			t.Error("the session lives on")
		}
	})
}

// channelOf opens a channel by hand and returns its messaging before EXTERNAL
// AUTHENTICATE, which it returns too.
func channelOf(t *testing.T, m *gp.Manager, level scp03.Level) (scp03.Channel, apdu.Command, scp03.Chain) {
	t.Helper()
	iu, err := securechannel.Initialize(t.Context(), doer{m}, securechannel.Request{HostChallenge: []byte("hostchal")})
	if err != nil {
		t.Fatal(err)
	}
	k, err := keySource(unhex(t, testKey))(t.Context(), iu)
	if err != nil {
		t.Fatal(err)
	}
	c := scp03.Channel{ENC: k.ENC.Bytes(), MAC: k.MAC.Bytes(), RMAC: k.RMAC.Bytes(), Option: scp03.Option(iu.Option), Level: level}
	host, err := scp03.HostCryptogram(c.MAC, iu.HostChallenge, iu.CardChallenge)
	if err != nil {
		t.Fatal(err)
	}
	first, chain, err := c.Authenticate(host)
	if err != nil {
		t.Fatal(err)
	}
	return c, first, chain
}

// TestPutKeyVectors runs the PUT KEY commands of other people's hosts on cards
// that have the vectors' data encryption key.
func TestPutKeyVectors(t *testing.T) {
	raw, err := os.ReadFile("../../fixtures/vectors/put_key.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Name, Kind, SCP, DEK, P1 string
			Command                  string `json:"command_plain"`
			Response                 string
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, v := range file.Vectors {
		if v.Kind != "put_key" || v.SCP != "03" {
			continue
		}
		ran++
		t.Run(v.Name, func(t *testing.T) {
			m := cardWith(t, keySetOf(0x30, unhex(t, v.DEK)))
			r := do(t, m, v.Command)
			if got := r.Encode(); !bytes.Equal(got, unhex(t, v.Response)) {
				t.Errorf("answer %X, want %s", got, v.Response)
			}
		})
	}
	if ran < 5 {
		t.Errorf("only %d vectors", ran)
	}
}

func TestProfileRefusals(t *testing.T) {
	for name, spoil := range map[string]func(*gp.Profile){
		"no ISD":             func(p *gp.Profile) { p.ISD = apdu.AID{} },
		"no protocol":        func(p *gp.Profile) { p.Channels = nil },
		"SCP04":              func(p *gp.Profile) { p.Channels[0].Protocol = 4 },
		"option of SCP01":    func(p *gp.Profile) { p.Channels[0].Protocol = 1 },
		"option":             func(p *gp.Profile) { p.Channels[0].Option = 0x40 },
		"life cycle":         func(p *gp.Profile) { p.State = 0x02 },
		"memory":             func(p *gp.Profile) { p.Memory = 0 },
		"no keys":            func(p *gp.Profile) { p.Keys = nil },
		"version 00":         func(p *gp.Profile) { p.Keys[0].Version = 0 },
		"version twice":      func(p *gp.Profile) { p.Keys = append(p.Keys, p.Keys[0]) },
		"length":             func(p *gp.Profile) { p.Keys[0].DEK = p.Keys[0].DEK[:8] },
		"keys nobody uses":   func(p *gp.Profile) { p.Keys[0].Type = gp.DES3 },
		"applet without AID": func(p *gp.Profile) { p.Applets = []gp.PresetApplet{{Instance: p.ISD}} },
	} {
		t.Run(name, func(t *testing.T) {
			p := profile(t, securechannel.SCP03, 0x70)
			spoil(&p)
			if _, err := gp.New(p, gp.Config{}); err == nil {
				t.Error("taken")
			}
		})
	}
}

func TestPresetApplet(t *testing.T) {
	p := profile(t, securechannel.SCP03, 0x70)
	aid := apdu.MustAID("D0D1D2D3D401")
	p.Applets = []gp.PresetApplet{{LoadFile: apdu.MustAID("D0D1D2D3D4"), Module: aid, Instance: aid}}
	m := newManager(t, p, gp.Config{})
	runSteps(t, m, []step{{"00A4040006D0D1D2D3D401", "", 0x9000}, {"8050000008010203040506070800", "", 0x6D00}})
	reborn(t, m, gp.Config{})
}

// FuzzRestoreNoPanic feeds anything to Restore; what it takes works.
func FuzzRestoreNoPanic(f *testing.F) {
	m := loaded(f, gp.Config{})
	do(f, m, install)
	b, err := m.Save()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := gp.Restore(b, gp.Config{Rand: zero{}})
		if err != nil {
			return
		}
		for _, c := range []string{"00A4040000", "80CA00E000", "80CA006600", "80CAFF2100", "8050000008010203040506070800"} {
			if do(t, m, c); m.Fault() != nil {
				t.Fatal(m.Fault())
			}
		}
	})
}

type zero struct{}

func (zero) Read(p []byte) (int, error) { clear(p); return len(p), nil }

var _ io.Reader = zero{}
