package gp_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/apdu/tlv"
	"inkan/securechannel"
	"inkan/sim/gp"
)

// authenticated01 is a card of SCP01 whose host has proved itself at level 00.
func authenticated01(t testing.TB, sets ...gp.KeySet) *gp.Manager {
	t.Helper()
	p := profile(t, securechannel.SCP01, 0x05)
	if len(sets) > 0 {
		p.Keys = sets
	}
	m := newManager(t, p, gp.Config{})
	openWith(t, m, p.Keys[0].ENC, 0)
	return m
}

// TestOpenPlatform201 sends what a host of Open Platform 2.0.1 sends: no Le, no
// security domain in INSTALL [for load], DELETE of the instance and then of the
// package, without P2 80 (coolkey-applet.md §13).
func TestOpenPlatform201(t *testing.T) {
	const (
		load    = "80E60200#06 627601FF0000 00 00 06 EF04C602 0116 00"
		install = "80E60C00#06 627601FF0000 07 627601FF000000 07 627601FF000000 01 00 0C EF04C8024650 C90400021388 00"
	)
	deletes := []step{
		{"80E40000#4F07 627601FF000000", "00", 0x9000},
		{"80E40000#4F06 627601FF0000", "00", 0x9000},
	}
	var steps []step
	for _, s := range deletes { // a blank card has neither; the answers do not matter
		steps = append(steps, step{s.cmd, "", 0x6A88})
	}
	stream := tlv.Encode(0xC4, code(t))
	steps = append(steps,
		step{load, "00", 0x9000},
		step{fmt.Sprintf("80E80000#%X", stream[:208]), "", 0x9000},
		step{fmt.Sprintf("80E88001#%X", stream[208:]), "00", 0x9000},
		step{install, "00", 0x9000},
		step{"80E40000#4F06 627601FF0000", "", 0x6985}, // the instance needs it
	)
	m := authenticated01(t)
	runSteps(t, m, append(steps, deletes...))
	m = reborn(t, m, gp.Config{})
	runSteps(t, m, []step{
		{"00A4040007627601FF000000", "", 0x6A82},
		{"80CA006600", "6631732F 06072A864886FC6B01 600C060A2A864886FC6B02020101 6309 06072A864886FC6B03 640B06092A864886FC6B040105", 0x9000},
		{"80CA00C100", "", 0x6A88}, // no sequence counter (secure-channel.md §2.1)
		{"80CA00E000", "E012 C00401018010 C00402018010 C00403018010", 0x9000},
		{"8050000008686F73746368616C", "*", 0x9000}, // INITIALIZE UPDATE without Le
		{"8050000108686F73746368616C00", "*", 0x9000},
		{"8050000208686F73746368616C00", "", 0x6A88},
	})
}

// TestPutKeyVectors01 runs the PUT KEY commands of other people's hosts: key
// types 80 and 81, under the static data encryption key.
func TestPutKeyVectors01(t *testing.T) {
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
		if v.Kind != "put_key" || v.SCP != "01" {
			continue
		}
		ran++
		dek := unhex(t, v.DEK)
		m := authenticated01(t, gp.KeySet{Version: 1, Type: gp.DES3, ENC: dek, MAC: dek, DEK: dek})
		if got := do(t, m, v.Command).Encode(); !bytes.Equal(got, unhex(t, v.Response)) {
			t.Errorf("%s: answer %X, want %s", v.Name, got, v.Response)
		}
	}
	if ran != 3 {
		t.Errorf("%d vectors", ran)
	}
}

// TestSegmentsAreCommands01: a command in segments is a command per segment, each
// with its own MAC, and nothing longer than a short command is taken.
func TestSegmentsAreCommands01(t *testing.T) {
	p := profile(t, securechannel.SCP01, 0x15)
	m := newManager(t, p, gp.Config{})
	req := securechannel.Request{
		HostChallenge: []byte("hostchal"), Level: 0x03, HintProtocol: securechannel.SCP01, HintOption: 0x15,
	}
	s, err := securechannel.Open(t.Context(), doer{m}, req, keySource(p.Keys[0].ENC))
	if err != nil {
		t.Fatal(err)
	}
	whole := unhex(t, "06 627601FF0000 00 00 06 EF04C602 0116 00")
	for i, part := range [][]byte{whole[:5], whole[5:]} {
		cmd := apdu.Command{CLA: 0x80, INS: 0xE6, P1: 0x02, Data: part}
		if i == 0 {
			cmd.P1 |= 0x80
		}
		if r, err := s.Do(t.Context(), cmd); err != nil || r.SW != apdu.SWSuccess {
			t.Fatalf("part %d: %v, %v", i, r.SW, err)
		}
	}
	long := apdu.Command{CLA: 0x84, INS: 0xE6, P1: 0x82, Data: make([]byte, 300)}
	for range 2 {
		m.Do(long)
		long.P1 &^= 0x80
	}
	if r := m.Do(apdu.Command{CLA: 0x84, INS: 0xF2, P1: 0x80, Data: []byte{0x4F, 0}}); r.SW != apdu.SWSecurityStatus {
		t.Errorf("after a long command: %v", r.SW)
	}
	if _, err := agp.ReadKeyInfo(t.Context(), doer{m}); err != nil {
		t.Errorf("GET DATA is free: %v", err)
	}
}
