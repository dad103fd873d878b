package ca_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"inkan/tps/ca"
)

// TestOpenSSLOCSP lets openssl ask the responder of an RSA and an EC authority
// for good, held, revoked and unknown certificates, in one request, with and
// without nonce, and as part of a chain check.
func TestOpenSSLOCSP(t *testing.T) {
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs openssl; set INKAN_REAL=1")
	}
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"rsa-3072": rsaRootKey(), "p384": ecKey(t, elliptic.P384())} {
		t.Run("ca="+name, func(t *testing.T) {
			t.Parallel()
			testOpenSSLOCSP(t, newAuthorityWith(t, key, func(c *ca.Config) { c.Now = nil }))
		})
	}
}

func testOpenSSLOCSP(t *testing.T, a *authority) {
	dir := t.TempDir()
	file := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	root := file("root.pem", "CERTIFICATE", a.Certificate().Raw)
	issue := func(id string) (ca.Certificate, string) {
		t.Helper()
		c, err := a.Issue(t.Context(), request(id, "signing", rsaKey().Public()))
		if err != nil {
			t.Fatal(err)
		}
		return c, file(id+".pem", "CERTIFICATE", c.DER)
	}
	_, good := issue("good")
	held, heldFile := issue("held")
	gone, goneFile := issue("gone")
	a.revoke(t, held, ca.ReasonCertificateHold)
	a.revoke(t, gone, ca.ReasonKeyCompromise)
	ask := func(options ...string) string {
		t.Helper()
		out, err := openssl(t, append([]string{"ocsp", "-issuer", root, "-CAfile", root, "-url", srv.URL + ca.PathOCSP}, options...)...)
		if err != nil || !strings.Contains(out, "Response verify OK") {
			t.Fatalf("%v\n%s", err, out)
		}
		return out
	}
	for _, options := range [][]string{{}, {"-no_nonce"}, {"-sha256"}} {
		out := ask(append(options, "-cert", good, "-cert", heldFile, "-cert", goneFile, "-serial", "0x1234")...)
		for _, want := range []string{good + ": good", heldFile + ": revoked", "certificateHold", goneFile + ": revoked", "keyCompromise", "0x1234: unknown"} {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in\n%s", options, want, out)
			}
		}
		if strings.Contains(out, "no nonce in response") || strings.Contains(out, "Nonce Verify error") {
			t.Errorf("%v: nonce:\n%s", options, out)
		}
	}
	if err := a.Revoke(t.Context(), held.Issuer, held.Serial, ca.ReasonRemoveFromCRL); err != nil {
		t.Fatal(err)
	}
	if out := ask("-cert", heldFile); !strings.Contains(out, heldFile+": good") {
		t.Errorf("off hold:\n%s", out)
	}
	// A signed request with the requestor's name is answered as any other.
	key, err := x509.MarshalPKCS8PrivateKey(rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	if out := ask("-cert", good, "-signer", good, "-signkey", file("key.pem", "PRIVATE KEY", key)); !strings.Contains(out, good+": good") {
		t.Errorf("signed request:\n%s", out)
	}
	text := ask("-cert", good, "-resp_text")
	for _, want := range []string{"OCSP No Check", "OCSP Signing", "Responder Id", "ecdsa-with-SHA256"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	uri, err := openssl(t, "x509", "-in", good, "-noout", "-ocsp_uri")
	if err != nil || strings.TrimSpace(uri) != "http://ca.example"+ca.PathOCSP {
		t.Errorf("OCSP address %q, %v", uri, err)
	}
}
