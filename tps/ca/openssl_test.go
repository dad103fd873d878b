package ca_test

import (
	"crypto"
	"crypto/elliptic"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"inkan/tps/ca"
)

// openssl runs the real program, which must be there when INKAN_REAL=1.
func openssl(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
	return string(b), err
}

// TestOpenSSL lets openssl judge certificates and revocation lists of an RSA and
// an EC authority.
func TestOpenSSL(t *testing.T) {
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs openssl; set INKAN_REAL=1")
	}
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"rsa-3072": rsaRootKey(), "p256": ecKey(t, elliptic.P256()), "p384": ecKey(t, elliptic.P384())} {
		t.Run("ca="+name, func(t *testing.T) {
			a := newAuthorityWith(t, key, func(c *ca.Config) { c.Now = nil; c.BaseURL = "" })
			testOpenSSL(t, a)
		})
	}
}

func testOpenSSL(t *testing.T, a *authority) {
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := file("root.pem", "CERTIFICATE", a.Certificate().Raw)
	get := func(id, profile string, pub crypto.PublicKey) ca.Certificate {
		t.Helper()
		c, err := a.Issue(t.Context(), request(id, profile, pub))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	signing := get("j1/signing", "signing", rsaKey().Public())
	encryption := get("j1/encryption", "encryption", ecKey(t, elliptic.P256()).Public())
	authentication := get("j1/authentication", "authentication", ecKey(t, elliptic.P384()).Public())
	if err := a.Revoke(t.Context(), encryption.Issuer, encryption.Serial, ca.ReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	list, err := a.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	crl := file("crl.pem", "X509 CRL", list.DER)

	for name, tc := range map[string]struct {
		cert    ca.Certificate
		purpose string
		fails   string // what openssl then says
	}{
		"signing":        {signing, "smimesign", ""},
		"tls":            {signing, "sslclient", ""},
		"authentication": {authentication, "sslclient", ""},
		"wrong purpose":  {authentication, "smimesign", "unsuitable certificate purpose"},
		"revoked":        {encryption, "any", "certificate revoked"},
	} {
		path := file("cert.pem", "CERTIFICATE", tc.cert.DER)
		out, err := openssl(t, "verify", "-x509_strict", "-crl_check", "-CAfile", root, "-CRLfile", crl, "-purpose", tc.purpose, path)
		if (err == nil) != (tc.fails == "") || !strings.Contains(out, tc.fails) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	text, err := openssl(t, "x509", "-in", file("cert.pem", "CERTIFICATE", authentication.DER), "-noout", "-text", "-nameopt", "RFC2253")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		`Subject: UID=jdoe,CN=Jane Doe,O=Example\, Inc.`, "email:jane@example.com", "jdoe@EXAMPLE.COM",
		"Microsoft Smartcard Login", "TLS Web Client Authentication", "CA:FALSE",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	text, err = openssl(t, "crl", "-in", crl, "-noout", "-text", "-CAfile", root)
	if err != nil || !strings.Contains(text, "verify OK") || !strings.Contains(text, "Key Compromise") ||
		!strings.Contains(text, string(encryption.Serial)) || strings.Contains(text, string(signing.Serial)) {
		t.Errorf("%v\n%s", err, text)
	}
}
