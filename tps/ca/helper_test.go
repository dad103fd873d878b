package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"sync"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

var start = time.Date(2026, 3, 1, 12, 30, 45, 0, time.UTC)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: start} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rsaKey is one key of 2048 bits for the whole package.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// rsaRootKey is one key of 3072 bits for the whole package.
var rsaRootKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		panic(err)
	}
	return k
})

// authority is an authority with everything around it that tests reach for.
type authority struct {
	*ca.Embedded
	cfg   ca.Config
	store *catest.Store
	clock *clock
	root  *x509.Certificate
}

// newAuthority creates an authority on P-256 and opens it; change may alter its configuration.
func newAuthority(t testing.TB, change func(*ca.Config)) *authority {
	t.Helper()
	return newAuthorityWith(t, ecKey(t, elliptic.P256()), change)
}

func newAuthorityWith(t testing.TB, signer crypto.Signer, change func(*ca.Config)) *authority {
	t.Helper()
	a := &authority{store: new(catest.Store), clock: newClock()}
	der, err := ca.Create(t.Context(), ca.RootConfig{
		Signer:  signer,
		Subject: pkix.Name{CommonName: "Site CA", Organization: []string{"Example"}},
		Now:     a.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	a.cfg = ca.Config{
		Signer: signer, Certificate: der, Store: a.store, Now: a.clock.Now,
		BaseURL:     "http://ca.example",
		SubjectBase: pkix.Name{Organization: []string{"Example, Inc."}},
	}
	if change != nil {
		change(&a.cfg)
	}
	if a.Embedded, err = ca.Open(a.cfg); err != nil {
		t.Fatal(err)
	}
	a.root = parse(t, der)
	return a
}

var jane = ca.Subject{UserID: "jdoe", Name: "Jane Doe", Mail: "jane@example.com", UPN: "jdoe@EXAMPLE.COM"}

func request(id, profile string, pub crypto.PublicKey) ca.Request {
	return ca.Request{ID: id, Profile: profile, PublicKey: pub, Subject: jane}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue issues and checks that the certificate chains to the root.
func (a *authority) issue(t testing.TB, req ca.Request) (ca.Certificate, *x509.Certificate) {
	t.Helper()
	c, err := a.Issue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, c.DER)
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: pool, CurrentTime: a.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		t.Fatalf("verifying: %v", err)
	}
	return c, cert
}

func (a *authority) revoke(t testing.TB, c ca.Certificate, reason ca.Reason) {
	t.Helper()
	if err := a.Revoke(t.Context(), c.Issuer, c.Serial, reason); err != nil {
		t.Fatal(err)
	}
}

// list returns the present revocation list, its signature checked.
func (a *authority) list(t testing.TB) (ca.CRL, *x509.RevocationList) {
	t.Helper()
	c, err := a.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(c.DER)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSignatureFrom(a.root); err != nil {
		t.Fatal(err)
	}
	return c, l
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
