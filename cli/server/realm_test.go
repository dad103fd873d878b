//go:build unix

package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tks/hsm/hsmtest"
	"inkan/tks/hsm/pkcs11"
	"inkan/tps/auth"
	"inkan/tps/realm"
)

// useRealm makes keys of several kinds in the node's vault, signs with them, and
// destroys one.
func useRealm(t *testing.T, n *server.Node) {
	t.Helper()
	ctx := t.Context()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	text := secret.New(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for _, k := range []realm.NewKey{
		{Provider: realm.Generated, Algorithm: realm.EdDSA}, {Provider: realm.Generated, Algorithm: realm.ES512},
		{Provider: realm.Generated, Algorithm: realm.PS256, Bits: 2048}, {Provider: realm.PEM, Algorithm: realm.ES384, Material: text},
	} {
		_, err := n.Realm.Add(ctx, k, "test")
		must(t, err)
		signed, err := n.Realm.Sign(ctx, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{k.Algorithm}}, time.Minute, &realm.Claims{Subject: "ada"})
		must(t, err)
		var c realm.Claims
		must(t, n.Realm.Verify(ctx, signed, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{k.Algorithm}}, &c))
	}
	g, err := n.Logins.Login(ctx, "admin", "")
	must(t, err)
	_, before, err := n.Realm.Rotate(ctx, realm.ForSessions, realm.ES256, "test")
	must(t, err)
	if p, err := n.Logins.Person(ctx, g.Access, realm.Connection{}); err != nil || p.ID != "admin" {
		t.Errorf("after a rotation: %v", err)
	}
	gone, err := n.Realm.Delete(ctx, before.KID, "test")
	must(t, err)
	if gone.Material != "" {
		t.Errorf("deleted %+v", gone)
	}
	if _, err := n.Logins.Person(ctx, g.Access, realm.Connection{}); !errors.Is(err, realm.ErrToken) {
		t.Errorf("by a deleted key: %v", err)
	}
	for _, label := range []string{"nobody", "tms:ca:inkan:v01"} {
		if _, err := n.Realm.Add(ctx, realm.NewKey{Provider: realm.PKCS11, Label: label}, "test"); !errors.Is(err, realm.ErrInput) {
			t.Errorf("label %s: %v", label, err)
		}
	}
}

// TestRealmKeyFile: realm keys live in the key file, and are there again.
func TestRealmKeyFile(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	useRealm(t, n)
	useProviders(t, n)
	signed, err := n.Realm.Sign(t.Context(), realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.EdDSA}}, time.Minute, &realm.Claims{Subject: "ada"})
	must(t, err)
	must(t, n.Close())
	n, err = server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	defer n.Close()
	var c realm.Claims
	must(t, n.Realm.Verify(t.Context(), signed, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.EdDSA}}, &c))
	_, err = n.Realm.Sign(t.Context(), realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES384}}, time.Minute, &c)
	must(t, err)
}

// TestRealmSoftHSM: the same in an HSM, and a key that was there before.
func TestRealmSoftHSM(t *testing.T) {
	if os.Getenv("INKAN_REAL") == "" {
		t.Skip("needs SoftHSM: set INKAN_REAL=1")
	}
	s := hsmtest.SoftHSM(t)
	before := openToken(t, s.URI)
	_, err := before.GenerateSigner(t.Context(), "tms:sign:existing:v01", hsm.P384)
	must(t, err)
	must(t, before.Close())
	folder := t.TempDir()
	cfg := config.Default()
	cfg.Node.Name, cfg.Node.Lab = "lab", true
	cfg.Listen = config.Listen{Address: "127.0.0.1:0", Names: []string{"localhost"}, URL: "https://localhost:8443"}
	cfg.HSM.URI, cfg.CA.URL = s.URI, cfg.Listen.URL
	must(t, server.Create(t.Context(), folder, server.Answers{Config: cfg, Admin: auth.User{ID: "admin", Name: "Administrator", Roles: auth.Roles}, AdminPassword: secret.New([]byte("a long password"))}))
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	useRealm(t, n)
	useProviders(t, n)
	k, err := n.Realm.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11, Label: "tms:sign:existing:v01", Priority: 9}, "test")
	must(t, err)
	if k.Algorithm != realm.ES384 {
		t.Errorf("%+v", k)
	}
	if _, err := n.Realm.Delete(t.Context(), k.KID, "test"); err != nil {
		t.Error(err)
	}
	out, err := n.Realm.Keys(t.Context())
	must(t, err)
	for _, k := range out {
		if k.Algorithm == realm.EdDSA {
			_, err := n.Realm.Compromised(t.Context(), k.KID, "test")
			must(t, err)
		}
	}
	must(t, n.Close())
	after := openToken(t, s.URI)
	defer after.Close()
	if _, err := after.Signer(t.Context(), "tms:sign:existing:v01"); err != nil {
		t.Errorf("deleting it from the realm took it out of the HSM: %v", err)
	}
}

func openToken(t *testing.T, uri string) *pkcs11.Token {
	t.Helper()
	u, err := pkcs11.ParseURI(uri)
	must(t, err)
	v, err := pkcs11.Open(t.Context(), pkcs11.Config{URI: u})
	must(t, err)
	return v
}

// TestRealmClientTrust: the authority of a client is read at the start, and one that is
// not there is named.
func TestRealmClientTrust(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	f, err := os.OpenFile(filepath.Join(folder, "inkan.toml"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString("\n[[realm.client]]\nid = \"console\"\nadmin_url = \"https://console.example.org\"\ntrust = \"console-ca.pem\"\n")
	must(t, errors.Join(err, f.Close()))
	if n, err := server.Open(t.Context(), folder, server.Options{}); err == nil || !strings.Contains(err.Error(), "[[realm.client]] console: trust") {
		t.Errorf("without the file: %v", err)
		if n != nil {
			n.Close()
		}
	}
	b, err := os.ReadFile(filepath.Join(folder, "ca", "ca.pem"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(folder, "console-ca.pem"), b, 0o600))
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	must(t, n.Close())
}
