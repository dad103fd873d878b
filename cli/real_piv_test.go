//go:build unix

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/gp/loadfile"
	"inkan/sim/vpcd/vpcdtest"
)

// TestRealPIVCards: inkan card list and info name PIV cards in the real PC/SC service,
// built in and loaded.
func TestRealPIVCards(t *testing.T) {
	vpcdtest.Need(t, "go")
	models := []string{"yubikey-5.4", "yubikey-5.7", "piv"}
	dir, err := os.MkdirTemp("", "inkan-real-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{top: t, dir: dir, data: filepath.Join(dir, "data"), program: filepath.Join(dir, "inkan")}
	s.build(t)
	s.pcsc = vpcdtest.Start(t, len(models))
	s.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8"}, s.pcsc.Env()...)
	for slot, model := range models {
		p := &holder{site: s, story: story{name: model, model: model}, slot: slot}
		defer func() {
			if p.sim != nil {
				p.sim.end(t, os.Kill)
			}
		}()
		p.plug(t)
		version := strings.TrimPrefix(model, "yubikey-")
		if model == "piv" {
			file := p.file(t, "piv.ijc", string(loadfile.SyntheticPIV()))
			expect(t, p.run(t, "gp", "install", file, "--keys", "factory", "--reader", p.reader()).out, "Applet A000000308000010000100 ")
			version = "5.4.0"
		}
		expect(t, p.run(t, "card", "list").out, "card present", "PIV "+version)
		expect(t, p.run(t, "card", "info", "--reader", p.reader()).out, "Applet         PIV "+version, "tries left of", "Management     ", "(software card)")
	}
}
