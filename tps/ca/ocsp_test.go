package ca_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

// Requests as a client may build them, which golang.org/x/crypto/ocsp cannot.
type (
	ocspRequest struct{ TBS ocspTBS }
	ocspTBS     struct {
		List       []ocspSingle
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional,omitempty"`
	}
	ocspSingle struct {
		ID         asn1.RawValue
		Extensions []pkix.Extension `asn1:"explicit,tag:0,optional,omitempty"`
	}
)

var (
	oidNonce   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}
	oidUnknown = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
)

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask is the request of the usual client for certificates of one issuer.
func ask(t testing.TB, issuer *x509.Certificate, extensions []pkix.Extension, certs ...*x509.Certificate) []byte {
	t.Helper()
	req := ocspRequest{ocspTBS{Extensions: extensions}}
	for _, c := range certs {
		one, err := ocsp.CreateRequest(c, issuer, nil)
		if err != nil {
			t.Fatal(err)
		}
		var parts struct {
			TBS struct{ List []struct{ ID asn1.RawValue } }
		}
		if _, err := asn1.Unmarshal(one, &parts); err != nil {
			t.Fatal(err)
		}
		req.TBS.List = append(req.TBS.List, ocspSingle{ID: parts.TBS.List[0].ID})
	}
	return marshal(t, req)
}

func nonceOf(t testing.TB, n int) []pkix.Extension {
	return []pkix.Extension{{Id: oidNonce, Value: marshal(t, bytes.Repeat([]byte{0xA5}, n))}}
}

// respond asks the authority itself.
func (a *authority) respond(t testing.TB, request []byte) ca.OCSPResponse {
	t.Helper()
	res, err := a.OCSP(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// status asks for one certificate and checks the signature on the answer.
func (a *authority) status(t testing.TB, cert *x509.Certificate) *ocsp.Response {
	t.Helper()
	return a.check(t, a.respond(t, ask(t, a.root, nil, cert)).DER, cert)
}

func (a *authority) check(t testing.TB, der []byte, cert *x509.Certificate) *ocsp.Response {
	t.Helper()
	res, err := ocsp.ParseResponseForCert(der, cert, a.root)
	if err != nil {
		t.Fatal(err)
	}
	if !res.ThisUpdate.Equal(res.ProducedAt) || !res.NextUpdate.After(res.ThisUpdate) || res.NextUpdate.After(res.Certificate.NotAfter) {
		t.Errorf("times %s, %s, %s", res.ProducedAt, res.ThisUpdate, res.NextUpdate)
	}
	return res
}

// TestOCSPAtOnce: what is held, released or revoked shows in the next answer,
// although the one before may have been signed ahead.
func TestOCSPAtOnce(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	c, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	_, other := a.issue(t, request("j2", "signing", rsaKey().Public()))
	want := func(step string, status int, at time.Time, reason ca.Reason) {
		t.Helper()
		for range 2 { // made, and kept
			res := a.status(t, cert)
			if res.Status != status || !res.RevokedAt.Equal(at) || res.RevocationReason != int(reason) {
				t.Errorf("%s: status %d at %s, reason %d", step, res.Status, res.RevokedAt, res.RevocationReason)
			}
		}
		if res := a.status(t, other); res.Status != ocsp.Good {
			t.Errorf("%s: the other certificate has status %d", step, res.Status)
		}
	}
	var never time.Time
	want("issued", ocsp.Good, never, 0)
	a.revoke(t, c, ca.ReasonCertificateHold)
	want("on hold", ocsp.Revoked, start, ca.ReasonCertificateHold)
	a.revoke(t, c, ca.ReasonRemoveFromCRL)
	want("off hold", ocsp.Good, never, 0)
	a.clock.Advance(time.Minute)
	a.revoke(t, c, ca.ReasonUnspecified)
	want("revoked", ocsp.Revoked, start.Add(time.Minute), ca.ReasonUnspecified)
	a.clock.Advance(time.Minute)
	a.revoke(t, c, ca.ReasonKeyCompromise)
	want("compromised", ocsp.Revoked, start.Add(time.Minute), ca.ReasonKeyCompromise)
}

// TestOCSPOtherNode: what another process revokes shows within a second.
func TestOCSPOtherNode(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	c, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	if res := a.status(t, cert); res.Status != ocsp.Good {
		t.Fatalf("status %d", res.Status)
	}
	second, err := ca.Open(a.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Revoke(t.Context(), c.Issuer, c.Serial, ca.ReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	a.clock.Advance(time.Second)
	if res := a.status(t, cert); res.Status != ocsp.Revoked || res.RevocationReason != int(ca.ReasonSuperseded) {
		t.Errorf("status %d, reason %d", res.Status, res.RevocationReason)
	}
}

func TestOCSPUnknown(t *testing.T) {
	t.Parallel()
	a, foreign := newAuthority(t, nil), newAuthority(t, nil) // same name, other key
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	with := func(serial *big.Int) *x509.Certificate { return &x509.Certificate{SerialNumber: serial} }
	for name, tc := range map[string]struct {
		issuer, cert *x509.Certificate
		want         int
	}{
		"known":            {a.root, cert, ocsp.Good},
		"other issuer":     {foreign.root, cert, ocsp.Unknown},
		"never issued":     {a.root, with(big.NewInt(4711)), ocsp.Unknown},
		"serial of zero":   {a.root, with(new(big.Int)), ocsp.Unknown},
		"negative serial":  {a.root, with(new(big.Int).Neg(cert.SerialNumber)), ocsp.Unknown},
		"serial too large": {a.root, with(new(big.Int).Lsh(big.NewInt(1), 2000)), ocsp.Unknown},
	} {
		res := a.respond(t, ask(t, tc.issuer, nil, tc.cert))
		if got := a.check(t, res.DER, tc.cert).Status; got != tc.want || res.Shared != (tc.want != ocsp.Unknown) {
			t.Errorf("%s: status %d, shared %v", name, got, res.Shared)
		}
	}
	// What is on record and was never signed is not issued, and unknown is not kept.
	serial, _ := new(big.Int).SetString("4A", 16)
	err := a.store.CreateIssued(t.Context(), ca.Issued{RequestID: "j2", Serial: "4A", TBS: []byte{1}, NotAfter: start.AddDate(1, 0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.status(t, with(serial)).Status; got != ocsp.Unknown {
		t.Errorf("unsigned: status %d", got)
	}
	if err := a.store.CompleteIssued(t.Context(), "j2", []byte{1}); err != nil {
		t.Fatal(err)
	}
	if got := a.status(t, with(serial)).Status; got != ocsp.Good {
		t.Errorf("signed: status %d", got)
	}
}

// TestOCSPHashes names the issuer by every hash that clients use.
func TestOCSPHashes(t *testing.T) {
	t.Parallel()
	a := newAuthorityWith(t, rsaRootKey(), nil)
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		req, err := ocsp.CreateRequest(cert, a.root, &ocsp.RequestOptions{Hash: h})
		if err != nil {
			t.Fatal(err)
		}
		if res := a.check(t, a.respond(t, req).DER, cert); res.Status != ocsp.Good || res.IssuerHash != h {
			t.Errorf("%s: status %d, hash %s", h, res.Status, res.IssuerHash)
		}
	}
}

// TestOCSPSeveral asks for several certificates at once, with a nonce.
func TestOCSPSeveral(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	want := []int{ocsp.Good, ocsp.Revoked, ocsp.Unknown}
	var certs []*x509.Certificate
	for i := range want[:2] {
		c, cert := a.issue(t, request(fmt.Sprint("j", i), "signing", rsaKey().Public()))
		certs = append(certs, cert)
		if want[i] == ocsp.Revoked {
			a.revoke(t, c, ca.ReasonSuperseded)
		}
	}
	certs = append(certs, &x509.Certificate{SerialNumber: big.NewInt(99)})
	for _, size := range []int{1, 16, 32, 128} {
		nonce := nonceOf(t, size)
		res := a.respond(t, ask(t, a.root, nonce, certs...))
		if res.Shared {
			t.Error("an answer with a nonce is shared")
		}
		for i, cert := range certs {
			if got := a.check(t, res.DER, cert).Status; got != want[i] {
				t.Errorf("certificate %d: status %d, want %d", i, got, want[i])
			}
		}
		if got := extensionsOf(t, res.DER); len(got) != 1 || !got[0].Id.Equal(oidNonce) || !bytes.Equal(got[0].Value, nonce[0].Value) {
			t.Errorf("nonce of %d bytes: extensions %v", size, got)
		}
	}
	if got := extensionsOf(t, a.respond(t, ask(t, a.root, nil, certs...)).DER); len(got) != 0 {
		t.Errorf("extensions unasked: %v", got)
	}
}

// extensionsOf returns the response extensions of an answer.
func extensionsOf(t *testing.T, der []byte) []pkix.Extension {
	t.Helper()
	var res struct {
		Status asn1.Enumerated
		Bytes  struct {
			Type asn1.ObjectIdentifier
			DER  []byte
		} `asn1:"explicit,tag:0"`
	}
	var basic struct {
		TBS struct {
			Responder  asn1.RawValue
			ProducedAt time.Time `asn1:"generalized"`
			Responses  []asn1.RawValue
			Extensions []pkix.Extension `asn1:"explicit,tag:1,optional"`
		}
	}
	if _, err := asn1.Unmarshal(der, &res); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(res.Bytes.DER, &basic); err != nil {
		t.Fatal(err)
	}
	return basic.TBS.Extensions
}

// TestOCSPKept: the same question is signed once, until three quarters of the
// answer's life are over.
func TestOCSPKept(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, func(c *ca.Config) { c.OCSPLifetime = 20 * time.Minute })
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	plain, nonced := ask(t, a.root, nil, cert), ask(t, a.root, nonceOf(t, 32), cert)
	first := a.respond(t, plain)
	if !first.Shared || first.NextUpdate.Sub(first.ThisUpdate) != 20*time.Minute {
		t.Errorf("answer %s to %s, shared %v", first.ThisUpdate, first.NextUpdate, first.Shared)
	}
	for d, kept := range map[time.Duration]bool{-time.Minute: false, 0: true, 14 * time.Minute: true, 15 * time.Minute: false} {
		b := newAuthority(t, func(c *ca.Config) { c.OCSPLifetime = 20 * time.Minute })
		_, cert := b.issue(t, request("j1", "signing", rsaKey().Public()))
		req := ask(t, b.root, nil, cert)
		before := b.respond(t, req)
		b.clock.Advance(d)
		if got := bytes.Equal(b.respond(t, req).DER, before.DER); got != kept {
			t.Errorf("after %s: kept %v", d, got)
		}
	}
	if bytes.Equal(a.respond(t, nonced).DER, a.respond(t, nonced).DER) {
		t.Error("an answer with a nonce was kept")
	}
}

// TestOCSPSigner: the signing certificate says what it is for, is not to be
// checked, and is replaced in time; while that fails the last one signs on.
func TestOCSPSigner(t *testing.T) {
	t.Parallel()
	s := &flaky{Signer: ecKey(t, elliptic.P256())}
	a := newAuthorityWith(t, s, nil)
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	signer := func() *x509.Certificate { t.Helper(); return a.status(t, cert).Certificate }
	first := signer()
	if !slices.Equal(first.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || first.KeyUsage != x509.KeyUsageDigitalSignature ||
		first.IsCA || len(first.CRLDistributionPoints) != 0 || len(first.OCSPServer) != 0 {
		t.Errorf("signing certificate %+v", first)
	}
	at := slices.IndexFunc(first.Extensions, func(x pkix.Extension) bool { return x.Id.Equal(oidNoCheck) })
	if at < 0 || !bytes.Equal(first.Extensions[at].Value, []byte{5, 0}) || first.Extensions[at].Critical {
		t.Error("no id-pkix-ocsp-nocheck")
	}
	if first.NotAfter.After(start.AddDate(0, 0, 7)) || first.CheckSignatureFrom(a.root) != nil {
		t.Errorf("valid to %s", first.NotAfter)
	}
	n := s.calls()
	for range 10 {
		a.respond(t, ask(t, a.root, nonceOf(t, 32), cert))
	}
	if s.calls() != n {
		t.Errorf("the authority's own key signed %d answers", s.calls()-n)
	}
	if id := sha1.Sum(publicKeyOf(t, first)); !bytes.Equal(a.status(t, cert).ResponderKeyHash, id[:]) {
		t.Error("responder id is not the hash of its key")
	}

	a.clock.Advance(3 * 24 * time.Hour)
	if !signer().Equal(first) {
		t.Error("replaced too early")
	}
	a.clock.Advance(24 * time.Hour)
	s.set(refuses)
	for range 2 {
		if !signer().Equal(first) {
			t.Error("replaced without the authority's key")
		}
	}
	if s.calls() != 1 {
		t.Errorf("renewal tried %d times within five seconds", s.calls())
	}
	s.set(works)
	a.clock.Advance(5 * time.Second)
	a.revoke(t, ca.Certificate{Issuer: a.Issuer(), Serial: ca.Serial(fmt.Sprintf("%X", cert.SerialNumber))}, ca.ReasonSuperseded) // drops what is kept
	second := signer()
	if second.Equal(first) {
		t.Error("not replaced")
	}
	s.set(refuses)
	a.clock.Advance(7 * 24 * time.Hour)
	for range 2 {
		_, err := a.OCSP(t.Context(), ask(t, a.root, nil, cert))
		wantError(t, err, ca.ErrUnavailable)
	}
	if s.calls() != 1 {
		t.Errorf("a certificate asked for %d times within five seconds", s.calls())
	}
	s.set(works)
	a.clock.Advance(5 * time.Second)
	if signer().Equal(second) {
		t.Error("an expired certificate signs")
	}
}

func publicKeyOf(t *testing.T, c *x509.Certificate) []byte {
	t.Helper()
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		t.Fatal(err)
	}
	return info.Key.Bytes
}

// TestOCSPStoreFails: no answer is better than a wrong one.
func TestOCSPStoreFails(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	for n := 1; ; n++ {
		faults := catest.NewFaults(n, catest.Before)
		cfg := a.cfg
		cfg.Store = faults.Store(a.store)
		e, err := ca.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.OCSP(t.Context(), ask(t, a.root, nil, cert))
		if !faults.Struck() {
			if n != 5 || err != nil { // change number, record, new signer: create and complete
				t.Errorf("%d calls of the store, %v", n-1, err)
			}
			return
		}
		wantError(t, err, ca.ErrUnavailable)
	}
}
