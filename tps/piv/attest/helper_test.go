package attest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"inkan/apdu/piv"
	"inkan/tps/piv/attest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants an error that says something.
func wants(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want an error with %q", err, text)
	}
}

// signer is a certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return k
}

// authority makes a certificate that may sign others; nil = a root.
func (s *signer) authority(t testing.TB, name string) *signer {
	t.Helper()
	return s.until(t, name, time.Hour)
}

// until makes one that is valid for some time from now on.
func (s *signer) until(t testing.TB, name string, valid time.Duration) *signer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key := newKey(t)
	issuer := &signer{template, key}
	if s != nil {
		issuer = s
	}
	return &signer{issuer.sign(t, template, &key.PublicKey), key}
}

func (s *signer) sign(t testing.TB, template *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, s.cert, pub, s.key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

// attests signs a statement.
func (s *signer) attests(t testing.TB, st piv.Statement) *x509.Certificate {
	t.Helper()
	return s.attestsUntil(t, st, time.Hour)
}

func (s *signer) attestsUntil(t testing.TB, st piv.Statement, valid time.Duration) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: piv.AttestationSubject + strings.ToLower(st.Slot.String())},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
	}
	es, err := st.Extensions()
	must(t, err)
	for _, e := range es {
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: e.ID, Value: e.Value})
	}
	return s.sign(t, template, st.Public)
}

// evidence is the statement of a card.
func (s *signer) evidence(t testing.TB, st piv.Statement) attest.Evidence {
	t.Helper()
	return attest.Evidence{Leaf: s.attests(t, st).Raw, Card: s.cert.Raw}
}

// maker is a maker's root as a build with cgo has it, and a card under it.
func maker(t testing.TB) (attest.Chain, *signer) {
	t.Helper()
	root := (*signer)(nil).authority(t, "Maker Root")
	return attest.Roots([]*x509.Certificate{root.cert}, nil), root.authority(t, "Maker PIV Attestation")
}
