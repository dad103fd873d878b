//go:build unix

package server_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/killtest"
	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tps/seal"
)

// place is where the sealing key of a test is: the folder's key file, or SoftHSM.
type place struct {
	uri, pinSource string
	conf           string // of SoftHSM
	anchor         string // empty: the default
}

// everyPlace runs a test on the key file, and with INKAN_REAL=1 on SoftHSM.
func everyPlace(t *testing.T, run func(*testing.T, place)) {
	t.Run("key=file", func(t *testing.T) { run(t, place{}) })
	t.Run("key=softhsm", func(t *testing.T) {
		soft := hsmtest.SoftHSM(t)
		_, token, pinSource, err := sealing.TokenOf(soft.URI)
		must(t, err)
		run(t, place{uri: token.URI, pinSource: pinSource, conf: soft.Conf})
	})
}

func (p place) plan(folder string) sealing.SealPlan {
	plan := sealing.SealPlan{URI: p.uri, PINSource: p.pinSource, Recipient: recoveryRecipient, Anchor: p.anchor}
	if p.uri == "" {
		plan.PINSource = "file:" + filepath.Join(folder, sealing.PassphraseFile)
	}
	return plan
}

// Keys of tests only.
const (
	recoveryIdentity  = "AGE-SECRET-KEY-1Y0WVW64Q02Y0YL9HFSU8AHWGUGGHX5DA9PL7HX4LEP94V7VTEGQS238EXH"
	recoveryRecipient = "age1fz7y37f3stt8qa702hj2p676mm0qp2h0xdy7wxyu78qk3pwupfnqacvp0d"
)

// changes are what is cut.
var changes = map[string]func(context.Context, string, place, server.Options) error{
	"seal": func(ctx context.Context, folder string, p place, o server.Options) error {
		_, err := sealing.Seal(ctx, folder, p.plan(folder), o)
		return err
	},
	"set": func(ctx context.Context, folder string, _ place, o server.Options) error {
		d, err := sealing.ReadConfig(ctx, folder, server.Options{})
		if err != nil {
			return err
		}
		_, err = sealing.WriteConfig(ctx, folder, d.Generation, append(d.Text, "# changed\n"...), o)
		return err
	},
	"rotate": func(ctx context.Context, folder string, _ place, o server.Options) error {
		_, err := sealing.RotateKey(ctx, folder, o)
		return err
	},
	"recover": func(ctx context.Context, folder string, _ place, o server.Options) error {
		_, err := sealing.Recover(ctx, folder, sealing.RecoverPlan{Identity: secret.New([]byte(recoveryIdentity))}, o)
		return err
	},
	"add slot": func(ctx context.Context, folder string, _ place, o server.Options) error {
		_, err := sealing.AddSlot(ctx, folder, credentialSlot, o)
		return err
	},
	"remove slot": func(ctx context.Context, folder string, _ place, o server.Options) error {
		_, err := sealing.RemoveSlot(ctx, folder, credentialSlot.String(), o)
		return err
	},
	"disable": func(ctx context.Context, folder string, _ place, o server.Options) error {
		return sealing.Disable(ctx, folder, o)
	},
	"keyfile": func(ctx context.Context, folder string, _ place, o server.Options) error {
		p, err := os.ReadFile(filepath.Join(folder, "..", "passphrase"))
		if err != nil {
			return err
		}
		_, err = sealing.DisableToKeyFile(ctx, folder, secret.New(p), "file:"+filepath.Join(folder, "..", "passphrase"), softkeytest.Cheap(), o)
		return err
	},
}

// onlyIn says where a change is cut that is not cut in both places: there it needs the
// HSM, or goes the ways of the others.
var onlyIn = map[string]string{"keyfile": "hsm", "recover": "file", "add slot": "file", "remove slot": "file"}

// credentialSlot is a key slot of a credential that withCredential hands over.
var credentialSlot = seal.Place{Credential: "inkan-seal"}

func withCredential(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, credentialSlot.Credential), secret.Random(32).Bytes(), 0o400))
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
}

// TestSealKilledAnchors does what TestSealKilled does where the generations are
// elsewhere.
func TestSealKilledAnchors(t *testing.T) {
	if os.Getenv("INKAN_REAL") == "" {
		t.Skip("takes half a minute: set INKAN_REAL=1")
	}
	for _, anchor := range []string{seal.AnchorDB, seal.AnchorFile} {
		for _, name := range []string{"seal", "rotate"} {
			t.Run("anchor="+anchor+",change="+name, func(t *testing.T) { killEverywhere(t, place{anchor: anchor}, name) })
		}
	}
}

// TestSealKilled kills a process at every step of every change of the sealing; then
// the folder opens with what was in it before or after, and the change is repeated.
// On SoftHSM it tries every step, on the key file every fourth, without INKAN_REAL every sixth.
func TestSealKilled(t *testing.T) {
	everyPlace(t, func(t *testing.T, p place) {
		for name := range changes {
			if inHSM := p.uri != ""; onlyIn[name] == "hsm" && !inHSM || onlyIn[name] == "file" && inHSM {
				continue
			}
			t.Run("change="+name, func(t *testing.T) { killEverywhere(t, p, name) })
		}
	})
}

func killEverywhere(t *testing.T, p place, name string) {
	base := t.TempDir()
	folder := filepath.Join(base, "data")
	prepared(t, folder)
	must(t, os.WriteFile(filepath.Join(folder, "ca", "server.key"), []byte("a key\n"), 0o600))
	pass, err := os.ReadFile(filepath.Join(folder, sealing.PassphraseFile))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(base, "passphrase"), pass, 0o600))
	before, err := sealing.ReadConfig(t.Context(), folder, server.Options{})
	must(t, err)
	withCredential(t)
	if name != "seal" {
		must(t, changes["seal"](t.Context(), folder, p, server.Options{}))
	}
	if name == "remove slot" {
		must(t, changes["add slot"](t.Context(), folder, p, server.Options{}))
	}
	step := 6
	switch {
	case p.uri != "":
		step = 1
	case os.Getenv("INKAN_REAL") != "":
		step = 4
	}
	tried := 0
	for at := 1; ; at += step {
		dir, here := p.copy(t, base)
		if !killtest.Kill(t, "TestSealKilledChild", at, filepath.Join(dir, "data"), name, here.uri, here.pinSource, here.anchor) {
			break
		}
		tried++
		if err := here.check(t, filepath.Join(dir, "data"), name, string(before.Text)); err != nil {
			t.Errorf("killed at step %d: %v", at, err)
		}
	}
	fmt.Printf("kills change=%q softhsm=%v anchor=%s tried=%d\n", name, p.uri != "", p.anchor, tried)
	if tried == 0 {
		t.Errorf("there were %d kills", tried)
	}
}

// copy copies folder and token.
func (p place) copy(t *testing.T, base string) (string, place) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.CopyFS(dir, os.DirFS(base)))
	rewrite(t, filepath.Join(dir, "data", seal.BootstrapFile), base, dir)
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error { // CopyFS adds modes
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chmod(path, 0o600)
	}))
	if p.conf == "" {
		return dir, p
	}
	tokens := filepath.Dir(p.conf)
	to, err := os.MkdirTemp("", "softhsm-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(to) })
	must(t, os.CopyFS(to, os.DirFS(tokens)))
	p.conf = filepath.Join(to, filepath.Base(p.conf))
	rewrite(t, p.conf, tokens, to)
	t.Setenv("SOFTHSM2_CONF", p.conf)
	return dir, p
}

// rewrite replaces the name of a folder in a file, if that is there.
func rewrite(t *testing.T, path, old, with string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	must(t, err)
	must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(b), old, with)), 0o600))
}

// TestSealKilledChild is the process that TestSealKilled kills.
func TestSealKilledChild(t *testing.T) {
	args, step := killtest.Child(t)
	if args == nil {
		return
	}
	p := place{uri: args[2], pinSource: args[3], anchor: args[4]}
	must(t, changes[args[1]](t.Context(), args[0], p, server.Options{Step: func(seal.Role, string) { step() }}))
}

// check opens what the killed process has left, as a command and as a node, and
// makes the change again.
func (p place) check(t *testing.T, folder, name, before string) error {
	t.Helper()
	d, err := sealing.ReadConfig(t.Context(), folder, server.Options{})
	if err != nil {
		return err
	}
	if s := string(d.Text); s != before && s != before+"# changed\n" {
		return fmt.Errorf("another configuration:\n%s", s)
	}
	if err := open(t, folder); err != nil {
		return err
	}
	if sealed := d.Generation > 0; sealed {
		if _, err := os.Stat(filepath.Join(folder, sealing.ConfigFile)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("the plain file is still there: %v", err)
		}
	}
	err = changes[name](t.Context(), folder, p, server.Options{})
	switch {
	case name == "seal" && d.Generation > 0:
		if err == nil || !strings.Contains(err.Error(), "sealed already") {
			return fmt.Errorf("sealed twice: %w", err)
		}
	case name == "add slot" && err != nil && strings.Contains(err.Error(), "is a key slot already"),
		name == "remove slot" && err != nil && strings.Contains(err.Error(), "0 key slots are called"):
		if _, err := sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{}); err != nil { // the next change tidies up
			return err
		}
	case name == "disable" && errors.Is(err, sealing.ErrNotSealed):
	case err != nil:
		return fmt.Errorf("again: %w", err)
	}
	if left, err := seal.Leftovers(folder); err != nil || len(left) > 0 {
		return fmt.Errorf("left %v, %w", left, err)
	}
	return open(t, folder)
}

// open opens a folder as a node does.
func open(t *testing.T, folder string) error {
	t.Helper()
	n, err := server.Open(t.Context(), folder, server.Options{Passphrase: func() (secret.Secret, error) {
		b, err := os.ReadFile(filepath.Join(folder, "..", "passphrase"))
		return secret.New(b), err
	}})
	if err != nil {
		return fmt.Errorf("opening the node: %w", err)
	}
	return n.Close()
}
