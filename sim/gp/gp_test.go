package gp_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"testing"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
	"inkan/sim/gp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const testKey = "404142434445464748494A4B4C4D4E4F"

// profile is a card as the transcripts of gp-card.md §3 have it.
func profile(t testing.TB, scp securechannel.Protocol, option securechannel.Option) gp.Profile {
	k := unhex(t, testKey)
	p := gp.Profile{
		ISD:      apdu.MustAID("A000000151000000"),
		Channels: []gp.ChannelOption{{Protocol: scp, Option: option}},
		KDD:      agp.KDD{0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		Version:  []byte{0x02, 0x01, 0x01},
		State:    0x01,
		Memory:   65536,
		Keys:     []gp.KeySet{{Version: 1, Type: gp.DES3, ENC: k, MAC: k, DEK: k}},
	}
	if scp == securechannel.SCP03 {
		p.Keys[0].Type = gp.AES
	}
	copy(p.CPLC[:], "INKA")
	return p
}

func newManager(t testing.TB, p gp.Profile, cfg gp.Config) *gp.Manager {
	t.Helper()
	m, err := gp.New(p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// doer runs commands on a manager.
type doer struct{ m *gp.Manager }

func (d doer) Do(_ context.Context, c apdu.Command) (apdu.Response, error) { return d.m.Do(c), nil }

// do runs a command given in hexadecimal.
func do(t testing.TB, m *gp.Manager, cmd string) apdu.Response {
	t.Helper()
	if head, data, found := strings.Cut(cmd, "#"); found { // # stands for Lc
		cmd = fmt.Sprintf("%s%02X%s", head, len(unhex(t, data)), data)
	}
	c, err := apdu.ParseCommand(unhex(t, cmd))
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return m.Do(c)
}

// step is one exchange of a table; data "*" stands for anything.
type step struct {
	cmd  string
	data string
	sw   apdu.StatusWord
}

func runSteps(t *testing.T, m *gp.Manager, steps []step) {
	t.Helper()
	for i, s := range steps {
		r := do(t, m, s.cmd)
		if r.SW != s.sw || s.data != "*" && !bytes.Equal(r.Data, unhex(t, s.data)) {
			t.Errorf("step %d, %s: %X %04X, want %s %04X", i+1, s.cmd, r.Data, uint16(r.SW), s.data, uint16(s.sw))
		}
	}
	if err := m.Fault(); err != nil {
		t.Error(err)
	}
}

// keySource derives session keys from static ones, the same three times.
func keySource(static []byte) securechannel.KeySource {
	return func(_ context.Context, iu securechannel.InitUpdate) (s securechannel.SessionKeys, err error) {
		derive := func(d scp03.Derivation, c scp02.Constant) secret.Secret {
			var k []byte
			var e error
			switch iu.Protocol {
			case securechannel.SCP01:
				k, e = scp01.SessionKey(static, iu.HostChallenge, iu.CardChallenge)
			case securechannel.SCP02:
				k, e = scp02.SessionKey(static, c, [2]byte(iu.Counter))
			default:
				k, e = scp03.SessionKey(static, d, scp03.Context(iu.HostChallenge, iu.CardChallenge))
			}
			if e != nil {
				err = e
			}
			return secret.New(k)
		}
		s.ENC, s.MAC, s.RMAC = derive(scp03.SENC, scp02.SENC), derive(scp03.SMAC, scp02.SMAC), derive(scp03.SRMAC, scp02.SRMAC)
		return s, err
	}
}

// openWith opens a channel; at level 00 plain commands are authenticated too, so
// tables can hold them as they are.
func openWith(t testing.TB, m *gp.Manager, static []byte, level securechannel.Level) *securechannel.Session {
	t.Helper()
	req := securechannel.Request{HostChallenge: []byte("hostchal"), Level: level, HintProtocol: securechannel.SCP02, HintOption: 0x75}
	s, err := securechannel.Open(t.Context(), doer{m}, req, keySource(static))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// authenticated is a card whose host has proved itself at level 00.
func authenticated(t testing.TB, cfg gp.Config) *gp.Manager {
	m := newManager(t, profile(t, securechannel.SCP03, 0x70), cfg)
	openWith(t, m, unhex(t, testKey), 0)
	return m
}

// fixed is a random generator that gives the same bytes.
func fixed(t testing.TB, s string) io.Reader {
	b := unhex(t, s)
	return readerFunc(func(p []byte) (int, error) {
		for i := range p {
			p[i] = b[i%len(b)]
		}
		return len(p), nil
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestTranscripts replays the sessions of gp-card.md §3, seen between other
// people's hosts and another card.
func TestTranscripts(t *testing.T) {
	t.Run("scp=02/level=03", func(t *testing.T) {
		m := newManager(t, profile(t, securechannel.SCP02, 0x15), gp.Config{Rand: fixed(t, "A2BA24E9FDB6")})
		runSteps(t, m, []step{
			{"8050000008 621A38B511DC844C 00", "00010203040506070809 0102 0000A2BA24E9FDB6 7CE4B80C5D6925A5", 0x9000},
			{"8482030010 F3B04F7E0E8E18EF AD1E740E1EB8C450", "", 0x9000},
			{"84F2800210 F327A3C1385663D4 FEF824E129803691 00", "E3134F08A0000001510000009F700101C5039EFE80", 0x9000},
			{"80CA00C100", "C1020001", 0x9000},
		})
	})
	t.Run("scp=03/level=33", func(t *testing.T) {
		m := newManager(t, profile(t, securechannel.SCP03, 0x60), gp.Config{Rand: fixed(t, "4D2614D48B5A5572")})
		runSteps(t, m, []step{
			{"8050000008 5E550663B6DE415B 00", "00010203040506070809 010360 4D2614D48B5A5572 4AD0A502F2F61286", 0x9000},
			{"8482330010 56009AB0E14405A1 F90B17B41506E38A", "", 0x9000},
			{"84F2800218 C692FC17C7AD2C5416E0F537F034CB59 D76C7BADB6C8B7DC 00",
				"4545177F73D07EBAE96CA1FD87F914759EA3E61830AE2277A2A0CF6089A5AA49 DC30E7BBC27791BF", 0x9000},
		})
	})
}

func TestSelect(t *testing.T) {
	m := newManager(t, profile(t, securechannel.SCP03, 0x70), gp.Config{})
	const fci = "6F10 8408A000000151000000 A504 9F6501FF"
	runSteps(t, m, []step{
		{"00A4040000", fci, 0x9000},
		{"00A40400 07 A0000001510000", fci, 0x9000},
		{"00A4040C 08 A000000151000000", "", 0x9000},
		{"00A4040C 08 A000000003000000", "", 0x6A82},
		{"00A40400 09 A000000167413000FF 00", "", 0x6A82},
		{"00A40401 00", "", 0x6A86},
		{"00A40400 11 A0000001510000000000000000000000 00", "", 0x6A80},
		{"00A4000C 02 3F00", "", 0x6D00},
		{"B03C000010", "", 0x6E00},
		{"0070000001", "", 0x6881},
	})
}

func TestGetData(t *testing.T) {
	m := newManager(t, profile(t, securechannel.SCP02, 0x15), gp.Config{})
	const recognition = "6631732F 06072A864886FC6B01 600C060A2A864886FC6B02020101 63090607 2A864886FC6B03 640B06092A864886FC6B040215"
	steps := []step{
		{"80CA9F7F2D", "9F7F2A 494E4B41" + strings.Repeat("00", 38), 0x9000},
		{"00CA9F7F00", "*", 0x9000},
		{"80CA9F7F10", "", 0x6C2D},
		{"80CA00662D", "", 0x6C33},
		{"80CA006633", recognition, 0x9000},
		{"80CA006600", recognition, 0x9000},
		{"80CA00E02D", "E012 C00401018010 C00402018010 C00403018010", 0x9000},
		{"80CA00CF00", "CF0A 00010203040506070809", 0x9000},
		{"80CA00C100", "C1020000", 0x9000},
		{"80CA004F00", "4F08A000000151000000", 0x9000},
		{"80CA004200", "", 0x6A88},
		{"80CA01E000", "", 0x6A88},
		{"80CADF3005", "", 0x6A88},
		{"80CAFF2100", "*", 0x9000},
		{"80CA006700", "*", 0x9000},
		{"80CA00D300", "D30100", 0x9000},
	}
	runSteps(t, m, steps)
	s := openWith(t, m, unhex(t, testKey), 0x03)
	for _, d := range []apdu.Doer{s, doer{m}} { // wrapped and plain, in a session
		if b, err := agp.GetData(t.Context(), d, agp.TagRecognition); err != nil || len(b) != 51 {
			t.Errorf("recognition data %X, %v", b, err)
		}
	}
	runSteps(t, m, []step{{"80CA00D300", "D30183", 0x9000}, {"80CA00C100", "C1020001", 0x9000}})
	if _, err := agp.GetStatus(t.Context(), s, agp.ScopeIssuerDomain, apdu.AID{}); err != nil {
		t.Errorf("the session did not survive plain GET DATA: %v", err)
	}
}

func TestNeedsAuthentication(t *testing.T) {
	m := newManager(t, profile(t, securechannel.SCP03, 0x70), gp.Config{})
	for _, cmd := range []string{"80F28002024F0000", "80F0800F", "80E40000024F00", "80E60200", "80E88000", "80D8008100", "80E2900000"} {
		if r := do(t, m, cmd+"00"[:2*(len(cmd)%2)]); r.SW != apdu.SWSecurityStatus {
			t.Errorf("%s: %04X", cmd, uint16(r.SW))
		}
	}
	runSteps(t, m, []step{
		{"80FF0000", "", 0x6D00},
		{"84F2800208 0102030405060708 00", "", 0x6985}, // wrapped, no session
		{"8482010010 00010203040506070809101112131415", "", 0x6985},
		{"8050770008 0102030405060708 00", "", 0x6A88},
		{"8050000108 0102030405060708 00", "", 0x6A86},
		{"8050000007 01020304050607 00", "", 0x6700},
		{"8050000008 0102030405060708 00", "*", 0x9000},
		{"8482040010 00010203040506070809101112131415", "", 0x6A86},
		{"8050000008 0102030405060708 00", "*", 0x9000},
		{"8482010010 00010203040506070809101112131415", "", 0x6300},
		{"8482010010 00010203040506070809101112131415", "", 0x6985},
	})
}

func TestPlainCommandAbortsSession(t *testing.T) {
	m := newManager(t, profile(t, securechannel.SCP03, 0x70), gp.Config{})
	s := openWith(t, m, unhex(t, testKey), 0x01)
	runSteps(t, m, []step{
		{"80F28002024F0000", "", 0x6982},
		{"80CA00CF00", "*", 0x9000},
		{"80F28002024F0000", "", 0x6982},
	})
	if _, err := agp.GetStatus(t.Context(), s, agp.ScopeIssuerDomain, apdu.AID{}); err == nil {
		t.Error("the session lives on")
	}
	runSteps(t, m, []step{{"00A4040000", "*", 0x9000}, {"84F2800208 0102030405060708 00", "", 0x6985}})
}

func TestCountersSurviveAndReset(t *testing.T) {
	m := newManager(t, profile(t, securechannel.SCP03, 0x70), gp.Config{})
	for want := 1; want <= 3; want++ {
		r := do(t, m, "8050000008 0102030405060708 00")
		if got := fmt.Sprintf("%X", r.Data[len(r.Data)-3:]); got != fmt.Sprintf("%06X", want) {
			t.Errorf("counter %s, want %06X", got, want)
		}
		if !m.Changed() {
			t.Error("a counter that moved is no change")
		}
		m = reborn(t, m, gp.Config{})
	}
}

// reborn saves a card and makes it anew from what was saved.
func reborn(t testing.TB, m *gp.Manager, cfg gp.Config) *gp.Manager {
	t.Helper()
	b, err := m.Save()
	if err != nil {
		t.Fatal(err)
	}
	again, err := gp.Restore(b, cfg)
	if err != nil {
		t.Fatal(err)
	}
	b2, err := again.Save()
	if err != nil || !bytes.Equal(b, b2) {
		t.Fatalf("state changed by saving: %v", err)
	}
	return again
}
