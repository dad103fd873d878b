//go:build unix

package cli_test

import (
	"bytes"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// opensc is a card as OpenSC's PKCS #11 module shows it.
type opensc struct {
	*holder
	dir string
}

// openToken lists the card's objects, without and with a login, and expects this
// many certificates, each with its pair of keys.
func (p *holder) openToken(t *testing.T, certificates int) opensc {
	t.Helper()
	return p.openRenewed(t, certificates, certificates)
}

// openRenewed is openToken of a card that has further certificates of its pairs of keys.
func (p *holder) openRenewed(t *testing.T, certificates, pairs int) opensc {
	t.Helper()
	o := opensc{p, t.TempDir()}
	public := o.succeed(t, "--list-objects", "--type", "cert")
	if n := strings.Count(public, "Certificate Object; type = X.509 cert"); n != certificates || !strings.Contains(public, p.fullName) {
		t.Errorf("%d certificates, want %d:\n%s", n, certificates, public)
	}
	all := o.loggedIn(t, "--list-objects")
	for _, kind := range []string{"Private Key Object;", "Public Key Object;"} {
		if n := strings.Count(all, kind); n != pairs {
			t.Errorf("%d of %q, want %d:\n%s", n, kind, pairs, all)
		}
	}
	return o
}

// tool runs pkcs11-tool on the card's slot. The PIN goes through the environment.
func (o opensc) tool(t *testing.T, pin string, args ...string) result {
	t.Helper()
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", openSCModule(t), "--slot-description", o.reader()}, args...)...)
	cmd.Env, cmd.Dir = append(o.env, "TEST_PIN="+pin), o.dir
	return o.await(t, cmd)
}

func (o opensc) succeed(t *testing.T, args ...string) string {
	t.Helper()
	r := o.tool(t, "", args...)
	if r.code != 0 {
		t.Fatalf("pkcs11-tool %v: exit %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

func (o opensc) loggedIn(t *testing.T, args ...string) string {
	t.Helper()
	args = append([]string{"--login", "--pin", "env:TEST_PIN"}, args...)
	r := o.tool(t, o.pin, args...)
	if r.code != 0 {
		t.Fatalf("pkcs11-tool %v: exit %d\n%s%s", args, r.code, r.out, r.err)
	}
	return r.out
}

// refuse tries to log in with a PIN that the card must not take.
func (o opensc) refuse(t *testing.T, pin string) {
	t.Helper()
	r := o.tool(t, pin, "--login", "--pin", "env:TEST_PIN", "--list-objects", "--type", "privkey")
	if r.code == 0 || !strings.Contains(r.out+r.err, "C_Login") {
		t.Errorf("login with a PIN that is wrong, old or blocked: exit %d\n%s%s", r.code, r.out, r.err)
	}
}

func openSCModule(t *testing.T) string {
	t.Helper()
	paths := []string{
		"/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", "/usr/lib/aarch64-linux-gnu/opensc-pkcs11.so",
		"/usr/lib64/opensc-pkcs11.so", "/usr/lib/opensc-pkcs11.so",
	}
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatalf("OpenSC's module is not installed (package opensc-pkcs11): none of %v", paths)
	return ""
}

// openssl runs openssl in the token's folder.
func (o opensc) openssl(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Env, cmd.Dir = o.env, o.dir
	if r := o.await(t, cmd); r.code != 0 {
		t.Fatalf("openssl %v: exit %d\n%s%s", args, r.code, r.out, r.err)
	}
}

func (o opensc) path(name string) string { return filepath.Join(o.dir, name) }

func (o opensc) write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(o.path(name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (o opensc) read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(o.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// certificateFile exports certificate 1 (signing) or 2 (encryption) from the card,
// and its public key to number.pub.
func (o opensc) certificateFile(t *testing.T, number int) string {
	t.Helper()
	n := string(rune('0' + number))
	o.succeed(t, "--read-object", "--type", "cert", "--id", "0"+n, "--output-file", n+".der")
	o.openssl(t, "x509", "-inform", "DER", "-in", n+".der", "-out", n+".pem")
	o.openssl(t, "x509", "-in", n+".pem", "-noout", "-pubkey", "-out", n+".pub")
	return o.path(n + ".pem")
}

// signRSA signs a message on the card; openssl verifies it with the certificate
// that the card has.
func (o opensc) signRSA(t *testing.T, bits int) {
	t.Helper()
	o.certificateFile(t, 1)
	o.write(t, "message", []byte("a message to sign with "+o.name))
	o.loggedIn(t, "--sign", "--id", "01", "--mechanism", "SHA256-RSA-PKCS", "--input-file", "message", "--output-file", "signature")
	if n := len(o.read(t, "signature")); n != bits/8 {
		t.Errorf("signature of %d bytes with a key of %d bits", n, bits)
	}
	o.openssl(t, "dgst", "-sha256", "-verify", "1.pub", "-signature", "signature", "message")
}

// decryptRSA decrypts on the card what openssl encrypted with the certificate.
func (o opensc) decryptRSA(t *testing.T) {
	t.Helper()
	o.certificateFile(t, 2)
	message := make([]byte, 32)
	rand.Read(message)
	o.write(t, "plain", message)
	o.openssl(t, "pkeyutl", "-encrypt", "-certin", "-inkey", "2.pem", "-in", "plain", "-out", "sealed")
	o.loggedIn(t, "--decrypt", "--id", "02", "--mechanism", "RSA-PKCS", "--input-file", "sealed", "--output-file", "opened")
	if !bytes.Equal(o.read(t, "opened"), message) {
		t.Error("the card decrypted something else")
	}
}

// signEC signs a hash on the card; openssl verifies it.
func (o opensc) signEC(t *testing.T) {
	t.Helper()
	o.certificateFile(t, 1)
	o.write(t, "message", []byte("a message to sign with "+o.name))
	o.openssl(t, "dgst", "-sha256", "-binary", "-out", "digest", "message")
	o.loggedIn(t, "--sign", "--id", "01", "--mechanism", "ECDSA", "--signature-format", "openssl", "--input-file", "digest", "--output-file", "signature")
	o.openssl(t, "dgst", "-sha256", "-verify", "1.pub", "-signature", "signature", "message")
}

// deriveEC agrees with openssl on a secret.
func (o opensc) deriveEC(t *testing.T) {
	t.Helper()
	o.certificateFile(t, 2)
	o.openssl(t, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "other.key")
	o.openssl(t, "pkey", "-in", "other.key", "-pubout", "-outform", "DER", "-out", "other.der")
	o.openssl(t, "pkeyutl", "-derive", "-inkey", "other.key", "-peerkey", "2.pub", "-out", "want")
	o.loggedIn(t, "--derive", "--id", "02", "--mechanism", "ECDH1-DERIVE", "--input-file", "other.der", "--output-file", "got")
	if !bytes.Equal(o.read(t, "got"), o.read(t, "want")) {
		t.Error("card and openssl agreed on different secrets")
	}
}

// verifyChain has openssl verify both certificates up to the authority, against
// the revocation list that the node serves.
func (p *holder) verifyChain(t *testing.T, o opensc) {
	t.Helper()
	for number := 1; number <= 2; number++ {
		if out, err := p.opensslVerify(t, o.certificateFile(t, number)); err != nil {
			t.Errorf("openssl verify of certificate %d: %v\n%s", number, err, out)
		}
	}
}

func (p *holder) opensslVerify(t *testing.T, certificate string) (string, error) {
	t.Helper()
	crl := p.file(t, "crl.pem", string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: p.crl(t).Raw})))
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-crl_check", "-CAfile", p.ca(), "-CRLfile", crl, certificate).CombinedOutput()
	return string(out), err
}

// seenByTools has the usual programs show the reader and the card's ATR.
func (p *holder) seenByTools(t *testing.T, atr string) {
	t.Helper()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = p.env
		r := p.await(t, cmd)
		if r.code != 0 {
			t.Fatalf("%s %v: exit %d\n%s%s", name, args, r.code, r.out, r.err)
		}
		return r.out
	}
	if out := run("opensc-tool", "--list-readers"); !strings.Contains(out, p.reader()) {
		t.Errorf("opensc-tool does not list %q:\n%s", p.reader(), out)
	}
	flat := strings.NewReplacer(":", "", " ", "", "\n", "")
	if out := run("opensc-tool", "--reader", p.reader(), "--atr"); !strings.EqualFold(flat.Replace(out), atr) {
		t.Errorf("opensc-tool shows the ATR %q, want %s", out, atr)
	}
	if out := run("pcsc_scan", "-c", "-n"); !strings.Contains(strings.ToUpper(flat.Replace(out)), atr) {
		t.Errorf("pcsc_scan does not show the ATR %s:\n%s", atr, out)
	}
}
