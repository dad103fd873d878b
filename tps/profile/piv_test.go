package profile_test

import (
	"reflect"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/profile"
)

const minimalPIV = `
name = "card"
family = "piv"
[[key]]
type = "signing"
slot = "9C"
ca_profile = "signing"
[[key]]
type = "encryption"
slot = "9D"
ca_profile = "encryption"
`

func TestDecodePIV(t *testing.T) {
	t.Parallel()
	p, err := profile.Decode([]byte(minimalPIV))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(p.PIV, profile.PIV{KeySet: "piv", KeyVersion: 1, PUKTries: 3, Printed: true}) || p.PIN.Min != 6 || p.PIN.Max != 8 || p.PIN.Tries != 0 {
		t.Errorf("%+v, %+v", p.PIV, p.PIN)
	}
	for i, want := range []int{0x9C, 0x9D} {
		if k := p.Key[i]; k.PrivateSlot() != want || k.Cert != i+1 || k.Alg != "p256" || k.Bits() != 256 {
			t.Errorf("%+v, slot %X", k, k.PrivateSlot())
		}
	}
	letters, err := secret.NewPIN([]byte("pa83920x"))
	if err != nil {
		t.Fatal(err)
	}
	if p.PIN.Check(letters, "ada", "Ada") == nil {
		t.Error("a PIN with letters is taken")
	}
}

const attesting = "family = \"piv\"\n[piv]\nattest = true\n"

func TestDecodePIVRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ old, new, want string }{
		"slot":              {`"9C"`, `"9B"`, `slot = "9B"`},
		"slot twice":        {`"9D"`, `"9C"`, "both in slot 9C"},
		"algorithm":         {`slot = "9C"`, "slot = \"9C\"\nalg = \"p521\"", `alg = "p521"`},
		"agreement":         {`slot = "9C"`, "slot = \"9C\"\nalg = \"x25519\"", "slot 9D"},
		"PIN policy":        {`slot = "9C"`, "slot = \"9C\"\npin_policy = \"often\"", "pin_policy"},
		"touch policy":      {`slot = "9C"`, "slot = \"9C\"\ntouch_policy = \"often\"", "touch_policy"},
		"retired elsewhere": {`slot = "9C"`, "slot = \"9C\"\nretire = 3", "retire = 3"},
		"too many retired":  {`slot = "9D"`, "slot = \"9D\"\nretire = 21", "retire = 21"},
		"CoolKey's":         {`slot = "9C"`, "slot = \"9C\"\nprivate = [\"sign\"]", "are of CoolKey profiles"},
		"PIN length":        {`family = "piv"`, "family = \"piv\"\n[pin]\nmax = 9", "pin.max = 9"},
		"management":        {`family = "piv"`, "family = \"piv\"\n[piv]\nmanagement = \"des\"", "piv.management"},
		"key set":           {`family = "piv"`, "family = \"piv\"\n[piv]\nkey_set = \"factory\"", "everybody knows"},
		"key version":       {`family = "piv"`, "family = \"piv\"\n[piv]\nkey_version = 128", "piv.key_version"},
		"PUK tries":         {`family = "piv"`, "family = \"piv\"\n[piv]\npuk_tries = 0", "piv.puk_tries"},
		"organization":      {`family = "piv"`, "family = \"piv\"\n[piv]\norganization = \"123456789012345678901\"", "piv.organization"},
		"affiliation":       {`family = "piv"`, "family = \"piv\"\n[piv]\naffiliation = \"123456789012345678901\"", "piv.affiliation"},
		"address":           {`family = "piv"`, "family = \"piv\"\n[applet]\nissuer_url = \"https://h\"", "holds no address"},
		"unlooked at":       {`family = "piv"`, "family = \"piv\"\n[piv]\nattest_firmware = \"5.7.0\"", "demand nothing without attest"},
		"roots":             {`family = "piv"`, attesting + "attest_roots = [\"../root.pem\"]", `attest_roots = "../root.pem"`},
		"roots twice":       {`family = "piv"`, attesting + "attest_roots = [\"site\", \"site\"]", `names "site" twice`},
		"firmware":          {`family = "piv"`, attesting + "attest_firmware = \"5.7\"", "such as 5.7.0"},
		"large firmware":    {`family = "piv"`, attesting + "attest_firmware = \"5.256.0\"", "such as 5.7.0"},
		"padded firmware":   {`family = "piv"`, attesting + "attest_firmware = \"5.07.0\"", "such as 5.7.0"},
		"form factor":       {`family = "piv"`, attesting + "attest_forms = [\"usb-a-fips\", \"usb-b\"]", `attest_forms = "usb-b"`},
		"form factor twice": {`family = "piv"`, attesting + "attest_forms = [\"usb-a\", \"usb-a\"]", `names "usb-a" twice`},
		"applet":            {`family = "piv"`, "family = \"piv\"\n[applet]\nversion = \"1.4.58768072\"", "0.9.0"},
	} {
		_, err := profile.Decode([]byte(strings.Replace(minimalPIV, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
