package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/tps/api"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// mappings is a document of mappings, each a filter and a target.
func mappings(name, head string, each ...[2]string) string {
	doc := fmt.Sprintf("name = %q\n%s\n", name, head)
	for _, m := range each {
		doc += fmt.Sprintf("[[mapping]]\n[mapping.filter]\n%s\n[mapping.target]\n%s\n", m[0], m[1])
	}
	return doc
}

// withProfiles is a node with the shipped profiles and a key set.
func withProfiles(t *testing.T) *node {
	t.Helper()
	n := newNode(t, func(c *api.Config) { c.DefaultProfile = "userKey" })
	for _, r := range profile.Shipped(false) {
		_, err := n.db.PutProfile(t.Context(), r)
		must(t, err)
	}
	n.keys.sets = []api.KeySet{{ID: "maker/01", Name: "maker", Version: "01"}}
	return n
}

// TestMappingLife: made, changed, deleted; every change a revision and audited.
func TestMappingLife(t *testing.T) {
	t.Parallel()
	n := withProfiles(t)
	n.do("GET", "/profile-mappings", "").want(200, `"total": 0`, `"entries": []`)
	doc := mappings("cards", `operations = ["enroll"]`, [2]string{"appletMajorVersion = 1", `profile = "soKey"`}, [2]string{"", ""})
	n.audit.outcomes()
	a := n.do("PUT", "/profile-mappings/cards", profileBody(t, doc)).want(201)
	m := decode[api.ProfileMapping](a)
	want := []api.MappingLine{{Filter: "protocol_major = 1", Target: "profile = soKey"}, {Filter: "every card", Target: "refused"}}
	if m.Status != "Enabled" || m.Revision != 1 || m.Document != doc || m.Resolves != "profile" || len(m.Warnings) != 1 || !slices.Equal(m.Mappings, want) ||
		a.header.Get("ETag") != `"1"` || a.header.Get("Location") != api.Base+"/profile-mappings/cards" {
		t.Errorf("made %+v, %v", m, a.header)
	}
	if got := n.audit.outcomes(); !slices.Equal(got, []string{"CONFIG_TOKEN_MAPPING_RESOLVER attempt", "CONFIG_TOKEN_MAPPING_RESOLVER success"}) {
		t.Errorf("audit %v", got)
	}
	n.do("PUT", "/profile-mappings/cards", profileBody(t, doc), "If-Match", `"1"`).want(200, `"Revision": 1`) // nothing to do
	changed := strings.Replace(doc, "soKey", "userKey", 1)
	n.do("PUT", "/profile-mappings/cards", profileBody(t, changed)).want(428)
	n.do("PUT", "/profile-mappings/cards", profileBody(t, changed), "If-Match", `"2"`).want(412, "changed by somebody else")
	n.do("PUT", "/profile-mappings/cards", profileBody(t, changed), "If-Match", `"1"`).want(200, `"Revision": 2`)
	n.do("GET", "/profile-mappings/cards", "").want(200, "userKey", `"Revision": 2`)
	if got := n.do("GET", "/profile-mappings", "").want(200, `"total": 1`, "profile = userKey"); strings.Contains(got.body, `"Document"`) {
		t.Error("a list shows documents")
	}
	n.do("DELETE", "/profile-mappings/cards", "").want(428)
	n.do("DELETE", "/profile-mappings/cards", "", "If-Match", `"1"`).want(412)
	n.do("DELETE", "/profile-mappings/cards", "", "If-Match", `"2"`).want(204)
	n.do("DELETE", "/profile-mappings/cards", "", "If-Match", `"2"`).want(404, "there are no mappings cards")
	n.do("GET", "/profile-mappings/cards", "").want(404)
}

// TestMappingRefused: a document is taken as a whole or not at all, and one
// document answers one question.
func TestMappingRefused(t *testing.T) {
	t.Parallel()
	n := withProfiles(t)
	const enroll, keys = `operations = ["enroll"]`, "operations = [\"enroll\"]\nresolves = \"keys\""
	for name, tt := range map[string]struct{ document, text string }{
		"unknown key":     {mappings("cards", enroll, [2]string{"colour = 1", ""}), "colour"},
		"another name":    {mappings("other", enroll, [2]string{}), "other"},
		"unknown profile": {mappings("cards", enroll, [2]string{}, [2]string{"", `profile = "ghost"`}), "mapping 2: there is no profile ghost"},
		"unknown keys":    {mappings("cards", keys, [2]string{"", `key_set = "ghost"`}), "mapping 1: there is no key set ghost"},
		"unknown factory": {mappings("cards", keys, [2]string{"", `factory = "ghost"`}), "there is no key set ghost"},
	} {
		if got := n.do("PUT", "/profile-mappings/cards", profileBody(t, tt.document)); got.status != 400 || !strings.Contains(got.body, tt.text) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	n.do("PUT", "/profile-mappings/cards", profileBody(t, mappings("cards", enroll, [2]string{})), "If-Match", `"1"`).want(412)
	if all, err := n.db.Resolvers(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("stored %+v, %v", all, err)
	}
	n.do("PUT", "/profile-mappings/cards", profileBody(t, mappings("cards", enroll, [2]string{}))).want(201)
	n.do("PUT", "/profile-mappings/more", profileBody(t, mappings("more", `operations = ["format", "enroll"]`, [2]string{}))).want(409, "cards resolve the profile for enroll")
	n.do("PUT", "/profile-mappings/more", profileBody(t, mappings("more", `operations = ["format"]`, [2]string{}))).want(201)
	n.do("PUT", "/profile-mappings/keys", profileBody(t, mappings("keys", keys, [2]string{"", "key_set = \"maker\"\nfactory = \"factory\""}))).want(201)

	// A document of the past that can no longer be read is shown, and can be deleted.
	_, err := n.db.PutResolver(t.Context(), profile.ResolverRecord{Name: "old", Document: "colour = 1"})
	must(t, err)
	n.do("GET", "/profile-mappings/old", "").want(200, `"Problem": "decoding mappings: unknown key colour"`)
	n.do("DELETE", "/profile-mappings/old", "", "If-Match", `"1"`).want(204)
}

// TestProfileChoice: what a session would choose, with the reasons.
func TestProfileChoice(t *testing.T) {
	t.Parallel()
	n := withProfiles(t)
	n.do("PUT", "/profile-mappings/cards", profileBody(t, mappings("cards", `operations = ["enroll", "pin-reset"]`,
		[2]string{`cuid_end = "50000000000000000000"`, `profile = "soKey"`},
		[2]string{"applet_minor = 4", `profile = "cleanToken"`}, [2]string{`key_set = "none"`, ""}))).want(201)
	n.do("PUT", "/profile-mappings/keys", profileBody(t, mappings("keys", "operations = [\"enroll\"]\nresolves = \"keys\"",
		[2]string{"sym_key_size = 256", `factory = "maker"`}))).want(201)
	cuid := apdu.CUID{0x40, 0x90}
	_, err := n.db.CreateToken(context.Background(), token.Token{CUID: cuid, Profile: "userSigningKey", State: token.Active})
	must(t, err)
	for query, want := range map[string]string{
		"operation=enroll&tokenID=" + cuid.String():                                  "soKey mapping factory",
		"operation=enroll&tokenID=60000000000000000000":                              "userKey default factory",
		"operation=enroll&tokenID=60000000000000000000&symKeySize=256":               "userKey default maker",
		"operation=enroll&tokenID=60000000000000000000&tokenType=soKey":              "soKey tokenType factory",
		"operation=enroll&profile=userKey":                                           "userKey request factory",
		"operation=pin-reset&tokenID=" + cuid.String():                               "userSigningKey card factory",
		"operation=pin-reset&tokenID=" + cuid.String() + "&tokenType=userKey":        "soKey mapping factory",
		"operation=renew&tokenID=" + cuid.String() + "&tokenType=userKey":            "userSigningKey card factory",
		"operation=format&tokenID=" + cuid.String():                                  "userKey default factory",
		"operation=enroll&tokenID=60000000000000000000&tokenATR=3B00&keySet=another": "userKey default factory",
	} {
		c := decode[api.ProfileChoice](n.do("GET", "/profile-choice?"+query, "").want(200))
		if got := fmt.Sprint(c.Profile, " ", c.By, " ", c.Factory); got != want || c.Problem != "" {
			t.Errorf("%s: %s, %s; want %s", query, got, c.Problem, want)
		}
	}
	for query, want := range map[string]string{
		"operation=enroll&tokenID=60000000000000000000&appletVersion=1.4&protocolVersion=1.1": "does not serve",
		"operation=enroll&tokenID=60000000000000000000&keySet=none":                           "mapping 3 of cards",
		"operation=enroll&profile=ghost":                                                      "unknown profile",
	} {
		if c := decode[api.ProfileChoice](n.do("GET", "/profile-choice?"+query, "").want(200)); !strings.Contains(c.Problem, want) || c.Profile != "" {
			t.Errorf("%s: %+v", query, c)
		}
	}
	for _, query := range []string{"", "operation=renewal", "operation=enroll&tokenID=40", "operation=enroll&tokenATR=3", "operation=enroll&symKeySize=big",
		"operation=enroll&appletVersion=1", "operation=enroll&protocolVersion=1.1.1", "operation=enroll&colour=blue"} {
		n.do("GET", "/profile-choice?"+query, "").want(400)
	}
}

// TestDEF59: the list of profiles is what is stored, whatever its name, state and
// operations: none has to be entered in a list besides.
func TestDEF59(t *testing.T) {
	t.Parallel()
	n := withProfiles(t)
	want := map[string]bool{"soCleanSOToken": true}
	for _, r := range profile.Shipped(false) {
		want[string(r.Name)] = true
	}
	doc := document(t, "cleanToken", `name = "cleanToken"`, `name = "soCleanSOToken"`)
	n.do("PUT", "/profiles/soCleanSOToken", profileBody(t, doc)).want(201)
	list := decode[api.List[api.Profile]](n.do("GET", "/profiles", "").want(200))
	if len(list.Entries) != len(want) || *list.Total != len(want) {
		t.Errorf("%d profiles listed, %d stored", len(list.Entries), len(want))
	}
	for _, p := range list.Entries {
		if !want[p.ID] {
			t.Errorf("%s is listed and not stored", p.ID)
		}
		n.do("GET", "/profiles/"+p.ID, "").want(200, `"Document"`)
	}
}
