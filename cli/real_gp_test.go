//go:build unix

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/fixtures"
	"inkan/sim/vpcd/vpcdtest"
)

// TestRealManager: inkan gp on cards of each protocol in the real PC/SC service, with
// every verb, and without a server.
func TestRealManager(t *testing.T) {
	vpcdtest.Need(t, "go")
	models := []string{"gp-scp01", "gp-scp02", "gp-scp03"}
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
		t.Run(model, func(t *testing.T) {
			p := &holder{site: s, story: story{name: model, model: model, protocol: strings.ToUpper(strings.TrimPrefix(model, "gp-"))}, slot: slot}
			defer func() {
				if p.sim != nil {
					p.sim.end(t, os.Kill)
				}
			}()
			p.plug(t)
			p.byHand(t)
			p.takeOut(t)
		})
	}
}

// byHand runs every verb of inkan gp.
func (p *holder) byHand(t *testing.T) {
	t.Helper()
	applet, err := fixtures.Applet(fixtures.DefaultApplet)
	if err != nil {
		t.Fatal(err)
	}
	file := p.file(t, "applet.ijc", string(applet))
	first := p.file(t, "first.txt", strings.Repeat("101112131415161718191A1B1C1D1E1F "+p.checkValue()+"\n", 3))
	second := p.file(t, "second.txt", strings.Repeat("202122232425262728292A2B2C2D2E2F\n", 3))
	gp := func(verb string, args ...string) string {
		t.Helper()
		return p.run(t, append(append([]string{"gp", verb}, args...), "--reader", p.reader())...).out
	}
	expect(t, gp("list", "--keys", "factory"), p.protocol+" i=", "domain ")
	expect(t, gp("install", file, "--keys", "factory"), "Applet 627601FF000000 ")
	expect(t, gp("list", "--keys", "factory"), "application  627601FF000000")
	expect(t, gp("delete", "627601FF0000", "--keys", "factory", "--yes"), "Deleted 627601FF0000, 627601FF000000.")
	expect(t, gp("lock", "--keys", "factory", "--new-keys", first, "--new-version", "11", "--yes"), "has the keys of version 11")
	refused(t, p.call(t, "gp", "list", "--keys", "factory", "--reader", p.reader()), "these are not the card's keys")
	expect(t, gp("put-key", "--keys", first, "--new-keys", second, "--new-version", "12", "--yes"), "has the keys of version 12")
	expect(t, gp("list", "--keys", second, "--key-version", "12"), "keys of version 12\n")
}

// checkValue is that of the key 10 to 1F on this card.
func (p *holder) checkValue() string {
	if p.protocol == "SCP03" {
		return "013808"
	}
	return "FE8A09"
}
