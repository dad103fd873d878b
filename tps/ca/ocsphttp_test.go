package ca_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"inkan/tps/ca"
	"inkan/tps/ca/catest"
)

// exchange sends a request and returns status, headers and body. The path goes
// out as it stands.
func exchange(t *testing.T, srv *httptest.Server, method, path string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path
	client := *srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, b
}

func TestOCSPOverHTTP(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	c, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	plain := ask(t, a.root, nil, cert)
	nonced := ask(t, a.root, nonceOf(t, 32), cert)
	// three bytes FF in a row are //// in base64, wherever they begin
	slashed := ask(t, a.root, []pkix.Extension{{Id: oidUnknown, Value: bytes.Repeat([]byte{0xFF}, 9)}}, cert)
	b64 := base64.StdEncoding.EncodeToString
	if !strings.Contains(b64(slashed), "//") {
		t.Fatalf("no slashes in %s", b64(slashed))
	}
	for name, tc := range map[string]struct {
		method, path string
		body         []byte
		cache        string
	}{
		"post":                 {"POST", ca.PathOCSP, plain, "no-store"},
		"post with nonce":      {"POST", ca.PathOCSP, nonced, "no-store"},
		"get":                  {"GET", ca.PathOCSP + "/" + url.PathEscape(b64(plain)), nil, "max-age=60"},
		"get with nonce":       {"GET", ca.PathOCSP + "/" + url.PathEscape(b64(nonced)), nil, "no-store"},
		"get slashes":          {"GET", ca.PathOCSP + "/" + url.PathEscape(b64(slashed)), nil, "max-age=60"},
		"get slashes unquoted": {"GET", ca.PathOCSP + "/" + b64(slashed), nil, "max-age=60"},
		"get without padding":  {"GET", ca.PathOCSP + "/" + strings.TrimRight(b64(plain), "="), nil, "max-age=60"},
	} {
		res, body := exchange(t, srv, tc.method, tc.path, tc.body)
		if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/ocsp-response" ||
			!strings.Contains(res.Header.Get("Cache-Control"), tc.cache) {
			t.Errorf("%s: %s %v", name, res.Status, res.Header)
			continue
		}
		if got := a.check(t, body, cert); got.Status != ocsp.Good {
			t.Errorf("%s: status %d", name, got.Status)
		}
	}
	path := ca.PathOCSP + "/" + url.PathEscape(b64(plain))
	first, _ := exchange(t, srv, "GET", path, nil)
	if res, body := exchange(t, srv, "HEAD", path, nil); res.StatusCode != 200 || len(body) != 0 {
		t.Errorf("HEAD: %s", res.Status)
	}
	a.revoke(t, c, ca.ReasonCertificateHold)
	res, body := exchange(t, srv, "GET", path, nil)
	if got := a.check(t, body, cert); got.Status != ocsp.Revoked || res.Header.Get("ETag") == first.Header.Get("ETag") {
		t.Errorf("on hold: status %d, tag %s after %s", got.Status, res.Header.Get("ETag"), first.Header.Get("ETag"))
	}
}

func TestOCSPOverHTTPRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	plain := ask(t, a.root, nil, cert)
	for name, tc := range map[string]struct {
		method, path string
		body         []byte
		status       int
		response     []byte // nil = any
	}{
		"malformed":      {"POST", ca.PathOCSP, []byte("?"), 200, ocsp.MalformedRequestErrorResponse},
		"empty":          {"POST", ca.PathOCSP, nil, 200, ocsp.MalformedRequestErrorResponse},
		"no base64":      {"GET", ca.PathOCSP + "/%3F%3F", nil, 200, ocsp.MalformedRequestErrorResponse},
		"base64 of junk": {"GET", ca.PathOCSP + "/AAAA", nil, 200, ocsp.MalformedRequestErrorResponse},
		"too large":      {"POST", ca.PathOCSP, make([]byte, 17<<10), http.StatusRequestEntityTooLarge, nil},
		"put":            {"PUT", ca.PathOCSP, plain, http.StatusMethodNotAllowed, nil},
		"post in path":   {"POST", ca.PathOCSP + "/AAAA", plain, http.StatusMethodNotAllowed, nil},
		"get of nothing": {"GET", ca.PathOCSP, nil, http.StatusMethodNotAllowed, nil},
	} {
		res, body := exchange(t, srv, tc.method, tc.path, tc.body)
		if res.StatusCode != tc.status || tc.response != nil && !bytes.Equal(body, tc.response) {
			t.Errorf("%s: %s, %X", name, res.Status, body)
		}
		if tc.response != nil && res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: cached: %v", name, res.Header)
		}
	}
	cfg := a.cfg
	cfg.Store = catest.NewFaults(1, catest.Before).Store(a.store)
	down, err := ca.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	broken := httptest.NewServer(down.Handler())
	defer broken.Close()
	if _, body := exchange(t, broken, "POST", ca.PathOCSP, plain); !bytes.Equal(body, ocsp.TryLaterErrorResponse) {
		t.Errorf("store gone: %X", body)
	}
}
