package api_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"inkan/apdu/gp"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// permissions is the table of tps-operations.md §21 for what there is here, and
// what design.md adds: who may, and what the audit calls it.
var permissions = map[string]string{
	"GET /tokens":                           "admin agent operator",
	"GET /tokens/{id}":                      "admin agent operator",
	"POST /tokens/{id}":                     "agent",
	"GET /tokens/{id}/operations":           "admin agent operator",
	"GET /tokens/{id}/keying":               "admin agent",
	"POST /tokens/{id}/secret":              "agent TOKEN_SECRET",
	"GET /certs":                            "admin agent operator",
	"GET /certs/{id}":                       "admin agent operator",
	"POST /certs/{id}/state":                "agent",
	"GET /activities":                       "admin agent operator",
	"GET /activities/{id}":                  "admin agent operator",
	"GET /operations":                       "admin agent operator",
	"GET /operations/{id}":                  "admin agent operator",
	"GET /profiles":                         "admin agent",
	"GET /profiles/{id}":                    "admin agent",
	"PUT /profiles/{id}":                    "admin CONFIG_TOKEN_PROFILE",
	"POST /profiles/{id}":                   "admin agent CONFIG_TOKEN_PROFILE",
	"GET /profile-mappings":                 "admin",
	"GET /profile-mappings/{id}":            "admin",
	"PUT /profile-mappings/{id}":            "admin CONFIG_TOKEN_MAPPING_RESOLVER",
	"DELETE /profile-mappings/{id}":         "admin CONFIG_TOKEN_MAPPING_RESOLVER",
	"GET /profile-choice":                   "admin",
	"POST /releases":                        "agent CONFIG_TOKEN_RECORD",
	"GET /admin/users":                      "admin",
	"POST /admin/users":                     "admin CONFIG_ROLE",
	"GET /admin/users/{id}":                 "admin",
	"PATCH /tokens/{id}":                    "agent CONFIG_TOKEN_RECORD",
	"PATCH /admin/users/{id}":               "admin CONFIG_ROLE",
	"DELETE /admin/users/{id}":              "admin CONFIG_ROLE",
	"GET /keysets":                          "admin agent",
	"POST /keysets":                         "admin CONFIG_KEY_SET",
	"POST /keysets/check":                   "admin",
	"POST /keysets/import":                  "admin CONFIG_KEY_SET",
	"POST /keysets/{name}/{version}/test":   "admin CONFIG_KEY_SET",
	"POST /keysets/{name}/{version}/retire": "admin CONFIG_KEY_SET",
	"GET /realm":                            "admin",
	"GET /realm/calendar":                   "admin",
	"GET /realm/keys":                       "admin",
	"POST /realm/keys":                      "admin",
	"GET /realm/keys/{id}":                  "admin",
	"PATCH /realm/keys/{id}":                "admin",
	"DELETE /realm/keys/{id}":               "admin",
	"POST /realm/keys/{id}/compromised":     "admin",
	"POST /realm/rotate":                    "admin",
	"POST /tickets":                         "anybody TICKET",
	"GET /audit":                            "admin",
	"POST /audit/export":                    "admin AUDIT_RECORD",
	"GET /key-backup":                       "admin",
	"POST /key-backup":                      "admin KEY_BACKUP",
	"POST /backup":                          "admin FOLDER_BACKUP",
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	lines := api.RouteLines()
	if len(lines) != len(permissions) {
		t.Errorf("%d routes, %d permissions", len(lines), len(permissions))
	}
	for _, l := range lines {
		got := strings.TrimSpace(strings.Join(roleNames(l.Allow), " ") + " " + l.Event)
		if want, ok := permissions[l.Pattern]; !ok || got != want {
			t.Errorf("%s: %q, want %q", l.Pattern, got, want)
		}
	}
}

func roleNames(roles []auth.Role) []string {
	var s []string
	for _, r := range roles {
		s = append(s, string(r))
	}
	return s
}

// address fills in a pattern.
func address(pattern string) (method, path string) {
	method, path, _ = strings.Cut(pattern, " ")
	return method, strings.NewReplacer("{id}", "40906145C76224192D2B", "{name}", "site", "{version}", "02").Replace(path)
}

// TestDEF69DenyByDefault tries every route with every single role, with none, and with nobody.
func TestDEF69DenyByDefault(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, l := range api.RouteLines() {
		method, path := address(l.Pattern)
		for _, role := range append(slices.Clone(auth.Roles), "", "root") {
			n.audit.outcomes()
			n.keys.sets = nil
			got := n.as(api.Caller{Name: "eve", Roles: []auth.Role{role}}, method, path, "")
			allowed := slices.Contains(l.Allow, role) || slices.Contains(l.Allow, "anybody")
			if (got.status != http.StatusForbidden) != allowed {
				t.Errorf("%s as %q: %d %s", l.Pattern, role, got.status, got.body)
			}
			denied := slices.Contains(n.audit.outcomes(), "AUTHZ failure")
			if denied != (!allowed && method != "GET") {
				t.Errorf("%s as %q: refusal audited %t", l.Pattern, role, denied)
			}
		}
		r := httptest.NewRequest(method, api.Base+path, nil)
		w := httptest.NewRecorder()
		n.handler.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("%s as nobody: %d", l.Pattern, w.Code)
		}
	}
	if got := n.as(api.Caller{Name: "eve"}, "GET", "/nothing", ""); got.status != http.StatusNotFound {
		t.Errorf("nothing: %d", got.status)
	}
}

func TestUnknownAddress(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.do("GET", "/nothing", "").want(404, `"ClassName": "com.netscape.certsrv.base.ResourceNotFoundException"`, `"Code": 404`, `"status": 404`)
	n.do("GET", "/../../etc/passwd", "").want(404)
	a := n.do("DELETE", "/tokens", "").want(405, "DELETE is not possible here")
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "GET") {
		t.Errorf("Allow: %q", allow)
	}
	if m := a.header.Get("Content-Type"); m != "application/problem+json" {
		t.Errorf("Content-Type %q", m)
	}
}

// TestBadRequests: each is refused, changes nothing, and says why.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.keys.sets = []api.KeySet{{ID: "site/02", Name: "site", Version: "02"}}
	big := `{"Name": "` + strings.Repeat("a", 70<<10) + `"}`
	for _, tt := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/tokens?size=0", "", 400, "size"},
		{"GET", "/tokens?size=1001", "", 400, "1000"},
		{"GET", "/tokens?pageSize=x", "", 400, "size"},
		{"GET", "/tokens?start=-1", "", 400, "start"},
		{"GET", "/tokens?start=1&after=40906145C76224192D2B", "", 400, "do not go together"},
		{"GET", "/tokens?stauts=ACTIVE", "", 400, `no parameter \"stauts\"`},
		{"GET", "/tokens?status=LOST", "", 400, "LOST"},
		{"GET", "/tokens?tokenID=xyz", "", 400, "CUID"},
		{"GET", "/tokens/xyz", "", 400, "CUID"},
		{"GET", "/tokens/40906145C76224192D2B", "", 404, "there is no token 40906145C76224192D2B"},
		{"GET", "/tokens/40906145C76224192D2B/operations", "", 404, "there is no token"},
		{"GET", "/tokens/40906145C76224192D2B/keying", "", 404, "there is no token"},
		{"GET", "/certs?serial=zz", "", 400, "serial"},
		{"GET", "/certs/1", "", 404, "there is no certificate 1"},
		{"GET", "/activities/1", "", 404, "there is no activity 1"},
		{"GET", "/admin/users/eve", "", 404, "there is no user eve"},
		{"POST", "/tokens/xyz?status=DAMAGED", "", 400, "CUID"},
		{"POST", "/tokens/40906145C76224192D2B", "", 400, "status"},
		{"POST", "/tokens/40906145C76224192D2B?status=LOST", "", 400, "LOST"},
		{"POST", "/tokens/40906145C76224192D2B?state=DAMAGED", "", 400, "state"},
		{"POST", "/certs/1/state", `{"action": "burn"}`, 400, "burn"},
		{"POST", "/certs/1/state", `{"action": "revoke", "reason": "mood"}`, 400, "mood"},
		{"POST", "/certs/1/state", `{"action": "hold", "reason": "superseded"}`, 400, "hold takes no reason"},
		{"POST", "/certs/1/state", `{"action": "hold"} {}`, 400, "goes on"},
		{"POST", "/certs/1/state", `{"action": "hold"`, 400, "body"},
		{"POST", "/certs/1/state", `{"action": "hold", "because": "x"}`, 400, "because"},
		{"POST", "/certs/1/state", ``, 415, "application/json"},
		{"POST", "/keysets", big, 413, "65536"},
		{"POST", "/keysets", `{"Name": "Site", "Version": "02", "Type": "aes-128"}`, 400, "Site"},
		{"POST", "/keysets", `{"Name": "site", "Version": "2", "Type": "aes-128"}`, 400, "two hexadecimal"},
		{"POST", "/keysets", `{"Name": "site", "Version": "00", "Type": "aes-128"}`, 400, "01 to 7F"},
		{"POST", "/keysets", `{"Name": "site", "Version": "FF", "Type": "aes-128"}`, 400, "01 to 7F"},
		{"POST", "/keysets", `{"Name": "factory", "Version": "03", "Type": "aes-128"}`, 400, "built in"},
		{"POST", "/keysets", `{"Name": "site", "Version": "02", "Type": "aes-128"}`, 409, "key set site has a version 02 already"},
		{"POST", "/keysets/site/03/test", "", 404, "there is no key set site version 03"},
		{"POST", "/keysets/site/03/retire", "", 404, "there is no key set site version 03"},
		{"POST", "/keysets/factory/01/retire", "", 400, "built in"},
		{"GET", "/operations/1", "", 404, "there is no operation 1"},
		{"GET", "/operations?open=perhaps", "", 400, "perhaps"},
		{"GET", "/operations?tokenID=1", "", 400, "CUID"},
		{"GET", "/profiles/none", "", 404, "there is no profile none"},
		{"PUT", "/profiles/none", `{"Document": "name = \"none\""}`, 400, "none"},
		{"PUT", "/profiles/none", `{"Document": "nome = 1"}`, 400, "nome"},
		{"POST", "/profiles/none?action=enable", "", 404, "there is no profile none"},
		{"POST", "/profiles/none?action=approve", "", 400, "want enable or disable"},
		{"POST", "/releases", `{}`, 400, "one of them"},
		{"POST", "/releases", `{"TokenID": "40906145C76224192D2B", "KDD": "0102030405060708090A"}`, 400, "one of them"},
		{"POST", "/releases", `{"KDD": "01"}`, 400, "KDD"},
		{"POST", "/releases", `{"TokenID": "01"}`, 400, "CUID"},
		{"POST", "/releases", `{"TokenID": "40906145C76224192D2B"}`, 404, "there is no token"},
		{"POST", "/releases", `{"KDD": "0102030405060708090A"}`, 409, "nothing to release"},
		{"POST", "/key-backup", `{"Path": "copy", "passphrase": "correct horse"}`, 400, "absolute"},
		{"POST", "/key-backup", `{"Path": "/tmp/copy"}`, 400, "passphrase"},
		{"POST", "/backup", `{"Path": "copy"}`, 400, "absolute"},
		{"POST", "/backup", `{"Path": "/tmp/copy", "Recipient": "age1x", "passphrase": "correct horse"}`, 400, "not both"},
		{"POST", "/admin/users", `{"UserID": "e v e", "password": "long enough"}`, 400, "user id"},
		{"POST", "/admin/users", `{"UserID": "eve", "Roles": ["root"], "password": "long enough"}`, 400, "unknown role"},
		{"POST", "/admin/users", `{"UserID": "eve"}`, 400, "shorter than 8"},
		{"POST", "/admin/users", `{"UserID": "eve", "password": 12345678}`, 400, "JSON string"},
		{"PATCH", "/admin/users/eve", `{"FullName": "Eve"}`, 404, "there is no user eve"},
		{"DELETE", "/admin/users/eve", "", 404, "there is no user eve"},
	} {
		n.audit.outcomes()
		got := n.do(tt.method, tt.path, tt.body)
		if got.status != tt.status || !strings.Contains(got.body, tt.text) {
			t.Errorf("%s %s %.60s: %d %s, want %d %q", tt.method, tt.path, tt.body, got.status, got.body, tt.status, tt.text)
		}
		if slices.ContainsFunc(n.audit.outcomes(), func(s string) bool { return strings.HasSuffix(s, " success") }) {
			t.Errorf("%s %s: audited as a success", tt.method, tt.path)
		}
	}
	if len(n.engine.asked) != 0 || len(n.keys.sets) != 1 || n.backups.path != "" {
		t.Error("something was done")
	}
}

// TestErrors: what other rooms report, as the caller is told it.
func TestErrors(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	agent := api.Caller{Name: "gus", Roles: []auth.Role{auth.Agent}}
	for _, tt := range []struct {
		err    error
		status int
		text   string
	}{
		{fmt.Errorf("reading: %w", token.ErrUnavailable), 503, "unavailable"},
		{fmt.Errorf("writing: %w", token.ErrConflict), 409, "changed by somebody else"},
		{&api.Error{Status: 501, Message: "no such mechanism", Err: errors.New("CKR_X")}, 501, "no such mechanism"},
		{errors.New("disk on fire"), 500, "internal error"},
	} {
		n.keys.err = tt.err
		got := n.as(agent, "GET", "/keysets", "").want(tt.status, tt.text)
		if strings.Contains(got.body, "disk on fire") || strings.Contains(got.body, "CKR_X") {
			t.Errorf("an agent is told %s", got.body)
		}
	}
	n.do("GET", "/keysets", "").want(500, "disk on fire") // an administrator is told
	if !strings.Contains(n.log.String(), "CKR_X") {
		t.Error("the log lacks the cause")
	}
}

// TestAuditFirst: nothing is done that cannot be audited, and what was done and
// could not be audited is no success.
func TestAuditFirst(t *testing.T) {
	t.Parallel()
	const body = `{"Name": "site", "Version": "02", "Type": "aes-128"}`
	n := newNode(t)
	n.audit.all, n.audit.room = nil, -1
	n.do("POST", "/keysets", body).want(500)
	if len(n.keys.sets) != 0 {
		t.Error("made without an audit record")
	}
	n.audit.room = 1
	n.do("POST", "/keysets", body).want(500, errFull.Error())
	if len(n.keys.sets) != 1 {
		t.Error("not made")
	}
}

func TestKeySets(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.do("GET", "/keysets", "").want(200, `"total": 0`, `"entries": []`)
	n.do("POST", "/keysets", `{"Name": "site", "Version": "02", "Type": "aes-256"}`).want(201, `"id": "site/02"`, `"Type": "aes-256"`)
	n.do("POST", "/keysets/site/02/test", "").want(204)
	n.do("POST", "/keysets/site/02/retire", "").want(204)
	n.do("GET", "/keysets", "").want(200, `"total": 1`, `"Retired": true`)
	if n.keys.by != "local:root" {
		t.Errorf("retired by %q", n.keys.by)
	}
	want := []string{"CONFIG_KEY_SET attempt", "CONFIG_KEY_SET success", "CONFIG_KEY_SET attempt", "CONFIG_KEY_SET success", "CONFIG_KEY_SET attempt", "CONFIG_KEY_SET success"}
	for _, e := range n.audit.all {
		if e.Subject != "local:root" || e.IP != "192.0.2.9" || e.Fields["key_version"] != "02" {
			t.Errorf("event %+v", e)
		}
	}
	if got := n.audit.outcomes(); !slices.Equal(got, want) {
		t.Errorf("audit %q", got)
	}
}

// TestCheckKeySet: what cannot be is said before a key is there.
func TestCheckKeySet(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	const path = "/keysets/check"
	n.do("POST", path, `{"Name": "maker", "Version": "01", "Type": "des2", "KDF": "visa2"}`).want(204)
	n.do("POST", "/keysets", `{"Name": "maker", "Version": "01", "Type": "des2"}`).want(201)
	n.do("POST", path, `{"Name": "maker", "Version": "01", "Type": "des2"}`).want(409, "key set maker has a version 01 already")
	n.do("POST", path, `{"Name": "factory", "Version": "01", "Type": "des2"}`).want(400, "built in")
	if len(n.keys.sets) != 1 {
		t.Errorf("key sets %+v", n.keys.sets)
	}
}

// TestImportKeySet: the keys reach the key service one by one, and nothing else.
func TestImportKeySet(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	const path = "/keysets/import"
	n.do("POST", path, `{"Name": "maker", "Version": "01", "Type": "des2", "KDF": "visa2", "KCVs": ["8BAF47"], "keys": "000102030405060708090a0b0c0d0e0f"}`).
		want(201, `"total": 1`, `"Origin": "imported"`, `"KCV": "8BAF47"`, `"KDF": "visa2"`)
	n.do("POST", path, `{"Name": "maker", "Version": "02", "Type": "des2", "KCVs": ["000001", "000002", "000003"], "keys": "000102030405060708090a0b0c0d0e0f"}`).want(400, "3 keys of one length")
	n.do("POST", path, `{"Name": "maker", "Version": "02", "Type": "x", "KCVs": ["000001", "000002", "000003"], "keys": "0A0B0C"}`).want(201, `"total": 3`)
	n.do("POST", path, `{"Name": "maker", "Version": "01", "Type": "des2", "KCVs": ["8BAF47"], "keys": "00"}`).want(409, "key set maker has a version 01 already")
	for body, text := range map[string]string{
		`{"Name": "factory", "Version": "01", "Type": "x", "KCVs": ["8BAF47"], "keys": "00"}`:           "built in",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": ["8BAF4"], "keys": "00"}`:              "6 hexadecimal digits",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": [], "keys": "00"}`:                     "0 check values",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": ["8BAF47", "8BAF47"], "keys": "0000"}`: "2 check values",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": ["8BAF47"], "keys": ""}`:               "not 1 keys",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": ["8BAF47"], "keys": "0"}`:              "not 1 keys",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": ["8BAF47"], "keys": "0x"}`:             "not 1 keys",
		`{"Name": "maker", "Version": "03", "Type": "x", "KCVs": ["8BAF47"]}`:                           "not 1 keys",
	} {
		n.do("POST", path, body).want(400, text)
	}
	want := []string{"000102030405060708090a0b0c0d0e0f", "0a", "0b", "0c"}
	for i, v := range n.keys.values {
		if i >= len(want) || hex.EncodeToString(v.Bytes()) != want[i] {
			t.Errorf("key %d is another one", i)
		}
	}
	if len(n.keys.values) != len(want) {
		t.Errorf("%d keys", len(n.keys.values))
	}
	for _, e := range n.audit.all {
		for _, f := range e.Fields {
			if strings.Contains(f, "00010203") {
				t.Errorf("event %+v holds the key", e)
			}
		}
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	kdd := gp.KDD{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	known := addToken(n, 1, func(t *token.Token) { t.KDD = &kdd })
	never := addToken(n, 2, nil)
	n.do("POST", "/releases", `{"TokenID": "`+never.String()+`"}`).want(409, "never opened a secure channel")
	n.do("GET", "/tokens/"+known.String()+"/keying", "").want(404)
	for _, body := range []string{`{"TokenID": "` + known.String() + `"}`, `{"KDD": "` + kdd.String() + `"}`} {
		n.keys.ledger[kdd] = api.Keying{KDD: kdd.String(), KeySet: "site", Version: "02", Completed: true}
		n.do("GET", "/tokens/"+known.String()+"/keying", "").want(200, `"Completed": true`, `"KeySet": "site"`)
		r := decode[api.Release](n.do("POST", "/releases", body).want(201))
		if r.TokenID != known.String() || r.KDD != kdd.String() || r.Keying == nil || r.Keying.Version != "02" || n.keys.by != "local:root" {
			t.Errorf("got %+v by %s", r, n.keys.by)
		}
		n.do("POST", "/releases", body).want(409, "nothing to release")
	}
	acts, err := n.db.Activities(t.Context(), token.Filter{CUID: &known})
	must(t, err)
	if len(acts) != 4 || acts[0].Success || !acts[1].Success || acts[1].Operation != "token_modify" || acts[1].UserID != "local:root" {
		t.Errorf("activities %+v", acts)
	}
}

func TestBackup(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.do("GET", "/key-backup", "").want(200, `"Kind": "file"`, "tms:master:site:v02")
	const pass = "corr\u00e9ct \\\"horse\\u00e9\\n"
	n.do("POST", "/key-backup", `{"Path": "/media/copy", "passphrase": "`+pass+`"}`).want(201, `"Checked": "tms:master:site:v02"`)
	if got := string(n.backups.passphrase); got != "corréct \"horseé\n" || n.backups.path != "/media/copy" {
		t.Errorf("got %q for %s", got, n.backups.path)
	}
	for _, b := range n.backups.kept.Bytes() {
		if b != 0 {
			t.Fatal("the passphrase was not wiped")
		}
	}
	n.do("POST", "/backup", `{"Path": "/media/all", "Recipient": "age1x"}`).want(201, `"Files": 7`)
	n.backups.err = &api.Error{Status: 409, Message: "/media/copy exists already"}
	n.do("POST", "/key-backup", `{"Path": "/media/copy", "passphrase": "correct horse"}`).want(409, "exists already")
	if out := n.log.String() + fmt.Sprint(n.audit.all); strings.Contains(out, "horse") {
		t.Errorf("the passphrase is in %s", out)
	}
}
