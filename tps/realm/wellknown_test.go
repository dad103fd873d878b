package realm_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"inkan/tps/realm"
)

// TestWellKnown: the documents, how long they keep, and that an ETag saves the body.
func TestWellKnown(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	h := realm.WellKnown(n.Realm, "/token")
	get := func(path, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", tag)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for path, want := range map[string][2]string{
		"/.well-known/jwks.json":            {"application/jwk-set+json", "public, max-age=300"},
		"/.well-known/openid-configuration": {"application/json", "public, max-age=300"},
		"/.well-known/tms-revocation":       {"application/jwt", "public, max-age=60"},
	} {
		w := get(path, "")
		tag := w.Header().Get("ETag")
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != want[0] || w.Header().Get("Cache-Control") != want[1] || tag == "" || w.Body.Len() == 0 {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
		if w := get(path, tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
			t.Errorf("%s with its ETag: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
	var c map[string]any
	must(t, json.Unmarshal(get("/.well-known/openid-configuration", "").Body.Bytes(), &c))
	if c["issuer"] != issuer || c["jwks_uri"] != issuer+"/.well-known/jwks.json" || c["token_endpoint"] != issuer+"/token" {
		t.Errorf("%v", c)
	}
	tag := get("/.well-known/jwks.json", "").Header().Get("ETag")
	_, _, err := n.Rotate(t.Context(), realm.ForSessions, realm.ES256, "test")
	must(t, err)
	if w := get("/.well-known/jwks.json", tag); w.Code != http.StatusOK || strings.Count(w.Body.String(), `"kid"`) != 2 {
		t.Errorf("after a rotation: %d %s", w.Code, w.Body)
	}
	was := get("/.well-known/tms-revocation", "").Body.String()
	n.clock.add(time.Minute)
	if get("/.well-known/tms-revocation", "").Body.String() == was {
		t.Error("the revocation document gets old")
	}
	if get("/.well-known/other", "").Code != http.StatusNotFound {
		t.Error("something else is served")
	}
}
