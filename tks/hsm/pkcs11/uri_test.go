package pkcs11_test

import (
	"strings"
	"testing"

	"inkan/tks/hsm/pkcs11"
)

func TestParseURI(t *testing.T) {
	t.Parallel()
	three := uint(3)
	for _, c := range []struct {
		in   string
		want pkcs11.URI
		out  string // "": the same as in
	}{
		{"pkcs11:token=inkan?module-path=/usr/lib/m.so", pkcs11.URI{Token: "inkan", ModulePath: "/usr/lib/m.so"}, ""},
		{"pkcs11:token=My%20Token;serial=0A1b?module-path=/m.so&pin-source=file:/etc/pin",
			pkcs11.URI{Token: "My Token", Serial: "0A1b", ModulePath: "/m.so", PINSource: "/etc/pin"}, ""},
		{"pkcs11:slot-id=3;model=x;manufacturer=y%2Fz?pin-source=file:///etc/pin&module-path=/a%3Fb",
			pkcs11.URI{Slot: &three, Model: "x", Manufacturer: "y/z", ModulePath: "/a?b", PINSource: "/etc/pin"},
			"pkcs11:model=x;manufacturer=y/z;slot-id=3?module-path=/a%3Fb&pin-source=file:/etc/pin"},
		{"pkcs11:token=a?module-path=/m.so&pin-source=file://localhost/etc/pin",
			pkcs11.URI{Token: "a", ModulePath: "/m.so", PINSource: "/etc/pin"}, "pkcs11:token=a?module-path=/m.so&pin-source=file:/etc/pin"},
		{"pkcs11:token=a?module-path=/m.so&x-init-reserved=configdir='sql:/a%20b'%26c",
			pkcs11.URI{Token: "a", ModulePath: "/m.so", InitReserved: "configdir='sql:/a b'&c"},
			"pkcs11:token=a?module-path=/m.so&x-init-reserved=configdir%3D%27sql:/a%20b%27%26c"},
		{"pkcs11:token=a?module-path=/m.so&pin-source=/etc/pin",
			pkcs11.URI{Token: "a", ModulePath: "/m.so", PINSource: "/etc/pin"}, "pkcs11:token=a?module-path=/m.so&pin-source=file:/etc/pin"},
	} {
		got, err := pkcs11.ParseURI(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if c.want.Slot != nil {
			if got.Slot == nil || *got.Slot != *c.want.Slot {
				t.Errorf("%s: slot %v", c.in, got.Slot)
			}
			got.Slot, c.want.Slot = nil, nil
			if got != c.want {
				t.Errorf("%s: %+v", c.in, got)
			}
			got.Slot = &three
		} else if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.in, got, c.want)
		}
		if c.out == "" {
			c.out = c.in
		}
		if got.String() != c.out {
			t.Errorf("%s prints as %s, want %s", c.in, got, c.out)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"", "begin with"},
		{"token=x", "begin with"},
		{"PKCS11:token=x?module-path=/m.so", "begin with"},
		{"pkcs11:", "module-path"},
		{"pkcs11:token=x", "module-path"},
		{"pkcs11:token=x?module-path=m.so", "absolute"},
		{"pkcs11:?module-path=/m.so", "no token named"},
		{"pkcs11:token=x?module-path=/m.so&pin-value=1234", "pin-source"},
		{"pkcs11:token=x?module-path=/m.so&pin-source=pin", "not an absolute"},
		{"pkcs11:token=x?module-path=/m.so&pin-source=file://other/pin", "not an absolute"},
		{"pkcs11:token=x?module-path=/m.so&pin-source=%7C/bin/ask", "not an absolute"},
		{"pkcs11:token=x?module-path=/m.so&module-name=m", "module-name"},
		{"pkcs11:token=x;token=y?module-path=/m.so", "twice"},
		{"pkcs11:token=x;object=y?module-path=/m.so", "object"},
		{"pkcs11:token=%zz?module-path=/m.so", "percent"},
		{"pkcs11:token=%00?module-path=/m.so", "percent"},
		{"pkcs11:token?module-path=/m.so", "name=value"},
		{"pkcs11:=x?module-path=/m.so", "name=value"},
		{"pkcs11:slot-id=x?module-path=/m.so", "slot-id"},
		{"pkcs11:slot-id=-1?module-path=/m.so", "slot-id"},
	} {
		u, err := pkcs11.ParseURI(c.in)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %+v, %v, want %q", c.in, u, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "1234") {
			t.Errorf("the PIN is in the error: %v", err)
		}
	}
}

// FuzzURIRoundTrip: what parses prints as something that parses to the same.
func FuzzURIRoundTrip(f *testing.F) {
	f.Add("pkcs11:token=My%20Token;serial=0A1b?module-path=/m.so&pin-source=file:/etc/pin")
	f.Add("pkcs11:slot-id=3?module-path=/a%3Fb")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := pkcs11.ParseURI(s)
		if err != nil {
			return
		}
		again, err := pkcs11.ParseURI(u.String())
		if err != nil || again.String() != u.String() || again.Token != u.Token || again.ModulePath != u.ModulePath || again.PINSource != u.PINSource {
			t.Errorf("%q became %q: %v", s, u, err)
		}
	})
}
