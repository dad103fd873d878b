//go:build unix

package cli_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"inkan/apdu/secret"
	"inkan/cli/server"
	"inkan/sim/vpcd/vpcdtest"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// pivPart is something that is done with a card.
type pivPart struct {
	name string
	run  func(*pivBench, *testing.T)
}

// TestRealPIVUse has programs of others use PIV cards in the real PC/SC service: cards
// that were enrolled by inkan, a YubiKey and a GlobalPlatform card with PivApplet, and
// one that the maker's program has given RSA keys.
func TestRealPIVUse(t *testing.T) {
	t.Parallel()
	vpcdtest.Need(t, "go", "openssl", "opensc-tool", "pkcs15-tool", "pkcs11-tool", "yubico-piv-tool", "ssh", "ssh-keygen", "/usr/sbin/sshd", "curl")
	b := newPIVBench(t)
	for _, c := range []struct {
		name, model, user, keys string
		give, last              pivPart
	}{
		{"yubikey", "yubikey-5.4", "demo", "EC", pivPart{"enroll", (*pivBench).enrolls}, pivPart{"derive", (*pivBench).derives}},
		{"pivapplet", "piv", "ida", "EC", pivPart{"kiosk", (*pivBench).enrollsAtKiosk}, pivPart{"derive", (*pivBench).derives}},
		{"rsa", "yubikey-5.4", "", "RSA", pivPart{"provision", (*pivBench).provisioned}, pivPart{"decrypt", (*pivBench).decrypts}},
	} {
		t.Run("card="+c.name, func(t *testing.T) {
			b.story, b.keys, b.pin = story{name: c.name, model: c.model, user: c.user}, c.keys, "123456"
			b.plug(t)
			defer b.takeOut(t)
			for _, p := range []pivPart{
				c.give,
				{"inkan", (*pivBench).provesItself},
				{"opensc", (*pivBench).usedByOpenSC},
				{"yubico", (*pivBench).usedByYubicoTool},
				{"ykcs11", (*pivBench).testedByYKCS11},
				{"tls", (*pivBench).logsInByTLS},
				{"ssh", (*pivBench).logsInBySSH},
				c.last,
				{"agent", (*pivBench).logsInAsAgent},
			} {
				if !t.Run(p.name, func(t *testing.T) { p.run(b, t) }) {
					return
				}
			}
		})
	}
}

// pivBench is a PIV card in a reader, whose name the maker's programs know, and the
// authority that its certificates are from.
type pivBench struct {
	*holder
	server, authority string // URL, PEM file
	keys              string // kind of the card's: EC or RSA
}

func newPIVBench(t *testing.T) *pivBench {
	t.Helper()
	dir, err := os.MkdirTemp("", "inkan-real-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{top: t, dir: dir, data: filepath.Join(dir, "data"), program: filepath.Join(dir, "inkan")}
	s.build(t)
	s.pcsc = vpcdtest.StartAs(t, "Yubico YubiKey Virtual", 1)
	s.env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LANG=C.UTF-8"}, s.pcsc.Env()...)
	b := &pivBench{holder: &holder{site: s}, authority: s.ca()}
	var stop func()
	b.server, stop = startLab(t, s.data, func(n *server.Node) {
		hash, err := auth.HashPassword(secret.New([]byte("demo-password")), cheap)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.DB.CreateUser(t.Context(), auth.User{ID: "ida", Name: "Demo Person", Roles: []auth.Role{auth.Operator}, Hash: hash}); err != nil {
			t.Fatal(err)
		}
		putServerMade(t, n)
	})
	stop() // what was made is served by the program from here on
	_, s.port, _ = strings.Cut(strings.TrimPrefix(b.server, "https://"), ":")
	s.serve(t)
	t.Cleanup(func() { s.node.end(t, syscall.SIGKILL) })
	return b
}

// serverMade is pivUser with an encryption key that the server makes.
const serverMade token.ProfileName = "pivServer"

func putServerMade(t *testing.T, n *server.Node) {
	t.Helper()
	p, err := n.DB.Profile(t.Context(), "pivUser")
	if err != nil {
		t.Fatal(err)
	}
	doc := strings.NewReplacer("pivUser", string(serverMade), "plain_import = false", "plain_import = true", `made = "card"`, `made = "server"`).Replace(p.Document)
	if _, err := n.DB.PutProfile(t.Context(), profile.Record{Name: serverMade, State: profile.Enabled, Document: doc}); err != nil {
		t.Fatal(err)
	}
}

// issue has the embedded authority certify public keys, in PEM, of slots.
func (b *pivBench) issue(t *testing.T, profiles map[string]string) map[string]string {
	t.Helper()
	b.stop(t)
	defer b.serve(t)
	n, err := server.Open(t.Context(), b.data, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	out := map[string]string{}
	for slot, profile := range profiles {
		block, _ := pem.Decode(b.read(t, slot+".pub"))
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		c, err := n.Authority.Issue(t.Context(), ca.Request{ID: fmt.Sprintf("%x", sha256.Sum256(block.Bytes)), Profile: profile, PublicKey: key, Subject: ca.Subject{UserID: "ada", Name: "Demo Person"}})
		if err != nil {
			t.Fatal(err)
		}
		out[slot] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))
	}
	return out
}

// try runs a program. Where pcscd has not managed to give the virtual card power, which
// happens when its poll of the reader and a program come together, it runs again.
func (b *pivBench) try(t *testing.T, env []string, name string, args ...string) result {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		cmd := exec.Command(name, args...)
		cmd.Env, cmd.Dir = append(append([]string{}, b.env...), env...), b.dir
		r := b.await(t, cmd)
		if r.code == 0 || time.Now().After(end) || !unpowered(r.out+r.err) {
			return r
		}
	}
}

// unpowered reports a program that found no card although one is in the reader.
func unpowered(said string) bool {
	for _, s := range []string{"ailed to connect to", "No slots", "token was not found", "o slot with a token"} {
		if strings.Contains(said, s) {
			return true
		}
	}
	return false
}

// must is try that has to succeed, and returns all that was said.
func (b *pivBench) must(t *testing.T, name string, args ...string) string {
	t.Helper()
	r := b.try(t, nil, name, args...)
	if r.code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", name, args, r.code, r.out, r.err)
	}
	return r.out + r.err
}

func (b *pivBench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *pivBench) read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type pivSlot struct{ slot, id, policy, profile string }

// pivSlots are the slots with what programs call them: OpenSC's and the maker's module
// by one number.
var pivSlots = []pivSlot{
	{"9a", "01", "once", "authentication"}, {"9c", "02", "always", "signing"}, {"9d", "03", "once", "encryption"}, {"9e", "04", "never", "authentication"},
}

// enrolls the card with a key in 9D that the server made. It has to prove itself at once.
func (b *pivBench) enrolls(t *testing.T) {
	b.pin = "271828"
	var out struct {
		Result string
		Proved []pivUsed
	}
	b.query(t, &out, "card", "enroll", "--reader", b.reader(), "--server", b.server, "--trust", b.authority, "--profile", string(serverMade),
		"--user", b.user, "--password-file", b.secretFile(t, "demo-password"), "--pin-file", b.secretFile(t, b.pin))
	if out.Result != "done" || !bothUsed(out.Proved) {
		t.Errorf("%+v", out)
	}
	b.readCertificates(t)
}

// enrollsAtKiosk does the same at the kiosk, which lets go of the card for piv-go.
func (b *pivBench) enrollsAtKiosk(t *testing.T) {
	b.pin = "314159"
	log := b.path("kiosk.log")
	d := openDesk(t, 34, 100, b.pcsc.Env(), "--server", b.server, "--trust", b.authority, "--profile", "pivUser", "--reader", b.reader(), "--log", log)
	d.await(t, "A new card", "▸ Enroll")
	d.press(t, enterKey)
	d.await(t, "▸ User name")
	d.press(t, b.user, enterKey, "demo-password", enterKey)
	d.await(t, "Choose a PIN")
	d.press(t, b.pin, enterKey, b.pin, enterKey)
	d.await(t, "The card is complete.", "The card of Demo Person")
	d.press(t, ctrlC)
	d.end(t)
	said := string(b.read(t, "kiosk.log"))
	for _, program := range []string{"inkan", "piv-go"} {
		if n := strings.Count(said, "by="+program+" "); n != 4 {
			t.Errorf("%s used %d keys, want 4:\n%s", program, n, said)
		}
	}
	d.noSecrets(t, log, "demo-password", b.pin)
	b.readCertificates(t)
}

// readCertificates writes the certificates and their public keys to files.
func (b *pivBench) readCertificates(t *testing.T) {
	t.Helper()
	for _, s := range pivSlots {
		b.opensc(t, "--read-object", "--type", "cert", "--id", s.id, "-o", "certificate")
		b.must(t, "openssl", "x509", "-inform", "DER", "-in", "certificate", "-out", s.slot+".crt")
		b.must(t, "openssl", "x509", "-in", s.slot+".crt", "-noout", "-pubkey", "-out", s.slot+".pub")
		b.must(t, "openssl", "verify", "-CAfile", b.authority, s.slot+".crt")
	}
}

// provisioned has yubico-piv-tool make RSA keys, and the embedded authority certificates.
func (b *pivBench) provisioned(t *testing.T) {
	tool := func(args ...string) string {
		t.Helper()
		return b.must(t, "yubico-piv-tool", append([]string{"-r", b.reader()}, args...)...)
	}
	tool("-a", "set-chuid", "-a", "set-ccc")
	profiles := map[string]string{}
	for _, s := range pivSlots {
		tool("-a", "generate", "-s", s.slot, "-A", "RSA2048", "--pin-policy", s.policy, "-o", s.slot+".pub")
		profiles[s.slot] = s.profile
	}
	for slot, c := range b.issue(t, profiles) {
		b.file(t, slot+".crt", c)
		tool("-a", "import-certificate", "-s", slot, "-i", slot+".crt")
	}
}

// pivUsed is a line of inkan card test --json.
type pivUsed struct {
	By, Slot, Did, Subject string
	Trusted                bool
}

// bothUsed reports whether both programs used all four slots.
func bothUsed(used []pivUsed) bool {
	by := map[string]int{}
	for _, u := range used {
		by[u.By]++
		if u.Did == "" || !strings.Contains(u.Subject, "CN=") {
			return false
		}
	}
	return len(used) == 8 && by["inkan"] == 4 && by["piv-go"] == 4
}

// provesItself: inkan card test, with our own code and with piv-go.
func (b *pivBench) provesItself(t *testing.T) {
	var used []pivUsed
	b.query(t, &used, "card", "test", "--reader", b.reader(), "--pin-file", b.secretFile(t, b.pin), "--trust", b.authority)
	if !bothUsed(used) || slices.ContainsFunc(used, func(u pivUsed) bool { return !u.Trusted }) {
		t.Errorf("%+v", used)
	}
}

func (b *pivBench) opensc(t *testing.T, args ...string) string {
	t.Helper()
	return b.must(t, "pkcs11-tool", append([]string{"--module", openSCModule(t)}, args...)...)
}

func (b *pivBench) openscLogin(t *testing.T, args ...string) string {
	t.Helper()
	return b.opensc(t, append([]string{"--login", "--pin", b.pin}, args...)...)
}

// usedByOpenSC lists, logs in and signs with every key that signs.
func (b *pivBench) usedByOpenSC(t *testing.T) {
	expect(t, b.must(t, "pkcs15-tool", "-c"), "ID             : 01", "ID             : 02", "ID             : 03", "ID             : 04")
	expect(t, b.must(t, "pkcs15-tool", "-k"), "ID             : 01", "ID             : 04")
	for _, s := range pivSlots {
		expect(t, b.must(t, "pkcs15-tool", "--read-certificate", s.id), string(b.read(t, s.slot+".crt")))
	}
	expect(t, b.opensc(t, "--list-slots"), b.reader())
	if n := strings.Count(b.openscLogin(t, "--list-objects"), "Private Key Object"); n != 4 {
		t.Errorf("%d private keys, want 4", n)
	}
	b.signs(t, openSCModule(t))
	if r := b.try(t, nil, "pkcs11-tool", "--module", openSCModule(t), "--login", "--pin", "000000", "--list-objects"); r.code == 0 {
		t.Error("a wrong PIN is taken")
	}
	b.openscLogin(t, "--list-objects") // and does no harm
}

// signs with the keys of 9A and 9C through a PKCS #11 module; openssl verifies.
func (b *pivBench) signs(t *testing.T, module string) {
	t.Helper()
	b.file(t, "message", "a message")
	mechanism := []string{"-m", "SHA256-RSA-PKCS"}
	if b.keys == "EC" {
		mechanism = []string{"-m", "ECDSA-SHA256", "--signature-format", "openssl"}
	}
	for _, s := range pivSlots[:2] {
		args := append([]string{"--module", module, "--login", "--pin", b.pin, "--sign", "--id", s.id, "-i", "message", "-o", "signature"}, mechanism...)
		b.must(t, "pkcs11-tool", args...)
		b.must(t, "openssl", "dgst", "-sha256", "-verify", s.slot+".pub", "-signature", "signature", "message")
	}
}

// derives agrees with openssl on a secret.
func (b *pivBench) derives(t *testing.T) {
	b.must(t, "openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "other.key")
	b.must(t, "openssl", "pkey", "-in", "other.key", "-pubout", "-outform", "DER", "-out", "other.der")
	b.must(t, "openssl", "pkeyutl", "-derive", "-inkey", "other.key", "-peerkey", "9d.pub", "-out", "want")
	b.openscLogin(t, "--derive", "--id", "03", "-m", "ECDH1-DERIVE", "-i", "other.der", "-o", "got")
	if !bytes.Equal(b.read(t, "got"), b.read(t, "want")) {
		t.Error("card and openssl agreed on different secrets")
	}
}

// decrypts what openssl encrypted with the certificate.
func (b *pivBench) decrypts(t *testing.T) {
	b.file(t, "plain", "a message for Ada")
	b.must(t, "openssl", "pkeyutl", "-encrypt", "-certin", "-inkey", "9d.crt", "-in", "plain", "-out", "sealed")
	b.openscLogin(t, "--decrypt", "--id", "03", "-m", "RSA-PKCS", "-i", "sealed", "-o", "opened")
	if !bytes.Equal(b.read(t, "opened"), b.read(t, "plain")) {
		t.Error("the card decrypted something else")
	}
}

func (b *pivBench) usedByYubicoTool(t *testing.T) {
	tool := func(args ...string) string {
		t.Helper()
		return b.must(t, "yubico-piv-tool", args...) // finds the reader by its name
	}
	status := []string{"CHUID:", "CCC:", "Subject DN:", "Demo Person", "PIN tries left:"}
	for _, s := range pivSlots {
		status = append(status, "Slot "+s.slot+":")
	}
	expect(t, tool("-a", "status"), status...)
	for _, s := range pivSlots {
		action := "test-signature"
		if s.slot == "9d" {
			action = "test-decipher"
		}
		tool("-a", "verify-pin", "-P", b.pin, "-a", action, "-s", s.slot, "-i", s.slot+".crt")
	}
}

// testedByYKCS11 runs the tests of pkcs11-tool on the maker's module, which leave EC
// keys out, and signs with it.
func (b *pivBench) testedByYKCS11(t *testing.T) {
	expect(t, b.must(t, "pkcs11-tool", "--module", ykcs11(t), "--login", "--pin", b.pin, "--test"), "No errors")
	b.signs(t, ykcs11(t))
}

func ykcs11(t *testing.T) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*/libykcs11.so*", "/usr/lib64/libykcs11.so*", "/usr/lib/libykcs11.so*"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("a real part is missing: libykcs11.so (package ykcs11)")
	return ""
}

// logsInBySSH: the key of slot 9A opens a session of the current user on an sshd that
// runs for the test.
func (b *pivBench) logsInBySSH(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	os.Remove(b.path("host.key"))
	b.must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", b.path("host.key"))
	keys := b.try(t, nil, "ssh-keygen", "-D", openSCModule(t))
	if keys.code != 0 {
		t.Fatalf("ssh-keygen -D: %s%s", keys.out, keys.err)
	}
	first, _, _ := strings.Cut(keys.out, "\n")
	b.file(t, "authorized", first+"\n")
	config := b.file(t, "sshd_config", fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nUsePAM no\n"+
		"StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel VERBOSE\n", port, b.path("host.key"), b.path("authorized")))
	if os.Getuid() == 0 {
		os.MkdirAll("/run/sshd", 0o755) // where sshd locks itself into; it says so if that failed
	}
	var said output
	d := startProcess(t, exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", config), &said, &said)
	defer d.end(t, syscall.SIGTERM)
	b.file(t, "ask", "#!/bin/sh\ncat "+b.secretFile(t, b.pin)+"\n")
	os.Chmod(b.path("ask"), 0o700)
	var r result
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r = b.try(t, []string{"SSH_ASKPASS=" + b.path("ask"), "SSH_ASKPASS_REQUIRE=force"}, "ssh", "-F", "none", "-p", port, "-I", openSCModule(t),
			"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile="+b.path("known"), "-o", "IdentitiesOnly=no", "-o", "PasswordAuthentication=no",
			"-o", "IdentityFile=none", me.Username+"@127.0.0.1", "echo in as $(id -un)")
		if r.code == 0 || time.Now().After(end) || !strings.Contains(r.err, "Connection refused") {
			break
		}
	}
	if r.code != 0 || !strings.Contains(r.out, "in as "+me.Username) {
		t.Errorf("ssh: exit %d\n%s%s\nsshd:\n%s", r.code, r.out, r.err, said.bytes())
	}
	expect(t, string(said.bytes()), "Accepted publickey for "+me.Username)
}

// logsInByTLS: curl shows the certificate of slot 9A, whose key OpenSC's module uses,
// to a server that trusts the authority.
func (b *pivBench) logsInByTLS(t *testing.T) {
	roots := rootsOf(t, b.authority)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	s.StartTLS()
	defer s.Close()
	b.file(t, "server.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	args := []string{"--silent", "--show-error", "--cacert", "server.pem", s.URL}
	if r := b.try(t, nil, "curl", args...); r.code == 0 {
		t.Errorf("somebody without a certificate gets in: %s", r.out)
	}
	r := b.curl(t, "9a", args...)
	if r.code != 0 || r.out != "hello Demo Person" {
		t.Errorf("curl: exit %d\n%s%s", r.code, r.out, r.err)
	}
}

// curl shows the certificate of a slot; OpenSC's module uses its key.
func (b *pivBench) curl(t *testing.T, slot string, args ...string) result {
	t.Helper()
	i := slices.IndexFunc(pivSlots, func(s pivSlot) bool { return s.slot == slot })
	key := "pkcs11:id=%" + pivSlots[i].id + ";type=private?pin-source=file:" + b.file(t, "pin", b.pin)
	return b.try(t, []string{"PKCS11_MODULE_PATH=" + openSCModule(t)}, "curl", append(args, "--engine", "pkcs11", "--key-type", "ENG", "--key", key, "--cert", slot+".crt")...)
}
