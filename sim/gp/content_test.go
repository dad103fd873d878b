package gp_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/apdu/tlv"
	"inkan/securechannel"
	"inkan/sim/gp"
)

// code is a load file with one module, 627601FF0000 / 627601FF000000.
func code(t testing.TB) []byte {
	t.Helper()
	b, err := loadfile.Synthetic(loadfile.CoolKeyVersion{Protocol: loadfile.Version{Major: 1, Minor: 1}, Applet: loadfile.Version{Major: 1, Minor: 4}, BuildID: 0x66000001})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	forLoad = "80E60200#06627601FF0000 00 00 06EF04C602012E 00"
	install = "80E60C00#06627601FF0000 07627601FF000000 07627601FF000000 0100 02C900 00"
)

// load sends a load stream in blocks of n bytes.
func load(t testing.TB, m *gp.Manager, stream []byte, n int) apdu.StatusWord {
	t.Helper()
	for i := 0; len(stream) > 0; i++ {
		k := min(n, len(stream))
		c := apdu.Command{CLA: 0x80, INS: 0xE8, P2: byte(i), Data: stream[:k]}
		if stream = stream[k:]; len(stream) == 0 {
			c.P1 = 0x80
		}
		if r := m.Do(c); r.SW != apdu.SWSuccess {
			return r.SW
		}
	}
	return apdu.SWSuccess
}

func TestLoadTakesAnySplit(t *testing.T) {
	stream := tlv.Encode(0xC4, code(t))
	for _, n := range []int{1 + len(stream)/256, 2, 3, 5, 208, 216, 239, 247, 255} {
		if (len(stream)+n-1)/n > 256 {
			continue
		}
		t.Run(fmt.Sprintf("block=%d", n), func(t *testing.T) {
			m := authenticated(t, gp.Config{})
			runSteps(t, m, []step{{forLoad, "00", 0x9000}})
			if sw := load(t, m, stream, n); sw != apdu.SWSuccess {
				t.Fatalf("%04X", uint16(sw))
			}
			runSteps(t, m, []step{
				{"80F21002024F0000", "E323 4F06627601FF0000 9F700101 CE020100 8407627601FF000000 CC08A000000151000000", 0x9000},
				{install, "00", 0x9000},
				{install, "", 0x6985},
				{"00A4040007627601FF000000", "", 0x9000},
				{"B03C000010", "", 0x6D00},
			})
		})
	}
}

// loaded is an authenticated card with the load file on it.
func loaded(t testing.TB, cfg gp.Config) *gp.Manager {
	t.Helper()
	m := authenticated(t, cfg)
	if r := do(t, m, forLoad); r.SW != apdu.SWSuccess {
		t.Fatalf("INSTALL [for load]: %04X", uint16(r.SW))
	}
	if sw := load(t, m, tlv.Encode(0xC4, code(t)), 216); sw != apdu.SWSuccess {
		t.Fatalf("LOAD: %04X", uint16(sw))
	}
	return m
}

func TestLoadRefusals(t *testing.T) {
	good := code(t)
	stream := tlv.Encode(0xC4, good)
	sum := sha256.Sum256(good)
	wrong := sum
	wrong[0] ^= 1
	hashed := func(h [32]byte) string {
		return fmt.Sprintf("80E60200#06627601FF0000 00 20%X 00 00", h)
	}
	for _, c := range []struct {
		name  string
		begin string
		load  func(*testing.T, *gp.Manager) apdu.StatusWord
		want  apdu.StatusWord
	}{
		{"right hash", hashed(sum), func(t *testing.T, m *gp.Manager) apdu.StatusWord { return load(t, m, stream, 200) }, 0x9000},
		{"wrong hash", hashed(wrong), func(t *testing.T, m *gp.Manager) apdu.StatusWord { return load(t, m, stream, 200) }, 0x6A80},
		{"another package", "80E60200#07D0D1D2D3D4D501 00 00 00 00", func(t *testing.T, m *gp.Manager) apdu.StatusWord { return load(t, m, stream, 200) }, 0x6A80},
		{"no header", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord { return load(t, m, good, 200) }, 0x6A80},
		{"cut", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord { return load(t, m, stream[:200], 100) }, 0x6A80},
		{"trailing bytes", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord {
			return load(t, m, append(stream[:len(stream):len(stream)], 0), 200)
		}, 0x6A80},
		{"malformed component", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord {
			return load(t, m, tlv.Encode(0xC4, good[:100]), 200)
		}, 0x6A80},
		{"signature block", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord {
			return load(t, m, append(tlv.Encode(0xE2, tlv.Encode(0x4F, make([]byte, 8))), stream...), 200)
		}, 0x9000},
		{"block number", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord { return do(t, m, "80E8000101C4").SW }, 0x6A86},
		{"too long", forLoad, func(t *testing.T, m *gp.Manager) apdu.StatusWord {
			return load(t, m, make([]byte, 68000), 300)
		}, 0x6A84},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := authenticated(t, gp.Config{})
			if r := do(t, m, c.begin); r.SW != apdu.SWSuccess {
				t.Fatalf("INSTALL [for load]: %04X", uint16(r.SW))
			}
			if sw := c.load(t, m); sw != c.want {
				t.Errorf("%04X, want %04X", uint16(sw), uint16(c.want))
			}
			files := do(t, m, "80F22002024F0000").SW
			if there := files == apdu.SWSuccess; there != (c.want == apdu.SWSuccess) {
				t.Errorf("load files: %04X", uint16(files))
			}
		})
	}
}

// TestLoadIsVolatileUntilItsEnd: what ends a load without its last block leaves
// nothing.
func TestLoadIsVolatileUntilItsEnd(t *testing.T) {
	for name, end := range map[string]func(*gp.Manager){
		"reset":   func(m *gp.Manager) { m.Reset() },
		"select":  func(m *gp.Manager) { do(t, m, "00A4040000") },
		"install": func(m *gp.Manager) { do(t, m, install) },
	} {
		t.Run(name, func(t *testing.T) {
			m := authenticated(t, gp.Config{})
			runSteps(t, m, []step{{forLoad, "00", 0x9000}, {"80E8000002C410", "", 0x9000}})
			m.Changed()
			end(m)
			if m.Changed() {
				t.Error("state changed")
			}
			openWith(t, m, unhex(t, testKey), 0)
			runSteps(t, m, []step{{"80E8000101C4", "", 0x6985}, {"80F22002024F0000", "", 0x6A88}})
		})
	}
}

func TestInstallRefusals(t *testing.T) {
	for _, c := range []struct {
		name, cmd string
		want      apdu.StatusWord
	}{
		{"load file again", forLoad, 0x6985},
		{"load file with the AID of the card manager", "80E60200#08A000000151000000 00 00 00 00", 0x6985},
		{"unknown security domain", "80E60200#05D0D1D2D3D4 05E0E1E2E3E4 00 00 00", 0x6A88},
		{"hash length", "80E60200#05D0D1D2D3D4 00 03010203 00 00", 0x6A80},
		{"memory", "80E60200#05D0D1D2D3D4 00 00 08EF06C60401000000 00", 0x6A84},
		{"cut", "80E60200#05D0D1", 0x6A80},
		{"unknown load file", "80E60C00#05D0D1D2D3D4 05D0D1D2D3D4 05D0D1D2D3D4 0100 02C900 00", 0x6A88},
		{"unknown module", "80E60C00#06627601FF0000 05D0D1D2D3D4 05D0D1D2D3D4 0100 02C900 00", 0x6A88},
		{"instance memory", "80E60C00#06627601FF0000 07627601FF000000 07627601FF000000 0100 0AC900EF06C80400FFFFFF 00", 0x6A84},
		{"privileges", "80E60C00#06627601FF0000 07627601FF000000 07627601FF000000 0400000000 02C900 00", 0x6A80},
		{"no domain", "80E60C00#06627601FF0000 07627601FF000000 07627601FF000000 0180 02C900 00", 0x6A80},
		{"make unknown selectable", "80E60800#00 00 05D0D1D2D3D4 0100 00 00", 0x6A88},
		{"purpose", "80E6010000", 0x6A86},
		{"no purpose", "80E600000100", 0x6A86},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := loaded(t, gp.Config{})
			m.Changed()
			if r := do(t, m, c.cmd); r.SW != c.want {
				t.Errorf("%s: %04X, want %04X", c.cmd, uint16(r.SW), uint16(c.want))
			}
			if m.Changed() {
				t.Error("state changed")
			}
		})
	}
}

// TestDelete also covers what hosts send for applications, files and keys.
func TestDelete(t *testing.T) {
	m := loaded(t, gp.Config{})
	runSteps(t, m, []step{
		{install, "00", 0x9000},
		{"80E40000#4F06627601FF0000", "", 0x6985}, // has an instance
		{"80E40000#4F05D0D1D2D3D4", "", 0x6A88},
		{"80E40000#4F08A000000151000000", "", 0x6985},
		{"80E40000#4F07627601FF000000", "00", 0x9000},
		{"00A4040007627601FF000000", "", 0x6A82},
	})
	openWith(t, m, unhex(t, testKey), 0)
	runSteps(t, m, []step{
		{install, "00", 0x9000},
		{"80E40080#4F06627601FF0000", "00", 0x9000},
		{"80F24002024F0000", "", 0x6A88},
		{"80E40000#D20101", "", 0x6985}, // in use, and the last
		{"80E40000#D20105", "", 0x6A88},
		{"80E40000#D20201", "", 0x6A80},
		{"80E4000000", "", 0x6A80},
		{"80E4010000", "", 0x6A86},
	})
}

func TestStatusPages(t *testing.T) {
	for _, level := range []securechannel.Level{0x01, 0x13, 0x33} {
		t.Run(fmt.Sprintf("level=%02X", level), func(t *testing.T) {
			m := authenticated(t, gp.Config{})
			const n = 14
			for i := range n {
				runSteps(t, m, []step{{fmt.Sprintf("80E60C00#07A0000001515350 08A000000151535041 09A000000151535041%02X 03800000 06C90481020370 00", i), "00", 0x9000}})
			}
			s := openWith(t, m, unhex(t, testKey), level)
			apps, err := agp.GetStatus(t.Context(), s, agp.ScopeApplications, apdu.AID{})
			if err != nil || len(apps) != n {
				t.Fatalf("%d applications, %v", len(apps), err)
			}
			some, err := agp.GetStatus(t.Context(), s, agp.ScopeApplications, apdu.MustAID("A00000015153504105"))
			if err != nil || len(some) != 1 {
				t.Errorf("filtered: %+v, %v", some, err)
			}
			ask := apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x40, P2: 0x02, Data: []byte{0x4F, 0x00}, Ne: 256}
			r, err := s.Do(t.Context(), ask)
			if err != nil || r.SW != apdu.SWMoreData || len(r.Data) > 256 {
				t.Errorf("first page: %d bytes, %v, %v", len(r.Data), r.SW, err)
			}
			if _, err := tlv.Parse(r.Data); err != nil {
				t.Errorf("a page is not cut between entries: %v", err)
			}
			ask.P1, ask.P2 = 0x20, 0x03
			if r, err := s.Do(t.Context(), ask); err != nil || r.SW != apdu.SWReferencedNotFound {
				t.Errorf("next page of what was not asked for: %v, %v", r.SW, err)
			}
		})
	}
}

func TestStatusFormats(t *testing.T) {
	m := loaded(t, gp.Config{})
	runSteps(t, m, []step{
		{install, "00", 0x9000},
		{"80F28000024F0000", "08A000000151000000 01 9E", 0x9000},
		{"80F24000024F0000", "07627601FF000000 07 00", 0x9000},
		{"80F22000024F0000", "06627601FF0000 01 00", 0x9000},
		{"80F21000024F0000", "06627601FF0000 01 00 01 07627601FF000000", 0x9000},
		{"80F24002024F0000", "E322 4F07627601FF000000 9F700107 C50100 C406627601FF0000 CC08A000000151000000", 0x9000},
		{"80F20102024F0000", "", 0x6A86},
		{"80F28004024F0000", "", 0x6A86},
		{"80F2800202500000", "", 0x6A80},
		{"80F2800200", "", 0x6A80},
		{"80F24002074F05D0D1D2D3D400", "", 0x6A88},
	})
}

func TestLifeCycle(t *testing.T) {
	m := loaded(t, gp.Config{})
	const app = "07627601FF000000"
	runSteps(t, m, []step{
		{install, "00", 0x9000},
		{"80F04080" + app, "", 0x9000}, // lock
		{"80F24000024F0000", app + "8700", 0x9000},
		{"80F04000" + app, "", 0x9000}, // unlock: the state before
		{"80F24000024F0000", app + "0700", 0x9000},
		{"80F0400F" + app, "", 0x9000},
		{"80F04003" + app, "", 0x6985},
		{"80F0400705D0D1D2D3D4", "", 0x6A88},
		{"80F02007", "", 0x6A86},
		{"80F08007", "", 0x9000}, // card: INITIALIZED
		{"80F08001", "", 0x6985},
		{"80F0800F", "", 0x9000},
		{"80F0807F", "", 0x9000}, // CARD_LOCKED
		{"80E40000#4F" + app, "", 0x6985},
		{"80F28000024F0000", "08A000000151000000 7F 9E", 0x9000},
		{"00A40400" + app, "", 0x6A82},
		{"00A4040000", "*", 0x6283},
	})
	openWith(t, m, unhex(t, testKey), 0)
	runSteps(t, m, []step{
		{"80F0800F", "", 0x9000},
		{"00A40400" + app, "", 0x9000},
		{"00A4040000", "*", 0x9000},
	})
	openWith(t, m, unhex(t, testKey), 0)
	runSteps(t, m, []step{
		{"80F080FF", "", 0x9000}, // TERMINATED
		{"00A4040000", "", 0x6F00},
		{"80CA9F7F00", "*", 0x9000},
		{"80CA006600", "*", 0x9000},
		{"80CA00CF00", "", 0x6F00},
	})
	m = reborn(t, m, gp.Config{})
	runSteps(t, m, []step{{"00A4040000", "", 0x6F00}})
}

func TestLockedApplication(t *testing.T) {
	m := loaded(t, gp.Config{})
	runSteps(t, m, []step{
		{install, "00", 0x9000},
		{"80F04080 07627601FF000000", "", 0x9000},
		{"00A40400 07627601FF000000", "", 0x6A82},
	})
}

func TestDefaultSelected(t *testing.T) {
	m := loaded(t, gp.Config{})
	runSteps(t, m, []step{
		{install, "00", 0x9000},
		{"80E60800#00 00 07627601FF000000 03040000 00 00", "00", 0x9000},
		{"00A4040000", "", 0x9000}, // the applet now
		{"80CA9F7F00", "", 0x6D00},
		{"00A40400 08A000000151000000", "*", 0x9000},
	})
	m.Reset()
	runSteps(t, m, []step{{"80CA9F7F00", "", 0x6D00}})
}

func TestSecurityDomain(t *testing.T) {
	m := loaded(t, gp.Config{})
	const ssd = "09A00000015153504101"
	runSteps(t, m, []step{
		{"80E60C00#07A0000001515350 08A000000151535041" + ssd + "03800000 06C90481020370 00", "00", 0x9000},
		{install, "00", 0x9000},
		{"80E61000#" + ssd + "00 07627601FF000000 00 00 00", "00", 0x9000}, // extradition
		{"80F24002094F07627601FF000000", "E323 4F07627601FF000000 9F700107 C50100 C406627601FF0000 CC" + ssd, 0x9000},
		{"80E40000#4F" + ssd, "", 0x6985}, // owns the applet
		{"80E64000#00 00 07627601FF000000 03100000 00 00", "00", 0x9000},
		{"00A40400" + ssd, "6F11 84" + ssd + "A5049F6501FF", 0x9000},
		{"80CA004F00", "4F" + ssd, 0x9000},
		{"8050000008 0102030405060708 00", "*", 0x9000},
		{"80F28002024F0000", "", 0x6D00},
	})
}

func TestStoreData(t *testing.T) {
	m := authenticated(t, gp.Config{})
	runSteps(t, m, []step{
		{"80E28000#9F66080102632505060708", "", 0x9000},
		{"80E28000#9F67081112131415161718", "", 0x9000},
		{"80CA9F7F00", "9F7F2A 494E4B41" + strings.Repeat("00", 22) + "1112131415161718 0102632505060708", 0x9000},
		{"80E29000#4203123456", "", 0x9000},
		{"80CA004200", "4203123456", 0x9000},
		{"80E20100#450201", "", 0x9000}, // two blocks
		{"80E28101#02", "", 0x9000},
		{"80CA004500", "45020102", 0x9000},
		{"80E29001#45020102", "", 0x6A86},
		{"80E29000#420111 DF0100", "", 0x6A88}, // all or nothing
		{"80CA004200", "4203123456", 0x9000},
		{"80E2E000#45020102", "", 0x6A81},
		{"80E29000#450301", "", 0x6A80},
		{"80E29000#4F08A000000003000000", "", 0x9000},
		{"00A40400 07A0000000030000", "6F10 8408A000000003000000 A5049F6501FF", 0x9000},
	})
	m = reborn(t, m, gp.Config{})
	runSteps(t, m, []step{{"80CA004500", "45020102", 0x9000}, {"80CA004F00", "4F08A000000003000000", 0x9000}})
}
