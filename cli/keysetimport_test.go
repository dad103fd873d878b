//go:build unix

package cli_test

import (
	"io"
	"path/filepath"
	"strings"
	"testing"

	"inkan/cli"
)

// typed is a question and what a person answers.
type typed struct{ question, answer string }

// TestImportCeremony brings a key in at a terminal: two people type components that
// nobody sees, one of them wrongly at first, and confirm the check value.
func TestImportCeremony(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	serveLab(t, filepath.Join(dir, "data"))
	components := []typed{
		{"Component 1 of 2 of the key (32 hexadecimal digits): ", "0123456789ABCDEF0123456789ABCDEF"},
		{"Its check value: ", "D5D44F"},
		{"Component 2 of 2 of the key (32 hexadecimal digits): ", "2F2F3F4F5F6F7F8F9FAFBFCFDFEFFF0F"},
		{"Its check value: ", "1D42F3"},
		{"That does not do: the check value does not belong to it", ""},
		{"Component 2 of 2 of the key (32 hexadecimal digits): ", "1f2f 3f4f 5f6f 7f8f 9faf bfcf dfef ff0f"},
		{"Its check value: ", "1d42 f3a7"},
		{"Check value of the key: E3E2B5", ""},
	}
	for _, c := range []struct {
		answer, shown string
		status        int
	}{
		{"", "not confirmed; nothing was stored", 1},
		{"y", "Key set maker version 01 is imported.", 0},
		{"", "key set maker has a version 01 already", 1}, // before anybody types
	} {
		term := openTerminal(t)
		status := make(chan int, 1)
		go func() {
			status <- cli.Main([]string{
				"inkan", "--data", filepath.Join(dir, "data"), "keyset", "import", "maker", "--version", "01", "--type", "des2", "--kdf", "visa2",
			}, term.tty, term.tty, term.tty)
		}()
		asked := components
		if strings.Contains(c.shown, "already") {
			asked = nil
		}
		for _, q := range asked {
			term.await(t, q.question)
			if q.answer != "" {
				io.WriteString(term.master, q.answer+"\n")
			}
		}
		if asked != nil {
			term.await(t, "Do all who hold a component confirm it? (y/N): ")
			io.WriteString(term.master, c.answer+"\n")
		}
		term.await(t, c.shown)
		if s := <-status; s != c.status {
			t.Errorf("answer %q: exit status %d, want %d", c.answer, s, c.status)
		}
		for _, secret := range []string{"0123456789ABCDEF", "2F2F3F4F", "1f2f 3f4f"} {
			if strings.Contains(term.all, secret) {
				t.Errorf("the terminal shows %q", secret)
			}
		}
	}
}
