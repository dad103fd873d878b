package realm_test

import (
	"bytes"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/realm"
)

// testKey is one that openssl pkcs8 -topk8 encrypted with the password "key-password".
func testKey(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	must(t, err)
	return b
}

// TestEncryptedPEM: keys that openssl encrypted are opened with their password, and what
// is wrong with others has its own sentence.
func TestEncryptedPEM(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	good := testKey(t, "pkcs8-aes256-sha256.pem")
	block, _ := pem.Decode(good)
	add := func(file []byte, password string) error {
		k := realm.NewKey{Provider: realm.PEM, Material: secret.New(bytes.Clone(file))}
		if password != "" {
			k.KeyPassword = secret.New([]byte(password))
		}
		_, err := n.Add(t.Context(), k, "test")
		if err == nil {
			must(t, n.verify(t, n.sign(t, realm.ES384), realm.ES384))
		}
		return err
	}
	must(t, add(good, "key-password"))
	torn, greedy := bytes.Clone(block.Bytes), bytes.Clone(block.Bytes)
	torn = torn[:len(torn)-1]
	count := bytes.Index(greedy, []byte{2, 2, 8, 0}) // INTEGER 2048
	if count < 0 {
		t.Fatal("no iterations in the file")
	}
	copy(greedy[count:], []byte{2, 2, 0x80, 0}) // negative
	encode := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}) }
	for name, c := range map[string]struct {
		file     []byte
		password string
		says     string
	}{
		"no password":    {good, "", "its password is needed"},
		"wrong password": {good, "wrong", "wrong password of the private key"},
		"the same key":   {testKey(t, "pkcs8-aes128-sha512.pem"), "key-password", "already"},
		"the same again": {testKey(t, "pkcs8-aes192-sha1.pem"), "key-password", "already"},
		"DES":            {testKey(t, "pkcs8-des3.pem"), "key-password", "another cipher"},
		"scrypt":         {testKey(t, "pkcs8-scrypt.pem"), "key-password", "another way than PBES2"},
		"torn":           {encode(torn), "key-password", "another way"},
		"iterations":     {encode(greedy), "key-password", "is hashed"},
		"old form": {[]byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"),
			"key-password", "openssl pkcs8 -topk8"},
	} {
		if err := add(c.file, c.password); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// FuzzEncryptedKey: any bytes under ENCRYPTED PRIVATE KEY are a key or refused.
func FuzzEncryptedKey(f *testing.F) {
	for _, name := range []string{"pkcs8-aes192-sha1.pem", "pkcs8-des3.pem", "pkcs8-scrypt.pem"} {
		block, _ := pem.Decode(testKey(f, name))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) > 1<<10 {
			return
		}
		b := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})
		if s, err := realm.ParsePrivateKey(b, secret.New([]byte("key-password"))); (s == nil) == (err == nil) {
			t.Error("a key and an error, or neither")
		}
	})
}
