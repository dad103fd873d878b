//go:build unix

package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/sim"
)

// TestKioskPIV enrolls a PIV card: the kiosk says what it is, has it prove itself, and
// says whose it is then.
func TestKioskPIV(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image, log := filepath.Join(dir, "yk.img"), filepath.Join(dir, "log")
	card, err := sim.Create(image, "yubikey-5.7", 0xF0000005)
	if err != nil {
		t.Fatal(err)
	}
	card.Close()
	url := serveLab(t, filepath.Join(dir, "data"))
	d := openDesk(t, 34, 100, nil, "--server", url, "--trust", filepath.Join(dir, "data", "ca", "ca.pem"), "--sim", image, "--log", log, "--profile", "pivUser")
	d.await(t, "An empty card, nobody's yet", "No. FFFF 594B 0000 F000 0005 (software card)", "▸ Enroll")
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.press(t, "demo", enterKey, "demo-password", enterKey)
	d.await(t, "Choose a PIN", "6 to 8 characters")
	d.press(t, "271828", enterKey, "271828", enterKey)
	d.await(t, "The card is complete.", "The card of Demo Person", "4 certificates")
	d.press(t, ctrlC)
	d.end(t)
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "key proved"); n != 4 {
		t.Errorf("%d keys were proved, want 4:\n%s", n, b)
	}
	d.noSecrets(t, log, "demo-password", "271828")
}
