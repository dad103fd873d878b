package hsmtest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// modulePaths are where distributions put SoftHSM.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// SoftToken is a fresh token of SoftHSM that ends with the test.
type SoftToken struct {
	URI     string // pkcs11: URI with module-path and pin-source
	Label   string
	PIN     string
	PINFile string
	Module  string // path of the library
	Conf    string // what SOFTHSM2_CONF names; set in this process's environment
	Tokens  string // folder of the token's files
}

// SoftHSM makes a token for a test against the real module. Without INKAN_REAL=1
// it skips the test; with it, a missing SoftHSM fails it. It sets SOFTHSM2_CONF for
// this process, so the test cannot be parallel. Each of disabled is a mechanism
// that the token is not to have, such as "CKM_AES_CBC"; SoftHSM 2.6 heeds it for
// encryption, wrapping and derivation only.
func SoftHSM(t testing.TB, disabled ...string) SoftToken {
	t.Helper()
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs SoftHSM; set INKAN_REAL=1")
	}
	dir, err := os.MkdirTemp("", "softhsm-") // not t.TempDir: SoftHSM's configuration takes no "=" in a name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := SoftToken{
		Label: "test-" + randomHex(4), PIN: randomHex(6), PINFile: filepath.Join(dir, "pin"),
		Module: softHSMModule(t), Conf: filepath.Join(dir, "softhsm2.conf"), Tokens: filepath.Join(dir, "tokens"),
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", s.Tokens)
	if len(disabled) > 0 { // SoftHSM 2.6.1 overlooks the first of the list
		conf += "slots.mechanisms = -" + strings.Join(append(disabled[:1:1], disabled...), ",")
	}
	for _, err := range []error{
		os.Mkdir(s.Tokens, 0o700),
		os.WriteFile(s.Conf, []byte(conf+"\n"), 0o600),
		os.WriteFile(s.PINFile, []byte(s.PIN+"\n"), 0o400),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("SOFTHSM2_CONF", s.Conf)
	return s.initialized(t)
}

// Another makes a second token of the same module. Tokens is its own folder.
func (s SoftToken) Another(t testing.TB) SoftToken {
	t.Helper()
	before, err := filepath.Glob(filepath.Join(s.Tokens, "*"))
	if err != nil {
		t.Fatal(err)
	}
	s.Label, s.PIN = "test-"+randomHex(4), randomHex(6)
	s.PINFile += "-" + s.Label
	if err := os.WriteFile(s.PINFile, []byte(s.PIN+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	next := s.initialized(t)
	after, err := filepath.Glob(filepath.Join(s.Tokens, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range after {
		if !slices.Contains(before, f) {
			next.Tokens = f
		}
	}
	return next
}

// initialized makes the token.
func (s SoftToken) initialized(t testing.TB) SoftToken {
	t.Helper()
	cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", s.Label, "--so-pin", randomHex(6), "--pin", s.PIN)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	s.URI = fmt.Sprintf("pkcs11:token=%s?module-path=%s&pin-source=file:%s", s.Label, s.Module, s.PINFile)
	return s
}

func softHSMModule(t testing.TB) string {
	t.Helper()
	for _, p := range modulePaths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatalf("SoftHSM is not installed (package softhsm2): none of %v", modulePaths)
	return ""
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
