//go:build unix

package server_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/softkey"
	"inkan/tps/seal"
)

// cause is one cause of a sealed folder that does not open (config-sealing.md §11).
type cause struct {
	code seal.Code
	make func(t *testing.T, folder string)
	// try provokes the refusal where opening a node does not.
	try func(t *testing.T, folder string) error
	// verdict of the doctor; Fine: he has nothing to say of it
	verdict sealing.Verdict
}

const sealedConfig = "inkan.toml.sealed"

// edited changes the bytes of a file.
func edited(name string, change func([]byte) []byte) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		path := filepath.Join(folder, name)
		b, err := os.ReadFile(path)
		must(t, err)
		must(t, os.WriteFile(path, change(b), 0o600))
	}
}

func without(name string) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		must(t, os.Remove(filepath.Join(folder, name)))
	}
}

// mended gives altered bytes the check sum of a whole file.
func mended(change func([]byte)) func([]byte) []byte {
	return func(b []byte) []byte {
		body := b[:len(b)-sha256.Size]
		change(body)
		sum := sha256.Sum256(body)
		return append(bytes.Clone(body), sum[:]...)
	}
}

// inKeyFile runs do with the folder's key file.
func inKeyFile(do func(t *testing.T, boot seal.Bootstrap, v *softkey.Store)) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		pass, err := os.ReadFile(filepath.Join(folder, sealing.PassphraseFile))
		must(t, err)
		v, err := softkey.Open(filepath.Join(folder, sealing.KeyFile), secret.New(pass))
		must(t, err)
		defer v.Close()
		boot, err := seal.LoadBootstrap(folder)
		must(t, err)
		do(t, boot, v)
	}
}

func keyOf(t *testing.T, boot seal.Bootstrap) hsm.WrapperID {
	t.Helper()
	id, err := hsm.ParseWrapperLabel(boot.Key)
	must(t, err)
	return id
}

func anchorOf(boot seal.Bootstrap) hsm.CounterLabel {
	return hsm.CounterLabel("tms:sealgen:" + boot.Instance.Short() + ":inkan.toml")
}

var causes = []cause{
	{code: seal.BootstrapMissing, make: without(seal.BootstrapFile), verdict: sealing.Failed},
	{code: seal.SealedMissing, make: without(sealedConfig), verdict: sealing.Failed},
	{code: seal.KeyMissing, verdict: sealing.Failed, make: inKeyFile(func(t *testing.T, boot seal.Bootstrap, v *softkey.Store) {
		must(t, v.DestroyWrapper(t.Context(), keyOf(t, boot)))
	})},
	{code: seal.DependencyMissing, make: without(sealing.KeyFile), verdict: sealing.Failed},
	{code: seal.PIN, make: edited(sealing.PassphraseFile, func([]byte) []byte { return []byte("another") }), verdict: sealing.Failed},
	{code: seal.Tampered, make: edited(sealedConfig, mended(func(b []byte) { b[len(b)-20] ^= 1 })), verdict: sealing.Failed},
	{code: seal.WrongKey, verdict: sealing.Failed, make: inKeyFile(func(t *testing.T, boot seal.Bootstrap, v *softkey.Store) {
		must(t, v.DestroyWrapper(t.Context(), keyOf(t, boot)))
		_, err := v.GenerateWrapper(t.Context(), keyOf(t, boot))
		must(t, err)
	})},
	{code: seal.Damaged, make: edited(sealedConfig, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), verdict: sealing.Failed},
	{code: seal.Damaged, make: edited(sealedConfig, func(b []byte) []byte { return b[:len(b)/2] }), verdict: sealing.Failed},
	{code: seal.Damaged, make: edited(sealedConfig, func([]byte) []byte { return nil }), verdict: sealing.Failed},
	{code: seal.Damaged, make: edited(sealedConfig, func([]byte) []byte { return []byte("\xff\xfe\x00") }), verdict: sealing.Failed},
	{code: seal.PlaintextFound, make: edited(sealedConfig, func([]byte) []byte { return []byte("[node]\n") }), verdict: sealing.Failed},
	{code: seal.Rollback, verdict: sealing.Failed, make: inKeyFile(func(t *testing.T, boot seal.Bootstrap, v *softkey.Store) {
		must(t, v.SetCounter(t.Context(), anchorOf(boot), 9))
	})},
	{code: seal.AnchorBehind, verdict: sealing.Failed, make: func(t *testing.T, folder string) {
		for range 2 {
			_, err := sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
			must(t, err)
		}
		inKeyFile(func(t *testing.T, boot seal.Bootstrap, v *softkey.Store) {
			must(t, v.SetCounter(t.Context(), anchorOf(boot), 1))
		})(t, folder)
	}},
	{code: seal.Identity, verdict: sealing.Failed, make: edited(seal.BootstrapFile, func(b []byte) []byte {
		i := bytes.Index(b, []byte(`instance = "`)) + len(`instance = "`) + 31
		b[i] = "01"[1-b[i]&1]
		return b
	})},
	{code: seal.Permission, verdict: sealing.Failed, make: func(t *testing.T, folder string) { must(t, os.Chmod(filepath.Join(folder, sealedConfig), 0o644)) }},
	{code: seal.Version, make: edited(sealedConfig, mended(func(b []byte) { b[9] = 9 })), verdict: sealing.Failed},
	{code: seal.Expired, verdict: sealing.Failed, make: func(t *testing.T, folder string) {
		_, err := sealing.Reseal(t.Context(), folder, sealing.ResealPlan{NotAfter: time.Now().Add(-time.Hour)}, server.Options{})
		must(t, err)
	}},
	{code: seal.Conflict, verdict: sealing.Fine, try: func(t *testing.T, folder string) error {
		_, err := sealing.WriteConfig(t.Context(), folder, 7, []byte("[node]\n"), server.Options{})
		return err
	}},
	{code: seal.Locked, verdict: sealing.Warning, try: func(t *testing.T, folder string) error {
		n, err := server.Open(t.Context(), folder, server.Options{})
		must(t, err)
		t.Cleanup(func() { n.Close() })
		_, err = sealing.ReadConfig(t.Context(), folder, server.Options{})
		return err
	}},
}

// needHSM are the codes that a key file never has, and who provokes them.
var needHSM = map[seal.Code]string{seal.HSMUnreachable: "TestLostHSM", seal.Mechanism: "TestMechanismMissing", seal.NoSpace: "TestFullDisk"}

// TestCauses provokes every code, asks the doctor, and looks that nothing was
// overwritten.
func TestCauses(t *testing.T) {
	t.Parallel()
	base := sealedFolder(t, place{})
	seen := map[seal.Code]bool{}
	for _, c := range causes {
		seen[c.code] = true
		t.Run("code="+string(c.code), func(t *testing.T) {
			folder := t.TempDir()
			must(t, os.CopyFS(folder, os.DirFS(base)))
			for _, name := range []string{sealedConfig, sealing.PassphraseFile, sealing.KeyFile, seal.BootstrapFile} { // CopyFS adds modes
				must(t, os.Chmod(filepath.Join(folder, name), 0o600))
			}
			must(t, os.Chmod(folder, 0o700))
			rewrite(t, filepath.Join(folder, seal.BootstrapFile), base, folder)
			c.check(t, folder)
		})
	}
	for _, code := range seal.Codes() {
		if !seen[code] && needHSM[code] == "" {
			t.Errorf("nothing provokes %s", code)
		}
	}
}

func (c cause) check(t *testing.T, folder string) {
	if c.make != nil {
		c.make(t, folder)
	}
	before, _ := os.ReadFile(filepath.Join(folder, sealedConfig))
	try := c.try
	if try == nil {
		try = open
	}
	err := try(t, folder)
	var e *seal.Error
	if !errors.As(err, &e) || e.Code != c.code || e.Next() == "" {
		t.Fatalf("refused with %v", err)
	}
	if c.code == seal.Damaged && !strings.Contains(err.Error(), "not a valid sealed configuration") {
		t.Errorf("in the words of a parser: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(folder, sealedConfig)); !bytes.Equal(before, after) {
		t.Error("the sealed file was changed")
	}
	if c.verdict != sealing.Fine {
		doctorSays(t, folder, c.code, c.verdict)
	}
}

// doctorSays looks for a line of the doctor.
func doctorSays(t *testing.T, folder string, code seal.Code, verdict sealing.Verdict) {
	t.Helper()
	found := sealing.Diagnose(t.Context(), folder, true, server.Options{})
	for _, f := range found {
		if f.Verdict == verdict && f.Next != "" && (f.Code == code && f.Number == code.Number() || code == seal.Locked) {
			return
		}
	}
	t.Errorf("the doctor does not say %s: %+v", code, found)
}

// TestMechanismMissing: an HSM that wraps in no way that we know is refused by name.
func TestMechanismMissing(t *testing.T) {
	soft := hsmtest.SoftHSM(t, "CKM_AES_GCM", "CKM_AES_KEY_WRAP_PAD", "CKM_AES_KEY_WRAP")
	_, token, pinSource, err := sealing.TokenOf(soft.URI)
	must(t, err)
	folder := prepared(t, t.TempDir())
	_, err = sealing.Seal(t.Context(), folder, place{uri: token.URI, pinSource: pinSource}.plan(folder), server.Options{})
	if !errors.Is(err, seal.Mechanism) || !strings.Contains(err.Error(), "CKM_AES_GCM") {
		t.Errorf("%v", err)
	}
	must(t, open(t, folder))
}

// TestDoctorWarns: what works and should not stay so.
func TestDoctorWarns(t *testing.T) {
	t.Parallel()
	for check, change := range map[string]func(*testing.T, string){
		"set-up": func(t *testing.T, folder string) {
			boot, err := seal.LoadBootstrap(folder)
			must(t, err)
			must(t, sealing.Disable(t.Context(), folder, server.Options{}))
			boot.Phase = seal.Enabling
			must(t, boot.Write(folder))
		},
		"unfinished writes": func(t *testing.T, folder string) {
			must(t, os.WriteFile(filepath.Join(folder, ".inkan.toml.sealed.new-1"), nil, 0o600))
		},
		"folder": func(t *testing.T, folder string) { must(t, os.Chmod(folder, 0o755)) },
		"inkan.toml.sealed.prev": func(t *testing.T, folder string) {
			_, err := sealing.Reseal(t.Context(), folder, sealing.ResealPlan{}, server.Options{})
			must(t, err)
			must(t, os.Remove(filepath.Join(folder, "inkan.toml.sealed.prev")))
		},
	} {
		t.Run("check="+check, func(t *testing.T) {
			t.Parallel()
			folder := sealedFolder(t, place{})
			must(t, os.Chmod(folder, 0o700))
			change(t, folder)
			warned(t, folder, check)
		})
	}
}

func warned(t *testing.T, folder, check string) {
	t.Helper()
	found := sealing.Diagnose(t.Context(), folder, true, server.Options{})
	for _, f := range found {
		if f.Check == check && f.Verdict == sealing.Warning && f.Next != "" && f.Evidence != "" {
			return
		}
	}
	t.Errorf("the doctor says nothing of %s: %+v", check, found)
}
