package wire_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"inkan/tps/wire"
)

func TestPhoneHome(t *testing.T) {
	t.Parallel()
	info := wire.ServiceInfo{IssuerName: "Example <Org> & Sons", Services: wire.Services{
		Operation: "https://tps.example.org:8443/tps/tps", TokenType: "userKey"}}
	h, err := wire.PhoneHome(info)
	if err != nil {
		t.Fatal(err)
	}
	const want = `<?xml version="1.0" encoding="UTF-8"?>
<ServiceInfo>
  <IssuerName>Example &lt;Org&gt; &amp; Sons</IssuerName>
  <Services>
    <Operation>https://tps.example.org:8443/tps/tps</Operation>
    <UI></UI>
    <EnrolledTokenBrowserURL></EnrolledTokenBrowserURL>
    <EnrolledTokenURL></EnrolledTokenURL>
    <TokenType>userKey</TokenType>
  </Services>
</ServiceInfo>
`
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, "/tps/phoneHome?cuid=a00192030405060708c9", nil))
		if rec.Code != 200 || rec.Body.String() != want || rec.Header().Get("Content-Type") != "application/xml" {
			t.Errorf("%s: %d %v\n%s", method, rec.Code, rec.Header(), rec.Body)
		}
		var got wire.ServiceInfo
		if err := xml.Unmarshal(rec.Body.Bytes(), &got); err != nil || got.IssuerName != info.IssuerName || got.Services != info.Services {
			t.Errorf("read back %+v, %v", got, err)
		}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodDelete, "/tps/phoneHome", nil))
	if rec.Code != http.StatusMethodNotAllowed || !strings.Contains(rec.Header().Get("Allow"), "GET") {
		t.Errorf("DELETE: %d %v", rec.Code, rec.Header())
	}
}

// What would make ESC fail is refused where it is configured.
func TestPhoneHomeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ issuer, operation string }{
		"no issuer": {" ", "https://h:8443/tps/tps"},
		"no port":   {"O", "https://h/tps/tps"},
		"no path":   {"O", "https://h:8443"},
		"root path": {"O", "https://h:8443/"},
		"scheme":    {"O", "tps://h:8443/tps/tps"},
		"empty":     {"O", ""},
		"malformed": {"O", "https://h:port/tps"},
		"IPv6":      {"O", "https://[::1]:8443/tps/tps"},
		"no host":   {"O", "https://:8443/tps/tps"},
	} {
		if _, err := wire.PhoneHome(wire.ServiceInfo{IssuerName: c.issuer, Services: wire.Services{Operation: c.operation}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
