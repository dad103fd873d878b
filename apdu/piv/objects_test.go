package piv_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"inkan/apdu/piv"
	"inkan/apdu/tlv"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: %X, want %X", what, got, want)
	}
}

// Contents of objects as programs of Yubico write them (piv-applet.md §5).
const (
	chuid = "30 19 D4E739DA739CED39CE739D836858210842108421C84210C3EB 34 10 58C68A1D65E0A09285AF090B070B5D79" +
		"35 08 3230333030313031 3E00 FE00"
	ccc = "F0 15 A000000116 FF 02 000102030405060708090A0B0C0D F1 01 21 F2 01 21 F3 00 F4 01 00 F5 01 10" +
		"F6 00 F7 00 FA 00 FB 00 FC 00 FD 00 FE 00"
	history = "C1 01 02 C2 01 00 F3 00 FE 00"
)

func TestCHUID(t *testing.T) {
	t.Parallel()
	var guid [16]byte
	copy(guid[:], unhex(t, "58C68A1D65E0A09285AF090B070B5D79"))
	c := piv.NewCHUID(guid, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	same(t, "CHUID", c.Encode(), unhex(t, chuid))
	if n := len(c.Encode()); n != 59 {
		t.Errorf("%d bytes", n)
	}
	got, err := piv.ParseCHUID(unhex(t, chuid))
	if err != nil || got.GUID != guid || got.FASCN != piv.NonFederal || got.Expiry != "20300101" {
		t.Errorf("%+v, %v", got, err)
	}
	// Others: no FASC-N of 25 bytes, no date, tags nobody knows.
	got, err = piv.ParseCHUID(unhex(t, "3000 3410 58C68A1D65E0A09285AF090B070B5D79 3508 0000000000000000 EE0101"))
	if err != nil || got.GUID != guid || got.Expiry != "" {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "FE00", "3404 01020304", "3410 58C6"} {
		if _, err := piv.ParseCHUID(unhex(t, bad)); err == nil {
			t.Errorf("%q is a CHUID", bad)
		}
	}
}

func TestCCC(t *testing.T) {
	t.Parallel()
	c := piv.CCC{ID: [14]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}}
	same(t, "CCC", c.Encode(), unhex(t, ccc))
	if got, err := piv.ParseCCC(unhex(t, ccc)); err != nil || got != c {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := piv.ParseCCC(unhex(t, "F002A000")); err == nil {
		t.Error("a short identifier is taken")
	}
}

func TestKeyHistory(t *testing.T) {
	t.Parallel()
	same(t, "history", piv.KeyHistory{OnCard: 2}.Encode(), unhex(t, history))
	if h, err := piv.ParseKeyHistory(unhex(t, history)); err != nil || h != (piv.KeyHistory{OnCard: 2}) {
		t.Errorf("%+v, %v", h, err)
	}
	off := piv.KeyHistory{OnCard: 1, OffCard: 3, URL: "http://a.example/x"}
	if h, err := piv.ParseKeyHistory(off.Encode()); err != nil || h != off {
		t.Errorf("%+v, %v", h, err)
	}
	for _, bad := range []string{"C1 01 15 C2 01 00", "C1 01 0B C2 01 0A", "C1 01 02", "C1 02 0002 C2 01 00"} {
		if _, err := piv.ParseKeyHistory(unhex(t, bad)); err == nil {
			t.Errorf("%q is a key history", bad)
		}
	}
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	same(t, "discovery", piv.DiscoveryContent(), unhex(t, "4F0B A000000308000010000100 5F2F02 4000"))
	if u, err := piv.ParseDiscovery(piv.DiscoveryContent()); err != nil || u != (piv.PINUsage{Application: true}) {
		t.Errorf("%+v, %v", u, err)
	}
	if u, err := piv.ParseDiscovery(unhex(t, "5F2F02 7000")); err != nil || !u.Global || !u.Biometric {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := piv.ParseDiscovery(unhex(t, "5F2F01 40")); err == nil {
		t.Error("a short policy is taken")
	}
}

func TestCertificateObject(t *testing.T) {
	t.Parallel()
	der := bytes.Repeat([]byte{0x30, 0x82}, 300)
	same(t, "plain", piv.EncodeCertificate(der), append(append(unhex(t, "70820258"), der...), 0x71, 1, 0, 0xFE, 0))
	got, err := piv.ParseCertificate(piv.EncodeCertificate(der))
	if err != nil {
		t.Fatal(err)
	}
	same(t, "read back", got, der)
	packed := func(content []byte) []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(content)
		w.Close()
		return tlv.Append(tlv.Encode(0x70, b.Bytes()), 0x71, []byte{1})
	}
	if got, err = piv.ParseCertificate(packed(der)); err != nil {
		t.Fatal(err)
	}
	same(t, "compressed", got, der)
	for name, b := range map[string][]byte{
		"a bomb": packed(make([]byte, piv.MaxCertificate+1)), "no gzip": unhex(t, "7002 3082 710101"),
		"nothing": {}, "empty": unhex(t, "7000 710100"), "other": unhex(t, "530100"),
	} {
		if _, err := piv.ParseCertificate(b); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if got, err = piv.ParseCertificate(unhex(t, "70023000")); err != nil || len(got) != 2 {
		t.Errorf("without information: %X, %v", got, err)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]piv.Metadata{
		"0101FF 050101 06020502":    {Algorithm: 0xFF, Default: true, Tries: 5, Left: 2},
		"010103 02020001 050100":    {Algorithm: piv.TripleDES, Policy: piv.Policy{Touch: piv.TouchNever}},
		"01010A 02020002 050101":    {Algorithm: piv.AES192, Policy: piv.Policy{Touch: piv.TouchAlways}, Default: true},
		"010199 02020201 0402 AABB": {Algorithm: 0x99, Policy: piv.Policy{PIN: piv.PINOnce, Touch: piv.TouchNever}},
	} {
		got, err := piv.ParseMetadata(unhex(t, in))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "0102FFFF", "010111 020101", "010111 0402AABB", "0101FF 060105"} {
		if m, err := piv.ParseMetadata(unhex(t, in)); err == nil {
			t.Errorf("%q: %+v", in, m)
		}
	}
	pin := piv.Metadata{Algorithm: 0xFF, Tries: 5, Left: 2}
	if b, err := pin.Encode(); err != nil || !bytes.Equal(b, unhex(t, "0101FF 050100 06020502")) {
		t.Errorf("%X, %v", b, err)
	}
}

func TestApplication(t *testing.T) {
	t.Parallel()
	for in, label := range map[string]string{
		"6111 4F06000010000100 79074F05A000000308":             "",
		"6112 4F0BA000000308000010000100 5003 50 49 56":        "PIV",
		"6F12 4F0BA000000308000010000100 5003 50 07 56":        "P?V",
		"6111 4F0BA000000308000010000100 5002 5056 0000000000": "PV",
	} {
		a, err := piv.ParseApplication(unhex(t, in)[:2+int(unhex(t, in)[1])])
		if err != nil || a.Label != label {
			t.Errorf("%s: %+v, %v", in, a, err)
		}
	}
	for _, in := range []string{"", "6F00", "61074F05A000000003", "8407A0000003080000"} {
		if a, err := piv.ParseApplication(unhex(t, in)); err == nil {
			t.Errorf("%q: %+v", in, a)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for slot, want := range map[piv.Slot]piv.Object{
		piv.Authentication: 0x5FC105, piv.Signature: 0x5FC10A, piv.KeyManagement: 0x5FC10B, piv.CardAuthentication: 0x5FC101,
		piv.Retired(1): 0x5FC10D, piv.Retired(20): 0x5FC120, piv.Attestation: 0x5FFF01, piv.Management: 0, 0x96: 0,
	} {
		if got := slot.Certificate(); got != want {
			t.Errorf("certificate of %v is %v, want %v", slot, got, want)
		}
	}
	if n := len(piv.Slots()); n != 24 {
		t.Errorf("%d slots", n)
	}
	for n := range 22 {
		if s := piv.Retired(n); (s != 0) != (n >= 1 && n <= 20) || s != 0 && s.RetiredNumber() != n {
			t.Errorf("retired %d is %v", n, s)
		}
	}
	for _, name := range []string{"3DES", "AES-256", "RSA-4096", "P-384", "X25519"} {
		if a, err := piv.ParseAlgorithm(name); err != nil || a.String() != name || a.Symmetric() == a.Asymmetric() {
			t.Errorf("%v, %v", a, err)
		}
	}
	if _, err := piv.ParseAlgorithm("RSA-512"); err == nil {
		t.Error("RSA-512 is taken")
	}
	if v, err := piv.ParseVersion("5.7.1"); err != nil || !v.AtLeast(5, 7, 1) || v.AtLeast(5, 7, 2) || v.AtLeast(6, 0, 0) {
		t.Errorf("%v, %v", v, err)
	}
	for _, bad := range []string{"5.7", "5.7.256", "a.b.c"} {
		if _, err := piv.ParseVersion(bad); err == nil {
			t.Errorf("%q is a version", bad)
		}
	}
	if c := piv.SerialCUID(12345678).String(); c != "FFFF594B000000BC614E" {
		t.Errorf("CUID %s", c)
	}
}

// What is written reads back the same, and what reads can be written.
func FuzzCHUIDRoundTrip(f *testing.F) {
	f.Add(unhex(f, chuid))
	f.Add(unhex(f, "3410 58C68A1D65E0A09285AF090B070B5D79 3610 58C68A1D65E0A09285AF090B070B5D79 3E0101"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := piv.ParseCHUID(b)
		if err != nil {
			return
		}
		again, err := piv.ParseCHUID(c.Encode())
		if err != nil || again.GUID != c.GUID || again.FASCN != c.FASCN || again.Expiry != c.Expiry ||
			!bytes.Equal(again.Holder, c.Holder) || !bytes.Equal(again.Signed, c.Signed) {
			t.Errorf("%+v, then %+v, %v", c, again, err)
		}
	})
}

func FuzzCCCRoundTrip(f *testing.F) {
	f.Add(unhex(f, ccc))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := piv.ParseCCC(b)
		if err != nil {
			return
		}
		if again, err := piv.ParseCCC(c.Encode()); err != nil || again != c {
			t.Errorf("%+v, then %+v, %v", c, again, err)
		}
	})
}

func FuzzKeyHistoryRoundTrip(f *testing.F) {
	f.Add(unhex(f, history))
	f.Add(piv.KeyHistory{OnCard: 1, OffCard: 3, URL: "http://a.example/x"}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := piv.ParseKeyHistory(b)
		if err != nil {
			return
		}
		if again, err := piv.ParseKeyHistory(h.Encode()); err != nil || again != h {
			t.Errorf("%+v, then %+v, %v", h, again, err)
		}
	})
}

func FuzzCertificateBounded(f *testing.F) {
	f.Add(piv.EncodeCertificate([]byte{0x30, 0x00}))
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte{0x30, 0x00})
	w.Close()
	f.Add(tlv.Append(tlv.Encode(0x70, b.Bytes()), 0x71, []byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		der, err := piv.ParseCertificate(b)
		if err != nil {
			return
		}
		if len(der) > max(piv.MaxCertificate, len(b)) {
			t.Fatalf("%d bytes", len(der))
		}
		if again, err := piv.ParseCertificate(piv.EncodeCertificate(der)); len(der) > 0 && (err != nil || !bytes.Equal(again, der)) {
			t.Errorf("%X, then %X, %v", der, again, err)
		}
	})
}

func FuzzMetadataRoundTrip(f *testing.F) {
	f.Add(unhex(f, "0101FF 050101 06020502"))
	f.Add(unhex(f, "010103 02020001 050100"))
	f.Add(unhex(f, "0101E0 02020201 030101 0422 8620 0101010101010101010101010101010101010101010101010101010101010101"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := piv.ParseMetadata(b)
		if err != nil {
			return
		}
		out, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := piv.ParseMetadata(out); err != nil {
			t.Errorf("%X: %v", out, err)
		}
	})
}
