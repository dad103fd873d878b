package seal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"inkan/tps/seal"
)

func bootstrap() seal.Bootstrap {
	return seal.Bootstrap{Instance: instance, Phase: seal.Sealed, URI: "pkcs11:token=x?module-path=/lib/x.so", PINSource: "file:/etc/pin",
		Key: "tms:seal:00112233:v01", Recipient: "age1x", Anchor: seal.AnchorHSM, Roles: []seal.Role{role}}
}

func TestBootstrap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := seal.LoadBootstrap(dir); !errors.Is(err, fs.ErrNotExist) || seal.CodeOf(err) != "" {
		t.Errorf("a plain folder: %v", err)
	}
	must(t, bootstrap().Write(dir))
	got, err := seal.LoadBootstrap(dir)
	must(t, err)
	if !reflect.DeepEqual(got, bootstrap()) {
		t.Errorf("%+v", got)
	}
	path := filepath.Join(dir, seal.BootstrapFile)
	good := read(t, path)
	must(t, os.WriteFile(path, append(good, "pin = \"1234\"\n"...), 0o600))
	if _, err := seal.LoadBootstrap(dir); !errors.Is(err, seal.Damaged) {
		t.Errorf("an unknown key: %v", err)
	}
	must(t, os.Remove(path))
	must(t, os.WriteFile(filepath.Join(dir, role.File()), nil, 0o600))
	if _, err := seal.LoadBootstrap(dir); !errors.Is(err, seal.BootstrapMissing) {
		t.Errorf("sealed files without bootstrap: %v", err)
	}
}

func TestBootstrapCheck(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*seal.Bootstrap){
		"instance":   func(b *seal.Bootstrap) { b.Instance = seal.InstanceID{} },
		"phase":      func(b *seal.Bootstrap) { b.Phase = "x" },
		"anchor":     func(b *seal.Bootstrap) { b.Anchor = "" },
		"two places": func(b *seal.Bootstrap) { b.KeyFile = "keys/keystore" },
		"no place":   func(b *seal.Bootstrap) { b.URI = "" },
		"uri":        func(b *seal.Bootstrap) { b.URI = "/lib/x.so" },
		"key":        func(b *seal.Bootstrap) { b.Key = "tms:master:site:v01" },
		"roles":      func(b *seal.Bootstrap) { b.Roles = nil },
		"role":       func(b *seal.Bootstrap) { b.Roles = []seal.Role{"../x"} },
		"pin":        func(b *seal.Bootstrap) { b.PINSource = "env:PIN" },
	} {
		b := bootstrap()
		spoil(&b)
		if err := b.Write(t.TempDir()); err == nil {
			t.Errorf("wrong %s was written", name)
		}
	}
	for s, ok := range map[string]bool{"prompt": true, "file:/x": true, "file:x": false, "cred:pin": true, "cred:a/b": false, "cred:": false,
		"fd:3": true, "fd:x": false, "fd:": false, "1234": false, "": false} {
		if err := seal.CheckPINSource(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// FuzzParseBootstrap: what is taken passes its checks and comes back the same.
func FuzzParseBootstrap(f *testing.F) {
	dir := f.TempDir()
	must(f, bootstrap().Write(dir))
	f.Add(read(f, filepath.Join(dir, seal.BootstrapFile)))
	f.Add([]byte("phase = \"sealed\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := seal.ParseBootstrap(b)
		if err != nil {
			return
		}
		dir := t.TempDir()
		must(t, got.Write(dir))
		again, err := seal.LoadBootstrap(dir)
		must(t, err)
		if !reflect.DeepEqual(got, again) {
			t.Errorf("%+v, then %+v", got, again)
		}
	})
}
