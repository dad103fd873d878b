package piv

import (
	"fmt"
	"strings"
)

// FormFactor is what a key looks like, as its attestation tells it (developers.yubico.com,
// Config_Reference, form factor).
type FormFactor byte

// fipsForm is set in the form factor of keys that are certified by FIPS 140.
const fipsForm FormFactor = 0x80

var formFactors = []string{"not told", "usb-a", "usb-a-nano", "usb-c", "usb-c-nano", "lightning", "usb-a-bio", "usb-c-bio"}

const fipsSuffix = "-fips"

// String is the name that [ParseFormFactor] reads, or says that it has none.
func (f FormFactor) String() string {
	switch n := int(f &^ fipsForm); {
	case f == 0:
		return formFactors[0]
	case n == 0 || n >= len(formFactors):
		return fmt.Sprintf("unknown %02X", byte(f))
	case f&fipsForm != 0:
		return formFactors[n] + fipsSuffix
	default:
		return formFactors[n]
	}
}

// ParseFormFactor reads what String writes of a form factor that is known.
func ParseFormFactor(s string) (FormFactor, error) {
	name, fips := strings.CutSuffix(s, fipsSuffix)
	for n, known := range formFactors {
		if n == 0 || name != known {
			continue
		}
		if fips {
			return FormFactor(n) | fipsForm, nil
		}
		return FormFactor(n), nil
	}
	return 0, fmt.Errorf("form factor %q: want one of %s, each also with %s", s, strings.Join(formFactors[1:], ", "), fipsSuffix)
}
