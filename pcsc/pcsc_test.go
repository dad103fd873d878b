package pcsc_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/pcsc"
)

var atr = apdu.ATR{0x3B, 0x80, 0x01, 0x81}

func openFake(t *testing.T, f *pcsc.Fake) *pcsc.Service {
	t.Helper()
	s, err := f.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if f.Sessions != 0 {
			t.Errorf("%d contexts left open", f.Sessions)
		}
	})
	return s
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func TestReaders(t *testing.T) {
	t.Parallel()
	f := pcsc.NewFake()
	s := openFake(t, f)
	if r, err := s.Readers(t.Context()); err != nil || len(r) != 0 {
		t.Errorf("without readers: %v, %v", r, err)
	}
	for _, n := range []string{"A", "B", "C", "D"} {
		f.AddReader(n)
	}
	f.Insert("B", atr)
	f.Insert("C", nil)
	f.Insert("D", atr)
	f.MarkExclusive("D")
	got, err := s.Readers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []pcsc.Reader{{Name: "A", State: pcsc.Empty}, {Name: "B", State: pcsc.Present}, {Name: "C", State: pcsc.Mute}, {Name: "D", State: pcsc.InUse}}
	same := slices.EqualFunc(got, want, func(a, b pcsc.Reader) bool { return a.Name == b.Name && a.State == b.State })
	if !same || got[1].ATR.String() != atr.String() {
		t.Errorf("readers %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Readers(ctx)
	wantError(t, err, context.Canceled)
}

func TestServiceRestart(t *testing.T) {
	t.Parallel()
	f := pcsc.NewFake()
	f.Down(true)
	_, err := f.Open(t.Context())
	wantError(t, err, pcsc.ErrNoService)
	f.Down(false)
	s := openFake(t, f)
	f.AddReader("A")
	f.Down(true)
	_, err = s.Readers(t.Context())
	wantError(t, err, pcsc.ErrNoService)
	f.Down(false)
	if r, err := s.Readers(t.Context()); err != nil || len(r) != 1 {
		t.Errorf("after the restart: %v, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Readers(t.Context()); err == nil {
		t.Error("closed service lists readers")
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	virtual := []pcsc.Reader{{Name: "Virtual PCD 00 00", State: pcsc.Present}, {Name: "Virtual PCD 00 01", State: pcsc.Empty}}
	two := []pcsc.Reader{{Name: "Alpha", State: pcsc.Present}, {Name: "Alphabet", State: pcsc.Mute}}
	empty := []pcsc.Reader{{Name: "Alpha", State: pcsc.Empty}, {Name: "Beta", State: pcsc.Empty}}
	for _, tc := range []struct {
		readers []pcsc.Reader
		name    string
		want    string
		err     error
		text    string
	}{
		{nil, "", "", pcsc.ErrNoReader, "plug"},
		{nil, "Alpha", "", pcsc.ErrNoReader, ""},
		{virtual, "", "Virtual PCD 00 00", nil, ""},
		{virtual, "Virtual PCD 00 01", "Virtual PCD 00 01", nil, ""},
		{virtual, "virtual", "", pcsc.ErrReaderName, `"Virtual PCD 00 00", "Virtual PCD 00 01"`},
		{virtual, "Yubi", "", pcsc.ErrReaderName, `"Virtual PCD 00 00", "Virtual PCD 00 01"`},
		{two, "Alpha", "Alpha", nil, ""},
		{two, "alphab", "Alphabet", nil, ""},
		{two, "", "", pcsc.ErrReaderName, `"Alpha", "Alphabet"`},
		{empty, "", "", pcsc.ErrReaderName, `"Alpha", "Beta"`},
		{empty[:1], "", "Alpha", nil, ""},
		{empty, "b", "Beta", nil, ""},
	} {
		t.Run("name="+tc.name, func(t *testing.T) {
			got, err := pcsc.Find(tc.readers, tc.name)
			if got.Name != tc.want {
				t.Errorf("found %q, want %q", got.Name, tc.want)
			}
			if tc.err != nil && (!errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.text)) || tc.err == nil && err != nil {
				t.Errorf("error %v, want %v with %s", err, tc.err, tc.text)
			}
		})
	}
}

func TestErrorTexts(t *testing.T) {
	t.Parallel()
	for code, want := range map[pcsc.Code]string{
		pcsc.CodeNoService:    "pcscd",
		pcsc.CodeSharing:      "another program",
		pcsc.CodeUnresponsive: "right way round",
		0x80100099:            "80100099",
	} {
		if !strings.Contains(code.Error(), want) {
			t.Errorf("%08X: %s", uint32(code), code)
		}
	}
}
