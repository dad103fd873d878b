//go:build unix

package cli_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"inkan/apdu/secret"
	"inkan/cli"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/sim"
	"inkan/tks/hsm/softkey"
	"inkan/tps/auth"
)

// TestQuestions enrolls a card at a terminal: secrets are asked for without echo,
// again where they do not do, and the progress bar keeps off the questions.
func TestQuestions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := serveLab(t, filepath.Join(dir, "data"))
	image := filepath.Join(dir, "card.img")
	card, err := sim.Create(image, "gp-scp03", 0)
	if err != nil {
		t.Fatal(err)
	}
	card.Close()
	term := openTerminal(t)
	status := make(chan int, 1)
	go func() {
		status <- cli.Main([]string{
			"inkan", "card", "enroll", "--sim", image, "--server", url, "--trust", filepath.Join(dir, "data", "ca", "ca.pem"), "--user", "demo",
		}, term.tty, term.tty, term.tty)
	}()
	for _, q := range []struct{ question, answer string }{
		{"Password: ", "wrong-password"},
		{"User name [demo]: ", ""},
		{"Password: ", "demo-password"},
		{"New PIN (4 to 10 characters): ", "7391"},
		{"New PIN (4 to 10 characters) again: ", "7392"},
		{"The two are not the same.\r\nNew PIN (4 to 10 characters): ", "1234"},
		{"New PIN (4 to 10 characters) again: ", "1234"},
		{"That PIN is too simple, or does not keep the rules; a PIV card takes digits alone.\r\nNew PIN (4 to 10 characters): ", "Term-4711"},
		{"New PIN (4 to 10 characters) again: ", "Term-4711"},
	} {
		term.await(t, q.question)
		if more := term.during(300 * time.Millisecond); more != "" { // two turns of the bar
			t.Errorf("%q is followed by %q", q.question, more)
		}
		io.WriteString(term.master, q.answer+"\n")
	}
	term.await(t, "enroll done in ")
	if s := <-status; s != 0 {
		t.Errorf("exit status %d", s)
	}
	for _, secret := range []string{"wrong-password", "demo-password", "7391", "7392", "1234", "Term-4711"} {
		if strings.Contains(term.all, secret) {
			t.Errorf("the terminal shows %q", secret)
		}
	}
	if !strings.Contains(term.all, "100 %") {
		t.Error("the terminal shows no progress")
	}
}

// serveLab prepares a folder for a trial and runs a node on it until the test ends.
func serveLab(t *testing.T, folder string) (url string) {
	t.Helper()
	url, _ = startLab(t, folder, nil)
	return url
}

// startLab is serveLab with a node that can be prepared before it serves, and
// stopped before the test ends.
func startLab(t *testing.T, folder string, prepare func(*server.Node)) (url string, stop func()) {
	t.Helper()
	ctx := t.Context()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab, cfg.TPS.AllowSimulator = "lab", true, true
	port := freePort(t)
	cfg.Listen = config.Listen{Address: "127.0.0.1:" + port, Names: []string{"localhost", "127.0.0.1"}, URL: "https://localhost:" + port}
	cfg.CA.URL = cfg.Listen.URL
	params := softkey.FloorParams()
	err := server.Create(ctx, folder, server.Answers{
		Config: cfg, KeyParams: &params, PasswordCost: cheap, AdminPassword: secret.New([]byte("demo-password")),
		Admin: auth.User{ID: "demo", Name: "Demo Person", Roles: auth.Roles},
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := server.Open(ctx, folder, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if prepare != nil {
		prepare(n)
	}
	serving, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- n.Serve(serving, func(server.Listener) { close(ready) }) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
		n.Close()
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return cfg.Listen.URL, stop
}

// terminal is a terminal that the test sits at.
type terminal struct {
	master, tty *os.File
	shown       chan string
	all         string // what it showed
	seen        int    // of it, by await
}

func openTerminal(t *testing.T) *terminal {
	t.Helper()
	master, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tty.Close()
		master.Close()
	})
	if err := pty.Setsize(master, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{master: master, tty: tty, shown: make(chan string, 1000)}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			term.shown <- string(b[:n])
		}
	}()
	return term
}

// await waits until the terminal shows a text after the one awaited before.
func (term *terminal) await(t *testing.T, text string) {
	t.Helper()
	for end := time.After(time.Minute); ; {
		if i := strings.Index(term.all[term.seen:], text); i >= 0 {
			term.seen += i + len(text)
			return
		}
		select {
		case s := <-term.shown:
			term.all += s
		case <-end:
			t.Fatalf("the terminal does not show %q, but\n%s", text, term.all)
		}
	}
}

// during returns what else the terminal shows, up to a moment from now.
func (term *terminal) during(d time.Duration) string {
	for end := time.After(d); ; {
		select {
		case s := <-term.shown:
			term.all += s
		case <-end:
			more := term.all[term.seen:]
			term.seen = len(term.all)
			return more
		}
	}
}
