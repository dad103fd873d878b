//go:build unix

package cli_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// screen is what a terminal shows.
type screen struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// await waits until the screen shows text n times.
func (s *screen) await(t *testing.T, text string, n int) {
	t.Helper()
	for range 2400 { // one minute: hashing is slow on a busy machine
		if strings.Count(s.String(), text) >= n {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("the screen does not show %q:\n%s", text, s)
}

// TestSecretsAreNotEchoed answers the dialogue of init on a terminal: what is
// asked for openly is shown, passwords and passphrases are not.
func TestSecretsAreNotEchoed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Args = []string{"inkan", "--data", filepath.Join(dir, "site"), "init"}
	cmd.Dir = dir
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var s screen
	go io.Copy(&s, tty)
	for _, q := range []struct{ question, answer string }{
		{"Name of this node", "desk"}, {"Address to listen on", "127.0.0.1:0"}, {"Host names and addresses", "localhost"},
		{"PKCS#11 URI", ""}, {"URL of a PostgreSQL database", ""}, {"master key for cards", ""}, {"Organization", ""}, {"Country", ""}, {"Key of the certificate authority", ""},
		{"User name of the first administrator", "root"}, {"Name of that person", ""}, {"Mail address", ""},
		{"File for the encrypted copy", filepath.Join(dir, "copy")}, {"Configure secure key storage (y/N)", ""},
		{"Password of root: ", "correct horse"}, {"Password of root again: ", "wrong horse"},
		{"The two are not the same", ""}, // the next question is the first one again
	} {
		s.await(t, q.question, 1)
		if q.answer != "" || !strings.HasPrefix(q.question, "The two") {
			io.WriteString(tty, q.answer+"\n")
		}
	}
	s.await(t, "Password of root: ", 2)
	io.WriteString(tty, "correct horse\n")
	s.await(t, "Password of root again: ", 2)
	io.WriteString(tty, "correct horse\n")
	s.await(t, "Passphrase of the copy: ", 1)
	io.WriteString(tty, "grace hopper's cat\n")
	s.await(t, "Passphrase of the copy again: ", 1)
	io.WriteString(tty, "grace hopper's cat\n")
	s.await(t, "is ready", 1)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &s)
	}
	if !strings.Contains(s.String(), "a key of the copy was checked by restoring it") {
		t.Errorf("nothing is said of the copy:\n%s", &s)
	}
	for _, f := range []string{"copy", "site/inkan.toml", "site/keys/keystore"} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}
	for _, hidden := range []string{"correct horse", "wrong horse", "grace hopper"} {
		if strings.Contains(s.String(), hidden) {
			t.Errorf("the terminal shows %q:\n%s", hidden, &s)
		}
	}
	if !strings.Contains(s.String(), "desk") {
		t.Errorf("an open answer is not shown:\n%s", &s)
	}
}
