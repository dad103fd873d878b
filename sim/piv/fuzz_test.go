package piv_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp/loadfile"
	"inkan/apdu/piv"
	"inkan/sim/gp"
	spiv "inkan/sim/piv"
)

// FuzzCardAnswersAll: whatever comes, a card of either kind answers and does not fail
// inside, and what it saved can be loaded.
func FuzzCardAnswersAll(f *testing.F) {
	for _, s := range []string{
		"00A4040005A000000308", "0020008008313233343536FFFF", "0087039B047C028000", "0047009A05AC03800111",
		"00DB3FFF0A5C035FC10253021122", "00CB3FFF055C035FC10200", "00FE119A03060100", "00F99A0000", "00F6FF9A00",
		"0087119E267C2482008120" + strings.Repeat("01", 32), "00FFFFFF1B039B18" + strings.Repeat("40", 24),
	} {
		b, err := hex.DecodeString(s)
		check(f, err)
		f.Add(b, true, true)
		f.Add(b, false, true)
		f.Add(b, true, false)
	}
	profile := gp.Profile{Applets: []gp.PresetApplet{{LoadFile: loadfile.PIVPackage, Module: piv.AID, Instance: piv.AID}}}
	kinds := map[bool]spiv.Config{
		true:  {Kind: spiv.YubiKey, Firmware: piv.Version{Major: 5, Minor: 7}, Algorithms: all57},
		false: {Kind: spiv.PivApplet},
	}
	f.Fuzz(func(t *testing.T, data []byte, managed, yubikey bool) {
		cfg := gp.Config{Applets: map[apdu.AID]gp.Factory{loadfile.PIVPackage: spiv.Factory(kinds[yubikey], nil)}, Keys: keyPool()}
		m, err := gp.New(profile, cfg)
		check(t, err)
		run := doer(func(_ context.Context, c apdu.Command) (apdu.Response, error) { return m.Do(c), m.Fault() })
		_, err = piv.Select(t.Context(), run)
		check(t, err)
		if managed {
			check(t, piv.Authenticate(t.Context(), run, piv.TripleDES, factoryKey()))
		}
		for len(data) >= 5 {
			n := min(5+int(data[4]), len(data))
			if cmd, err := apdu.ParseCommand(data[:n]); err == nil {
				_, err := run(t.Context(), cmd)
				check(t, err)
			}
			data = data[n:]
		}
		saved, err := m.Save()
		check(t, err)
		_, err = gp.Restore(saved, cfg)
		check(t, err)
	})
}
