package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

func TestProfiles(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	ec := ecKey(t, elliptic.P384())
	const sign, nonRep = x509.KeyUsageDigitalSignature, x509.KeyUsageContentCommitment
	for _, tc := range []struct {
		profile string
		key     crypto.PublicKey
		usage   x509.KeyUsage
		ext     []x509.ExtKeyUsage
		logon   bool
		upn     bool
		days    int
	}{
		{"signing", rsaKey().Public(), sign | nonRep, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}, false, true, 1095},
		{"signing", ec.Public(), sign | nonRep, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}, false, true, 1095},
		{"encryption", rsaKey().Public(), x509.KeyUsageKeyEncipherment, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, false, false, 1095},
		{"encryption", ec.Public(), x509.KeyUsageKeyAgreement, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, false, false, 1095},
		{"authentication", ec.Public(), sign, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, true, true, 1095},
		{"caTokenUserSigningKeyEnrollment", rsaKey().Public(), sign | nonRep, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}, false, true, 1095},
		{"caTokenUserEncryptionKeyEnrollment", rsaKey().Public(), x509.KeyUsageKeyEncipherment, []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, false, false, 1095},
		{"caTempTokenUserSigningKeyEnrollment", rsaKey().Public(), sign | nonRep, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}, false, true, 7},
	} {
		t.Run("profile="+tc.profile, func(t *testing.T) {
			c, cert := a.issue(t, request(rand.Text(), tc.profile, tc.key))
			if cert.KeyUsage != tc.usage || !slices.Equal(cert.ExtKeyUsage, tc.ext) {
				t.Errorf("key usage %b, extended %v; want %b, %v", cert.KeyUsage, cert.ExtKeyUsage, tc.usage, tc.ext)
			}
			logon := slices.ContainsFunc(cert.UnknownExtKeyUsage, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}.Equal)
			if logon != tc.logon {
				t.Errorf("smart-card logon %v, want %v", logon, tc.logon)
			}
			if got := upn(t, cert); (got == jane.UPN) != tc.upn || !tc.upn && got != "" {
				t.Errorf("user principal name %q", got)
			}
			if !slices.Equal(cert.EmailAddresses, []string{jane.Mail}) {
				t.Errorf("mail addresses %q", cert.EmailAddresses)
			}
			if want := start.AddDate(0, 0, tc.days); !cert.NotAfter.Equal(want) || !c.NotAfter.Equal(want) || cert.NotBefore.After(start) {
				t.Errorf("valid %s to %s, want to %s", cert.NotBefore, cert.NotAfter, want)
			}
			checkCommon(t, a, c, cert)
		})
	}
}

// checkCommon checks what every certificate has.
func checkCommon(t *testing.T, a *authority, c ca.Certificate, cert *x509.Certificate) {
	t.Helper()
	if want := `UID=jdoe,CN=Jane Doe,O=Example\, Inc.`; c.Subject != want {
		t.Errorf("subject %s, want %s", c.Subject, want)
	}
	if cert.IsCA || !cert.BasicConstraintsValid {
		t.Error("basic constraints")
	}
	if !bytes.Equal(cert.AuthorityKeyId, a.root.SubjectKeyId) || len(cert.SubjectKeyId) != 20 {
		t.Errorf("key identifiers %X %X", cert.AuthorityKeyId, cert.SubjectKeyId)
	}
	if !bytes.Equal(c.Issuer.KeyID, a.Issuer().KeyID) || !bytes.Equal(c.Issuer.Name, a.Issuer().Name) {
		t.Errorf("issuer %+v", c.Issuer)
	}
	if !slices.Equal(cert.CRLDistributionPoints, []string{"http://ca.example/ca/crl"}) ||
		!slices.Equal(cert.IssuingCertificateURL, []string{"http://ca.example/ca/ca.cer"}) ||
		!slices.Equal(cert.OCSPServer, []string{"http://ca.example/ca/ocsp"}) {
		t.Errorf("addresses %q %q %q", cert.CRLDistributionPoints, cert.IssuingCertificateURL, cert.OCSPServer)
	}
	if len(c.Serial) != 32 || cert.SerialNumber.Sign() != 1 || strings.ToUpper(cert.SerialNumber.Text(16)) != string(c.Serial) {
		t.Errorf("serial number %s", c.Serial)
	}
	for _, ext := range cert.Extensions {
		critical := ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 15}) || ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 19})
		if ext.Critical != critical {
			t.Errorf("extension %s critical=%v", ext.Id, ext.Critical)
		}
	}
}

// upn digs the user principal name out of a certificate, "" if it has none.
func upn(t *testing.T, cert *x509.Certificate) string {
	t.Helper()
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if _, err := asn1.Unmarshal(ext.Value, &names); err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if n.Class != asn1.ClassContextSpecific || n.Tag != 0 {
				continue
			}
			var other struct {
				ID    asn1.ObjectIdentifier
				Value string `asn1:"utf8,explicit,tag:0"`
			}
			if _, err := asn1.UnmarshalWithParams(n.FullBytes, &other, "tag:0"); err != nil {
				t.Fatal(err)
			}
			if other.ID.String() != "1.3.6.1.4.1.311.20.2.3" {
				t.Errorf("other name %s", other.ID)
			}
			return other.Value
		}
	}
	return ""
}

func TestDEF66AskingAgain(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	key := ecKey(t, elliptic.P256())
	first, _ := a.issue(t, request("j1/signing", "signing", key.Public()))
	a.clock.Advance(48 * time.Hour)
	again := request("j1/signing", "caTokenUserSigningKeyEnrollment", key.Public()) // same profile by its other name
	again.Subject.Name = "Jane Roe"
	second, _ := a.issue(t, again)
	if !bytes.Equal(first.DER, second.DER) {
		t.Error("asking again gave another certificate")
	}
	found, err := a.Find(t.Context(), "j1/signing")
	if err != nil || !bytes.Equal(found.DER, first.DER) {
		t.Errorf("Find: %v", err)
	}
	_, err = a.Find(t.Context(), "j2/signing")
	wantError(t, err, ca.ErrUnknown)
	_, err = a.Issue(t.Context(), request("j1/signing", "signing", rsaKey().Public()))
	wantError(t, err, ca.ErrRefused)
	_, err = a.Issue(t.Context(), request("j1/signing", "encryption", key.Public()))
	wantError(t, err, ca.ErrRefused)
}

func TestIssueConcurrently(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	other, err := ca.Open(a.cfg) // a second node on the same store
	if err != nil {
		t.Fatal(err)
	}
	key := ecKey(t, elliptic.P256())
	const callers = 16
	got := make([]ca.Certificate, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		node := []*ca.Embedded{a.Embedded, other}[i%2]
		wg.Go(func() { got[i], errs[i] = node.Issue(t.Context(), request("j1", "signing", key.Public())) })
	}
	wg.Wait()
	for i := range callers {
		if errs[i] != nil || !bytes.Equal(got[i].DER, got[0].DER) {
			t.Errorf("caller %d: another certificate, error %v", i, errs[i])
		}
	}
	if n := len(a.store.Records()); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
}

// TestIssueCut lets every call of the store fail, before and after it acted: the
// next attempt ends with exactly one certificate, and an answer that was already
// given never changes.
func TestIssueCut(t *testing.T) {
	t.Parallel()
	key := ecKey(t, elliptic.P256())
	req := request("j1", "signing", key.Public())
	for _, when := range []catest.When{catest.Before, catest.After} {
		for n := 1; ; n++ {
			a := newAuthority(t, nil)
			f := catest.NewFaults(n, when)
			cfg := a.cfg
			cfg.Store = f.Store(a.store)
			node, err := ca.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = node.Issue(t.Context(), req)
			if !f.Struck() {
				if n < 4 {
					t.Errorf("%s: only %d store calls were cut", when, n-1)
				}
				break
			}
			wantError(t, err, ca.ErrUnavailable)
			serial := ca.Serial("")
			if r := a.store.Records(); len(r) > 0 {
				serial = r[0].Serial
			}
			c, _ := a.issue(t, req) // a new node without faults
			if r := a.store.Records(); len(r) != 1 || serial != "" && c.Serial != serial || !bytes.Equal(r[0].DER, c.DER) {
				t.Errorf("%s %d: %d records, serial number %s before, %s after", when, n, len(r), serial, c.Serial)
			}
		}
	}
}

func TestIssueSignerFails(t *testing.T) {
	t.Parallel()
	s := &flaky{Signer: ecKey(t, elliptic.P256())}
	a := newAuthorityWith(t, s, func(c *ca.Config) { c.SignTimeout = 50 * time.Millisecond })
	req := request("j1", "signing", ecKey(t, elliptic.P256()).Public())
	for _, mode := range []signerMode{refuses, hangs, lies} {
		s.set(mode)
		_, err := a.Issue(t.Context(), req)
		wantError(t, err, ca.ErrUnavailable)
		_, err = a.Find(t.Context(), "j1")
		wantError(t, err, ca.ErrUnknown)
	}
	s.set(works)
	c, _ := a.issue(t, req)
	if r := a.store.Records(); len(r) != 1 || r[0].Serial != c.Serial {
		t.Errorf("%d records", len(r))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, func(c *ca.Config) {
		c.Profiles = []ca.CertProfile{
			{Name: "logon", RSAUsage: x509.KeyUsageDigitalSignature, Validity: time.Hour, UPN: ca.Required},
		}
	})
	good := rsaKey().Public().(*rsa.PublicKey)
	with := func(change func(*ca.Request)) ca.Request {
		r := request("", "signing", good)
		change(&r)
		return r
	}
	modulus := func(n *big.Int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: 65537} }
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	x25519, _ := ecdh.X25519().GenerateKey(rand.Reader)
	p256, _ := ecdh.P256().GenerateKey(rand.Reader)
	for name, req := range map[string]ca.Request{
		"profile unknown":         with(func(r *ca.Request) { r.Profile = "server" }),
		"profile empty":           with(func(r *ca.Request) { r.Profile = "" }),
		"key nil":                 with(func(r *ca.Request) { r.PublicKey = nil }),
		"key of wrong type":       with(func(r *ca.Request) { r.PublicKey = &ecdh.PublicKey{} }),
		"ed25519 not for profile": with(func(r *ca.Request) { r.Profile = "encryption"; r.PublicKey = ed.Public() }),
		"x25519 not for profile":  with(func(r *ca.Request) { r.PublicKey = x25519.PublicKey() }),
		"p-256 for ecdh alone":    with(func(r *ca.Request) { r.PublicKey = p256.PublicKey() }),
		"rsa small":               with(func(r *ca.Request) { r.PublicKey = modulus(new(big.Int).Rsh(good.N, 1024)) }),
		"rsa large":               with(func(r *ca.Request) { r.PublicKey = modulus(new(big.Int).Lsh(good.N, 8192)) }),
		"rsa even":                with(func(r *ca.Request) { r.PublicKey = modulus(new(big.Int).SetBit(good.N, 0, 0)) }),
		"rsa factor":              with(func(r *ca.Request) { r.PublicKey = modulus(new(big.Int).Mul(good.N, big.NewInt(167))) }),
		"rsa faulty maker":        with(func(r *ca.Request) { r.PublicKey = modulus(rocaModulus()) }),
		"rsa exponent 3":          with(func(r *ca.Request) { r.PublicKey = &rsa.PublicKey{N: good.N, E: 3} }),
		"rsa exponent even":       with(func(r *ca.Request) { r.PublicKey = &rsa.PublicKey{N: good.N, E: 65538} }),
		"ec curve":                with(func(r *ca.Request) { r.PublicKey = ecKey(t, elliptic.P224()).Public() }),
		"ec off curve": with(func(r *ca.Request) {
			//lint:ignore SA1019 a point off the curve cannot be made otherwise
			r.PublicKey = &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
		}),
		"ec not for profile": with(func(r *ca.Request) { r.Profile = "logon"; r.PublicKey = ecKey(t, elliptic.P256()).Public() }),
		"own key":            with(func(r *ca.Request) { r.PublicKey = a.root.PublicKey }),
		"upn missing":        with(func(r *ca.Request) { r.Profile = "logon"; r.Subject.UPN = "" }),
		"user missing":       with(func(r *ca.Request) { r.Subject.UserID = "" }),
		"name long":          with(func(r *ca.Request) { r.Subject.Name = strings.Repeat("é", 65) }),
		"name control":       with(func(r *ca.Request) { r.Subject.Name = "Jane\nDoe" }),
		"name not utf-8":     with(func(r *ca.Request) { r.Subject.Name = "Jane\xFF" }),
		"mail form":          with(func(r *ca.Request) { r.Subject.Mail = "Jane <jane@example.com>" }),
		"mail not ascii":     with(func(r *ca.Request) { r.Subject.Mail = "jané@example.com" }),
		"upn form":           with(func(r *ca.Request) { r.Subject.UPN = "jdoe" }),
		"csr damaged":        with(func(r *ca.Request) { r.CSR = []byte{0x30} }),
		"csr of another key": with(func(r *ca.Request) { r.CSR = csr(t, ecKey(t, elliptic.P256())) }),
		"id long":            with(func(r *ca.Request) { r.ID = strings.Repeat("x", 256) }),
	} {
		t.Run(name, func(t *testing.T) {
			if req.ID == "" {
				req.ID = name
			}
			_, err := a.Issue(t.Context(), req)
			wantError(t, err, ca.ErrRefused)
		})
	}
	_, err := a.Issue(t.Context(), ca.Request{Profile: "signing", PublicKey: good, Subject: jane})
	wantError(t, err, ca.ErrRefused)
	if n := len(a.store.Records()); n != 0 {
		t.Errorf("%d records of refused requests", n)
	}
	a.issue(t, with(func(r *ca.Request) { r.ID = "csr"; r.CSR = csr(t, rsaKey()) }))
}

func csr(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// rocaModulus is an odd number of 2048 bits that is a power of 65537 modulo the
// primes to 167, as the faulty generator's moduli are.
func rocaModulus() *big.Int {
	m := big.NewInt(2)
	for p := int64(3); p <= 167; p += 2 {
		if big.NewInt(p).ProbablyPrime(0) {
			m.Mul(m, big.NewInt(p))
		}
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(12345), m)
	k := new(big.Int).Lsh(big.NewInt(1), 2047)
	k.Div(k, m)
	k.Add(k, big.NewInt(1))
	return n.Add(n, k.Mul(k, m))
}

func TestValidityClamped(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	a.clock.Advance(8 * 365 * 24 * time.Hour)
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	if !cert.NotAfter.Equal(a.root.NotAfter) {
		t.Errorf("valid to %s, authority to %s", cert.NotAfter, a.root.NotAfter)
	}
	a.clock.Advance(3 * 365 * 24 * time.Hour)
	_, err := a.Issue(t.Context(), request("j2", "signing", rsaKey().Public()))
	wantError(t, err, ca.ErrUnavailable)
	wantError(t, a.Ready(t.Context()), ca.ErrUnavailable)
}

func TestNames(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	for i, tc := range []struct {
		subject ca.Subject
		dn      string
	}{
		{ca.Subject{UserID: "u"}, `UID=u,CN=u,O=Example\, Inc.`},
		{ca.Subject{UserID: "u", Name: "Doe, Jane+OU=Admins"}, `UID=u,CN=Doe\, Jane\+OU=Admins,O=Example\, Inc.`},
		{ca.Subject{UserID: "#u\\", Name: ` "J" <J>; `}, `UID=\#u\\,CN=\ \"J\" \<J\>\;\ ,O=Example\, Inc.`},
		{ca.Subject{UserID: "ú", Name: "印鑑"}, `UID=ú,CN=印鑑,O=Example\, Inc.`},
	} {
		req := request(string(rune('a'+i)), "signing", rsaKey().Public())
		req.Subject = tc.subject
		c, cert := a.issue(t, req)
		if c.Subject != tc.dn {
			t.Errorf("subject %s, want %s", c.Subject, tc.dn)
		}
		if want := tc.subject.Name; want != "" && cert.Subject.CommonName != want {
			t.Errorf("common name %q, want %q", cert.Subject.CommonName, want)
		}
		if slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.17" }) {
			t.Error("subject alternative name without names")
		}
	}
}

func TestIssueServer(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	key := ecKey(t, elliptic.P256())
	c, err := a.IssueServer(t.Context(), key.Public(), []string{"tps.example", "*.tps.example"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, c.DER)
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	for _, host := range []string{"tps.example", "a.tps.example", "127.0.0.1"} {
		if _, err := cert.Verify(x509.VerifyOptions{DNSName: host, Roots: pool, CurrentTime: start}); err != nil {
			t.Errorf("host %s: %v", host, err)
		}
	}
	a.revoke(t, c, ca.ReasonSuperseded)
	if _, l := a.list(t); len(l.RevokedCertificateEntries) != 1 {
		t.Errorf("%d revoked", len(l.RevokedCertificateEntries))
	}
	for _, names := range [][]string{nil, {""}, {"a b"}, {"a..b"}, {"-a"}, {"x.*.y"}, {"10.0.0.1"}, {strings.Repeat("a", 64)}} {
		_, err := a.IssueServer(t.Context(), key.Public(), names, nil)
		wantError(t, err, ca.ErrRefused)
	}
	_, err = a.IssueServer(t.Context(), key.Public(), nil, []net.IP{{1}})
	wantError(t, err, ca.ErrRefused)
	if _, err := a.IssueServer(t.Context(), key.Public(), nil, []net.IP{net.IPv6loopback}); err != nil {
		t.Error(err)
	}
}

// TestEdwardsKeys: Ed25519 keys are for signing alone, X25519 keys for agreement.
func TestEdwardsKeys(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	x, _ := ecdh.X25519().GenerateKey(rand.Reader)
	for profile, c := range map[string]struct {
		pub  any
		want x509.KeyUsage
	}{
		"signing":    {ed, x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment},
		"encryption": {x.PublicKey(), x509.KeyUsageKeyAgreement},
	} {
		got, err := a.Issue(t.Context(), ca.Request{ID: profile, Profile: profile, PublicKey: c.pub, Subject: jane})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(got.DER)
		if err != nil || cert.KeyUsage != c.want {
			t.Errorf("%s: key usage %b, %v", profile, cert.KeyUsage, err)
		}
	}
}
