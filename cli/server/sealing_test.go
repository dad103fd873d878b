//go:build unix

package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// sealedFolder is a data folder for a trial, sealed.
func sealedFolder(t *testing.T, p place) string {
	t.Helper()
	folder := prepared(t, t.TempDir())
	_, err := sealing.Seal(t.Context(), folder, p.plan(folder), server.Options{})
	must(t, err)
	return folder
}

func text(t *testing.T, folder string) string {
	t.Helper()
	d, err := sealing.ReadConfig(t.Context(), folder, server.Options{})
	must(t, err)
	return string(d.Text)
}

// TestSealedNode: a node runs from sealed files, makes its server key sealed, finds
// it again, and another command is kept out meanwhile.
func TestSealedNode(t *testing.T) {
	everyPlace(t, func(t *testing.T, p place) {
		folder := sealedFolder(t, p)
		var first []byte
		for range 2 {
			n, err := server.Open(t.Context(), folder, server.Options{})
			must(t, err)
			if _, err := sealing.WriteConfig(t.Context(), folder, 1, []byte("[node]\n"), server.Options{}); !errors.Is(err, server.ErrInUse) && !errors.Is(err, seal.Locked) {
				t.Errorf("a change under a running node: %v", err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var serving sync.WaitGroup
			ready := make(chan struct{})
			serving.Go(func() {
				if err := n.Serve(ctx, func(server.Listener) { close(ready) }); err != nil {
					t.Error(err)
				}
			})
			<-ready
			stop()
			serving.Wait()
			must(t, n.Close())
			cert, err := os.ReadFile(filepath.Join(folder, "ca", "server.pem"))
			must(t, err)
			if first != nil && !bytes.Equal(first, cert) {
				t.Error("the second start made another certificate")
			}
			first = cert
		}
		if _, err := os.Stat(filepath.Join(folder, "ca", "server.key")); !errors.Is(err, os.ErrNotExist) {
			t.Error("the server key lies in the clear")
		}
		st, err := sealing.SealStatus(t.Context(), folder, true, server.Options{})
		must(t, err)
		if st.HSM != "ok" || len(st.KCV) != 6 {
			t.Errorf("%+v", st)
		}
		for _, f := range st.Files {
			if (f.Role == string(sealing.RolePeerKey) || f.Role == string(sealing.RolePeerCA)) && f.SealedAt == nil {
				continue // it is in no array
			}
			if !f.Opens || f.Anchor == nil || *f.Anchor != f.Generation || f.Error != "" {
				t.Errorf("%+v", f)
			}
		}
	})
}

// TestSwappedInstances: the files of one instance are refused by another, also where
// one HSM holds both keys.
func TestSwappedInstances(t *testing.T) {
	everyPlace(t, func(t *testing.T, p place) {
		one, two := sealedFolder(t, p), sealedFolder(t, p)
		b, err := os.ReadFile(filepath.Join(two, "inkan.toml.sealed"))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(one, "inkan.toml.sealed"), b, 0o600))
		if _, err := server.Open(t.Context(), one, server.Options{}); !errors.Is(err, seal.Identity) {
			t.Errorf("another instance's file: %v", err)
		}
	})
}

// TestFailedSeal: what fails leaves a plain folder and no key.
func TestFailedSeal(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	plan := place{}.plan(folder)
	plan.Recipient = "age1broken"
	if _, err := sealing.Seal(t.Context(), folder, plan, server.Options{}); err == nil {
		t.Fatal("sealed for a broken recipient")
	}
	entries, err := os.ReadDir(folder)
	must(t, err)
	for _, e := range entries {
		if strings.Contains(e.Name(), ".sealed") || e.Name() == seal.BootstrapFile {
			t.Errorf("left %s", e.Name())
		}
	}
	pass, err := os.ReadFile(filepath.Join(folder, sealing.PassphraseFile))
	must(t, err)
	v, err := softkey.Open(filepath.Join(folder, sealing.KeyFile), secret.New(pass))
	must(t, err)
	defer v.Close()
	if keys, err := v.Wrappers(t.Context()); err != nil || len(keys) != 0 {
		t.Errorf("left %v, %v", keys, err)
	}
	if text(t, folder) == "" {
		t.Error("the plain configuration is gone")
	}
}

func TestPlainFileModes(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	must(t, os.Chmod(filepath.Join(folder, sealing.ConfigFile), 0o644))
	if _, err := sealing.Seal(t.Context(), folder, place{}.plan(folder), server.Options{}); !errors.Is(err, seal.Permission) {
		t.Errorf("a file that others read was sealed: %v", err)
	}
}

// TestNotUTF8: what is no text is not sealed.
func TestNotUTF8(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	if _, err := sealing.WriteConfig(t.Context(), folder, 1, []byte("[node]\nname = \"\xff\"\n"), server.Options{}); err == nil {
		t.Error("sealed what is no text")
	}
}

// TestLostHSM: with SoftHSM gone the node's start says which of the causes it is,
// and the recovery key moves everything into another token.
func TestLostHSM(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	_, token, pinSource, err := sealing.TokenOf(soft.URI)
	must(t, err)
	p := place{uri: token.URI, pinSource: pinSource}
	folder := sealedFolder(t, p)
	before := text(t, folder)
	refused := func(want seal.Code) {
		t.Helper()
		_, err := server.Open(t.Context(), folder, server.Options{})
		if !errors.Is(err, want) {
			t.Errorf("opened: %v, want %s", err, want)
			return
		}
		for _, f := range sealing.Diagnose(t.Context(), folder, true, server.Options{}) { // the doctor in the same words
			if f.Verdict == sealing.Failed && f.Code == want && f.Number == want.Number() && f.Next != "" {
				return
			}
		}
		t.Errorf("the doctor does not find %s: %+v", want, sealing.Diagnose(t.Context(), folder, true, server.Options{}))
	}
	bootstrap := filepath.Join(folder, seal.BootstrapFile)
	good, err := os.ReadFile(bootstrap)
	must(t, err)
	edit := func(old, with string) {
		t.Helper()
		must(t, os.WriteFile(bootstrap, bytes.Replace(good, []byte(old), []byte(with), 1), 0o600))
	}
	edit(soft.Module, "/nowhere/module.so")
	refused(seal.DependencyMissing)
	edit("token="+soft.Label, "token=another")
	refused(seal.HSMUnreachable)
	wrong := filepath.Join(t.TempDir(), "wrong-pin")
	must(t, os.WriteFile(wrong, []byte("000000"), 0o400))
	edit(pinSource, "file:"+wrong)
	refused(seal.PIN)
	must(t, os.WriteFile(bootstrap, good, 0o600))

	// The key is deleted: the rest of the token is there.
	u, err := pkcs11.ParseURI(soft.URI)
	must(t, err)
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	must(t, err)
	keys, err := tok.Wrappers(t.Context())
	must(t, err)
	must(t, tok.DestroyWrapper(t.Context(), keys[0]))
	must(t, tok.Close())
	refused(seal.KeyMissing)

	identity := secret.New([]byte(recoveryIdentity))
	if _, err := sealing.Recover(t.Context(), folder, sealing.RecoverPlan{}, server.Options{}); err == nil {
		t.Error("recovered without a recovery key")
	}
	report, err := sealing.Recover(t.Context(), folder, sealing.RecoverPlan{Identity: identity}, server.Options{})
	must(t, err)
	if !strings.HasSuffix(report.Key, ":v02") || report.Generations["inkan.toml"] != 2 {
		t.Errorf("%+v", report)
	}
	if text(t, folder) != before {
		t.Error("another configuration came out")
	}
	must(t, open(t, folder))
}

// TestHSMAway: a running node goes on without the HSM and says so.
func TestHSMAway(t *testing.T) {
	soft := hsmtest.SoftHSM(t)
	_, token, pinSource, err := sealing.TokenOf(soft.URI)
	must(t, err)
	folder := sealedFolder(t, place{uri: token.URI, pinSource: pinSource})
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	defer n.Close()
	ready := func() (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil)
		r.RemoteAddr = "127.0.0.1:1"
		w := httptest.NewRecorder()
		n.ServeReady(w, r)
		b, err := io.ReadAll(w.Body)
		must(t, err)
		return w.Code, string(b)
	}
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, `"sealing":"ok"`) {
		t.Errorf("%d %s", status, body)
	}
	must(t, os.Rename(soft.Tokens, soft.Tokens+".away"))
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, "HSM_UNREACHABLE") {
		t.Errorf("without HSM: %d %s", status, body)
	}
	if _, err := n.Keys.Random(t.Context(), 8); err != nil {
		t.Errorf("the key file: %v", err)
	}
	start := time.Now()
	var log bytes.Buffer
	_, err = server.Open(t.Context(), sealedCopy(t, folder), server.Options{WaitHSM: 300 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if !errors.Is(err, seal.HSMUnreachable) || time.Since(start) < 300*time.Millisecond || !strings.Contains(log.String(), "waiting for the HSM") {
		t.Errorf("%v after %v\n%s", err, time.Since(start), &log)
	}
}

// sealedCopy is a folder of the same files.
func sealedCopy(t *testing.T, folder string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{seal.BootstrapFile, "inkan.toml.sealed", "passphrase.sealed"} {
		b, err := os.ReadFile(filepath.Join(folder, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	return dir
}

// TestAdoptAfterRestore: an HSM from an old backup is behind the files.
func TestAdoptAfterRestore(t *testing.T) {
	t.Parallel()
	folder := sealedFolder(t, place{})
	_, err := sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
	must(t, err)
	_, err = sealing.Reseal(t.Context(), folder, sealing.ResealPlan{Recovery: sealing.NoRecovery}, server.Options{})
	must(t, err)
	pass, err := os.ReadFile(filepath.Join(folder, sealing.PassphraseFile))
	must(t, err)
	v, err := softkey.Open(filepath.Join(folder, sealing.KeyFile), secret.New(pass))
	must(t, err)
	boot, err := seal.LoadBootstrap(folder)
	must(t, err)
	if boot.Recipient != "" {
		t.Errorf("recovery %q", boot.Recipient)
	}
	must(t, v.SetCounter(t.Context(), hsm.CounterLabel("tms:sealgen:"+boot.Instance.Short()+":inkan.toml"), 1))
	must(t, v.Close())
	if _, err := sealing.ReadConfig(t.Context(), folder, server.Options{}); !errors.Is(err, seal.AnchorBehind) {
		t.Errorf("%v", err)
	}
	got, err := sealing.Adopt(t.Context(), folder, server.Options{})
	must(t, err)
	if len(got) != 1 || got[0].Anchor != 1 || got[0].Accepted != 3 {
		t.Errorf("%+v", got)
	}
	must(t, open(t, folder))
}

// TestRecoveryPassphrase: it opens what the HSM key does not, and is asked for at each
// change.
func TestRecoveryPassphrase(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	plan := place{}.plan(folder)
	plan.Recipient = seal.RecoveryPassphrase
	cost, asked := seal.FloorCost(), 0
	words := secret.New([]byte("grace hopper's cat"))
	o := server.Options{RecoveryCost: &cost, Recovery: func() (secret.Secret, error) { asked++; return words.Clone(), nil }}
	_, err := sealing.Seal(t.Context(), folder, plan, o)
	must(t, err)
	before := text(t, folder)
	if _, err := sealing.WriteConfig(t.Context(), folder, 1, []byte(before), server.Options{}); err == nil || !strings.Contains(err.Error(), "recovery passphrase") {
		t.Errorf("changed without it: %v", err)
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	pass, err := os.ReadFile(filepath.Join(folder, sealing.PassphraseFile))
	must(t, err)
	v, err := softkey.Open(filepath.Join(folder, sealing.KeyFile), secret.New(pass))
	must(t, err)
	keys, err := v.Wrappers(t.Context())
	must(t, err)
	must(t, v.DestroyWrapper(t.Context(), keys[0]))
	must(t, v.Close())
	if _, err := sealing.Recover(t.Context(), folder, sealing.RecoverPlan{Passphrase: secret.New([]byte("grace hopper's dog"))}, o); err == nil {
		t.Error("another passphrase opened it")
	}
	_, err = sealing.Recover(t.Context(), folder, sealing.RecoverPlan{Passphrase: words.Clone()}, o)
	must(t, err)
	if text(t, folder) != before {
		t.Error("another configuration came out")
	}
}
