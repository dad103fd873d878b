// Package remotetest makes nodes that talk over mutual TLS in one process, for tests
// of tks/remote and of who uses it.
package remotetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Array is a certificate authority whose members know each other.
type Array struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

// NewArray makes one.
func NewArray(t testing.TB) *Array {
	t.Helper()
	a := &Array{t: t, pool: x509.NewCertPool()}
	a.key, a.cert = a.issue("array", nil, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *Array) issue(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if parent == nil {
		parent, signer = tmpl, key
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.ExtKeyUsage = true, true, nil
	} else {
		tmpl.DNSNames, tmpl.IPAddresses = []string{name}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, c
}

// TLS is how the member name talks to others, as client and as server.
func (a *Array) TLS(name string) *tls.Config {
	a.t.Helper()
	key, c := a.issue(name, a.cert, a.key)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS13,
		RootCAs: a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}

// Client is how the member name reaches others.
func (a *Array) Client(name string) *http.Client {
	a.t.Helper()
	t := &http.Transport{TLSClientConfig: a.TLS(name)}
	a.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// Serve serves h as the member name until the test ends.
func (a *Array) Serve(name string, h http.Handler) *httptest.Server {
	a.t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = a.TLS(name)
	s.StartTLS()
	a.t.Cleanup(s.Close)
	return s
}

// NameOf is which member sent a request.
func NameOf(r *http.Request) (string, error) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", errors.New("nobody has shown a certificate")
	}
	return r.TLS.VerifiedChains[0][0].Subject.CommonName, nil
}
