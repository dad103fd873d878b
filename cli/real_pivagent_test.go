//go:build unix

package cli_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"inkan/tps/api"
)

// logsInAsAgent: curl shows certificates of the card to inkan serve, logs in and does an
// agent's work, until the card is suspended or the certificate revoked. A card without a
// record is a stranger's.
func (b *pivBench) logsInAsAgent(t *testing.T) {
	if b.user == "" {
		b.refuses(t, "9a", "on no card")
		return
	}
	b.refuses(t, "9e", "without the PIN")
	access := b.logsIn(t)
	b.asked(t, "9a", access, http.StatusOK, `"UserID": "`+b.user+`"`)
	b.asked(t, "", access, http.StatusUnauthorized, "begun with a certificate")
	b.asked(t, "9e", access, http.StatusUnauthorized, "begun with a certificate")
	node := []string{"--server", b.server, "--trust", b.authority}
	b.run(t, append([]string{"login", "--card", "--reader", b.reader(), "--pin-file", b.secretFile(t, b.pin)}, node...)...)
	expect(t, b.run(t, append([]string{"token", "list"}, node...)...).out, " "+b.user+" ")
	var cards api.List[api.Token]
	b.query(t, &cards, "token", "list", "--user", b.user)
	cuid := cards.Entries[0].TokenID
	b.run(t, "token", "set-state", cuid, "TEMP_LOST")
	b.asked(t, "9a", access, http.StatusUnauthorized, "temporarily lost")
	b.refuses(t, "9a", "temporarily lost")
	b.run(t, "token", "set-state", cuid, "FOUND")
	access = b.logsIn(t)
	serial := b.must(t, "openssl", "x509", "-in", "9a.crt", "-noout", "-serial")
	b.run(t, "cert", "revoke", strings.TrimPrefix(strings.TrimSpace(serial), "serial="))
	b.asked(t, "9a", access, http.StatusUnauthorized, "it is revoked")
	b.refuses(t, "9a", "it is revoked")
}

// toNode are the arguments of curl for a request to the node.
func (b *pivBench) toNode(path string) []string {
	return []string{"--silent", "--show-error", "--cacert", b.authority, "--write-out", "%{stderr}%{http_code}", b.server + "/tps/v2" + path}
}

// byCard logs in with the certificate of a slot, and returns status and answer.
func (b *pivBench) byCard(t *testing.T, slot string) (status int, answer string) {
	t.Helper()
	r := b.curl(t, slot, append(b.toNode("/account/token"), "--json", `{"certificate": true}`)...)
	status, err := strconv.Atoi(r.err)
	if r.code != 0 || err != nil {
		t.Fatalf("curl: exit %d\n%s%s", r.code, r.out, r.err)
	}
	return status, r.out
}

// logsIn returns the access token.
func (b *pivBench) logsIn(t *testing.T) string {
	t.Helper()
	var g struct {
		Access string `json:"access_token"`
	}
	status, answer := b.byCard(t, "9a")
	if err := json.Unmarshal([]byte(answer), &g); err != nil || status != http.StatusOK || g.Access == "" {
		t.Fatalf("logging in: %d %s", status, answer)
	}
	return g.Access
}

func (b *pivBench) refuses(t *testing.T, slot, why string) {
	t.Helper()
	if status, answer := b.byCard(t, slot); status != http.StatusUnauthorized || !strings.Contains(answer, why) {
		t.Errorf("logging in with slot %s: %d %s, want %q", slot, status, answer, why)
	}
}

// asked lists the cards over a connection that shows the certificate of a slot, or none.
func (b *pivBench) asked(t *testing.T, slot, access string, want int, text string) {
	t.Helper()
	args := append(b.toNode("/tokens"), "--header", "@"+b.file(t, "header", "Authorization: Bearer "+access))
	var r result
	if slot == "" {
		r = b.try(t, nil, "curl", args...)
	} else {
		r = b.curl(t, slot, args...)
	}
	if r.err != strconv.Itoa(want) || !strings.Contains(r.out, text) {
		t.Errorf("listing cards with %q: exit %d, %s %s, want %d %q", slot, r.code, r.err, r.out, want, text)
	}
}
