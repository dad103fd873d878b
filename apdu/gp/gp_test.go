package gp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	"inkan/apdu/gp"
	"inkan/apdu/tlv"
)

// recognition is tag 66 of coolkey-applet.md §3.2 with the last two bytes given.
func recognition(scp string) string {
	return "6631 732F 06072A864886FC6B01 600C 060A2A864886FC6B02020101 6309 06072A864886FC6B03 640B 06092A864886FC6B04" + scp
}

func TestSelect(t *testing.T) {
	t.Parallel()
	const fci = "6F4A 8408A000000151000000 A53E 732F 06072A864886FC6B01 600C060A2A864886FC6B02020201 630906072A864886FC6B03 640B06092A864886FC6B040255 9F6E06479100783300 9F6501FF"
	for name, tc := range map[string]struct {
		aid          apdu.AID
		cmd, answer  string
		want         string
		max          int
		version, scp string
		locked       bool
	}{
		"default":       {apdu.AID{}, "00A4040000", fci + "9000", "A000000151000000", 255, "2.2.1", "[SCP02 i=55]", false},
		"by name":       {gp.AIDCardManager, "00A4040008A00000000300000000", "6F10 8408A000000003000000 A504 9F6501FF 9000", "A000000003000000", 255, "", "[]", false},
		"short FCI":     {gp.AIDCardManagerShort, "00A4040007A000000003000000", "6F098407A0000000030000 9000", "A0000000030000", 0, "", "[]", false},
		"locked":        {apdu.AID{}, "00A4040000", "6F0A8408A000000003000000 6283", "A000000003000000", 0, "", "[]", true},
		"bare":          {apdu.MustAID("627601FF000000"), "00A4040007627601FF00000000", "9000", "", 0, "", "[]", false},
		"other answer":  {apdu.AID{}, "00A4040000", "0102039000", "", 0, "", "[]", false},
		"two-byte 9F65": {apdu.AID{}, "00A4040000", "6F10 8405A000000001 A507 9F6502 0400 C500 9000", "A000000001", 1024, "", "[]", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := gp.Select(t.Context(), apdu.NewConn(apdutest.NewScript(t, tc.cmd, tc.answer)), tc.aid)
			if err != nil {
				t.Fatal(err)
			}
			if got.AID.String() != tc.want || got.MaxData != tc.max || got.Locked != tc.locked ||
				got.Recognition.Version != tc.version || fmt.Sprint(got.Recognition.SCPs) != tc.scp {
				t.Errorf("%+v", got)
			}
			answer := unhex(t, tc.answer)
			if string(got.Raw) != string(answer[:len(answer)-2]) {
				t.Errorf("raw %X", got.Raw)
			}
		})
	}
	conn := apdu.NewConn(apdutest.NewScript(t, "00A4040000", "6A82"))
	if _, err := gp.Select(t.Context(), conn, apdu.AID{}); !errors.Is(err, apdu.SWFileNotFound) {
		t.Errorf("not found: %v", err)
	}
	cut := apdu.NewConn(apdutest.Cut(nil, 1, apdutest.Before))
	if _, err := gp.Select(t.Context(), cut, apdu.AID{}); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("card removed: %v", err)
	}
	for _, s := range []string{"", "8405A000000001", "6F138411" + strings.Repeat("A0", 17)} {
		if f, err := gp.ParseFCI(unhex(t, s)); err == nil {
			t.Errorf("%s: %+v, want an error", s, f)
		}
	}
}

// doer answers from a script without a Conn: it resolves nothing.
type doer struct{ card apdu.Card }

func (d doer) Do(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	b, err := cmd.Encode()
	if err != nil {
		return apdu.Response{}, err
	}
	out, err := d.card.Transmit(ctx, b)
	if err != nil {
		return apdu.Response{}, err
	}
	return apdu.ParseResponse(out)
}

func TestGetData(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tag    tlv.Tag
		script []string
		want   string
		err    error
	}{
		"plain":                  {gp.TagKDD, []string{"80CA00CF00", "CF01AA9000"}, "CF01AA", nil},
		"two-byte tag":           {gp.TagCPLC, []string{"80CA9F7F00", "9F7F01AA9000"}, "9F7F01AA", nil},
		"wrong Le":               {gp.TagKDD, []string{"80CA00CF00", "6C03", "80CA00CF03", "CF01AA9000"}, "CF01AA", nil},
		"wrong Le, 256":          {gp.TagKDD, []string{"80CA00CF00", "6C00", "80CA00CF00", "CF01AA9000"}, "CF01AA", nil},
		"class 00":               {gp.TagKDD, []string{"80CA00CF00", "6E00", "00CA00CF00", "CF01AA9000"}, "CF01AA", nil},
		"class 00, wrong Le":     {gp.TagKDD, []string{"80CA00CF00", "6D00", "00CA00CF00", "6C03", "00CA00CF03", "CF01AA9000"}, "CF01AA", nil},
		"not there":              {gp.TagKDD, []string{"80CA00CF00", "6A88"}, "", apdu.SWReferencedNotFound},
		"not there in any class": {gp.TagKDD, []string{"80CA00CF00", "6E00", "00CA00CF00", "6D00"}, "", apdu.SWInsNotSupported},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := gp.GetData(t.Context(), doer{apdutest.NewScript(t, tc.script...)}, tc.tag)
			if !errors.Is(err, tc.err) || err == nil && string(b) != string(unhex(t, tc.want)) {
				t.Errorf("%X, %v", b, err)
			}
		})
	}
}

// TestReads runs the typed readers against a card that has everything.
func TestReads(t *testing.T) {
	t.Parallel()
	conn := func(cmd, answer string) apdu.Doer { return apdu.NewConn(apdutest.NewScript(t, cmd, answer)) }
	ctx := t.Context()
	if k, err := gp.ReadKDD(ctx, conn("80CA00CF00", "CF0A 00008301A8186827A822 9000")); err != nil || k.String() != "00008301A8186827A822" {
		t.Errorf("KDD %v, %v", k, err)
	}
	if k, err := gp.ReadKDD(ctx, conn("80CA00CF00", "CF02 0000 9000")); err == nil {
		t.Errorf("short KDD %v", k)
	}
	if _, err := gp.ReadKDD(ctx, conn("80CA00CF00", "6A88")); !errors.Is(err, apdu.SWReferencedNotFound) {
		t.Errorf("no KDD: %v", err)
	}
	if c, err := gp.ReadCounter(ctx, conn("80CA00C100", "C103 00002A 9000")); err != nil || fmt.Sprintf("%X", c) != "00002A" {
		t.Errorf("counter %X, %v", c, err)
	}
	if c, err := gp.ReadCounter(ctx, conn("80CA00C100", "C104 00000000 9000")); err == nil {
		t.Errorf("counter of 4 bytes: %X", c)
	}
	if _, err := gp.ReadCounter(ctx, conn("80CA00C100", "6A88")); err == nil {
		t.Error("no counter: no error")
	}
	if r, err := gp.ReadRecognition(ctx, conn("80CA006600", recognition("0370")+"9000")); err != nil || fmt.Sprint(r) != "{2.1.1 [SCP03 i=70]}" {
		t.Errorf("recognition %v, %v", r, err)
	}
	if _, err := gp.ReadRecognition(ctx, conn("80CA006600", "6A88")); err == nil {
		t.Error("no recognition data: no error")
	}
	if es, err := gp.ReadKeyInfo(ctx, conn("80CA00E000", "E006 C00401FF8010 9000")); err != nil || len(es) != 1 {
		t.Errorf("key info %v, %v", es, err)
	}
	if _, err := gp.ReadKeyInfo(ctx, conn("80CA00E000", "6A88")); err == nil {
		t.Error("no key info: no error")
	}
	if _, err := gp.ReadCPLC(ctx, conn("80CA9F7F00", "9F7F01009000")); err == nil {
		t.Error("short CPLC: no error")
	}
	soft := "010001 A0019203 0100010001000100 060708C9 0405 0100010000000100010001000100000001000100 01020304"
	if c, err := gp.ReadCPLC(ctx, conn("80CA9F7F00", soft+"9000")); err != nil || c.CUID().String() != "A00192030405060708C9" || c.MSN().String() != "01020304" {
		t.Errorf("Dogtag's soft token: %+v, %v", c, err)
	}
	if _, err := gp.ReadCPLC(ctx, conn("80CA9F7F00", soft+"05 9000")); err == nil {
		t.Error("CPLC of 46 bytes: no error")
	}
	cplc := "9F7F2A 4090 6155 1291 6181 0C00 3052 01020304 0A0B 1292 3053 1293 3054 0000 0000 00000000 0000 0000 00000001"
	if c, err := gp.ReadCPLC(ctx, conn("80CA9F7F00", cplc+"9000")); err != nil || c.CUID().String() != "409061550A0B01020304" || c.MSN().String() != "00000001" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseRecognition(t *testing.T) {
	t.Parallel()
	const gpOID = "06072A864886FC6B01 "
	for name, tc := range map[string]struct {
		in, want string
		ok       bool
	}{
		"Dogtag's order":          {recognition("0215"), "{2.1.1 [SCP02 i=15]}", true},
		"without header 66":       {strings.Replace(recognition("0215"), "6631", "", 1), "{2.1.1 [SCP02 i=15]}", true},
		"two tags 64":             {"6629 7327" + gpOID + "640B06092A864886FC6B040370 640F" + "06092A864886FC6B040215 06000600", "{ [SCP03 i=70 SCP02 i=15]}", true},
		"two OIDs in one tag 64":  {"661A 7318 6416 06092A864886FC6B040215 06092A864886FC6B040370", "{ [SCP02 i=15 SCP03 i=70]}", true},
		"SCP11, option as an arc": {"6610 730E 640C 060A2A864886FC6B04119B06", "{ [SCP11 i=D86]}", true},
		"option 80 as it stands":  {"660F 730D 640B 06092A864886FC6B040380", "{ [SCP03 i=80]}", true},
		"other order, others":     {"661D 731B 640B06092A864886FC6B040200 65020500 600806062A864886FC6B", "{ [SCP02 i=00]}", true},
		"version 2.3":             {"660F 730D 600B 06092A864886FC6B020203", "{2.3 []}", true},
		"arc that does not end":   {"6610 730E 640C 060A2A864886FC6B04119B86", "{ []}", true},
		"arc ends too early":      {"6610 730E 640C 060A2A864886FC6B04110606", "{ []}", true},
		"arc too large":           {"6612 7310 640E 060C2A864886FC6B0411FFFFFF7F", "{ []}", true},
		"other OIDs":              {"660F 730D 640B 06092A8648860000040215", "{ []}", true},
		"no 73":                   {"6602 0600", "", false},
		"cut":                     {"6606 7304 640B0609", "", false},
		"cut inside":              {"6606 7304 64020609", "", false},
		"nothing":                 {"", "", false},
	} {
		r, err := gp.ParseRecognition(unhex(t, tc.in))
		if (err == nil) != tc.ok || tc.ok && fmt.Sprint(r) != tc.want {
			t.Errorf("%s: %v, %v; want %s", name, r, err, tc.want)
		}
	}
	r, _ := gp.ParseRecognition(unhex(t, recognition("0370")))
	if s, ok := r.Find(3); !ok || s.Option != 0x70 {
		t.Errorf("SCP03: %v %v", s, ok)
	}
	if s, ok := r.Find(2); ok {
		t.Errorf("SCP02: %v", s)
	}
}

func TestParseKeyInfo(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		in, want string
		ok       bool
	}{
		"without header":      {"C00401FF8010", "[{1 FF DES3 16 [] [] []}]", true},
		"empty entry":         {"E002C000", "[]", true},
		"empty template":      {"E000", "[]", true},
		"long form":           {"E08106C00401018820", "[{1 01 AES 32 [] [] []}]", true},
		"RSA, two components": {"E008C0060171A100A003", "[{1 71 RSA 256 [{RSA 3}] [] []}]", true},
		"extended":            {"E00E C00C 01 30 FF880020 02 1808 02 0100", "[{1 30 AES 32 [] [24 8] [1 0]}]", true},
		"extended, no usage":  {"E008 C006 01 30 FF880020", "[{1 30 AES 32 [] [] []}]", true},
		"extended and basic":  {"E00E C006 01 30 FF880010 C004 0221 8010", "[{1 30 AES 16 [] [] []} {2 21 DES3 16 [] [] []}]", true},
		"cut entry":           {"E005C003010180", "", false},
		"odd components":      {"E007C0050101801088", "", false},
		"extended, cut":       {"E007C0050130FF8800", "", false},
		"extended, cut usage": {"E00AC0080130FF8800200518", "", false},
		"cut template":        {"E00AC00401", "", false},
	} {
		es, err := gp.ParseKeyInfo(unhex(t, tc.in))
		if (err == nil) != tc.ok || tc.ok && fmt.Sprint(es) != tc.want {
			t.Errorf("%s: %v, %v; want %s", name, es, err, tc.want)
		}
	}
	es, err := gp.ParseKeyInfo(unhex(t, "E018 C00401208010 C00402208010 C00401FF8010 C00403208010"))
	if err != nil || fmt.Sprint(gp.KeyVersions(es)) != "[20 FF]" || gp.KeyBits(es) != 128 || gp.KeyBits(nil) != 0 {
		t.Errorf("%v, %v", gp.KeyVersions(es), err)
	}
	for typ, want := range map[gp.KeyType]string{0x80: "DES3", 0x82: "DES3", 0x85: "PSK", 0x88: "AES", 0xA1: "RSA", 0xB0: "EC", 0x42: "type 42"} {
		if typ.String() != want {
			t.Errorf("%02X: %v", uint8(typ), typ)
		}
	}
}

// TestTypes: KDD, key version, KCV and MSN go through text and back.
func TestTypes(t *testing.T) {
	t.Parallel()
	type ids struct {
		KDD gp.KDD
		KVN gp.KeyVersion
		MSN gp.MSN
	}
	in := `{"KDD":"00008301A8186827A822","KVN":"FF","MSN":"00000001"}`
	var v ids
	if err := json.Unmarshal([]byte(in), &v); err != nil {
		t.Fatal(err)
	}
	if v.KVN != 0xFF || v.MSN[3] != 1 || v.KDD.IsZero() || !(gp.KDD{}).IsZero() {
		t.Errorf("%+v", v)
	}
	if b, err := json.Marshal(v); err != nil || string(b) != in {
		t.Errorf("%s, %v", b, err)
	}
	for _, s := range []string{`{"KDD":"00"}`, `{"KDD":"x"}`, `{"KVN":"1"}`, `{"KVN":"100"}`, `{"KVN":"zz"}`, `{"MSN":"01"}`, `{"MSN":"zz"}`} {
		if err := json.Unmarshal([]byte(s), &v); err == nil {
			t.Errorf("%s: no error", s)
		}
	}
	if (gp.KCV{0x8B, 0xAF, 0x47}).String() != "8BAF47" {
		t.Error("KCV")
	}
	if s := (gp.CPLC{ICFabricator: 0x494E, ICType: 0x4B41}); !s.Simulated() {
		t.Error("INKA is not taken for a software card")
	}
	if gp.DialectOf(1) != gp.OP201 || gp.DialectOf(3) != gp.GP211 || gp.OP201.String() == gp.GP211.String() {
		t.Error("dialects")
	}
}
