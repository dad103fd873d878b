//go:build unix

package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/tks/hsm"
	"inkan/tks/hsm/softkey"
	"inkan/tks/hsm/softkey/softkeytest"
	"inkan/tps/ca"
	"inkan/tps/wire"
)

// running serves a folder until the test calls stop.
func running(t *testing.T, folder string) (url string, f wire.Fingerprint, stop func()) {
	t.Helper()
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	up, done := make(chan server.Listener, 1), make(chan error, 1)
	go func() { done <- n.Serve(ctx, func(l server.Listener) { up <- l }) }()
	select {
	case l := <-up:
		return "https://" + l.Address, l.Fingerprint, func() {
			t.Helper()
			cancel()
			must(t, <-done)
			must(t, n.Close())
		}
	case err := <-done:
		t.Fatalf("serving: %v", err)
	}
	panic("unreachable")
}

func authorityOf(t *testing.T, folder string) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "ca", "ca.pem"))
	must(t, err)
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return out
		}
		c, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		out = append(out, c)
	}
}

// TestRollOver makes new keys of a node's authority. Clients that trust any of the
// keys go on, and people are shown the newest.
func TestRollOver(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	first := authorityOf(t, folder)[0]
	_, _, stop := running(t, folder) // makes the server certificate under the first key
	if _, err := server.RollOver(t.Context(), folder, server.Options{}, ""); !errors.Is(err, server.ErrInUse) {
		t.Errorf("rolled over under a running node: %v", err)
	}
	stop()
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "ca", "server.pem"), filepath.Join(folder, "ca", "server.key"))
	must(t, err)
	leaf := pair.Leaf
	if _, err := server.RollOver(t.Context(), folder, server.Options{}, hsm.RSA2048); err == nil {
		t.Error("rolled over to rsa-2048")
	}
	roots := []*x509.Certificate{first}
	for _, a := range []hsm.Algorithm{hsm.P384, ""} {
		gs, err := server.RollOver(t.Context(), folder, server.Options{}, a)
		must(t, err)
		listed, err := server.ListGenerations(folder)
		must(t, err)
		if !slices.Equal(gs, listed) || len(gs) != len(roots)+1 || !gs[0].Issuing || gs[1].Issuing || gs[0].Number != len(gs) || gs[0].Key != "ec-p384" {
			t.Fatalf("keys %+v, listed %+v", gs, listed)
		}
		roots = slices.Insert(roots, 0, authorityOf(t, folder)[0])
		at, shown, stop := running(t, folder)
		if shown != wire.FingerprintOf(roots[0]) || shown.String() != gs[0].Fingerprint {
			t.Error("the fingerprint shown is not that of the newest key")
		}
		checkOCSP(t, at, leaf, first)
		for _, root := range roots {
			checkTrust(t, at, root)
		}
		p, err := wire.Look(t.Context(), "localhost:"+port(t, at))
		must(t, err)
		if !p.CA().Equal(roots[0]) {
			t.Error("people are not shown the newest key")
		}
		if p.Chain[0].CheckSignatureFrom(roots[0]) != nil {
			t.Error("the server certificate is not under the newest key")
		}
		stop()
	}
	if n := len(authorityOf(t, folder)); n != 3+2*1+2*2 {
		t.Errorf("%d certificates", n)
	}
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	defer n.Close()
	b, err := n.Backup(t.Context())
	must(t, err)
	for _, want := range []string{"tms:ca:inkan:v01", "tms:ca:inkan:v02", "tms:ca:inkan:v03"} {
		if !slices.Contains(b.Keys, want) {
			t.Errorf("a backup does not hold %s: %v", want, b.Keys)
		}
	}
	log, err := os.ReadFile(filepath.Join(folder, "audit", auditFile(t, folder)))
	must(t, err)
	if got := strings.Count(string(log), "CA_KEY_ROLLOVER"); got != 4 {
		t.Errorf("%d audit events of two rollovers, want attempt and success of each", got)
	}
}

func auditFile(t *testing.T, folder string) string {
	t.Helper()
	es, err := os.ReadDir(filepath.Join(folder, "audit"))
	must(t, err)
	for _, e := range es {
		if !e.IsDir() && filepath.Ext(e.Name()) != ".lock" {
			return e.Name()
		}
	}
	t.Fatal("no audit file")
	return ""
}

func port(t *testing.T, at string) string {
	t.Helper()
	u, err := url.Parse(at)
	must(t, err)
	return u.Port()
}

// client trusts one certificate alone.
func client(root *x509.Certificate) *http.Client {
	cfg := wire.CertificateTrust(root)
	cfg.ServerName = "localhost"
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
}

func checkTrust(t *testing.T, at string, root *x509.Certificate) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := client(root)
		c.Transport.(*http.Transport).TLSClientConfig.MaxVersion = version
		res, err := c.Get(at + ca.PathChain)
		if err != nil {
			t.Errorf("trusting the key of %s over TLS %04X: %v", wire.FingerprintOf(root), version, err)
			continue
		}
		res.Body.Close()
	}
}

// checkOCSP asks for the status of a certificate that an older key has issued.
func checkOCSP(t *testing.T, at string, cert, issuer *x509.Certificate) {
	t.Helper()
	req, err := ocsp.CreateRequest(cert, issuer, nil)
	must(t, err)
	res, err := client(issuer).Get(at + ca.PathOCSP + "/" + base64.StdEncoding.EncodeToString(req))
	must(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	a, err := ocsp.ParseResponseForCert(b, cert, issuer)
	must(t, err)
	if a.Status != ocsp.Good {
		t.Errorf("status %d", a.Status)
	}
}

// TestRollOverCut: the key that a cut attempt has left is taken up.
func TestRollOverCut(t *testing.T) {
	t.Parallel()
	folder := prepared(t, t.TempDir())
	pass, err := os.ReadFile(filepath.Join(folder, sealing.PassphraseFile))
	must(t, err)
	v, err := softkey.Open(filepath.Join(folder, sealing.KeyFile), secret.New(pass))
	must(t, err)
	left, err := v.GenerateSigner(t.Context(), hsm.CALabel("inkan", 2), hsm.P256)
	must(t, err)
	must(t, v.Close())
	if gs, err := server.ListGenerations(folder); err != nil || len(gs) != 1 {
		t.Errorf("before: %v, %v", gs, err)
	}
	gs, err := server.RollOver(t.Context(), folder, server.Options{}, "")
	must(t, err)
	if key, ok := authorityOf(t, folder)[0].PublicKey.(*ecdsa.PublicKey); !ok || !key.Equal(left.Public()) || len(gs) != 2 {
		t.Errorf("another key than the one left: %+v", gs)
	}
}

// TestOtherAuthority: a folder with an authority of its own does not get into the
// database of another one; one with a copy of it does.
func TestOtherAuthority(t *testing.T) {
	t.Parallel()
	one := prepared(t, filepath.Join(t.TempDir(), "one"))
	_, _, stop := running(t, one) // issues its server certificate
	stop()
	shared := filepath.Join(one, "inkan.db")
	c, err := config.Config{Node: config.Node{Name: "two", Lab: true}, Listen: config.Listen{Address: "127.0.0.1:0"},
		Database: config.Database{File: shared}}.Complete()
	must(t, err)
	two := filepath.Join(t.TempDir(), "two")
	if err := server.Create(t.Context(), two, server.Answers{Config: c, KeyParams: softkeytest.Cheap()}); !errors.Is(err, server.ErrOtherAuthority) {
		t.Errorf("a new folder: %v", err)
	}
	three := prepared(t, filepath.Join(t.TempDir(), "three"))
	d, err := sealing.ReadConfig(t.Context(), three, server.Options{})
	must(t, err)
	changed, err := config.Set(d.Text, config.Assignment{Key: "database.file", Value: shared})
	must(t, err)
	_, err = sealing.WriteConfig(t.Context(), three, 0, changed, server.Options{})
	must(t, err)
	if _, err := server.Open(t.Context(), three, server.Options{}); !errors.Is(err, server.ErrOtherAuthority) {
		t.Errorf("a folder that is there: %v", err)
	}
	for _, name := range []string{"keys/keystore", "passphrase", "ca/ca.pem"} {
		b, err := os.ReadFile(filepath.Join(one, name))
		must(t, err)
		must(t, os.Remove(filepath.Join(three, name)))
		must(t, os.WriteFile(filepath.Join(three, name), b, 0o600))
	}
	n, err := server.Open(t.Context(), three, server.Options{})
	must(t, err)
	must(t, n.Close())
}
