package ca_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

type signerMode int

const (
	works signerMode = iota
	refuses
	hangs // for half a second
	lies  // signs something else
)

// flaky is a signer that can be broken.
type flaky struct {
	crypto.Signer
	mu   sync.Mutex
	mode signerMode
	n    int
}

func (f *flaky) set(m signerMode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mode, f.n = m, 0
}

func (f *flaky) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *flaky) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	f.mu.Lock()
	f.n++
	mode := f.mode
	f.mu.Unlock()
	switch mode {
	case refuses:
		return nil, errors.New("token gone")
	case hangs:
		time.Sleep(500 * time.Millisecond)
	case lies:
		digest = append([]byte{digest[0] ^ 1}, digest[1:]...)
	}
	return f.Signer.Sign(r, digest, opts)
}

func TestReady(t *testing.T) {
	t.Parallel()
	s := &flaky{Signer: ecKey(t, elliptic.P256())}
	a := newAuthorityWith(t, s, func(c *ca.Config) { c.SignTimeout = 50 * time.Millisecond })
	s.set(refuses)
	wantError(t, a.Ready(t.Context()), ca.ErrUnavailable)
	s.set(hangs)
	wantError(t, a.Ready(t.Context()), ca.ErrUnavailable)
	s.set(works)
	for range 3 {
		if err := a.Ready(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if n := s.calls(); n != 1 {
		t.Errorf("%d trial signatures within ten seconds", n)
	}
	a.clock.Advance(10 * time.Second)
	s.set(refuses)
	wantError(t, a.Ready(t.Context()), ca.ErrUnavailable)

	cfg := a.cfg
	cfg.Store = catest.NewFaults(1, catest.Before).Store(a.store)
	down, err := ca.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, down.Ready(t.Context()), ca.ErrUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, a.Ready(ctx), context.Canceled)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	leaf, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
	usage := x509.KeyUsageDigitalSignature
	for name, change := range map[string]func(*ca.Config){
		"no signer":        func(c *ca.Config) { c.Signer = nil },
		"no store":         func(c *ca.Config) { c.Store = nil },
		"no certificate":   func(c *ca.Config) { c.Certificate = nil },
		"not an authority": func(c *ca.Config) { c.Certificate, c.Signer = leaf.DER, rsaKey() },
		"another key":      func(c *ca.Config) { c.Signer = ecKey(t, elliptic.P256()) },
		"base URL":         func(c *ca.Config) { c.BaseURL = "ca.example" },
		"chain":            func(c *ca.Config) { c.Chain = [][]byte{{1}} },
		"profile nameless": func(c *ca.Config) { c.Profiles = []ca.CertProfile{{RSAUsage: usage, Validity: time.Hour}} },
		"profile keyless":  func(c *ca.Config) { c.Profiles = []ca.CertProfile{{Name: "x", Validity: time.Hour}} },
		"profile timeless": func(c *ca.Config) { c.Profiles = []ca.CertProfile{{Name: "x", RSAUsage: usage}} },
		"profile of CA": func(c *ca.Config) {
			c.Profiles = []ca.CertProfile{{Name: "x", RSAUsage: x509.KeyUsageCertSign, Validity: time.Hour}}
		},
		"profile of no size": func(c *ca.Config) {
			c.Profiles = []ca.CertProfile{{Name: "x", RSAUsage: usage, Validity: time.Hour, MinRSABits: -1}}
		},
		"profile name twice": func(c *ca.Config) {
			c.Profiles = []ca.CertProfile{{Name: "x", Aliases: []string{"signing"}, RSAUsage: usage, Validity: time.Hour}}
		},
	} {
		cfg := a.cfg
		change(&cfg)
		if _, err := ca.Open(cfg); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	cfg := a.cfg
	cfg.Profiles = []ca.CertProfile{{Name: "signing", RSAUsage: usage, Validity: time.Hour, MinRSABits: 1024}}
	if _, err := ca.Open(cfg); err != nil {
		t.Errorf("replacing a shipped profile: %v", err)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	name := pkix.Name{CommonName: "Site CA"}
	for _, key := range []crypto.Signer{rsaRootKey(), ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384())} {
		der, err := ca.Create(t.Context(), ca.RootConfig{Signer: key, Subject: name})
		if err != nil {
			t.Fatal(err)
		}
		cert := parse(t, der)
		if !cert.IsCA || cert.MaxPathLen != 1 || cert.Subject.CommonName != "Site CA" || len(cert.SubjectKeyId) != 20 {
			t.Errorf("root %+v", cert)
		}
		if y := cert.NotAfter.Year() - cert.NotBefore.Year(); y != 10 {
			t.Errorf("valid for %d years", y)
		}
	}
	for name, cfg := range map[string]ca.RootConfig{
		"no signer":  {Subject: name},
		"no subject": {Signer: ecKey(t, elliptic.P256())},
		"curve":      {Signer: ecKey(t, elliptic.P521()), Subject: name},
		"rsa-2048":   {Signer: rsaKey(), Subject: name},
		"signer":     {Signer: &flaky{Signer: ecKey(t, elliptic.P256()), mode: refuses}, Subject: name},
		"liar":       {Signer: &flaky{Signer: ecKey(t, elliptic.P256()), mode: lies}, Subject: name},
	} {
		if _, err := ca.Create(t.Context(), cfg); err == nil {
			t.Errorf("%s: created", name)
		}
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	catest.TestStore(t, func(*testing.T) ca.Store { return new(catest.Store) })
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, when := range []catest.When{catest.Before, catest.After} {
		a := newAuthority(t, nil)
		f := catest.NewFaults(2, when)
		faulty := f.Authority(a)
		req := request("j1", "signing", rsaKey().Public())
		if err := faulty.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := faulty.Issue(t.Context(), req); !errors.Is(err, ca.ErrUnavailable) {
			t.Fatalf("fault %s: %v", when, err)
		}
		if acted := len(a.store.Records()) == 1; acted != (when == catest.After) {
			t.Errorf("fault %s: acted=%v", when, acted)
		}
		c, err := faulty.Issue(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if err := faulty.Revoke(t.Context(), c.Issuer, c.Serial, ca.ReasonSuperseded); err != nil {
			t.Error(err)
		}
		if f.Calls() != 4 || !f.Struck() {
			t.Errorf("%d calls", f.Calls())
		}
	}
}
