package tlv_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

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

// fci is the full FCI of gp-card.md §1.2, as a card answered it.
const fci = "6F 4A 84 08 A000000151000000 A5 3E 73 2F 06 07 2A864886FC6B01 60 0C 06 0A 2A864886FC6B02020201 63 09 06 07 2A864886FC6B03 64 0B 06 09 2A864886FC6B04 02 55 9F6E 06 479100783300 9F65 01 FF"

func TestParse(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ in, want string }{
		"nothing":              {"", ""},
		"one":                  {"C102000A", "C1=000A"},
		"empty value":          {"C000", "C0="},
		"two":                  {"4F01AA9F700107", "4F=AA 9F70=07"},
		"two-byte tags":        {"FF2101AA 5F500141", "FF21=AA 5F50=41"},
		"three-byte tag":       {"5FC102 02 3030", "5FC102=3030"},
		"padding":              {"0000 4F01AA 00 C000 0000", "4F=AA C0="},
		"length 81, too long":  {"53 81 01 AA", "53=AA"},
		"length 82, too long":  {"53 82 0001 AA", "53=AA"},
		"length 83":            {"53 83 000001 AA", "53=AA"},
		"constructed as value": {"E3 03 4F01AA", "E3=4F01AA"},
	} {
		ts, err := tlv.Parse(unhex(t, tc.in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for _, v := range ts {
			got = append(got, fmt.Sprintf("%v=%X", v.Tag, v.Value))
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"no length":             "C1",
		"cut value":             "C102AA",
		"cut value of second":   "4F01AA C102AA",
		"indefinite length":     "E3 80 4F00 0000",
		"four length bytes":     "53 84 00000001 AA",
		"cut length 81":         "53 81",
		"cut length 82":         "53 82 00",
		"cut tag":               "9F",
		"cut three-byte tag":    "5F C1",
		"four-byte tag":         "5F C1 82 03 00",
		"length over the end":   "53 83 FFFFFF AA",
		"extended tag, no more": "1F 81",
	} {
		if ts, err := tlv.Parse(unhex(t, in)); err == nil {
			t.Errorf("%s: %v, want an error", name, ts)
		}
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	v, rest, err := tlv.Next(unhex(t, "4F01AA C000"))
	if err != nil || v.Tag != 0x4F || !bytes.Equal(rest, []byte{0xC0, 0x00}) {
		t.Errorf("%v, rest %X, %v", v, rest, err)
	}
	if _, _, err := tlv.Next([]byte{0x00, 0x00}); err == nil {
		t.Error("tag 00: no error")
	}
	if _, _, err := tlv.Next(nil); err == nil {
		t.Error("nothing: no error")
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	b := unhex(t, fci)
	for _, tc := range []struct {
		path []tlv.Tag
		want string
		ok   bool
	}{
		{[]tlv.Tag{0x6F, 0x84}, "A000000151000000", true},
		{[]tlv.Tag{0x6F, 0xA5, 0x9F65}, "FF", true},
		{[]tlv.Tag{0x6F, 0xA5, 0x73, 0x64, 0x06}, "2A864886FC6B040255", true},
		{[]tlv.Tag{0x84}, "", false},
		{[]tlv.Tag{0x6F, 0x84, 0x01}, "", false}, // what is inside does not parse
		{nil, strings.Join(strings.Fields(fci), ""), true},
	} {
		got, ok := tlv.Find(b, tc.path...)
		if ok != tc.ok || !bytes.Equal(got, unhex(t, tc.want)) {
			t.Errorf("%v: %X %v, want %s %v", tc.path, got, ok, tc.want, tc.ok)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		n    int
		head string
	}{
		{0, "C400"}, {1, "C401"}, {127, "C47F"}, {128, "C48180"}, {255, "C481FF"}, {256, "C4820100"},
		{65535, "C482FFFF"}, {65536, "C483010000"}, {1 << 24, "C48401000000"},
	} {
		b := tlv.Encode(0xC4, make([]byte, tc.n))
		if want := unhex(t, tc.head); !bytes.HasPrefix(b, want) || len(b) != len(want)+tc.n {
			t.Errorf("n=%d: %.6X… of %d bytes", tc.n, b, len(b))
		}
	}
	b := tlv.Append([]byte{0xEE}, 0x9F7F, []byte{1}, nil, []byte{2, 3})
	if !bytes.Equal(b, unhex(t, "EE 9F7F 03 010203")) {
		t.Errorf("%X", b)
	}
	if b := (tlv.TLV{Tag: 0x5FC102, Value: []byte{1}}).Append(nil); !bytes.Equal(b, unhex(t, "5FC1020101")) {
		t.Errorf("%X", b)
	}
}

// TestValueCannotReachNeighbour: appending to a value does not overwrite what
// stands behind it.
func TestValueCannotReachNeighbour(t *testing.T) {
	t.Parallel()
	b := unhex(t, "4F01AA C501BB")
	ts, err := tlv.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(ts[0].Value, 0xFF)
	if b[3] != 0xC5 {
		t.Error("appending to a value overwrote the next tag")
	}
}

func TestTag(t *testing.T) {
	t.Parallel()
	for tag, want := range map[tlv.Tag]string{0x84: "84 false", 0x6F: "6F true", 0x9F7F: "9F7F false", 0xFF21: "FF21 true", 0x7F49: "7F49 true", 0x5FC102: "5FC102 false", 0x02: "02 false"} {
		if got := fmt.Sprint(tag, " ", tag.Constructed()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// FuzzTLVCanonical: what parses can be written, reads back the same, and what was
// written once is written the same again.
func FuzzTLVCanonical(f *testing.F) {
	for _, s := range []string{fci, "E012C00401FF8010C00402FF8010C00403FF8010", "E3134F08A0000001510000009F700101C5039EFE80", "5FC1028100", "00004F00", "538200010A", "E3804F000000"} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		ts, err := tlv.Parse(b)
		if err != nil {
			return
		}
		enc := encode(ts)
		if len(enc) > len(b) {
			t.Errorf("%X became longer: %X", b, enc)
		}
		again, err := tlv.Parse(enc)
		if err != nil {
			t.Fatalf("%X: %v", enc, err)
		}
		if len(again) != len(ts) {
			t.Fatalf("%d objects, then %d", len(ts), len(again))
		}
		for i := range ts {
			if ts[i].Tag != again[i].Tag || !bytes.Equal(ts[i].Value, again[i].Value) {
				t.Errorf("object %d: %v=%X, then %v=%X", i, ts[i].Tag, ts[i].Value, again[i].Tag, again[i].Value)
			}
		}
		if twice := encode(again); !bytes.Equal(twice, enc) {
			t.Errorf("%X, then %X", enc, twice)
		}
	})
}

func encode(ts []tlv.TLV) []byte {
	var b []byte
	for _, v := range ts {
		b = v.Append(b)
	}
	return b
}

func ExampleFind() {
	answer, _ := hex.DecodeString("6F108408A000000003000000A5049F6501FF")
	aid, ok := tlv.Find(answer, 0x6F, 0x84)
	fmt.Printf("%X %v\n", aid, ok)
	// Output: A000000003000000 true
}
