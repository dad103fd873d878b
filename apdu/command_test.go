package apdu_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"inkan/apdu"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// cases are the seven cases of ISO 7816-4 §5.2 at the edges of their length fields.
func commandCases() map[string]struct {
	cmd  apdu.Command
	head string // first bytes of the encoding
	len  int
} {
	type c = struct {
		cmd  apdu.Command
		head string
		len  int
	}
	data := func(n int) []byte { return bytes.Repeat([]byte{0x5A}, n) }
	return map[string]c{
		"case=1":                 {apdu.Command{CLA: 0x80, INS: 0x70, P1: 0x80, P2: 0x01}, "80708001", 4},
		"case=2S":                {apdu.Command{INS: 0xB0, Ne: 1}, "00B0000001", 5},
		"case=2S max":            {apdu.Command{INS: 0xB0, Ne: 256}, "00B0000000", 5},
		"case=3S":                {apdu.Command{INS: 0xD6, Data: data(1)}, "00D60000015A", 6},
		"case=3S max":            {apdu.Command{INS: 0xD6, Data: data(255)}, "00D60000FF5A", 260},
		"case=4S":                {apdu.Command{INS: 0xA4, P1: 4, Data: data(2), Ne: 256}, "00A40400025A5A00", 8},
		"case=2E":                {apdu.Command{INS: 0xB0, Ne: 257}, "00B00000000101", 7},
		"case=2E max":            {apdu.Command{INS: 0xB0, Ne: 65536}, "00B00000000000", 7},
		"case=3E":                {apdu.Command{INS: 0xD6, Data: data(256)}, "00D600000001005A", 263},
		"case=3E max":            {apdu.Command{INS: 0xD6, Data: data(65535)}, "00D6000000FFFF5A", 65542},
		"case=4E by data":        {apdu.Command{INS: 0xDB, Data: data(256), Ne: 1}, "00DB00000001005A", 265},
		"case=4E by answer":      {apdu.Command{INS: 0xDB, Data: data(1), Ne: 65536}, "00DB00000000015A0000", 10},
		"case=4E both to a byte": {apdu.Command{INS: 0xDB, Data: data(1), Ne: 257}, "00DB00000000015A0101", 10},
	}
}

func TestCommandEncode(t *testing.T) {
	t.Parallel()
	for name, tc := range commandCases() {
		t.Run(name, func(t *testing.T) {
			b, err := tc.cmd.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if head := unhex(t, tc.head); !bytes.HasPrefix(b, head) || len(b) != tc.len {
				t.Errorf("got %d bytes %.16X…, want %d bytes %X…", len(b), b, tc.len, head)
			}
			got, err := apdu.ParseCommand(b)
			if err != nil {
				t.Fatal(err)
			}
			if !sameCommand(got, tc.cmd) {
				t.Errorf("parsed back: Nc=%d Ne=%d, want Nc=%d Ne=%d", len(got.Data), got.Ne, len(tc.cmd.Data), tc.cmd.Ne)
			}
		})
	}
}

func sameCommand(a, b apdu.Command) bool {
	return a.CLA == b.CLA && a.INS == b.INS && a.P1 == b.P1 && a.P2 == b.P2 && a.Ne == b.Ne && bytes.Equal(a.Data, b.Data)
}

func TestCommandEncodeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]apdu.Command{
		"too much data":       {Data: make([]byte, 65536)},
		"too large an answer": {Ne: 65537},
		"negative answer":     {Ne: -1},
	} {
		if b, err := c.Encode(); err == nil {
			t.Errorf("%s: %d bytes, want an error", name, len(b))
		}
	}
}

func TestParseCommandRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "00", "00A404",
		"00A4040002A0",       // Lc says more
		"00A4040001A00000",   // Lc says less
		"00A404000000",       // cut extended length
		"00A4040000000001",   // extended Lc 0 with data
		"00A40400000002A0",   // extended Lc says more
		"00A40400000001A000", // one byte of an extended Le
	} {
		if c, err := apdu.ParseCommand(unhex(t, s)); err == nil {
			t.Errorf("%s: %+v, want an error", s, c)
		}
	}
}

// TestParseCommandAliases: the doc promises that Data aliases the input and that
// appending to it does not reach what follows.
func TestParseCommandAliases(t *testing.T) {
	t.Parallel()
	b := unhex(t, "00A4040001A000")
	c, err := apdu.ParseCommand(b)
	if err != nil {
		t.Fatal(err)
	}
	b[5] = 0xB0
	if c.Data[0] != 0xB0 {
		t.Error("Data is a copy")
	}
	_ = append(c.Data, 0xFF)
	if b[6] != 0 {
		t.Error("appending to Data overwrote Le")
	}
}

func TestResponse(t *testing.T) {
	t.Parallel()
	r, err := apdu.ParseResponse(unhex(t, "0102036A82"))
	if err != nil {
		t.Fatal(err)
	}
	if r.SW != apdu.SWFileNotFound || !bytes.Equal(r.Data, []byte{1, 2, 3}) {
		t.Errorf("got %X %04X", r.Data, uint16(r.SW))
	}
	if got := r.Encode(); !bytes.Equal(got, unhex(t, "0102036A82")) {
		t.Errorf("encoded %X", got)
	}
	for _, b := range [][]byte{nil, {0x90}} {
		if _, err := apdu.ParseResponse(b); err == nil {
			t.Errorf("%X: no error", b)
		}
	}
}

func FuzzCommandRoundTrip(f *testing.F) {
	for _, tc := range commandCases() {
		b, err := tc.cmd.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := apdu.ParseCommand(b)
		if err != nil {
			return
		}
		enc, err := c.Encode()
		if err != nil {
			t.Fatalf("%X parses and does not encode: %v", b, err)
		}
		if len(enc) > len(b) {
			t.Errorf("%X became longer: %X", b, enc)
		}
		again, err := apdu.ParseCommand(enc)
		if err != nil {
			t.Fatal(err)
		}
		if !sameCommand(c, again) {
			t.Errorf("%X: %+v, then %+v", b, c, again)
		}
	})
}

func FuzzResponseNoPanic(f *testing.F) {
	f.Add([]byte{0x90, 0x00})
	f.Add([]byte{0x61, 0x10})
	f.Add([]byte{0x01, 0x6C, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := apdu.ParseResponse(b)
		if err != nil {
			if len(b) >= 2 {
				t.Errorf("%X: %v", b, err)
			}
			return
		}
		if !bytes.Equal(r.Encode(), b) {
			t.Errorf("%X became %X", b, r.Encode())
		}
		_ = r.Check(apdu.Command{})
		_ = r.SW.Error()
	})
}
