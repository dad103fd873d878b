//go:build cgo && !windows

package pkcs11_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tks/kdf"
)

// nssModules are where distributions put NSS softoken, the engine of Dogtag's key
// service. It wraps 3DES keys inside, what SoftHSM does not.
var nssModules = []string{
	"/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
	"/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
	"/usr/lib64/libsoftokn3.so",
}

// nss makes a database of NSS for a test, with a PIN, and returns its URI; e is put in
// front of the module if it has a name.
func nss(t *testing.T, e hsmtest.Engine) string {
	t.Helper()
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs NSS softoken; set INKAN_REAL=1")
	}
	module := ""
	for _, p := range nssModules {
		if _, err := os.Stat(p); err == nil {
			module = p
			break
		}
	}
	if module == "" {
		t.Fatalf("NSS softoken is not installed (package libnss3): none of %v", nssModules)
	}
	dir := t.TempDir()
	pin := make([]byte, 8)
	rand.Read(pin)
	file := filepath.Join(dir, "pin")
	if err := os.WriteFile(file, []byte(hex.EncodeToString(pin)), 0o400); err != nil {
		t.Fatal(err)
	}
	reserved := fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", dir)
	if err := initNSS(module, reserved, hex.EncodeToString(pin)); err != nil {
		t.Fatal(err)
	}
	if e.Name != "" {
		module = e.Module(t, module)
	}
	return "pkcs11:token=NSS%20Certificate%20DB?module-path=" + module + "&pin-source=file:" + file + "&x-init-reserved=" + url.PathEscape(reserved)
}

// nssDatabase is the slot of keys that stay.
const nssDatabase = 2

// initNSS sets the PIN of a new database.
func initNSS(module, reserved, pin string) error {
	m := p11.New(module)
	if m == nil {
		return fmt.Errorf("%s does not load", module)
	}
	text := append([]byte(reserved), 0)
	if err := m.Initialize(p11.InitializeWithReserved(unsafe.Pointer(&text[0]))); err != nil {
		return err
	}
	defer m.Finalize()
	s, err := m.OpenSession(nssDatabase, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := m.Login(s, p11.CKU_SO, ""); err != nil {
		return err
	}
	return m.InitPIN(s, pin)
}

// TestConformanceNSS: an engine with other mechanisms passes the suite, and keeps 3DES
// keys inside altogether.
func TestConformanceNSS(t *testing.T) {
	name := nss(t, hsmtest.Engine{})
	hsmtest.TestEngine(t, func(t *testing.T) hsmtest.Token {
		tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, name)})
		if err != nil {
			t.Fatal(err)
		}
		for code, kt := range map[kdf.Code]hsm.KeyType{kdf.VISA2: hsm.DES3, kdf.KDF3: hsm.AES256, kdf.DogtagEMV: hsm.DES2} {
			if p := tok.Protection(code, kt); p.Level != hsm.LevelA {
				t.Errorf("%v: level %v: %s", code, p.Level, p.Why)
			}
		}
		return tok
	})
}

// TestOneDatabase: a module cannot be had twice with different databases.
func TestOneDatabase(t *testing.T) {
	name := nss(t, hsmtest.Engine{})
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, name)})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	other := uri(t, name)
	other.InitReserved = "configdir='sql:/elsewhere'"
	if _, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: other}); err == nil || !strings.Contains(err.Error(), "another x-init-reserved") {
		t.Errorf("opened with another database: %v", err)
	}
}

// TestNoClearKeysNSS: where no key may be created and AES key wrap is not there
// either, padded CBC brings keys in, master keys of every type too.
func TestNoClearKeysNSS(t *testing.T) {
	e := hsmtest.Engine{Name: "NSS without clear keys", Create: []uint{p11.CKO_SECRET_KEY}, Unwrap: []uint{p11.CKM_AES_KEY_WRAP}}
	tok, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: uri(t, nss(t, e))})
	if err != nil {
		t.Fatal(err)
	}
	defer tok.Close()
	for _, c := range []kdf.Cipher{kdf.AES, kdf.DES, kdf.HMAC} {
		if got := tok.Info().Strategies["hold "+c.String()+" keys of known value"]; !strings.HasSuffix(got, " by CKM_AES_CBC_PAD") {
			t.Errorf("%v keys come in by %q", c, got)
		}
		if err := hsm.SelfTest(t.Context(), tok, c); err != nil {
			t.Error(err)
		}
	}
	for _, kt := range append(hsm.KeyTypes(), hsm.HMACKey) {
		value := secret.Random(kt.Size())
		id := hsm.MasterID{Set: tks.KeySetName("maker-" + kt.String()), Version: 1, KDF: kdf.Default(kt.Cipher())}
		got, err := tok.ImportMasters(t.Context(), []hsm.MasterValue{{ID: id, Type: kt, Value: value}})
		if want, _ := kdf.KCV(kt.Cipher(), value.Bytes()); err != nil || got[0].KCV != want || got[0].Kind != kt {
			t.Errorf("%v: %+v, %v, want KCV %v", kt, got, err, want)
		}
	}
}
