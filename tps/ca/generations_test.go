package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/tps/ca"
)

// generations is an authority that has got a second key.
type generations struct {
	*ca.Generations
	old, young     *authority
	byOld, byYoung *x509.Certificate // who signed the cross-certificate
}

func rolledOver(t *testing.T, second crypto.Signer, change func(*ca.Config)) generations {
	t.Helper()
	set := func(c *ca.Config) {
		if change != nil {
			change(c)
		}
	}
	g := generations{
		old:   newAuthority(t, set),
		young: newAuthorityWith(t, second, func(c *ca.Config) { set(c); c.Generation = 2 }),
	}
	cross := func(from, to *authority) *x509.Certificate {
		t.Helper()
		der, err := ca.CrossCertify(t.Context(), from.cfg.Signer, from.root.Raw, to.root.Raw, from.clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		return parse(t, der)
	}
	g.byOld, g.byYoung = cross(g.old, g.young), cross(g.young, g.old)
	var err error
	if g.Generations, err = ca.OpenGenerations([][]byte{g.byOld.Raw, g.byYoung.Raw}, g.young.Embedded, g.old.Embedded); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g generations) request(t *testing.T, id string) (ca.Certificate, *x509.Certificate) {
	t.Helper()
	c, err := g.Issue(t.Context(), request(id, "signing", rsaKey().Public()))
	if err != nil {
		t.Fatal(err)
	}
	return c, parse(t, c.DER)
}

// verified checks a certificate as somebody does who trusts root alone.
func (g generations) verified(cert, root *x509.Certificate) error {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for _, der := range g.Chain() {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: g.old.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// TestRollover: who trusts either key can verify what both have signed; the new
// one issues, each revokes, lists and answers for its own.
func TestRollover(t *testing.T) {
	t.Parallel()
	g := rolledOver(t, ecKey(t, elliptic.P384()), nil)
	first, firstCert := g.old.issue(t, request("j1", "signing", rsaKey().Public()))
	again, _ := g.request(t, "j1")
	if !bytes.Equal(first.DER, again.DER) {
		t.Error("a request of before got another certificate")
	}
	second, secondCert := g.request(t, "j2")
	if !bytes.Equal(second.Issuer.KeyID, g.young.root.SubjectKeyId) || g.Certificate() != g.young.Certificate() {
		t.Error("the new key does not issue")
	}
	for _, root := range []*x509.Certificate{g.old.root, g.young.root} {
		for _, cert := range []*x509.Certificate{firstCert, secondCert} {
			if err := g.verified(cert, root); err != nil {
				t.Error(err)
			}
		}
	}
	for id, want := range map[string]ca.Certificate{"j1": first, "j2": second} {
		if c, err := g.Find(t.Context(), id); err != nil || !bytes.Equal(c.DER, want.DER) {
			t.Errorf("find %s: %v", id, err)
		}
	}
	if _, err := g.Find(t.Context(), "j3"); !errors.Is(err, ca.ErrUnknown) {
		t.Errorf("find: %v", err)
	}
	if err := g.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestRolloverRevokes: issuer name and key identifier choose the key.
func TestRolloverRevokes(t *testing.T) {
	t.Parallel()
	g := rolledOver(t, ecKey(t, elliptic.P256()), nil)
	first, firstCert := g.old.issue(t, request("j1", "signing", rsaKey().Public()))
	second, secondCert := g.request(t, "j2")
	srv := httptest.NewServer(g.Handler())
	defer srv.Close()
	status := func(cert, root *x509.Certificate) int {
		t.Helper()
		_, body := exchange(t, srv, "POST", ca.PathOCSP, ask(t, root, nil, cert))
		res, err := ocsp.ParseResponseForCert(body, cert, root)
		if err != nil {
			t.Fatal(err)
		}
		return res.Status
	}
	listed := func(cert, root *x509.Certificate) bool {
		t.Helper()
		path := strings.TrimPrefix(cert.CRLDistributionPoints[0], "http://ca.example")
		res, body := exchange(t, srv, "GET", path, nil)
		l, err := x509.ParseRevocationList(body)
		if err != nil {
			t.Fatalf("%s: %s, %v", path, res.Status, err)
		}
		if err := l.CheckSignatureFrom(root); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, e := range l.RevokedCertificateEntries {
			if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return true
			}
		}
		return false
	}
	check := func(cert, root *x509.Certificate, revoked bool) {
		t.Helper()
		if got := status(cert, root) == ocsp.Revoked; got != revoked {
			t.Errorf("OCSP says revoked: %v", got)
		}
		if got := listed(cert, root); got != revoked {
			t.Errorf("the list says revoked: %v", got)
		}
	}
	for _, c := range []ca.Certificate{first, second} {
		if err := g.Revoke(t.Context(), ca.Issuer{Name: c.Issuer.Name, KeyID: []byte{1}}, c.Serial, ca.ReasonSuperseded); !errors.Is(err, ca.ErrNotIssuer) {
			t.Errorf("revoked under another key: %v", err)
		}
	}
	// The serial number of one is unknown to the other.
	if err := g.Revoke(t.Context(), second.Issuer, first.Serial, ca.ReasonSuperseded); !errors.Is(err, ca.ErrUnknown) {
		t.Errorf("revoked with the wrong issuer: %v", err)
	}
	check(firstCert, g.old.root, false)
	check(secondCert, g.young.root, false)
	if err := g.Revoke(t.Context(), first.Issuer, first.Serial, ca.ReasonCertificateHold); err != nil {
		t.Fatal(err)
	}
	check(firstCert, g.old.root, true)
	check(secondCert, g.young.root, false)
	if err := g.Revoke(t.Context(), second.Issuer, second.Serial, ca.ReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	check(secondCert, g.young.root, true)
	if got := status(firstCert, g.young.root); got != ocsp.Unknown {
		t.Errorf("under the wrong issuer: status %d", got)
	}

	for cert, root := range map[*x509.Certificate]*x509.Certificate{firstCert: g.old.root, secondCert: g.young.root} {
		path := strings.TrimPrefix(cert.IssuingCertificateURL[0], "http://ca.example")
		if _, body := exchange(t, srv, "GET", path, nil); !bytes.Equal(body, root.Raw) {
			t.Errorf("%s is not the issuer", path)
		}
	}
	_, body := exchange(t, srv, "GET", ca.PathChain, nil)
	for i, want := range []*x509.Certificate{g.young.root, g.byOld, g.byYoung, g.old.root} {
		var b *pem.Block
		if b, body = pem.Decode(body); b == nil || !bytes.Equal(b.Bytes, want.Raw) {
			t.Fatalf("certificate %d of the chain", i)
		}
	}
}

func TestCrossCertifyRefuses(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t, nil), newAuthority(t, nil)
	leaf, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
	other, err := ca.Create(t.Context(), ca.RootConfig{Signer: b.cfg.Signer, Subject: pkix.Name{CommonName: "Other CA"}, Now: a.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	late := func() time.Time { return start.AddDate(30, 0, 0) }
	for name, tc := range map[string]struct {
		signer          crypto.Signer
		issuer, subject []byte
		now             func() time.Time
	}{
		"another key":      {b.cfg.Signer, a.root.Raw, b.root.Raw, a.clock.Now},
		"same key":         {a.cfg.Signer, a.root.Raw, a.root.Raw, a.clock.Now},
		"another name":     {a.cfg.Signer, a.root.Raw, other, a.clock.Now},
		"not an authority": {a.cfg.Signer, a.root.Raw, leaf.DER, a.clock.Now},
		"expired":          {a.cfg.Signer, a.root.Raw, b.root.Raw, late},
		"damaged issuer":   {a.cfg.Signer, []byte{1}, b.root.Raw, a.clock.Now},
		"damaged subject":  {a.cfg.Signer, a.root.Raw, []byte{1}, a.clock.Now},
		"signer gone":      {&flaky{Signer: a.cfg.Signer, mode: refuses}, a.root.Raw, b.root.Raw, a.clock.Now},
		"signer lies":      {&flaky{Signer: a.cfg.Signer, mode: lies}, a.root.Raw, b.root.Raw, a.clock.Now},
	} {
		if _, err := ca.CrossCertify(t.Context(), tc.signer, tc.issuer, tc.subject, tc.now); err == nil {
			t.Errorf("%s: certified", name)
		}
	}
	if _, err := ca.OpenGenerations(nil); err == nil {
		t.Error("opened without a key")
	}
	if _, err := ca.OpenGenerations(nil, a.Embedded, b.Embedded); err == nil {
		t.Error("opened with two first generations")
	}
}

// TestOpenSSLRollover lets openssl verify what each key has signed, trusting the
// other one alone, with revocation lists of both.
func TestOpenSSLRollover(t *testing.T) {
	if os.Getenv("INKAN_REAL") != "1" {
		t.Skip("needs openssl; set INKAN_REAL=1")
	}
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal(err)
	}
	g := rolledOver(t, rsaRootKey(), func(c *ca.Config) { c.Now = nil })
	dir := t.TempDir()
	file := func(name, kind string, ders ...[]byte) string {
		t.Helper()
		var b []byte
		for _, der := range ders {
			b = append(b, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, err := g.old.Issue(t.Context(), request("j1", "signing", rsaKey().Public()))
	if err != nil {
		t.Fatal(err)
	}
	second, _ := g.request(t, "j2")
	for name, tc := range map[string]struct {
		leaf  ca.Certificate
		root  *x509.Certificate
		cross *x509.Certificate
	}{
		"new under old": {second, g.old.root, g.byOld},
		"old under new": {first, g.young.root, g.byYoung},
	} {
		out, err := openssl(t, "verify", "-x509_strict", "-CAfile", file("root.pem", "CERTIFICATE", tc.root.Raw),
			"-untrusted", file("cross.pem", "CERTIFICATE", tc.cross.Raw), file("leaf.pem", "CERTIFICATE", tc.leaf.DER))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if err := g.Revoke(t.Context(), first.Issuer, first.Serial, ca.ReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	oldList, _ := g.old.list(t)
	newList, _ := g.young.list(t)
	lists := file("crl.pem", "X509 CRL", newList.DER, oldList.DER)
	for name, tc := range map[string]struct {
		leaf  ca.Certificate
		fails string
	}{"old, revoked": {first, "certificate revoked"}, "new": {second, ""}} {
		out, err := openssl(t, "verify", "-crl_check", "-CAfile", file("roots.pem", "CERTIFICATE", g.young.root.Raw, g.old.root.Raw),
			"-CRLfile", lists, file("leaf.pem", "CERTIFICATE", tc.leaf.DER))
		if (err == nil) != (tc.fails == "") || !strings.Contains(out, tc.fails) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
