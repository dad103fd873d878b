package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// document is a shipped profile's, changed by pairs of old and new text.
func document(t *testing.T, name token.ProfileName, edits ...string) string {
	t.Helper()
	for _, r := range profile.Shipped(false) {
		if r.Name == name {
			return strings.NewReplacer(edits...).Replace(r.Document)
		}
	}
	t.Fatalf("no profile %s is shipped", name)
	return ""
}

func profileBody(t *testing.T, document string) string {
	t.Helper()
	b, err := json.Marshal(api.ProfileDocument{Document: document})
	must(t, err)
	return string(b)
}

// TestProfileLife: made, enabled, changed, disabled; every change a revision.
func TestProfileLife(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.do("GET", "/profiles", "").want(200, `"total": 0`, `"entries": []`)
	doc := document(t, "cleanToken")
	a := n.do("PUT", "/profiles/cleanToken", profileBody(t, doc)).want(201)
	p := decode[api.Profile](a)
	if p.Status != "Disabled" || p.Revision != 1 || p.Document != doc || !slices.Equal(p.Operations, []string{"format"}) || a.header.Get("ETag") != `"1"` ||
		a.header.Get("Location") != api.Base+"/profiles/cleanToken" {
		t.Errorf("made %+v, %v", p, a.header)
	}
	n.do("POST", "/profiles/cleanToken?action=enable", "", "If-Match", `"1"`).want(200, `"Status": "Enabled"`, `"Revision": 2`)
	n.do("POST", "/profiles/cleanToken?action=enable", "", "If-Match", `"2"`).want(200, `"Revision": 2`) // nothing to do
	n.do("PUT", "/profiles/cleanToken", profileBody(t, doc), "If-Match", `"2"`).want(200, `"Revision": 2`)
	changed := document(t, "cleanToken", "retries = 3", "retries = 2")
	n.do("PUT", "/profiles/cleanToken", profileBody(t, changed)).want(428)
	n.do("PUT", "/profiles/cleanToken", profileBody(t, changed), "If-Match", `"1"`).want(412, "changed by somebody else")
	n.do("PUT", "/profiles/cleanToken", profileBody(t, changed), "If-Match", `"2"`).want(200, `"Status": "Enabled"`, `"Revision": 3`)
	n.do("POST", "/profiles/cleanToken?action=disable", "", "If-Match", `"2"`).want(412)
	n.do("POST", "/profiles/cleanToken?action=disable", "", "If-Match", `"3"`).want(200, `"Status": "Disabled"`)
	got := n.do("GET", "/profiles", "").want(200, `"Title": "Cleaning by an operator"`, `"Revision": 4`)
	if strings.Contains(got.body, "Document") {
		t.Error("a list shows documents")
	}
	old, err := n.db.ProfileRevision(t.Context(), "cleanToken", 2)
	must(t, err)
	if old.Document != doc {
		t.Error("revision 2 is gone")
	}
	var sets []string
	for _, e := range n.audit.all {
		if e.Name != "CONFIG_TOKEN_PROFILE" || e.Fields["profile"] != "cleanToken" && e.Fields["info"] == "" {
			t.Errorf("event %+v", e)
		}
		if e.Outcome == "success" {
			sets = append(sets, fmt.Sprint(e.Fields["op"], " ", e.Fields["revision"], " ", e.Fields["state"], " ", len(e.Fields["sha256"])))
		}
	}
	if want := []string{"set 1 disabled 64", "enable 2 enabled 64", "set 3 enabled 64", "disable 4 disabled 64"}; !slices.Equal(sets, want) {
		t.Errorf("audit %q", sets)
	}
}

// TestProfileApproval: what an administrator writes serves when an agent has enabled it.
func TestProfileApproval(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	admin := api.Caller{Name: "amy", Roles: []auth.Role{auth.Admin}}
	agent := api.Caller{Name: "gus", Roles: []auth.Role{auth.Agent}}
	n.as(agent, "PUT", "/profiles/cleanToken", profileBody(t, document(t, "cleanToken"))).want(403)
	n.as(admin, "PUT", "/profiles/cleanToken", profileBody(t, document(t, "cleanToken"))).want(201)
	n.as(admin, "POST", "/profiles/cleanToken?action=enable", "", "If-Match", `"1"`).want(403, "approves")
	n.as(agent, "POST", "/profiles/cleanToken?action=enable", "", "If-Match", `"1"`).want(200, `"Enabled"`)
	changed := profileBody(t, document(t, "cleanToken", "retries = 3", "retries = 1"))
	n.as(admin, "PUT", "/profiles/cleanToken", changed, "If-Match", `"2"`).want(200, `"Status": "Pending_Approval"`)
	_, err := profile.Choose(t.Context(), n.db, n.db, profile.Request{Operation: profile.Formatting, Default: "cleanToken"})
	if err == nil {
		t.Error("a profile serves that nobody has approved")
	}
	n.as(agent, "POST", "/profiles/cleanToken?action=enable", "", "If-Match", `"3"`).want(200, `"Enabled"`)
	c, err := profile.Choose(t.Context(), n.db, n.db, profile.Request{Operation: profile.Formatting, Default: "cleanToken"})
	if err != nil || c.Profile.Auth.Retries != 1 {
		t.Errorf("%+v, %v", c.Profile.Auth, err)
	}
	n.as(admin, "POST", "/profiles/cleanToken?action=disable", "", "If-Match", `"4"`).want(200, `"Disabled"`)
}

// TestProfileRefused: a document is taken as a whole or not at all.
func TestProfileRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, tt := range map[string]struct{ document, text string }{
		"unknown key":  {document(t, "cleanToken", "retries", "retires"), "retires"},
		"bad value":    {document(t, "cleanToken", `level = "best"`, `level = "none"`), "level"},
		"another name": {document(t, "soKey"), "soKey"},
		"no TOML":      {"name = ", "decoding profile"},
		"too long":     {document(t, "cleanToken") + "# " + strings.Repeat("x", profile.MaxDocument), "body"},
	} {
		got := n.do("PUT", "/profiles/cleanToken", profileBody(t, tt.document))
		if got.status != 400 && got.status != 413 || !strings.Contains(got.body, tt.text) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	n.do("PUT", "/profiles/cleanToken", profileBody(t, document(t, "cleanToken")), "If-Match", `"1"`).want(412, "not there any more")
	if all, err := n.db.Profiles(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("stored %+v, %v", all, err)
	}
	// A document of the past that can no longer be read is shown, and not enabled.
	_, err := n.db.PutProfile(t.Context(), profile.Record{Name: "old", State: profile.Disabled, Document: "colour = 1"})
	must(t, err)
	n.do("GET", "/profiles/old", "").want(200, `"Problem": "decoding profile: unknown key colour"`, `"Operations": []`)
	n.do("POST", "/profiles/old?action=enable", "", "If-Match", `"1"`).want(409, "colour")
}
