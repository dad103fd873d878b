package piv_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"inkan/apdu/piv"
)

func TestPrinted(t *testing.T) {
	t.Parallel()
	p := piv.Printed{Name: "Ada Lovelace", Affiliation: "Engines", Expiry: piv.PrintedExpiry(time.Date(2031, 1, 5, 9, 0, 0, 0, time.UTC)),
		Serial: "FFFF594B0000F0000001", Issuer: "Example", Organization: "Example"}
	got, err := piv.ParsePrinted(p.Encode())
	if err != nil || got != p || p.Expiry != "2031JAN05" {
		t.Errorf("%+v, %v", got, err)
	}
	long := piv.Printed{Name: strings.Repeat("é", 100), Issuer: strings.Repeat("x", 100)}
	got, err = piv.ParsePrinted(long.Encode())
	if err != nil || got.Name != strings.Repeat("?", 100) || len(got.Issuer) != 15 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCompressCertificate(t *testing.T) {
	t.Parallel()
	der := bytes.Repeat([]byte{0x30, 0x01}, 2000)
	object := piv.CompressCertificate(der)
	got, err := piv.ParseCertificate(object)
	if err != nil || !bytes.Equal(got, der) || len(object) > 200 {
		t.Errorf("%d bytes, %v", len(object), err)
	}
}

func FuzzPrintedRoundTrip(f *testing.F) {
	f.Add(piv.Printed{Name: "Ada", Expiry: "2031JAN05", Organization: "Example"}.Encode())
	f.Add([]byte{0x88, 0x1A, 0x89, 0x18})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := piv.ParsePrinted(b)
		if err != nil {
			return
		}
		once, err := piv.ParsePrinted(p.Encode()) // cut to what the object takes
		if err != nil {
			t.Fatal(err)
		}
		if again, err := piv.ParsePrinted(once.Encode()); err != nil || again != once {
			t.Errorf("%+v, then %+v, %v", once, again, err)
		}
	})
}
