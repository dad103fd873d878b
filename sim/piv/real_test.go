//go:build unix

package piv_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"inkan/apdu/piv"
	"inkan/apdu/tlv"
	"inkan/sim/vpcd/vpcdtest"
)

// bench is a folder with a card in a reader, for programs of others.
type bench struct {
	t      *testing.T
	daemon *vpcdtest.Daemon
	dir    string
	reader string
	card   *card
	root   *x509.Certificate
}

func newBench(t *testing.T, prepare func(c *card)) *bench {
	t.Helper()
	c := newCard(t, "yubikey-5.4")
	if prepare != nil {
		prepare(c)
	}
	check(t, c.sim.Reset(t.Context()))
	d := vpcdtest.Start(t, 1)
	d.Plug(t, 0, c.sim)
	return &bench{t: t, daemon: d, dir: t.TempDir(), reader: d.Readers[0], card: c, root: c.root()}
}

// try runs a program in the folder and returns what it printed. Where pcscd has not
// managed to give the virtual card power, which happens when its poll of the reader
// and a program come together, the program runs again.
func (b *bench) try(name string, args ...string) (out string, err error) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		out, err = b.once(name, args...)
		if err == nil || !strings.Contains(out, "ailed to connect to") || time.Now().After(end) {
			return out, err
		}
	}
}

func (b *bench) once(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), b.daemon.Env()...)
	cmd.Env = append(cmd.Env, "PIV_EXT_AUTH_KEY="+filepath.Join(b.dir, "factory.key"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// run is try that must succeed.
func (b *bench) run(name string, args ...string) string {
	b.t.Helper()
	out, err := b.try(name, args...)
	if err != nil {
		b.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) read(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(b.path(name))
	check(b.t, err)
	return data
}

func (b *bench) write(name string, data []byte) {
	b.t.Helper()
	check(b.t, os.WriteFile(b.path(name), data, 0o600))
}

// public writes the public key of a slot, as the card tells it, to slot.pub. No
// program has the card meanwhile.
func (b *bench) public(slot string) {
	b.t.Helper()
	n, err := strconv.ParseUint(slot, 16, 8)
	check(b.t, err)
	b.card.selected()
	m, err := piv.ReadMetadata(b.t.Context(), b.card, piv.Slot(n))
	check(b.t, err)
	der, err := x509.MarshalPKIXPublicKey(m.Public)
	check(b.t, err)
	b.write(slot+".pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// certify makes a certificate for a public key file, as neither program can with
// OpenSSL 3.
func (b *bench) certify(public, out string) {
	b.t.Helper()
	b.run("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-subj", "/CN=Ada", "-out", "ada.csr")
	b.run("openssl", "x509", "-req", "-in", "ada.csr", "-signkey", "ca.key", "-force_pubkey", public, "-days", "30", "-out", out)
}

func (b *bench) want(what, text string, all ...string) {
	b.t.Helper()
	for _, s := range all {
		if !strings.Contains(text, s) {
			b.t.Errorf("%s: no %q in\n%s", what, s, text)
		}
	}
}

// TestRealYubicoTool has yubico-piv-tool personalize a card and use it.
func TestRealYubicoTool(t *testing.T) {
	vpcdtest.Need(t, "yubico-piv-tool", "openssl")
	b := newBench(t, nil)
	tool := func(args ...string) string {
		return b.run("yubico-piv-tool", append([]string{"-r", b.reader}, args...)...)
	}
	refuse := func(what string, args ...string) {
		t.Helper()
		if out, err := b.try("yubico-piv-tool", append([]string{"-r", b.reader}, args...)...); err == nil {
			t.Errorf("%s is taken:\n%s", what, out)
		}
	}
	b.want("version", tool("-a", "version"), "5.4.3")
	tool("-a", "set-chuid")
	tool("-a", "set-ccc")
	for slot, alg := range map[string]string{"9a": "ECCP256", "9c": "RSA2048", "9d": "ECCP384", "82": "ECCP256"} {
		tool("-a", "generate", "-s", slot, "-A", alg, "--pin-policy", "once", "-o", slot+".pub")
		b.certify(slot+".pub", slot+".crt")
		tool("-a", "import-certificate", "-s", slot, "-i", slot+".crt")
		tool("-a", "verify-pin", "-P", "123456", "-a", "test-signature", "-s", slot, "-i", slot+".crt")
		tool("-a", "attest", "-s", slot, "-o", slot+".att")
		tool("-a", "read-certificate", "-s", slot, "-o", slot+".back")
		same(t, "certificate", b.read(slot+".back"), b.read(slot+".crt"))
		b.attested(slot)
	}
	tool("-a", "verify-pin", "-P", "123456", "-a", "test-decipher", "-s", "9d", "-i", "9d.crt")
	b.want("status", tool("-a", "status"), "Version:\t5.4.3", "Serial Number:\t-268435455", "CHUID:\t3019d4e739", "CCC:\tf015a000000116",
		"Slot 9a:", "Slot 9c:", "Slot 9d:", "Slot 82:", "Subject DN:\tCN=Ada", "PIN tries left:\t3")

	b.run("openssl", "genrsa", "-out", "rsa.key", "2048")
	tool("-a", "import-key", "-s", "9e", "-i", "rsa.key")
	b.run("openssl", "rsa", "-in", "rsa.key", "-pubout", "-out", "9e.pub")
	b.certify("9e.pub", "9e.crt")
	tool("-a", "verify-pin", "-P", "123456", "-a", "test-decipher", "-s", "9e", "-i", "9e.crt")
	refuse("attesting an imported key", "-a", "attest", "-s", "9e")

	refuse("a wrong PIN", "-a", "verify-pin", "-P", "000000")
	tool("-a", "change-pin", "-P", "123456", "-N", "654321")
	refuse("the old PIN", "-a", "verify-pin", "-P", "123456")
	tool("-a", "verify-pin", "-P", "654321")
	tool("-a", "change-puk", "-P", "12345678", "-N", "87654321")
	tool("-a", "unblock-pin", "-P", "87654321", "-N", "111222")
	tool("-a", "verify-pin", "-P", "111222")
	const key = "112233445566778811223344556677881122334455667701"
	tool("-a", "set-mgm-key", "-n", key)
	refuse("the old management key", "-a", "set-chuid")
	tool("-k"+key, "-a", "set-chuid")
	tool("-k"+key, "-a", "verify-pin", "-P", "111222", "-a", "pin-retries", "--pin-retries", "5", "--puk-retries", "4")
	tool("-a", "verify-pin", "-P", "123456")
	tool("-k"+key, "-a", "delete-certificate", "-s", "9a")
	refuse("a deleted certificate", "-a", "read-certificate", "-s", "9a")

	refuse("a reset of a card that is not blocked", "-a", "reset")
	for range 5 {
		refuse("a wrong PIN", "-a", "verify-pin", "-P", "000000")
		refuse("a wrong PUK", "-a", "change-puk", "-P", "00000000", "-N", "00000000")
	}
	tool("-a", "reset")
	tool("-a", "verify-pin", "-P", "123456", "-a", "set-chuid")
}

// attested checks what the program read with openssl, up to the card's own root.
func (b *bench) attested(slot string) {
	b.t.Helper()
	b.run("yubico-piv-tool", "-r", b.reader, "-a", "read-certificate", "-s", "f9", "-o", "f9.crt")
	b.write("root.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.root.Raw}))
	b.run("openssl", "verify", "-CAfile", "root.pem", "-untrusted", "f9.crt", slot+".att")
	same(b.t, "attested key", []byte(b.run("openssl", "x509", "-in", slot+".att", "-noout", "-pubkey")), b.read(slot+".pub"))
}

// module is OpenSC's PKCS #11 module.
func module(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/opensc-pkcs11.so", "/usr/lib64/opensc-pkcs11.so", "/usr/lib/opensc-pkcs11.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("a real part is missing: opensc-pkcs11.so")
	return ""
}

// TestRealOpenSC has OpenSC's programs name, write, list and use a card.
func TestRealOpenSC(t *testing.T) {
	vpcdtest.Need(t, "opensc-tool", "piv-tool", "pkcs15-tool", "pkcs11-tool", "openssl")
	var agreed *ecdsa.PublicKey
	b := newBench(t, func(c *card) {
		c.manage()
		agreed = c.generate(piv.KeyManagement, piv.P256, piv.Policy{}).(*ecdsa.PublicKey)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(t, err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Ada"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, agreed, key)
		check(t, err)
		check(t, piv.WriteCertificate(t.Context(), c, piv.KeyManagement, der))
		check(t, piv.PutData(t.Context(), c, piv.CardAuthentication.Certificate(), gzipped(der)))
		check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, piv.NewCHUID([16]byte{0xAB, 1}, time.Now().AddDate(1, 0, 0)).Encode()))
	})
	b.want("name", b.run("opensc-tool", "--reader", "0", "-n"), "Personal Identity Verification Card")
	b.write("factory.key", []byte("01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08"))
	for slot, id := range map[string]string{"9A": "01", "9C": "02"} {
		// With OpenSSL 3 piv-tool cannot write the public key that it got, and fails.
		b.try("piv-tool", "--reader", "0", "-A", "M:9B:03", "-G", slot+":07", "-o", slot+".raw")
		b.public(slot)
		b.certify(slot+".pub", slot+".crt")
		b.try("piv-tool", "--reader", "0", "-A", "M:9B:03", "-C", slot, "-i", slot+".crt") // its exit status is the length
		b.want("certificate", b.run("pkcs15-tool", "--reader", "0", "--read-certificate", id), string(b.read(slot+".crt")))
	}
	b.want("certificates", b.run("pkcs15-tool", "--reader", "0", "-c"), "ID             : 01", "ID             : 02", "ID             : 03")
	b.want("compressed certificate", b.run("pkcs15-tool", "--reader", "0", "--read-certificate", "04"), b.run("pkcs15-tool", "--reader", "0", "--read-certificate", "03"))
	b.want("serial number", b.run("piv-tool", "--reader", "0", "--serial"), "AB 01")

	p11 := func(args ...string) string {
		t.Helper()
		return b.run("pkcs11-tool", append([]string{"--module", module(t)}, args...)...)
	}
	login := []string{"--login", "--pin", "123456"}
	b.want("objects", p11(append(login, "--list-objects")...), "Private Key Object; RSA", "Private Key Object; EC", "Certificate Object; type = X.509 cert")
	b.write("message", bytes.Repeat([]byte("message "), 100))
	for slot, id := range map[string]string{"9A": "01", "9C": "02"} {
		p11(append(login, "--sign", "--id", id, "-m", "SHA256-RSA-PKCS", "-i", "message", "-o", slot+".sig")...)
		b.run("openssl", "dgst", "-sha256", "-verify", slot+".pub", "-signature", slot+".sig", "message")
	}
	if out, err := b.try("pkcs11-tool", "--module", module(t), "--login", "--pin", "000000", "--list-objects"); err == nil {
		t.Errorf("a wrong PIN is taken:\n%s", out)
	}
	b.agrees(agreed, func(args ...string) { p11(append(login, args...)...) })
	b.want("random", p11("--generate-random", "16", "-o", "random"), "")
	if n := len(b.read("random")); n != 16 {
		t.Errorf("%d random bytes", n)
	}
}

// gzipped is a certificate object as some write it.
func gzipped(der []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(der)
	w.Close()
	return tlv.Append(tlv.Append(tlv.Encode(0x70, b.Bytes()), 0x71, []byte{1}), 0xFE)
}

// agrees derives a secret on the card and here.
func (b *bench) agrees(pub *ecdsa.PublicKey, p11 func(args ...string)) {
	b.t.Helper()
	mine, err := ecdh.P256().GenerateKey(rand.Reader)
	check(b.t, err)
	der, err := x509.MarshalPKIXPublicKey(mine.PublicKey())
	check(b.t, err)
	b.write("mine.der", der)
	p11("--derive", "--id", "03", "-m", "ECDH1-DERIVE", "-i", "mine.der", "-o", "secret")
	theirs, err := pub.ECDH()
	check(b.t, err)
	want, err := mine.ECDH(theirs)
	check(b.t, err)
	same(b.t, "secret", b.read("secret"), want)
}
