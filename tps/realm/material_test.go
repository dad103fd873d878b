package realm_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"inkan/apdu/secret"
	"inkan/tps/realm"
)

func certificateOf(t testing.TB, key crypto.Signer, until time.Time) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "uploaded"}, NotBefore: until.Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func rsa3(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return k
}

// jks is a JKS file with the keys one and two, password of the store "store-password",
// of the keys "key-password".
func jks(t testing.TB) []byte {
	t.Helper()
	ks := keystore.New()
	for _, alias := range []string{"one", "two"} {
		key, private, certificate := pemKey(t)
		_ = key
		block, _ := pem.Decode(private)
		leaf, _ := pem.Decode(certificate)
		must(t, ks.SetPrivateKeyEntry(alias, keystore.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: block.Bytes,
			CertificateChain: []keystore.Certificate{{Type: "X509", Content: leaf.Bytes}}}, []byte("key-password")))
	}
	var b bytes.Buffer
	must(t, ks.Store(&b, []byte("store-password")))
	return b.Bytes()
}

func p12(t testing.TB) []byte {
	t.Helper()
	key, _, certificate := pemKey(t)
	block, _ := pem.Decode(certificate)
	c, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	b, err := pkcs12.Modern2023.Encode(key, c, nil, "store-password")
	must(t, err)
	return b
}

func p12Ed(t testing.TB) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	block, _ := pem.Decode(certificateOf(t, key, time.Now().Add(time.Hour)))
	c, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	b, err := pkcs12.Modern2023.Encode(key, c, nil, "store-password")
	must(t, err)
	return b
}

// TestKeystore: keys come out of JKS and PKCS #12, and each thing that can be wrong
// has its own sentence.
func TestKeystore(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	java, pfx := jks(t), p12(t)
	const store, key = "store-password", "key-password"
	for _, c := range []struct {
		name, alias, store, key string
		file                    []byte
		says                    string // empty: it works
	}{
		{"jks", "ONE", store, key, java, ""},
		{"jks two", "two", store, key, java, ""},
		{"no alias", "", store, key, java, "the alias is needed"},
		{"alias", "three", store, key, java, `"three" does not exist`},
		{"store password", "one", "wrong", key, java, "wrong password"},
		{"key password", "one", store, "", java, "wrong key password"},
		{"p12", "", store, "", pfx, ""},
		{"p12 ed25519", "", store, "", p12Ed(t), ""},
		{"p12 password", "", "wrong", "", pfx, "wrong password"},
		{"p12 alias", "three", store, "", pfx, `"three" does not exist`},
		{"jceks", "", store, "", []byte{0xCE, 0xCE, 0xCE, 0xCE, 0}, "JCEKS"},
		{"text", "", store, "", []byte("text"), "neither"},
		{"torn jks", "one", store, key, java[:len(java)/2], "damaged"},
		{"torn p12", "", store, "", pfx[:len(pfx)/2], "cannot be decoded"},
		{"large", "", store, "", make([]byte, 50<<10), "at most"},
	} {
		k := realm.NewKey{Provider: realm.Keystore, Name: c.name, Alias: c.alias, Material: secret.New(bytes.Clone(c.file)), StorePassword: secret.New([]byte(c.store))}
		if c.key != "" {
			k.KeyPassword = secret.New([]byte(c.key))
		}
		made, err := n.Add(t.Context(), k, "test")
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.says == "" && (made.Algorithm != map[bool]realm.Algorithm{true: realm.EdDSA, false: realm.ES384}[strings.Contains(c.name, "ed25519")] || len(made.Chain) != 1):
			t.Errorf("%s: %+v", c.name, made)
		case c.says != "":
			refused(t, c.name, err, realm.ErrInput)
			if err != nil && !bytes.Contains([]byte(err.Error()), []byte(c.says)) {
				t.Errorf("%s: %v does not say %q", c.name, err, c.says)
			}
		}
	}
	if n.vault.Size() != 5 {
		t.Errorf("%d keys in the vault", n.vault.Size())
	}
}

// TestGreedyKeystore: a file that promises more than it holds, or wants a password
// hashed for hours, is refused at once.
func TestGreedyKeystore(t *testing.T) {
	t.Parallel()
	good := jks(t)
	kind := bytes.Index(good, []byte("X509")) // behind the count of certificates and its own length, before that of the certificate
	tooMany, tooLong := bytes.Clone(good), bytes.Clone(good)
	copy(tooMany[kind-6:], []byte{0x7F, 0xFF, 0xFF, 0xFF})
	copy(tooLong[kind+4:], []byte{0xFF, 0xFF, 0xFF, 0xFF})
	slow := []byte{0x30, 0x13, 2, 1, 3, 0x30, 0, 0x30, 12, 0x30, 0, 4, 2, 1, 2, 2, 4, 0x7F, 0xFF, 0xFF, 0xFF} // MacData with its salt and count
	for _, c := range []struct {
		file []byte
		says string
	}{{tooMany, "damaged"}, {tooLong, "damaged"}, {slow, "millions of times"}} {
		_, _, err := realm.OpenKeystore(&realm.NewKey{Material: secret.New(c.file), StorePassword: secret.New([]byte("store-password"))})
		if !errors.Is(err, realm.ErrInput) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
	}
}

func FuzzMaterialNoPanic(f *testing.F) {
	_, private, certificate := pemKey(f)
	for _, seed := range [][]byte{private, certificate, jks(f), p12(f), {0x30, 0}, {0xFE, 0xED, 0xFE, 0xED}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := realm.ParsePrivateKey(b, secret.New([]byte("store-password"))); (s == nil) == (err == nil) {
			t.Error("a key and an error, or neither")
		}
		if _, err := realm.ParseCertificates(b); err != nil && len(bytes.TrimSpace(b)) == 0 {
			t.Error("nothing is no error")
		}
		realm.OpenKeystore(&realm.NewKey{Material: secret.New(bytes.Clone(b)), StorePassword: secret.New([]byte("store-password"))})
	})
}

func FuzzVerifyRefuses(f *testing.F) {
	n := newNode(f)
	f.Add("")
	f.Add("e30.e30.")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6IngifQ.e30.AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		var c realm.Claims
		if n.Verify(t.Context(), text, realm.Type{Name: "at+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, &c) == nil {
			t.Errorf("accepted %q", text)
		}
	})
}
