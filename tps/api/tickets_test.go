package api_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// TestTickets: agents issue tickets for anybody, others for themselves; the ticket is in
// the answer and nowhere else.
func TestTickets(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	must(t, n.realm.Prepare(t.Context()))
	for _, id := range []token.UserID{"ada", "bob"} {
		_, err := auth.Create(t.Context(), n.db, auth.User{ID: id}, secret.New([]byte("a long password")))
		must(t, err)
	}
	const card = "40906145C76224192D2B"
	ada := api.Caller{Name: "ada", Roles: []auth.Role{auth.Operator}}
	olga := api.Caller{Name: "olga", Roles: []auth.Role{auth.Agent}}
	type issued struct {
		api.Ticket
		Text string `json:"ticket"`
	}
	own := decode[issued](n.as(ada, "POST", "/tickets", `{"TokenID":"`+card+`","Operation":"pin-reset"}`).want(http.StatusCreated))
	if own.UserID != "ada" || own.Operation != "pin-reset" || own.Expires == 0 {
		t.Errorf("%+v", own.Ticket)
	}
	another := decode[issued](n.as(olga, "POST", "/tickets", `{"TokenID":"`+card+`","UserID":"bob","Operation":"enroll"}`).want(http.StatusCreated))
	if c := claimsOf(t, another.Text); c["sub"] != "bob" || c["act"] != "olga" || c["cuid"] != card || c["op"] != "enroll" {
		t.Errorf("%v", c)
	}
	n.as(ada, "POST", "/tickets", `{"TokenID":"`+card+`","UserID":"bob","Operation":"enroll"}`).want(http.StatusForbidden, "agent")
	n.as(olga, "POST", "/tickets", `{"TokenID":"`+card+`","UserID":"eve","Operation":"enroll"}`).want(http.StatusNotFound, "eve")
	n.as(olga, "POST", "/tickets", `{"TokenID":"`+card+`","UserID":"bob","Operation":"format"}`).want(http.StatusBadRequest, "pin-reset")
	n.as(olga, "POST", "/tickets", `{"TokenID":"x","UserID":"bob","Operation":"enroll"}`).want(http.StatusBadRequest)
	audited := 0
	for _, e := range n.audit.all {
		if e.Name == "TICKET" && e.Outcome == "success" && e.CUID == card {
			audited++
		}
		for _, v := range e.Fields {
			if strings.Contains(v, another.Text) {
				t.Error("the ticket is in the audit record")
			}
		}
	}
	if audited != 2 || strings.Contains(n.log.String(), another.Text) {
		t.Errorf("%d audited", audited)
	}
}

// TestAuditRecord: what is proved is told, and what is wrong is no error of the request.
func TestAuditRecord(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := decode[api.AuditProof](n.do("GET", "/audit", "").want(http.StatusOK))
	if p.Events != 2 || p.Signed != 1 || p.Unsigned != 1 || p.Problem != "" {
		t.Errorf("%+v", p)
	}
	p = decode[api.AuditProof](n.do("POST", "/audit/export", `{"Path":"/tmp/x"}`).want(http.StatusCreated))
	if p.Path != "/tmp/x" || !strings.Contains(p.Problem, "line 2") {
		t.Errorf("%+v", p)
	}
	n.do("POST", "/audit/export", `{"Path":"x"}`).want(http.StatusBadRequest, "absolute")
}

// TestIDToken: whoever asks for one at the login is told who logged in, for a client that
// is registered.
func TestIDToken(t *testing.T) {
	t.Parallel()
	_, do := front(t)
	type answered struct {
		granted
		ID string `json:"id_token"`
	}
	login := func(more string) answer {
		return do("POST", api.TokenPath, "", `{"UserID":"ada","password":"grace hopper"`+more+`}`)
	}
	if a := decode[answered](login("").want(http.StatusOK)); a.ID != "" {
		t.Error("an id token that nobody asked for")
	}
	login(`,"scope":"openid","client_id":"stranger"`).want(http.StatusBadRequest, "not registered")
	login(`,"scope":"openid","client_id":"inkan","nonce":"`+strings.Repeat("n", 256)+`"`).want(http.StatusBadRequest, "nonce")
	a := decode[answered](login(`,"scope":"profile openid","client_id":"inkan","nonce":"n-1"`).want(http.StatusOK))
	first := claimsOf(t, a.ID)
	if first["aud"] != "inkan" || first["nonce"] != "n-1" || first["sub"] != "ada" || first["at_hash"] == "" || first["auth_time"] == nil || first["sid"] == "" {
		t.Errorf("%v", first)
	}
	do("GET", "/tokens", a.ID, "").want(http.StatusUnauthorized)
	again := decode[answered](do("POST", api.TokenPath, "", `{"refresh_token":"`+a.Refresh+`","scope":"openid","client_id":"inkan"}`).want(http.StatusOK))
	if c := claimsOf(t, again.ID); c["auth_time"] != first["auth_time"] || c["sid"] != first["sid"] || c["nonce"] != nil {
		t.Errorf("after a refresh %v", c)
	}
}

// claimsOf are the claims of a token.
func claimsOf(t *testing.T, text string) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	must(t, err)
	var c map[string]any
	must(t, json.Unmarshal(b, &c))
	return c
}
