package api_test

import (
	"net/http"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/token"
)

func TestCardSecret(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	cuid, bare, factory := apdu.CUID{0xFF, 0xFF, 9: 1}, apdu.CUID{0xFF, 0xFF, 9: 2}, apdu.CUID{0xFF, 0xFF, 9: 3}
	for id, k := range map[apdu.CUID]token.AppletKeys{cuid: {Set: "piv", Version: 2, Algorithm: 0x0A}, bare: {}, factory: {Set: tks.Factory, Algorithm: 3}} {
		_, err := n.db.CreateToken(t.Context(), token.Token{CUID: id, State: token.Active, AppletKeys: k})
		must(t, err)
	}
	path := "/tokens/" + cuid.String() + "/secret"
	here := api.Caller{Name: "local:root", Roles: []auth.Role{auth.Agent}}
	a := n.as(here, "POST", path, `{"Use":"puk"}`).want(http.StatusOK, `"Secret": "48151623"`, `"Keys": "piv:02:0A"`)
	if got := decode[api.CardSecret](a); string(got.Secret.Bytes()) != "48151623" {
		t.Errorf("%+v", got)
	}
	n.as(here, "POST", path, `{"Use":"management-key"}`).want(http.StatusOK, `"Secret": "0a02ab"`)
	n.as(here, "POST", path, `{"Use":"pin"}`).want(http.StatusBadRequest)
	n.as(here, "POST", "/tokens/"+bare.String()+"/secret", `{"Use":"puk"}`).want(http.StatusConflict, "no puk of its own")
	n.as(here, "POST", "/tokens/"+factory.String()+"/secret", `{"Use":"puk"}`).want(http.StatusConflict)
	n.as(here, "POST", "/tokens/FFFF0000000000000009/secret", `{"Use":"puk"}`).want(http.StatusNotFound)
	elsewhere := here
	elsewhere.Address = "127.0.0.1"
	n.as(elsewhere, "POST", path, `{"Use":"puk"}`).want(http.StatusForbidden, "own machine alone")
	operator := here
	operator.Roles = []auth.Role{auth.Operator}
	n.as(operator, "POST", path, `{"Use":"puk"}`).want(http.StatusForbidden)
	n.keys.err = tks.ErrDenied
	n.as(here, "POST", path, `{"Use":"puk"}`).want(http.StatusForbidden)
	if text := n.log.String(); strings.Contains(text, "48151623") || strings.Contains(text, "0a02ab") {
		t.Error("a secret is in the log")
	}
	shown := 0
	for _, e := range n.audit.all {
		if e.Name == "TOKEN_SECRET" && e.Outcome == "success" {
			shown++
		}
	}
	if shown != 2 {
		t.Errorf("%d secrets in the audit record, want 2", shown)
	}
	acts, err := n.db.Activities(t.Context(), token.Filter{CUID: &cuid})
	must(t, err)
	if len(acts) != 2 || acts[0].Operation != "token_secret" {
		t.Errorf("activities %+v", acts)
	}
}
