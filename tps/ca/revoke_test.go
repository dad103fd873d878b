package ca_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	const gone = ca.Reason(-1) // not on the list
	for _, tc := range []struct {
		reasons []ca.Reason
		err     error // of the last one
		listed  ca.Reason
	}{
		{[]ca.Reason{ca.ReasonUnspecified}, nil, ca.ReasonUnspecified},
		{[]ca.Reason{ca.ReasonKeyCompromise}, nil, ca.ReasonKeyCompromise},
		{[]ca.Reason{ca.ReasonSuperseded, ca.ReasonSuperseded}, nil, ca.ReasonSuperseded},
		{[]ca.Reason{ca.ReasonSuperseded, ca.ReasonUnspecified}, nil, ca.ReasonSuperseded},
		{[]ca.Reason{ca.ReasonSuperseded, ca.ReasonKeyCompromise}, nil, ca.ReasonKeyCompromise},
		{[]ca.Reason{ca.ReasonKeyCompromise, ca.ReasonSuperseded}, nil, ca.ReasonKeyCompromise},
		{[]ca.Reason{ca.ReasonSuperseded, ca.ReasonCertificateHold}, ca.ErrRefused, ca.ReasonSuperseded},
		{[]ca.Reason{ca.ReasonSuperseded, ca.ReasonRemoveFromCRL}, ca.ErrRefused, ca.ReasonSuperseded},
		{[]ca.Reason{ca.ReasonCertificateHold}, nil, ca.ReasonCertificateHold},
		{[]ca.Reason{ca.ReasonCertificateHold, ca.ReasonCertificateHold}, nil, ca.ReasonCertificateHold},
		{[]ca.Reason{ca.ReasonCertificateHold, ca.ReasonRemoveFromCRL}, nil, gone},
		{[]ca.Reason{ca.ReasonCertificateHold, ca.ReasonRemoveFromCRL, ca.ReasonRemoveFromCRL}, nil, gone},
		{[]ca.Reason{ca.ReasonCertificateHold, ca.ReasonRemoveFromCRL, ca.ReasonCertificateHold}, nil, ca.ReasonCertificateHold},
		{[]ca.Reason{ca.ReasonCertificateHold, ca.ReasonAffiliationChanged}, nil, ca.ReasonAffiliationChanged},
		{[]ca.Reason{ca.ReasonRemoveFromCRL}, nil, gone},
		{[]ca.Reason{2}, ca.ErrRefused, gone},
		{[]ca.Reason{7}, ca.ErrRefused, gone},
		{[]ca.Reason{-1}, ca.ErrRefused, gone},
	} {
		t.Run(fmt.Sprintf("reasons=%v", tc.reasons), func(t *testing.T) {
			a := newAuthority(t, nil)
			c, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
			var err error
			for _, r := range tc.reasons {
				err = a.Revoke(t.Context(), c.Issuer, c.Serial, r)
				a.list(t)
			}
			if tc.err == nil && err != nil {
				t.Error(err)
			}
			if tc.err != nil {
				wantError(t, err, tc.err)
			}
			got := gone
			_, l := a.list(t)
			for _, e := range l.RevokedCertificateEntries {
				got = ca.Reason(e.ReasonCode)
				if fmt.Sprintf("%X", e.SerialNumber) != string(c.Serial) || !e.RevocationTime.Equal(start) {
					t.Errorf("entry %+v", e)
				}
			}
			if got != tc.listed {
				t.Errorf("listed with reason %d, want %d", got, tc.listed)
			}
		})
	}
}

func TestDEF50RevokeForeign(t *testing.T) {
	t.Parallel()
	a, b := newAuthority(t, nil), newAuthority(t, nil) // same name, other key
	c, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
	wantError(t, b.Revoke(t.Context(), c.Issuer, c.Serial, ca.ReasonSuperseded), ca.ErrNotIssuer)
	for _, issuer := range []ca.Issuer{{}, {Name: c.Issuer.Name}, {KeyID: c.Issuer.KeyID}, {Name: []byte{0x30, 0}, KeyID: c.Issuer.KeyID}} {
		wantError(t, a.Revoke(t.Context(), issuer, c.Serial, ca.ReasonSuperseded), ca.ErrNotIssuer)
	}
	for _, serial := range []ca.Serial{"", "4A", "xyz", "-4A", "0"} {
		wantError(t, a.Revoke(t.Context(), c.Issuer, serial, ca.ReasonSuperseded), ca.ErrUnknown)
	}
	if _, l := a.list(t); len(l.RevokedCertificateEntries) != 0 {
		t.Errorf("%d revoked", len(l.RevokedCertificateEntries))
	}
}

// TestRevokeCut lets every call of the store fail: after the next attempt the
// certificate is revoked once.
func TestRevokeCut(t *testing.T) {
	t.Parallel()
	for _, when := range []catest.When{catest.Before, catest.After} {
		for n := 1; ; n++ {
			a := newAuthority(t, nil)
			c, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
			f := catest.NewFaults(n, when)
			cfg := a.cfg
			cfg.Store = f.Store(a.store)
			node, err := ca.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = node.Revoke(t.Context(), c.Issuer, c.Serial, ca.ReasonSuperseded)
			if !f.Struck() {
				if n < 3 {
					t.Errorf("%s: only %d store calls were cut", when, n-1)
				}
				break
			}
			wantError(t, err, ca.ErrUnavailable)
			if err := node.Revoke(t.Context(), c.Issuer, c.Serial, ca.ReasonSuperseded); err != nil {
				t.Error(err)
			}
			r := a.store.Records()[0].Revocation
			if r.Revision != 1 || r.Reason != ca.ReasonSuperseded {
				t.Errorf("%s %d: revocation %+v", when, n, r)
			}
		}
	}
}

func TestCRLLife(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, func(c *ca.Config) { c.CRLLifetime = 8 * time.Hour })
	other, err := ca.Open(a.cfg)
	if err != nil {
		t.Fatal(err)
	}
	numbers := func(want int64) {
		t.Helper()
		if c, l := a.list(t); c.Number != want || l.Number.Int64() != want || !c.NextUpdate.After(a.clock.Now()) {
			t.Errorf("list %d (%s) to %s, want %d", c.Number, l.Number, c.NextUpdate, want)
		}
	}
	numbers(1)
	numbers(1)
	c, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
	numbers(1) // issuing changes no list
	a.revoke(t, c, ca.ReasonCertificateHold)
	numbers(2)
	if err := other.Revoke(t.Context(), c.Issuer, c.Serial, ca.ReasonRemoveFromCRL); err != nil {
		t.Fatal(err)
	}
	a.clock.Advance(time.Second) // from then on the change of another node shows
	numbers(3)
	a.clock.Advance(6*time.Hour - 2*time.Second)
	numbers(3)
	a.clock.Advance(2 * time.Second)
	numbers(4)
	got, err := other.CRL(t.Context())
	if err != nil || got.Number != 4 {
		t.Errorf("other node has list %d, %v", got.Number, err)
	}
	a.clock.Advance(100 * time.Hour)
	numbers(5)
}

func TestCRLKeepsExpiredOnce(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	c, _ := a.issue(t, request("j1", "temporary-signing", rsaKey().Public()))
	a.revoke(t, c, ca.ReasonSuperseded)
	entries := func() int {
		_, l := a.list(t)
		return len(l.RevokedCertificateEntries)
	}
	var got []int
	for range 10 { // one list a day, the certificate is valid to the list of day 7
		got = append(got, entries())
		a.clock.Advance(24 * time.Hour)
	}
	if want := []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("entries %v, want %v", got, want)
	}
}

func TestCRLOutage(t *testing.T) {
	t.Parallel()
	s := &flaky{Signer: ecKey(t, elliptic.P256())}
	a := newAuthorityWith(t, s, func(c *ca.Config) { c.CRLLifetime = 4 * time.Hour })
	a.list(t)
	s.set(refuses)
	a.clock.Advance(3*time.Hour + time.Minute)
	if c, _ := a.list(t); c.Number != 1 {
		t.Errorf("list %d", c.Number)
	}
	a.clock.Advance(time.Hour)
	_, err := a.CRL(t.Context())
	wantError(t, err, ca.ErrUnavailable)
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest("GET", ca.PathCRL, nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
	s.set(works)
	if c, _ := a.list(t); c.Number != 2 {
		t.Errorf("list %d", c.Number)
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	above := newAuthority(t, nil)
	a := newAuthority(t, func(c *ca.Config) { c.Chain = [][]byte{above.root.Raw} })
	c, _ := a.issue(t, request("j1", "signing", rsaKey().Public()))
	a.revoke(t, c, ca.ReasonKeyCompromise)
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	get := func(method, path, etag string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", etag)
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, body
	}
	crl, _ := a.list(t)
	res, body := get("GET", ca.PathCRL, "")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/pkix-crl" || !bytes.Equal(body, crl.DER) {
		t.Errorf("list: %s %v", res.Status, res.Header)
	}
	if res, _ := get("GET", ca.PathCRL, res.Header.Get("ETag")); res.StatusCode != http.StatusNotModified {
		t.Errorf("list again: %s", res.Status)
	}
	if res, body := get("HEAD", ca.PathCRL, ""); res.StatusCode != 200 || len(body) != 0 {
		t.Errorf("HEAD: %s", res.Status)
	}
	if res, _ := get("POST", ca.PathCRL, ""); res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", res.Status)
	}
	_, body = get("GET", ca.PathChain, "")
	for i, want := range [][]byte{a.Certificate().Raw, above.Certificate().Raw} {
		var b *pem.Block
		if b, body = pem.Decode(body); b == nil || b.Type != "CERTIFICATE" || !bytes.Equal(b.Bytes, want) {
			t.Fatalf("certificate %d of the chain", i)
		}
	}
	if _, body := get("GET", ca.PathCertificate, ""); !bytes.Equal(body, a.Certificate().Raw) {
		t.Error("certificate")
	}
}

// fill stores n revoked certificates.
func fill(tb testing.TB, s *catest.Store, n int) {
	tb.Helper()
	for i := range n {
		serial := ca.Serial(fmt.Sprintf("4%031X", i))
		r := ca.Issued{RequestID: string(serial), Serial: serial, TBS: []byte{0x30, 0}, DER: []byte{1}, NotAfter: start.AddDate(1, 0, 0), Created: start}
		r.Revocation = ca.Revocation{At: start, Reason: ca.ReasonSuperseded, Revision: 1}
		if err := s.CreateIssued(tb.Context(), r); err != nil {
			tb.Fatal(err)
		}
	}
}

func TestCRLLarge(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	fill(t, a.store, 10_000)
	begin := time.Now()
	_, l := a.list(t)
	if n := len(l.RevokedCertificateEntries); n != 10_000 {
		t.Errorf("%d entries", n)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("a list of 10000 entries took %s", d)
	}
}

func BenchmarkCRL(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			a := newAuthority(b, nil)
			fill(b, a.store, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.CRL(b.Context()); err != nil {
					b.Fatal(err)
				}
				a.clock.Advance(24 * time.Hour)
			}
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	a := newAuthority(b, nil)
	pub := rsaKey().Public()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := a.Issue(b.Context(), request(fmt.Sprint(i), "signing", pub)); err != nil {
			b.Fatal(err)
		}
	}
}
