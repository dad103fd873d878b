package piv

import (
	"fmt"
	"strings"
	"time"

	"inkan/apdu/tlv"
)

// Printed is what stands on the card's face (SP 800-73-4 part 1 §3.1.5). Longer texts
// than the object takes are cut.
type Printed struct {
	Name         string // at most 125 bytes
	Affiliation  string // 20
	Expiry       string // YYYYMMMDD
	Serial       string // 20, of the card
	Issuer       string // 15
	Organization string // 20
}

// PrintedExpiry is a day as Printed wants it: 2031JAN05.
func PrintedExpiry(t time.Time) string { return strings.ToUpper(t.UTC().Format("2006Jan02")) }

// Encode is the content of object 5FC109.
func (p Printed) Encode() []byte {
	var b []byte
	for _, f := range []struct {
		tag  tlv.Tag
		text string
		max  int
	}{{0x01, p.Name, 125}, {0x02, p.Affiliation, 20}, {0x04, p.Expiry, 9}, {0x05, p.Serial, 20}, {0x06, p.Issuer, 15}, {0x07, p.Organization, 20}} {
		if f.text != "" {
			b = tlv.Append(b, f.tag, []byte(cut(f.text, f.max)))
		}
	}
	return tlv.Append(b, 0xFE)
}

// cut keeps at most n letters. The object is ASCII: ? stands for every other letter.
func cut(s string, n int) string {
	ascii := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return ascii[:min(n, len(ascii))]
}

// ParsePrinted reads the content of object 5FC109. A card that keeps its management
// key there (see ProtectedManagementKey) has nothing printed.
func ParsePrinted(b []byte) (Printed, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return Printed{}, fmt.Errorf("parsing printed information: %w", err)
	}
	text := func(tag tlv.Tag) string {
		v, _ := tlv.First(ts, tag)
		return printable(v.Value)
	}
	return Printed{Name: text(0x01), Affiliation: text(0x02), Expiry: text(0x04), Serial: text(0x05), Issuer: text(0x06), Organization: text(0x07)}, nil
}
