package vpcd_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"inkan/sim"
	"inkan/sim/vpcd/vpcdtest"
)

// tool runs a program that talks to the virtual reader.
func tool(t *testing.T, d *vpcdtest.Daemon, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), d.Env()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestRealPCSCD shows a card of each protocol to programs through the real pcscd.
func TestRealPCSCD(t *testing.T) {
	vpcdtest.Need(t, "opensc-tool", "pcsc_scan")
	d := vpcdtest.Start(t, 3)
	for slot, model := range []string{"gp-scp02", "gp-scp03", "gp-t0"} {
		card, err := sim.New(sim.Config{Model: model, Serial: uint64(slot) + 1})
		if err != nil {
			t.Fatal(err)
		}
		defer card.Close()
		unplug := d.Plug(t, slot, card)
		reader := d.Readers[slot]
		if out := tool(t, d, "opensc-tool", "-l"); !strings.Contains(out, reader) {
			t.Errorf("reader %q is not listed:\n%s", reader, out)
		}
		want := strings.ToLower(card.ATR().String())
		if out := tool(t, d, "opensc-tool", "-r", reader, "-a"); strings.ReplaceAll(strings.TrimSpace(out), ":", "") != want {
			t.Errorf("ATR %q, want %s", out, want)
		}
		out := tool(t, d, "opensc-tool", "-r", reader, "-c", "default", "-s", "80CA9F7F00", "-s", "00A4040000")
		if flat := strings.ToUpper(strings.Join(strings.Fields(out), "")); !strings.Contains(flat, "9F7F2A494E4B41") || strings.Count(flat, "(SW1=0X90,SW2=0X00)") != 2 {
			t.Errorf("model %s: CPLC and SELECT:\n%s", model, out)
		}
		scan := strings.ToLower(strings.ReplaceAll(tool(t, d, "pcsc_scan", "-c", "-n"), " ", ""))
		if !strings.Contains(scan, want) {
			t.Errorf("pcsc_scan does not show %s:\n%s", want, scan)
		}
		unplug()
		if out := tool(t, d, "opensc-tool", "-l"); strings.Contains(line(out, reader), "Yes") {
			t.Errorf("card still there after it was pulled:\n%s", out)
		}
	}
}

func line(out, with string) string {
	for _, l := range strings.Split(out, "\n") {
		if strings.Contains(l, with) {
			return l
		}
	}
	return ""
}

// TestRealManySlots fills one service and runs another beside it.
func TestRealManySlots(t *testing.T) {
	vpcdtest.Need(t, "opensc-tool")
	for range 2 {
		d := vpcdtest.Start(t, vpcdtest.MaxSlots)
		card, err := sim.New(sim.Config{Serial: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer card.Close()
		last := vpcdtest.MaxSlots - 1
		d.Plug(t, last, card)
		if out := tool(t, d, "opensc-tool", "-l"); !strings.Contains(line(out, d.Readers[last]), "Yes") {
			t.Errorf("no card in %q:\n%s", d.Readers[last], out)
		}
	}
}
