package station_test

import (
	"testing"

	"inkan/cli/station"
)

// TestContents: of two applets the one counts that has certificates.
func TestContents(t *testing.T) {
	t.Parallel()
	certs := []station.Certificate{{Subject: "CN=Ada"}}
	for name, c := range map[string]struct {
		i    station.Info
		kind string
	}{
		"no applet":                 {station.Info{}, ""},
		"CoolKey":                   {station.Info{Applet: &station.Applet{Kind: "CoolKey"}}, "CoolKey"},
		"PIV":                       {station.Info{PIV: &station.PIV{}}, "PIV"},
		"both empty":                {station.Info{Applet: &station.Applet{Kind: "CoolKey"}, PIV: &station.PIV{}}, "CoolKey"},
		"CoolKey with certificates": {station.Info{Applet: &station.Applet{Kind: "CoolKey", Certificates: certs}, PIV: &station.PIV{}}, "CoolKey"},
	} {
		got := ""
		if o := c.i.Contents(); o != nil {
			got = o.Kind
		}
		if got != c.kind {
			t.Errorf("%s: %q, want %q", name, got, c.kind)
		}
	}
}
