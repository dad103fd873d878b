package gp_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/apdu/gp"
)

var (
	pkg      = apdu.MustAID("627601FF0000")
	applet   = apdu.MustAID("627601FF000000")
	gpproPkg = apdu.MustAID("D0D1D2D3D4D501")
	app9     = apdu.MustAID("D0D1D2D3D4D50101FF")
)

// must turns a builder's two results into one.
func must(t *testing.T) func(apdu.Command, error) apdu.Command {
	return func(c apdu.Command, err error) apdu.Command {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}

// TestCommands holds commands against the bytes that gp-card.md §5,
// coolkey-applet.md §13 and tps-operations.md §2.5 give, class 80.
func TestCommands(t *testing.T) {
	t.Parallel()
	m := must(t)
	coolkey := gp.InstallRequest{LoadFile: pkg, Module: applet, Instance: applet, NonVolatile: 18000, Params: []byte{0x00, 0x02, 0x13, 0x88}}
	for name, tc := range map[string]struct {
		cmd  apdu.Command
		want string
	}{
		"GET DATA":                  {gp.GetDataCommand(gp.TagCPLC), "80CA9F7F00"},
		"INSTALL for load, OP":      {m(gp.LoadRequest{LoadFile: pkg, Domain: gp.AIDCardManager, CodeSize: 278}.Command(gp.OP201)), "80E6020011 06627601FF0000 00 00 06EF04C602012E 00"},
		"INSTALL for load, GP":      {m(gp.LoadRequest{LoadFile: pkg, Domain: gp.AIDCardManager, CodeSize: 278}.Command(gp.GP211)), "80E6020019 06627601FF0000 08A000000003000000 00 06EF04C6020136 00 00"},
		"INSTALL for load, no size": {m(gp.LoadRequest{LoadFile: gpproPkg, Domain: gp.AIDIssuerDomain}.Command(gp.GP211)), "80E6020014 07D0D1D2D3D4D501 08A000000151000000 00 00 00 00"},
		"INSTALL for load, hash":    {m(gp.LoadRequest{LoadFile: gpproPkg, Domain: gp.AIDIssuerDomain, Hash: make([]byte, 32)}.Command(gp.GP211)), "80E6020034 07D0D1D2D3D4D501 08A000000151000000 20" + strings.Repeat("00", 32) + "00 00 00"},
		"INSTALL for load, large":   {m(gp.LoadRequest{LoadFile: pkg, CodeSize: 65535}.Command(gp.OP201)), "80E6020013 06627601FF0000 00 00 08EF06C60400010017 00"},
		"INSTALL CoolKey, OP":       {m(coolkey.Command(gp.OP201)), "80E60C0027 06627601FF0000 07627601FF000000 07627601FF000000 0100 0CEF04C8024650C90400021388 00"},
		"INSTALL CoolKey, GP":       {m(coolkey.Command(gp.GP211)), "80E60C0027 06627601FF0000 07627601FF000000 07627601FF000000 0100 0CEF04C8024650C90400021388 00 00"},
		"INSTALL, instance = module": {m(gp.InstallRequest{LoadFile: pkg, Module: applet}.Command(gp.OP201)),
			"80E60C001D 06627601FF0000 07627601FF000000 07627601FF000000 0100 02C900 00"},
		"INSTALL, privileges, volatile": {m(gp.InstallRequest{LoadFile: pkg, Module: applet, Privileges: gp.PrivCardReset | gp.PrivGlobalDelete, Volatile: 16, NonVolatile: 70000}.Command(gp.GP211)),
			"80E60C002B 06627601FF0000 07627601FF000000 07627601FF000000 03041000 0EEF0A C7020010 C80400011170 C900 00 00"},
		"make selectable":    {m(gp.MakeSelectableCommand(gp.GP211, app9, gp.PrivCardReset)), "80E6080010 00 00 09D0D1D2D3D4D50101FF 0104 00 00 00"},
		"extradition":        {m(gp.ExtraditeCommand(gp.GP211, gp.AIDIssuerDomain, app9)), "80E6100017 08A000000151000000 00 09D0D1D2D3D4D50101FF 00 00 00 00"},
		"personalization":    {m(gp.PersonalizeCommand(gp.GP211, app9)), "80E620000F 00 00 09D0D1D2D3D4D50101FF 00 00 00 00"},
		"registry update":    {m(gp.RegistryUpdateCommand(gp.GP211, apdu.AID{}, app9, gp.PrivCardLock)), "80E6400010 00 00 09D0D1D2D3D4D50101FF 0110 00 00 00"},
		"DELETE, OP":         {gp.DeleteCommand(gp.OP201, applet, gp.WithRelated), "80E4000009 4F07627601FF000000"},
		"DELETE, GP":         {gp.DeleteCommand(gp.GP211, applet, gp.WithRelated), "80E4008009 4F07627601FF000000 00"},
		"DELETE object only": {gp.DeleteCommand(gp.GP211, pkg, gp.ObjectOnly), "80E4000008 4F06627601FF0000 00"},
		"DELETE key set, OP": {m(gp.DeleteKeySetCommand(gp.OP201, 2)), "80E4000003 D20102"},
		"DELETE key set, GP": {m(gp.DeleteKeySetCommand(gp.GP211, 2)), "80E4000003 D20102 00"},
		"DELETE key":         {m(gp.DeleteKeyCommand(gp.GP211, 0x73, 1)), "80E4000006 D00101 D20173 00"},
		"PUT KEY, OP":        {m(gp.PutKeyCommand(gp.OP201, 1, []byte{2, 0xAA})), "80D8018102 02AA"},
		"PUT KEY, factory":   {m(gp.PutKeyCommand(gp.GP211, gp.FactoryKeyVersion, []byte{1, 0xAA})), "80D8008102 01AA 00"},
		"lock card":          {gp.SetStatusCommand(gp.TargetCard, gp.CardLocked, gp.AIDIssuerDomain), "80F0807F"},
		"lock application":   {gp.SetStatusCommand(gp.TargetApplication, gp.LockedBit, app9), "80F0408009 D0D1D2D3D4D50101FF"},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := tc.cmd.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if want := unhex(t, tc.want); !bytes.Equal(b, want) {
				t.Errorf("\n got %X\nwant %X", b, want)
			}
		})
	}
}

func TestCommandsRefuse(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func() (apdu.Command, error){
		"hash too long":          func() (apdu.Command, error) { return gp.LoadRequest{Hash: make([]byte, 256)}.Command(gp.GP211) },
		"parameters too long":    func() (apdu.Command, error) { return gp.InstallRequest{Params: make([]byte, 250)}.Command(gp.GP211) },
		"delete key set 00":      func() (apdu.Command, error) { return gp.DeleteKeySetCommand(gp.GP211, 0) },
		"delete key 00":          func() (apdu.Command, error) { return gp.DeleteKeyCommand(gp.GP211, 1, 0) },
		"put key over 80":        func() (apdu.Command, error) { return gp.PutKeyCommand(gp.GP211, 0x80, []byte{1, 2}) },
		"put key, no data":       func() (apdu.Command, error) { return gp.PutKeyCommand(gp.GP211, 1, []byte{1}) },
		"put key, too much data": func() (apdu.Command, error) { return gp.PutKeyCommand(gp.GP211, 1, make([]byte, 256)) },
	} {
		if c, err := build(); err == nil {
			t.Errorf("%s: %+v, want an error", name, c)
		}
	}
}

// TestDEF12LastBlockFlagged checks every size around the edges: all bytes arrive in order
// and exactly the last block is marked, also where the stream is a multiple of the
// block size.
func TestDEF12LastBlockFlagged(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ code, block, want, last int }{
		{1, 239, 1, 3},
		{278, 208, 2, 74},      // coolkey-applet.md §15.4: D0 + 4A
		{278, 216, 2, 66},      // D8 + 42
		{15409, 208, 75, 21},   // coolkey-applet.md §13
		{15409, 216, 72, 77},   //
		{236, 239, 1, 239},     // C4 81 EC: an exact block
		{475 - 1, 239, 2, 239}, // C4 82 01DA: two exact blocks
		{124, 126, 1, 126},     // one length byte
		{65276, 255, 256, 255},
		{65535, 255 + 0, 0, 0}, // 258 blocks: refused
		{61180, 239, 256, 239},
		{61181, 239, 0, 0},
	} {
		code := make([]byte, tc.code)
		for i := range code {
			code[i] = byte(i * 7)
		}
		cs, err := gp.LoadCommands(code, tc.block)
		if tc.want == 0 {
			if err == nil {
				t.Errorf("code=%d block=%d: %d blocks, want an error", tc.code, tc.block, len(cs))
			}
			continue
		}
		if err != nil {
			t.Errorf("code=%d block=%d: %v", tc.code, tc.block, err)
			continue
		}
		var stream []byte
		for i, c := range cs {
			p1 := byte(0)
			if i == len(cs)-1 {
				p1 = 0x80
			}
			if c.CLA != 0x80 || c.INS != 0xE8 || c.P1 != p1 || c.P2 != byte(i) || c.Ne != 0 {
				t.Errorf("code=%d block=%d: block %d is %02X%02X%02X%02X", tc.code, tc.block, i, c.CLA, c.INS, c.P1, c.P2)
			}
			stream = append(stream, c.Data...)
		}
		if n := len(cs[len(cs)-1].Data); len(cs) != tc.want || n != tc.last {
			t.Errorf("code=%d block=%d: %d blocks, last %d; want %d, %d", tc.code, tc.block, len(cs), n, tc.want, tc.last)
		}
		if head := len(stream) - len(code); stream[0] != 0xC4 || !bytes.Equal(stream[head:], code) {
			t.Errorf("code=%d block=%d: stream differs", tc.code, tc.block)
		}
	}
	for name, tc := range map[string]struct{ code, block int }{
		"no code": {0, 239}, "block 0": {10, 0}, "block 256": {10, 256}, "64 KiB": {65536, 255}, "negative block": {10, -1},
	} {
		if _, err := gp.LoadCommands(make([]byte, tc.code), tc.block); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLoadEntries(t *testing.T) {
	t.Parallel()
	q := gp.LoadRequest{LoadFile: pkg, Domain: gp.AIDCardManager}
	es, err := gp.LoadEntries(gp.OP201, q, make([]byte, 300), 239)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range es {
		got = append(got, fmt.Sprintf("%02X%02X%02X:%d:%d", e.INS, e.P1, e.P2, len(e.Data), e.Mode))
	}
	if want := "E60200:17:0 E80000:239:0 E88001:65:0"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if !bytes.Contains(es[0].Data, unhex(t, "EF04C6020144")) { // 300 + 24
		t.Errorf("size not announced: %X", es[0].Data)
	}
	if _, err := gp.LoadEntries(gp.GP211, q, nil, 239); err == nil {
		t.Error("no code: no error")
	}
	q.Hash = make([]byte, 300)
	if _, err := gp.LoadEntries(gp.GP211, q, make([]byte, 300), 239); err == nil {
		t.Error("hash of 300 bytes: no error")
	}
}

func TestStoreData(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		data   string
		format gp.StoreFormat
		block  int
		want   string
	}{
		"AID of the domain": {"4F05A000000001", gp.StoreBERTLV, 255, "80E2900007 4F05A000000001"},
		"one":               {"AABB", 0, 255, "80E2800002 AABB"},
		"two":               {"AABBCC", 0, 2, "80E2000002AABB 80E2800101CC"},
		"encrypted DGI":     {"AA", gp.StoreDGI | gp.StoreEncrypted, 1, "80E2E80001AA"},
		"nothing":           {"", 0, 255, "80E28000"},
	} {
		cs, err := gp.StoreDataCommands(unhex(t, tc.data), tc.format, tc.block)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []byte
		for _, c := range cs {
			b, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b...)
		}
		if want := unhex(t, tc.want); !bytes.Equal(got, want) {
			t.Errorf("%s: %X, want %X", name, got, want)
		}
	}
	for _, tc := range []struct{ n, block int }{{1, 0}, {1, 256}, {257, 1}} {
		if _, err := gp.StoreDataCommands(make([]byte, tc.n), 0, tc.block); err == nil {
			t.Errorf("%+v: no error", tc)
		}
	}
}

func TestPutKeyAnswer(t *testing.T) {
	t.Parallel()
	kcvs := []gp.KCV{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}}
	for name, tc := range map[string]struct {
		in   string
		want error
		bad  bool
	}{
		"all":                {"02 010203 040506 070809", nil, false},
		"version only":       {"02", nil, false},
		"nothing":            {"", nil, false},
		"public key":         {"02 00", nil, false},
		"another version":    {"03 010203 040506 070809", gp.ErrPutKeyVersion, false},
		"another check":      {"02 010203 040506 070800", gp.ErrPutKeyKCV, false},
		"first check":        {"02 000203 040506 070809", gp.ErrPutKeyKCV, false},
		"one check value":    {"02 010203", gp.ErrPutKeyKCV, false},
		"cut check value":    {"02 0102", nil, true},
		"with length fields": {"02 03010203 03040506", nil, true},
	} {
		a, err := gp.ParsePutKeyAnswer(unhex(t, tc.in))
		if (err != nil) != tc.bad {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if err := a.Check(2, kcvs); !errors.Is(err, tc.want) {
				t.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
	}
}

func TestSetStatus(t *testing.T) {
	t.Parallel()
	conn := apdu.NewConn(apdutest.NewScript(t, "80F0800F", "9000", "80F080FF", "6985"))
	if err := gp.SetStatus(t.Context(), conn, gp.TargetCard, gp.CardSecured, apdu.AID{}); err != nil {
		t.Error(err)
	}
	if err := gp.SetStatus(t.Context(), conn, gp.TargetCard, gp.CardTerminated, apdu.AID{}); !errors.Is(err, apdu.SWConditionsOfUse) {
		t.Errorf("refused: %v", err)
	}
	if gp.CardLocked.String() != "7F" {
		t.Error(gp.CardLocked)
	}
}

func TestPrivileges(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]gp.Privileges{"": 0, "04": gp.PrivCardReset, "0400": gp.PrivCardReset, "9EFE80": 0x9EFE80} {
		p, err := gp.ParsePrivileges(unhex(t, in))
		if err != nil || p != want {
			t.Errorf("%s: %06X, %v", in, uint32(p), err)
		}
	}
	if _, err := gp.ParsePrivileges(make([]byte, 4)); err == nil {
		t.Error("four bytes: no error")
	}
	if !gp.Privileges(0x9EFE80).Has(gp.PrivSecurityDomain|gp.PrivCardLock) || gp.PrivCardLock.Has(gp.PrivMandatedDAP) {
		t.Error("Has")
	}
}

func TestLogicalChannels(t *testing.T) {
	t.Parallel()
	conn := apdu.NewConn(apdutest.NewScript(t, "0070000001", "019000", "00708001", "9000", "0070000001", "6881", "0070000001", "9000", "00708002", "6A86"))
	n, err := gp.OpenChannel(t.Context(), conn)
	if err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	if err := gp.CloseChannel(t.Context(), conn, n); err != nil {
		t.Error(err)
	}
	if _, err := gp.OpenChannel(t.Context(), conn); !errors.Is(err, apdu.SWChannelNotSupported) {
		t.Errorf("no channels: %v", err)
	}
	if n, err := gp.OpenChannel(t.Context(), conn); err == nil {
		t.Errorf("no number: %d", n)
	}
	if err := gp.CloseChannel(t.Context(), conn, 2); !errors.Is(err, apdu.SWIncorrectP1P2) {
		t.Errorf("closing what is not open: %v", err)
	}
	for _, n := range []uint8{0, 20} {
		if err := gp.CloseChannel(t.Context(), conn, n); err == nil {
			t.Errorf("closing channel %d: no error", n)
		}
	}
	for _, tc := range []struct{ cla, n, want byte }{{0x80, 0, 0x80}, {0x80, 3, 0x83}, {0x80, 4, 0xC0}, {0x00, 19, 0x4F}, {0x00, 1, 0x01}} {
		if c, err := gp.OnChannel(apdu.Command{CLA: tc.cla}, tc.n); err != nil || c.CLA != tc.want {
			t.Errorf("%02X on %d: %02X, %v", tc.cla, tc.n, c.CLA, err)
		}
	}
	for _, tc := range []struct{ cla, n byte }{{0x80, 20}, {0x84, 1}, {0xB0, 1}} {
		if c, err := gp.OnChannel(apdu.Command{CLA: tc.cla}, tc.n); err == nil {
			t.Errorf("%02X on %d: %02X, want an error", tc.cla, tc.n, c.CLA)
		}
	}
}
