//go:build unix

package server_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/tps/realm"
)

// uploads are keys as people have them.
type uploads struct {
	rsa      *rsa.PrivateKey
	ec       *ecdsa.PrivateKey
	ed       ed25519.PrivateKey
	ecBinary []byte // PKCS #8
}

func newUploads(t *testing.T) uploads {
	t.Helper()
	var u uploads
	var err error
	u.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	u.ec, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	_, u.ed, err = ed25519.GenerateKey(rand.Reader)
	must(t, err)
	u.ecBinary, err = x509.MarshalPKCS8PrivateKey(u.ec)
	must(t, err)
	return u
}

func certified(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "uploaded"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	c, err = x509.ParseCertificate(der)
	must(t, err)
	return c
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// javaKeystore has the EC key under the alias signing, with a password of its own.
func (u uploads) javaKeystore(t *testing.T) []byte {
	t.Helper()
	ks := keystore.New()
	must(t, ks.SetPrivateKeyEntry("signing", keystore.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: bytes.Clone(u.ecBinary),
		CertificateChain: []keystore.Certificate{{Type: "X509", Content: certified(t, u.ec).Raw}}}, []byte("key-password")))
	var b bytes.Buffer
	must(t, ks.Store(&b, []byte("store-password")))
	return b.Bytes()
}

func hidden(b []byte) secret.Secret { return secret.New(bytes.Clone(b)) }

// everyProvider is one key of each kind and origin.
func everyProvider(t *testing.T) map[string]realm.NewKey {
	t.Helper()
	u, other := newUploads(t), newUploads(t) // a key is taken in once
	sec1, err := x509.MarshalECPrivateKey(u.ec)
	must(t, err)
	ed, err := x509.MarshalPKCS8PrivateKey(u.ed)
	must(t, err)
	p12, err := pkcs12.Modern2023.Encode(other.rsa, certified(t, other.rsa), nil, "store-password")
	must(t, err)
	out := map[string]realm.NewKey{
		"generated ES256":  {Algorithm: realm.ES256},
		"generated ES384":  {Algorithm: realm.ES384},
		"generated ES512":  {Algorithm: realm.ES512},
		"generated EdDSA":  {Algorithm: realm.EdDSA},
		"generated RS256":  {Algorithm: realm.RS256, Bits: 2048},
		"pem PKCS #1":      {Provider: realm.PEM, Algorithm: realm.PS384, Material: hidden(pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(u.rsa)))},
		"pem SEC 1, chain": {Provider: realm.PEM, Material: hidden(pemOf("EC PRIVATE KEY", sec1)), Certificates: pemOf("CERTIFICATE", certified(t, u.ec).Raw)},
		"pem PKCS #8":      {Provider: realm.PEM, Material: hidden(pemOf("PRIVATE KEY", ed))},
		"jks":              {Provider: realm.Keystore, Alias: "signing", Material: hidden(other.javaKeystore(t)), StorePassword: hidden([]byte("store-password")), KeyPassword: hidden([]byte("key-password"))},
		"pkcs12":           {Provider: realm.Keystore, Algorithm: realm.RS512, Material: hidden(p12), StorePassword: hidden([]byte("store-password"))},
	}
	if os.Getenv("INKAN_REAL") != "" { // they are slow to make
		out["generated RS384, 3072"] = realm.NewKey{Algorithm: realm.RS384}
		out["generated PS256, 4096"] = realm.NewKey{Algorithm: realm.PS256, Bits: 4096}
	}
	return out
}

// useProviders adds a key of each kind and origin to a node, signs with it, finds it
// published with its certificate, and deletes it.
func useProviders(t *testing.T, n *server.Node) {
	t.Helper()
	for name, k := range everyProvider(t) {
		if k.Provider == "" {
			k.Provider = realm.Generated
		}
		k.Priority = 1000
		made, err := n.Realm.Add(t.Context(), k, "test")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		kind := realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{made.Algorithm}}
		text, err := n.Realm.Sign(t.Context(), kind, time.Minute, &realm.Claims{Subject: "ada"})
		must(t, err)
		var c realm.Claims
		must(t, n.Realm.Verify(t.Context(), text, kind, &c))
		set, err := n.Realm.JWKS(t.Context())
		must(t, err)
		if !strings.Contains(string(set), made.KID) || len(made.Chain) != 1 {
			t.Errorf("%s: not published with its certificate", name)
		}
		if _, err := n.Realm.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11, Label: "tms:sign:" + made.Material + ":v01"}, "test"); !errors.Is(err, realm.ErrRefused) {
			t.Errorf("%s: taken in again: %v", name, err)
		}
		destroyed(t, n, made)
	}
}

// destroyed deletes a key: its private half is gone. The only one that signs with its
// algorithm stays.
func destroyed(t *testing.T, n *server.Node, k realm.Key) {
	t.Helper()
	gone, err := n.Realm.Delete(t.Context(), k.KID, "test")
	if errors.Is(err, realm.ErrRefused) {
		return
	}
	if err != nil || gone.Material != "" {
		t.Errorf("deleting %s: private half %q, %v", k.Name, gone.Material, err)
	}
	if _, err := n.Realm.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11, Label: "tms:sign:" + k.Material + ":v01"}, "test"); !errors.Is(err, realm.ErrInput) {
		t.Errorf("%s is still in the vault: %v", k.Name, err)
	}
}
