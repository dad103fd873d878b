package apdu_test

import (
	"encoding/json"
	"strings"
	"testing"

	"inkan/apdu"
)

func TestAID(t *testing.T) {
	t.Parallel()
	a := apdu.MustAID("a000000003000000")
	if a.String() != "A000000003000000" || a.Len() != 8 {
		t.Errorf("%v, %d bytes", a, a.Len())
	}
	if !a.HasPrefix(apdu.MustAID("A0000000030000")) || !a.HasPrefix(apdu.AID{}) || apdu.MustAID("A0000000030000").HasPrefix(a) {
		t.Error("HasPrefix")
	}
	b := a.Bytes()
	b[0] = 0
	if a != apdu.MustAID("A000000003000000") {
		t.Error("Bytes is no copy")
	}
	for _, s := range []string{"", "A0", "A0000000", "xyz", strings.Repeat("A0", 17), "A00000000"} {
		if v, err := apdu.ParseAID(s); err == nil {
			t.Errorf("%q: %v, want an error", s, v)
		}
	}
	if v, err := apdu.NewAID(nil); err != nil || v != (apdu.AID{}) {
		t.Errorf("empty AID: %v, %v", v, err)
	}
	if _, err := apdu.NewAID(make([]byte, 17)); err == nil {
		t.Error("17 bytes: no error")
	}
}

func TestMustAIDPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	apdu.MustAID("nonsense")
}

// TestText: every identifier goes through text and back, and refuses what is not one.
func TestText(t *testing.T) {
	t.Parallel()
	type ids struct {
		AID  apdu.AID
		None apdu.AID
		CUID apdu.CUID
		ATR  apdu.ATR
	}
	in := ids{AID: apdu.MustAID("627601FF0000"), CUID: apdu.CUID{0x40, 0x90, 0x61, 0x55, 0x0A, 0x0B, 1, 2, 3, 4}, ATR: apdu.ATR{0x3B, 0x80}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"AID":"627601FF0000","None":"","CUID":"409061550A0B01020304","ATR":"3B80"}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var out ids
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if out.AID != in.AID || out.None != (apdu.AID{}) || out.CUID != in.CUID || out.ATR.String() != in.ATR.String() {
		t.Errorf("%+v, want %+v", out, in)
	}
	for _, s := range []string{`{"AID":"A0"}`, `{"CUID":"4090"}`, `{"CUID":"zz"}`, `{"ATR":"3B"}`, `{"ATR":"3"}`} {
		if err := json.Unmarshal([]byte(s), &out); err == nil {
			t.Errorf("%s: no error", s)
		}
	}
	if err := json.Unmarshal([]byte(`{"ATR":""}`), &out); err != nil || out.ATR != nil {
		t.Errorf("empty ATR: %v, %v", out.ATR, err)
	}
}

func TestCUID(t *testing.T) {
	t.Parallel()
	c, err := apdu.ParseCUID("4090-6155-0a0b-0102-0304")
	if err != nil {
		t.Fatal(err)
	}
	if c.Pretty() != "4090-6155-0A0B-0102-0304" || c.IsZero() || !(apdu.CUID{}).IsZero() {
		t.Errorf("%v %s", c, c.Pretty())
	}
	if _, err := apdu.ParseATR(strings.Repeat("3B", 34)); err == nil {
		t.Error("ATR of 34 bytes: no error")
	}
}
