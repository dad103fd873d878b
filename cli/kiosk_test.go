//go:build unix

package cli_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/sim"
)

// kioskBound is how long the kiosk may take to show what is expected, on a loaded machine.
const kioskBound = time.Minute

// desk is a terminal with a kiosk on it, and the person who sits there.
type desk struct {
	cmd    *exec.Cmd
	master *os.File
	screen *vt
	done   chan error

	mu  sync.Mutex
	all strings.Builder // everything the terminal was sent
}

// openDesk starts inkan kiosk on a terminal of its own.
func openDesk(t *testing.T, rows, cols int, env []string, args ...string) *desk {
	t.Helper()
	program, err := exec.LookPath("inkan") // TestMain's
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{cmd: exec.Command(program, append([]string{"kiosk"}, args...)...), screen: newVT(rows, cols), done: make(chan error, 1)}
	d.cmd.Env = append(append(os.Environ(), "TERM=linux"), env...)
	d.master, err = pty.StartWithSize(d.cmd, &pty.Winsize{Rows: uint16(rows), Cols: uint16(cols)})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		io.Copy(io.MultiWriter(d.screen, d), d.master)
	}()
	go func() {
		err := d.cmd.Wait()
		d.done <- err
	}()
	t.Cleanup(func() {
		d.cmd.Process.Kill()
		d.master.Close()
		<-read
		if len(d.screen.unknown) > 0 {
			t.Errorf("the test's terminal does not know %q", d.screen.unknown)
		}
		if t.Failed() {
			t.Logf("the screen at the end:\n%s", d.screen.text())
		}
	})
	return d
}

// resize changes the terminal's size.
func (d *desk) resize(t *testing.T, rows, cols int) {
	t.Helper()
	d.screen.resize(rows, cols)
	if err := pty.Setsize(d.master, &pty.Winsize{Rows: uint16(rows), Cols: uint16(cols)}); err != nil {
		t.Fatal(err)
	}
}

// Write keeps all that the terminal was sent, to look for secrets.
func (d *desk) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all.Write(b)
}

// press types keys.
func (d *desk) press(t *testing.T, keys ...string) {
	t.Helper()
	for _, k := range keys {
		if _, err := io.WriteString(d.master, k); err != nil {
			t.Fatal(err)
		}
	}
}

const (
	enterKey = "\r"
	downKey  = "\x1b[B"
	rightKey = "\x1b[C"
	f1Key    = "\x1b[[A" // as TERM=linux has it
	ctrlC    = "\x03"
)

// await waits until the screen shows all texts at the same time. They may be
// wrapped, where there is one pane.
func (d *desk) await(t *testing.T, texts ...string) {
	t.Helper()
	end := time.After(kioskBound)
	for {
		now := d.screen.text()
		missing := ""
		for _, x := range texts {
			if !strings.Contains(now, x) && !strings.Contains(unwrap(now), x) {
				missing = x
			}
		}
		if missing == "" {
			return
		}
		select {
		case <-d.screen.changed:
		case err := <-d.done:
			d.done <- err
			t.Fatalf("the kiosk ended (%v) and never showed %q:\n%s", err, missing, now)
		case <-end:
			t.Fatalf("the kiosk does not show %q, but\n%s", missing, now)
		}
	}
}

// unwrap makes one line of a screen.
func unwrap(s string) string {
	return strings.Join(strings.Fields(strings.NewReplacer("┃", " ", "│", " ").Replace(s)), " ")
}

// end waits for the kiosk's end, by itself.
func (d *desk) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-d.done:
		d.done <- err
		if err != nil {
			t.Errorf("the kiosk ended with %v", err)
		}
	case <-time.After(kioskBound):
		t.Fatalf("the kiosk does not end:\n%s", d.screen.text())
	}
	for deadline := time.Now().Add(kioskBound); d.screen.isAlternate(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the kiosk left the terminal in its alternate screen")
		}
	}
}

// TestKiosk leads two software cards through their life at a kiosk, as a person does.
func TestKiosk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := serveLab(t, filepath.Join(dir, "data"))
	images := []string{newImage(t, dir, "one.img"), newImage(t, dir, "two.img")}
	log := filepath.Join(dir, "kiosk.log")
	d := openDesk(t, 30, 100, nil, "--server", url, "--trust", filepath.Join(dir, "data", "ca", "ca.pem"), "--log", log, "--sim", images[0], "--sim", images[1])
	d.await(t, "1  one.img", "2  two.img", "A new card", "What shall be done with it?")
	d.press(t, f1Key)
	d.await(t, "▸ 1  one.img", "▸ Enroll")
	d.press(t, enterKey)
	d.await(t, "Log in", "▸ User name")
	d.press(t, "demo", enterKey, "wrong-password", enterKey)
	d.await(t, "User name or password is wrong.", "User name  demo", "▸ Password")
	d.press(t, "demo-password", enterKey)
	d.await(t, "Choose a PIN", "4 to 10 characters")
	d.press(t, "7391", enterKey, "7392", enterKey)
	d.await(t, "The two are not the same.")
	d.press(t, "1234", enterKey, "1234", enterKey)
	d.await(t, "That PIN is too simple")
	d.press(t, "Term-4711", enterKey, "Term-4711", enterKey)
	d.await(t, "The card is complete.", "The card may be taken out.", "The card of Demo Person", "▸ 2  two.img") // the other card waits
	// A second card of the same person is refused, and unharmed.
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.press(t, "demo", enterKey, "demo-password", enterKey)
	d.await(t, "already has an active card", "The card was not changed.", "(Code 34.)", "▸ Enroll")
	d.press(t, downKey, enterKey)
	d.await(t, "Format erases the card.", "[ No, keep it ]")
	d.press(t, rightKey)
	d.await(t, "[ Yes, format ]")
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.press(t, "demo", enterKey, "demo-password", enterKey)
	d.await(t, "The card is empty and ready to be enrolled.", "An empty card, nobody's yet")
	// The first card gets another PIN.
	d.press(t, f1Key)
	d.await(t, "▸ 1  one.img")
	d.press(t, enterKey)
	d.await(t, "▸ Set a new PIN")
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.press(t, "demo", enterKey, "demo-password", enterKey)
	d.await(t, "Choose a PIN")
	d.press(t, ctrlC)
	d.await(t, "An operation is running.", "[ No, go on ]")
	d.press(t, enterKey)
	d.await(t, "Choose a PIN")
	d.press(t, "Desk-0815", enterKey, "Desk-0815", enterKey)
	d.await(t, "The card has its new PIN.")
	d.press(t, ctrlC)
	d.end(t)
	usable(t, images[0], "Desk-0815")
	d.noSecrets(t, log, "wrong-password", "demo-password", "7391", "7392", "1234", "Term-4711", "Desk-0815")
}

// newImage makes a software card.
func newImage(t *testing.T, dir, name string) string {
	t.Helper()
	image := filepath.Join(dir, name)
	card, err := sim.Create(image, "gp-scp03", 0)
	if err != nil {
		t.Fatal(err)
	}
	card.Close()
	return image
}

// usable has every key on a card used.
func usable(t *testing.T, image, pin string) {
	t.Helper()
	card, err := sim.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer card.Close()
	if used, err := station.Use(t.Context(), card, secret.PIN{Secret: secret.New([]byte(pin))}, nil); err != nil || len(used) != 2 {
		t.Errorf("the card of the kiosk: %+v, %v", used, err)
	}
}

// noSecrets looks for what was typed in all that the terminal was sent, and in the log.
func (d *desk) noSecrets(t *testing.T, log string, secrets ...string) {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "operation ended") {
		t.Errorf("the log tells nothing:\n%s", b)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range secrets {
		if strings.Contains(d.all.String(), s) {
			t.Errorf("the terminal was sent %q", s)
		}
		if strings.Contains(string(b), s) {
			t.Errorf("the log has %q", s)
		}
	}
}

// TestKioskServerGone stops the server while the kiosk asks for a login: the
// person is told, and the card can be tried again.
func TestKioskServerGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, stop := startLab(t, filepath.Join(dir, "data"), nil)
	d := openDesk(t, 30, 100, nil, "--server", url, "--trust", filepath.Join(dir, "data", "ca", "ca.pem"), "--sim", newImage(t, dir, "one.img"))
	d.await(t, "▸ Enroll")
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.press(t, "demo", enterKey)
	d.await(t, "▸ Password")
	stop()
	d.await(t, "The card was not changed.", "(Code ", "▸ Enroll")
	d.press(t, enterKey)
	d.await(t, "The server could not be reached.", "The card was not changed.", "(Code 47.)", "▸ Enroll")
	d.press(t, ctrlC)
	d.end(t)
}

// TestKioskTerminated ends a kiosk from outside while it asks; before, its window
// is too small for a while, and never has colours.
func TestKioskTerminated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := serveLab(t, filepath.Join(dir, "data"))
	d := openDesk(t, 30, 100, []string{"NO_COLOR=1"}, "--server", url, "--trust", filepath.Join(dir, "data", "ca", "ca.pem"), "--sim", newImage(t, dir, "one.img"))
	d.await(t, "▸ Enroll")
	d.resize(t, 10, 30)
	d.await(t, "This window is too small.")
	d.resize(t, 40, 120)
	d.await(t, "▸ Enroll")
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.cmd.Process.Signal(syscall.SIGTERM)
	d.end(t)
	d.mu.Lock()
	defer d.mu.Unlock()
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*(3[0-79]|4[0-79])[0-9;]*m`).FindString(d.all.String()); colour != "" {
		t.Errorf("with NO_COLOR the terminal was sent %q", colour)
	}
}
