package sealing_test

import (
	"errors"
	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/tps/seal"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPINSources reads a PIN from where it may be, and from nowhere else.
func TestPINSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pin")
	must(t, os.WriteFile(path, []byte("1234\r\nmore\n"), 0o400))
	ask := sealing.Options{PIN: func(string) (secret.Secret, error) { return secret.New([]byte("typed")), nil }}
	for source, want := range map[string]string{"file:" + path: "1234", "prompt": "typed"} {
		got, err := sealing.ReadPINSource(source, "PIN", ask)
		if err != nil || string(got.Bytes()) != want {
			t.Errorf("%s: %q, %v", source, got.Bytes(), err)
		}
	}
	must(t, os.Chmod(path, 0o444))
	for _, source := range []string{"file:" + path, "file:/nowhere", "cred:pin", "env:PIN", ""} {
		if got, err := sealing.ReadPINSource(source, "PIN", sealing.Options{}); err == nil {
			t.Errorf("%s: %d bytes", source, got.Len())
		}
	}
	if _, err := sealing.ReadPINSource("prompt", "PIN", sealing.Options{}); err == nil {
		t.Error("nobody was asked")
	}
}

// TestNotUTF8: what was sealed and is no text is no configuration.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	if _, err := sealing.DecodeSealed([]byte("[node]\nname = \"\xff\"\n")); !errors.Is(err, seal.Damaged) || !strings.Contains(err.Error(), "not a valid sealed configuration") {
		t.Errorf("%v", err)
	}
	if _, err := sealing.DecodeSealed([]byte("[nod]\n")); !errors.Is(err, seal.Damaged) {
		t.Errorf("%v", err)
	}
}

// TestPINState: a locked PIN is a failure, and the last try of one is nobody's but a
// person's.
func TestPINState(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]struct {
		verdict sealing.Verdict
		code    seal.Code
		try     bool
	}{
		"": {sealing.Fine, "", true},
		"the PIN is locked: the security officer must set a new one": {sealing.Failed, seal.PIN, false},
		"ONE try of the PIN is left":                                 {sealing.Warning, "", false},
		"a wrong PIN was tried":                                      {sealing.Warning, "", true},
	} {
		got, try := sealing.DiagnoseToken(sealing.Token{Label: "prod", PINState: state})
		if len(got) != 1 || got[0].Verdict != want.verdict || got[0].Code != want.code || try != want.try {
			t.Errorf("%q: %+v, %v", state, got, try)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
