package wire_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/tps/wire"
)

type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return makeAuthority(t, "Test CA", nil)
}

func makeAuthority(t *testing.T, name string, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	issuer, signer := tmpl, key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	return &authority{t, sign(t, tmpl, issuer, key, signer), key}
}

func sign(t *testing.T, tmpl, issuer *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// server returns a certificate for host with the chain up to a.
func (a *authority) server(host string, above ...*authority) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(host); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = []string{host}
	}
	c := tls.Certificate{Certificate: [][]byte{sign(a.t, tmpl, a.cert, key, a.key).Raw, a.cert.Raw}, PrivateKey: key}
	for _, x := range above {
		c.Certificate = append(c.Certificate, x.cert.Raw)
	}
	return c
}

// listen serves TLS with a certificate and reports all that clients send.
func listen(t *testing.T, cert tls.Certificate) (addr string, sent <-chan []byte) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan []byte, 8)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(time.Minute))
			b, _ := io.ReadAll(c)
			c.Close()
			ch <- b
		}
	}()
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().String(), ch
}

func TestLook(t *testing.T) {
	t.Parallel()
	root := makeAuthority(t, "Root", nil)
	sub := makeAuthority(t, "Sub", root)
	stray := makeAuthority(t, "Stray", nil)
	for _, c := range []struct {
		name string
		cert tls.Certificate
		ca   string
	}{
		{"one CA", root.server("127.0.0.1"), "Root"},
		{"two CAs", sub.server("127.0.0.1", root), "Root"},
		{"root not sent", sub.server("127.0.0.1"), "Sub"},
		{"stray", sub.server("127.0.0.1", stray, root), "Root"},
	} {
		t.Run("chain="+c.name, func(t *testing.T) {
			t.Parallel()
			addr, sent := listen(t, c.cert)
			p, err := wire.Look(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			if b := <-sent; len(b) > 0 {
				t.Errorf("Look sent %q to a server that nobody verified", b)
			}
			ca := p.CA()
			if ca.Subject.CommonName != c.ca {
				t.Errorf("CA %s, want %s", ca.Subject.CommonName, c.ca)
			}
			if err := p.Verify(ca); err != nil {
				t.Error(err)
			}
			if err := p.Verify(stray.cert); err == nil {
				t.Error("verified against a CA that has not signed")
			}
			for _, want := range []*x509.Certificate{p.Chain[0], ca} {
				got, err := p.Find(wire.FingerprintOf(want))
				if err != nil || !got.Equal(want) {
					t.Errorf("finding %v: %v", want.Subject, err)
				}
			}
			if _, err := p.Find(wire.Fingerprint{}); err == nil || !strings.Contains(err.Error(), wire.FingerprintOf(ca).String()) {
				t.Errorf("finding nothing: %v", err)
			}
			// The pinned CA and the server's own certificate both let a client in.
			for _, pin := range []*x509.Certificate{ca, p.Chain[0]} {
				conn, err := tls.Dial("tcp", addr, wire.CertificateTrust(pin))
				if err != nil {
					t.Errorf("pinned %s: %v", pin.Subject, err)
					continue
				}
				conn.Close()
			}
		})
	}
	t.Run("wrong host", func(t *testing.T) {
		t.Parallel()
		addr, _ := listen(t, root.server("other.example"))
		p, err := wire.Look(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(p.CA()); !errors.As(err, new(x509.HostnameError)) {
			t.Errorf("verify: %v", err)
		}
		if _, err := p.Find(wire.FingerprintOf(root.cert)); err == nil {
			t.Error("a certificate for another host was found good")
		}
		if _, err := tls.Dial("tcp", addr, wire.CertificateTrust(root.cert)); err == nil {
			t.Error("connected to another host's certificate")
		}
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		if _, err := wire.Look(t.Context(), "127.0.0.1:1"); err == nil {
			t.Error("no error")
		}
		if _, err := wire.Look(t.Context(), "127.0.0.1"); err == nil {
			t.Error("no error without a port")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := wire.Look(ctx, "127.0.0.1:1"); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
	if (wire.Presented{}).CA() != nil || (wire.Presented{}).Verify(root.cert) == nil {
		t.Error("an empty chain has a CA or verifies")
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	f := wire.FingerprintOf(newAuthority(t).cert)
	plain := strings.ReplaceAll(strings.TrimPrefix(f.String(), "SHA256:"), ":", "")
	for _, s := range []string{f.String(), plain, strings.ToLower(plain), "sha256:" + strings.ToLower(plain), " " + f.String() + "\n"} {
		if got, err := wire.ParseFingerprint(s); err != nil || got != f {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "SHA256:", plain[2:], plain + "00", "zz" + plain[2:], "SHA1:" + plain} {
		if _, err := wire.ParseFingerprint(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestKnownHosts(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t).cert, newAuthority(t).cert
	k := wire.KnownHosts{File: filepath.Join(t.TempDir(), "inkan", "known_servers")}
	lookup := func(addr string, want *x509.Certificate) {
		t.Helper()
		got, err := k.Lookup(addr)
		if err != nil || (got == nil) != (want == nil) || want != nil && !got.Equal(want) {
			t.Errorf("%s: %v, %v", addr, got, err)
		}
	}
	accept := func(addr string, c *x509.Certificate) {
		t.Helper()
		if err := k.Accept(addr, c); err != nil {
			t.Fatal(err)
		}
	}
	lookup("host:8443", nil)
	accept("host:8443", a)
	accept("host:443", b)
	lookup("host:8443", a)
	lookup("HOST:443", b)
	lookup("host", nil)

	text, err := os.ReadFile(k.File)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.File, append([]byte("# a comment\n\n"), text[:len(text)-1]...), 0o600); err != nil { // no last line end
		t.Fatal(err)
	}
	accept("Host:8443", b)
	lookup("host:8443", b)
	lookup("host:443", b)
	text, _ = os.ReadFile(k.File)
	if lines := strings.Split(string(text), "\n"); len(lines) != 5 || lines[0] != "# a comment" || !strings.HasPrefix(lines[3], "Host:8443 SHA256:") {
		t.Errorf("file:\n%s", text)
	}
	if fi, err := os.Stat(k.File); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}

	for name, line := range map[string]string{
		"short":       "host:1 SHA256:00",
		"fingerprint": "host:1 SHA256:00 AAAA",
		"base64":      "host:1 " + wire.FingerprintOf(a).String() + " !!!",
		"not a cert":  "host:1 " + wire.FingerprintOf(a).String() + " AAAA",
	} {
		if err := os.WriteFile(k.File, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := k.Lookup(strings.Fields(line)[0]); err == nil {
			t.Errorf("%s: %v without error", name, c)
		}
	}
	if err := k.Accept("two words", a); err == nil {
		t.Error("an address with a space was accepted")
	}
	if _, err := (wire.KnownHosts{File: t.TempDir()}).Lookup("host:1"); err == nil {
		t.Error("reading a folder: no error")
	}
	if err := (wire.KnownHosts{File: t.TempDir()}).Accept("host:1", a); err == nil {
		t.Error("writing a folder: no error")
	}
}

func TestKnownHostsFingerprintMustMatch(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t).cert, newAuthority(t).cert
	k := wire.KnownHosts{File: filepath.Join(t.TempDir(), "known")}
	if err := k.Accept("h:1", a); err != nil {
		t.Fatal(err)
	}
	text, _ := os.ReadFile(k.File)
	forged := strings.Replace(string(text), wire.FingerprintOf(a).String(), wire.FingerprintOf(b).String(), 1)
	if err := os.WriteFile(k.File, []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := k.Lookup("h:1"); err == nil {
		t.Errorf("got %v", c.Subject)
	}
}

func TestFileTrust(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	addr, _ := listen(t, ca.server("127.0.0.1"))
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.pem"), filepath.Join(dir, "bad.pem")
	os.WriteFile(good, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600)
	os.WriteFile(bad, []byte("no PEM"), 0o600)
	cfg, err := wire.FileTrust(good)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, f := range []string{bad, filepath.Join(dir, "none")} {
		if _, err := wire.FileTrust(f); err == nil {
			t.Errorf("%s: no error", f)
		}
	}
	for _, cfg := range []*tls.Config{cfg, wire.SystemTrust(), wire.CertificateTrust(ca.cert)} {
		if cfg.InsecureSkipVerify || cfg.MinVersion < tls.VersionTLS12 {
			t.Errorf("trust %+v", cfg)
		}
	}
}
