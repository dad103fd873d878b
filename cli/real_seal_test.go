//go:build unix

package cli_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/creack/pty"

	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/softkey"
)

// dialogue answers questions of a command at a terminal. An answer may be made of
// what the screen shows; end is what the command says last.
func dialogue(t *testing.T, args []string, end string, questions ...func(screen string) (question, answer string)) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Args = args
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var s screen
	go io.Copy(&s, tty)
	for _, q := range questions {
		question, _ := q("")
		s.await(t, question, 1)
		_, answer := q(s.String())
		io.WriteString(tty, answer+"\n")
	}
	s.await(t, end, 1)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &s)
	}
	return s.String()
}

func says(question, answer string) func(string) (string, string) {
	return func(string) (string, string) { return question, answer }
}

var identityOnScreen = regexp.MustCompile(`AGE-SECRET-KEY-[A-Z0-9-]+`)

// TestSealDialogue seals a folder by answering the questions, with SoftHSM.
func TestSealDialogue(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	folder := filepath.Join(t.TempDir(), "data")
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab = "lab", true
	params := softkey.FloorParams()
	if err := server.Create(t.Context(), folder, server.Answers{Config: cfg, KeyParams: &params}); err != nil {
		t.Fatal(err)
	}
	seen := dialogue(t, []string{"inkan", "--data", folder, "config", "seal"}, "overwritten and removed",
		says("Configure secure key storage (y/N)", "y"),
		says("PKCS#11 module, or keyfile", soft.Module),
		says("Token ["+soft.Label+"]", ""),
		says("Where the node gets the PIN", ""),
		says("PIN of the token: ", soft.PIN),
		says("Label of the sealing key", ""),
		says("Recovery without the HSM", ""),
		func(screen string) (string, string) {
			key := identityOnScreen.FindString(screen)
			return "Its last 8 characters", strings.ToLower(key[max(0, len(key)-8):])
		},
		says("Where old files are noticed", ""),
		says("Files to seal", ""),
		says("Enable secure key storage (Y/n)", ""),
	)
	if !strings.Contains(seen, "Sealed under tms:seal:") || !strings.Contains(seen, "in token "+soft.Label) || strings.Contains(seen, soft.PIN) {
		t.Errorf("the terminal shows\n%s", seen)
	}
	seen = dialogue(t, []string{"inkan", "--data", folder, "config", "check"}, "Everything opens and is in order", says("PIN of the HSM token: ", soft.PIN))
	if strings.Contains(seen, soft.PIN) {
		t.Errorf("the terminal shows\n%s", seen)
	}
}

// TestSealedSite makes a site on an HSM with a sealed configuration, unattended, and
// rotates its key.
func TestSealedSite(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	answers := write("answers.toml", fmt.Sprintf("node = \"desk\"\naddress = \"127.0.0.1:0\"\nnames = [\"localhost\"]\nhsm = %q\n[admin]\npassword = %q\n[seal]\nrecovery = \"none\"\n",
		soft.URI, write("password", "correct horse")))
	folder := filepath.Join(dir, "site")
	run := func(want string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Args = append([]string{"inkan", "--data", folder}, args...)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), soft.PIN) {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
	}
	run("Sealed under tms:seal:", "init", "--answers", answers)
	run("site", "keyset", "list")
	run("Everything is under", "config", "rotate-key")
	run("Everything opens and is in order", "config", "check")
	run("wraps and unwraps by AES-256-GCM", "doctor")
	run("site", "keyset", "list")
	run("The files are plain", "config", "disable", "--to", "plain", "--yes")
	run("site", "keyset", "list")
}
