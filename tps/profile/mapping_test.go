package profile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// rules is a document of mappings; each is a filter and a target, lines of TOML
// inside them.
func rules(name, head string, mappings ...[2]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name = %q\n%s\n", name, head)
	for _, m := range mappings {
		fmt.Fprintf(&b, "[[mapping]]\n[mapping.filter]\n%s\n[mapping.target]\n%s\n", m[0], m[1])
	}
	return b.String()
}

// readOnly is what a choice does not need.
type readOnly interface{ profile.Resolvers }

// board is a Resolvers in memory.
type board struct {
	readOnly
	all []profile.ResolverRecord
	err error
}

func (b board) Resolvers(context.Context) ([]profile.ResolverRecord, error) { return b.all, b.err }

func onBoard(documents ...string) board {
	var b board
	for _, d := range documents {
		name, _, _ := strings.Cut(strings.TrimPrefix(d, `name = "`), `"`)
		b.all = append(b.all, profile.ResolverRecord{Name: name, Revision: 1, Document: d})
	}
	return b
}

// shelved has the shipped profiles, and some that do not serve.
func shelved() shelf {
	s := shelf{all: map[token.ProfileName]profile.Record{}}
	for _, r := range profile.Shipped(false) {
		s.all[r.Name] = r
	}
	s.all["off"] = profile.Record{Name: "off", State: profile.Disabled, Document: strings.Replace(minimal, `"card"`, `"off"`, 1)}
	return s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

var (
	anATR   = apdu.ATR{0x3B, 0x75, 0x94, 0x00, 0x00, 0x62, 0x02, 0x02, 0x00, 0x00}
	aCUID   = apdu.CUID{0x40, 0x90, 0x61, 0x45, 0xC7, 0x62, 0x24, 0x19, 0x2D, 0x2B}
	aCard   = profile.Seen{TokenType: "soKey", KeySet: "maker", ATR: anATR, CUID: aCUID, KeySize: 128, Applet: &anApplet}
	nothing = profile.Seen{CUID: aCUID}

	anApplet = profile.AppletVersions{ProtocolMajor: 1, ProtocolMinor: 1, AppletMajor: 1, AppletMinor: 4}
)

// TestFilters: every condition that is set has to pass, an extension that was not
// sent never does, and an empty condition always does (§15.2).
func TestFilters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		filter string
		seen   profile.Seen
		miss   string // a part of the reason; empty = passes
	}{
		{"", nothing, ""},
		{"token_type = \"\"\ntoken_atr = \"\"\ncuid_start = \"\"\nsym_key_size = 0", nothing, ""},
		{`token_type = "soKey"`, aCard, ""},
		{`token_type = "SOKEY"`, aCard, `token_type is "soKey", not "SOKEY"`},
		{`token_type = "soKey"`, nothing, "sends no token_type"},
		{`key_set = "maker"`, aCard, ""},
		{`key_set = "Maker"`, aCard, `key_set is "maker"`},
		{`key_set = "maker"`, nothing, "sends no key_set"},
		{`token_atr = "3b759400006202020000"`, aCard, ""},
		{`token_atr = "3B75940000620202000001"`, aCard, "token_atr is 3B7594"},
		{`token_atr = "3B759400006202020000"`, nothing, "sends no token_atr"},
		{"cuid_start = \"40906145C76224192D2B\"\ncuid_end = \"40906145c76224192d2b\"", nothing, ""},
		{`cuid_start = "40906145C76224192D2C"`, nothing, "below"},
		{`cuid_end = "40906145C76224192D2A"`, nothing, "above"},
		{`cuid_start = "40906145C76224192D00"`, nothing, ""},
		{`cuid_end = "FFFFFFFFFFFFFFFFFFFF"`, nothing, ""},
		{"sym_key_size = 128", aCard, ""},
		{"sym_key_size = 256", aCard, "128 bits, not 256"},
		{"sym_key_size = 128", nothing, "does not show"},
		{"applet_major = 1\napplet_minor = 4\nprotocol_major = 1\nprotocol_minor = 1", aCard, ""},
		{"applet_major = 1", nothing, "not known"},
		{"applet_major = 0\napplet_minor = 0", profile.Seen{Applet: &profile.AppletVersions{}}, ""},
		{"token_type = \"soKey\"\nkey_set = \"other\"", aCard, "key_set"},
	} {
		r := must[profile.Resolver](t)(profile.DecodeResolver([]byte(rules("r", `operations = ["enroll"]`, [2]string{tt.filter, `profile = "userKey"`}))))
		miss := r.Mappings[0].Filter.Miss(tt.seen)
		if (miss == "") != (tt.miss == "") || !strings.Contains(miss, tt.miss) {
			t.Errorf("%s: %q, want %q", tt.filter, miss, tt.miss)
		}
	}
}

// TestDEF05: the applet's version and its protocol's are two filters. The old
// names mean what they always did, the protocol's, and a reader is warned.
func TestDEF05(t *testing.T) {
	t.Parallel()
	for filter, passes := range map[string]bool{
		"protocol_major = 1\nprotocol_minor = 1":         true,
		"protocol_major = 1\nprotocol_minor = 4":         false,
		"applet_major = 1\napplet_minor = 4":             true,
		"applet_major = 1\napplet_minor = 1":             false,
		"appletMajorVersion = 1\nappletMinorVersion = 1": true,
		"appletMajorVersion = 1\nappletMinorVersion = 4": false,
	} {
		r := must[profile.Resolver](t)(profile.DecodeResolver([]byte(rules("r", `operations = ["enroll"]`, [2]string{filter, `profile = "userKey"`}))))
		if winner, misses := r.Winner(aCard); (winner == 0) != passes {
			t.Errorf("%s: winner %d, %v", filter, winner, misses)
		}
		if old := strings.Contains(filter, "Version"); old != (len(r.Warnings) == 2) || !old && len(r.Warnings) != 0 {
			t.Errorf("%s: warnings %q", filter, r.Warnings)
		}
	}
	_, err := profile.DecodeResolver([]byte(rules("r", `operations = ["enroll"]`, [2]string{"appletMajorVersion = 1\nprotocol_major = 1", ""})))
	if err == nil || !strings.Contains(err.Error(), "are the same") {
		t.Errorf("both names: %v", err)
	}
}

// TestDEF51: mappings say themselves which operations ask them, so that none
// depends on a name that does not exist; an operation that no mappings name gets
// the default profile.
func TestDEF51(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"", "operations = []", `operations = ["renewal"]`, `operations = ["enroll", "enroll"]`} {
		if _, err := profile.DecodeResolver([]byte(rules("r", head, [2]string{"", `profile = "userKey"`}))); err == nil || !strings.Contains(err.Error(), "operations") {
			t.Errorf("%q: %v", head, err)
		}
	}
	b := onBoard(rules("r", `operations = ["enroll"]`, [2]string{"", `profile = "soKey"`}))
	for operation, want := range map[string]token.ProfileName{"enroll": "soKey", "format": "userKey"} {
		c := must[profile.Choice](t)(profile.Choose(t.Context(), shelved(), b, profile.Request{Operation: operation, Default: "userKey"}))
		if c.Profile.Name != want {
			t.Errorf("%s: %s by %s", operation, c.Profile.Name, c.By)
		}
	}
}

// TestDEF54: a target counts in the mapping that wins and nowhere else; there it
// has to be.
func TestDEF54(t *testing.T) {
	t.Parallel()
	for _, resolves := range []string{"profile", "keys"} {
		target := map[string]string{"profile": `profile = "soKey"`, "keys": `key_set = "maker"`}[resolves]
		head := fmt.Sprintf("operations = [\"enroll\"]\nresolves = %q", resolves)
		without, with := [2]string{`token_type = "visitor"`, ""}, [2]string{"", target}
		b := onBoard(rules("r", head, without, with))
		choose := func(tokenType string) (profile.Choice, error) {
			return profile.Choose(t.Context(), shelved(), b, profile.Request{Operation: "enroll", Seen: profile.Seen{TokenType: tokenType}, Default: "userKey"})
		}
		c, err := choose("")
		if err != nil || c.Profile.Name != "soKey" && c.Profile.Keys.Set != "maker" {
			t.Errorf("%s: a mapping that is passed over lacks its target: %s, %s, %v", resolves, c.Profile.Name, c.Profile.Keys.Set, err)
		}
		if c, err := choose("visitor"); !errors.Is(err, profile.ErrNoTarget) || !strings.Contains(err.Error(), "mapping 1 of r") {
			t.Errorf("%s: the winner lacks its target: %+v, %v", resolves, c, err)
		}
	}
}

// TestChooseOrder is who decides: the client that requires, the card, the mapping,
// the client's wish, the default.
func TestChooseOrder(t *testing.T) {
	t.Parallel()
	mapped := rules("m", `operations = ["enroll", "format"]`, [2]string{`cuid_end = "50000000000000000000"`, `profile = "userSigningKey"`})
	low, high := profile.Seen{CUID: aCUID, TokenType: "soKey"}, profile.Seen{CUID: apdu.CUID{0x60}, TokenType: "soKey"}
	for _, tt := range []struct {
		name string
		req  profile.Request
		want token.ProfileName
		by   profile.Source
	}{
		{"required", profile.Request{Required: "userKey", Own: "soKey", Seen: low}, "userKey", profile.ByRequest},
		{"own", profile.Request{Own: "userKey", Seen: low}, "userKey", profile.ByCard},
		{"own is gone", profile.Request{Own: "gone", Seen: low}, "userSigningKey", profile.ByMapping},
		{"own is disabled", profile.Request{Own: "off", Seen: low}, "userSigningKey", profile.ByMapping},
		{"mapping before the wish", profile.Request{Seen: low}, "userSigningKey", profile.ByMapping},
		{"no mapping passes", profile.Request{Seen: high}, "soKey", profile.ByTokenType},
		{"no wish either", profile.Request{Seen: profile.Seen{CUID: apdu.CUID{0x60}}}, "userKey", profile.ByDefault},
	} {
		tt.req.Operation, tt.req.Default = "enroll", "userKey"
		c, err := profile.Choose(t.Context(), shelved(), onBoard(mapped), tt.req)
		if err != nil || c.Profile.Name != tt.want || c.By != tt.by {
			t.Errorf("%s: %s by %s, %v; want %s by %s", tt.name, c.Profile.Name, c.By, err, tt.want, tt.by)
		}
	}
}

// TestChooseMapped: what the winner names is taken or refused, never passed over;
// mappings that cannot be read are the node's fault.
func TestChooseMapped(t *testing.T) {
	t.Parallel()
	to := func(target string) string {
		return rules("m", `operations = ["enroll"]`, [2]string{"", fmt.Sprintf("profile = %q", target)})
	}
	for target, want := range map[string]error{"gone": profile.ErrUnknown, "off": profile.ErrDisabled, "cleanToken": profile.ErrNotServed} {
		c, err := profile.Choose(t.Context(), shelved(), onBoard(to(target)), profile.Request{Operation: "enroll", Default: "userKey"})
		if !errors.Is(err, want) || len(c.Visits) != 1 || c.By != profile.ByMapping {
			t.Errorf("%s: %+v, %v", target, c, err)
		}
	}
	broken := onBoard(to("soKey"))
	broken.all[0].Document = "name = "
	alias := onBoard(to("soKey"))
	alias.all[0].Name = "n"
	for name, b := range map[string]board{"broken": broken, "alias": alias, "store": {err: token.ErrUnavailable}} {
		_, err := profile.Choose(t.Context(), shelved(), b, profile.Request{Operation: "enroll", Default: "userKey"})
		if err == nil || errors.Is(err, profile.ErrUnknown) || errors.Is(err, profile.ErrNoTarget) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestChooseVersions: the applet is asked once, and only where a filter wants to know.
func TestChooseVersions(t *testing.T) {
	t.Parallel()
	by := func(name, resolves, filter, target string) string {
		return rules(name, fmt.Sprintf("operations = [\"enroll\"]\nresolves = %q", resolves), [2]string{filter, target})
	}
	plain, asks := by("a", "profile", "", `profile = "soKey"`), by("a", "profile", "applet_major = 1", `profile = "soKey"`)
	keys := by("k", "keys", "protocol_major = 1", `key_set = "maker"`)
	for _, tt := range []struct {
		documents []string
		asked     int
	}{{nil, 0}, {[]string{plain}, 0}, {[]string{asks}, 1}, {[]string{asks, keys}, 1}} {
		asked := 0
		c, err := profile.Choose(t.Context(), shelved(), onBoard(tt.documents...), profile.Request{Operation: "enroll", Default: "userKey",
			Versions: func(context.Context) (profile.AppletVersions, error) { asked++; return anApplet, nil }})
		if err != nil || asked != tt.asked || len(tt.documents) > 0 && c.Profile.Name != "soKey" {
			t.Errorf("%d documents: asked %d times, %s, %v", len(tt.documents), asked, c.Profile.Name, err)
		}
	}
	gone := errors.New("the card is gone")
	_, err := profile.Choose(t.Context(), shelved(), onBoard(asks), profile.Request{Operation: "enroll", Default: "userKey",
		Versions: func(context.Context) (profile.AppletVersions, error) { return profile.AppletVersions{}, gone }})
	if !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
}

// TestResolveKeys: mappings of keys change what the profile says, whoever chose it.
func TestResolveKeys(t *testing.T) {
	t.Parallel()
	b := onBoard(rules("keys", "operations = [\"format\", \"enroll\"]\nresolves = \"keys\"",
		[2]string{`sym_key_size = 256`, "key_set = \"wide\"\nkey_version = 3"},
		[2]string{`token_atr = "3B759400006202020000"`, `factory = "maker"`},
		[2]string{`key_set = "old"`, `applet = "1.3.44724dde"`}))
	for _, tt := range []struct {
		seen profile.Seen
		want string
	}{
		{profile.Seen{KeySize: 256, ATR: anATR}, "wide 3 factory 1.4.58768072"},
		{profile.Seen{KeySize: 128, ATR: anATR}, "site 2 maker 1.4.58768072"},
		{profile.Seen{KeySet: "old"}, "site 2 factory 1.3.44724dde"},
		{profile.Seen{}, "site 2 factory 1.4.58768072"},
	} {
		c := must[profile.Choice](t)(profile.Choose(t.Context(), shelved(), b, profile.Request{Operation: "enroll", Required: "userKey", Seen: tt.seen}))
		k := c.Profile.Keys
		if got := fmt.Sprint(k.Set, " ", k.Version, " ", k.Factory, " ", c.Profile.Applet.VersionFor("SCP03")); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.seen, got, tt.want)
		}
	}
}

func TestDecodeResolverRefuses(t *testing.T) {
	t.Parallel()
	ok := [2]string{"", `profile = "userKey"`}
	const enroll, keys = `operations = ["enroll"]`, "operations = [\"enroll\"]\nresolves = \"keys\""
	for text, document := range map[string]string{
		"decoding mappings":              "name = ",
		"at most 65536":                  rules("r", enroll, ok) + strings.Repeat("#", profile.MaxDocument),
		"unknown key colour":             rules("r", enroll+"\ncolour = 1", ok),
		"unknown key mapping.filter.msn": rules("r", enroll, [2]string{`msn = "00"`, ""}),
		"it is written mapping.filter.c": rules("r", enroll, [2]string{`CUID_start = "40906145C76224192D2C"`, ""}),
		"unknown key mapping.filter.APP": rules("r", enroll, [2]string{`APPLETMAJORVERSION = 1`, ""}),
		"name = \"a b\"":                 rules("a b", enroll, ok),
		"resolves = \"cards\"":           rules("r", enroll+"\nresolves = \"cards\"", ok),
		"no [[mapping]]":                 rules("r", enroll),
		"mapping 2: filter.token_atr":    rules("r", enroll, ok, [2]string{`token_atr = "3B7"`, ""}),
		"filter.cuid_end":                rules("r", enroll, [2]string{`cuid_end = "40"`, ""}),
		"no card would pass":             rules("r", enroll, [2]string{"cuid_start = \"40000000000000000001\"\ncuid_end = \"40000000000000000000\"", ""}),
		"filter.applet_major = 256":      rules("r", enroll, [2]string{"applet_major = 256", ""}),
		"filter.protocol_minor = -1":     rules("r", enroll, [2]string{"appletMinorVersion = -1", ""}),
		"sym_key_size = 100":             rules("r", enroll, [2]string{"sym_key_size = 100", ""}),
		"and nothing else":               rules("r", enroll, [2]string{"", `key_set = "site"`}),
		"these mappings resolve keys":    rules("r", keys, ok),
		"target.profile = \"a b\"":       rules("r", enroll, [2]string{"", `profile = "a b"`}),
		"target.key_set":                 rules("r", keys, [2]string{"", `key_set = "a b"`}),
		"target.factory":                 rules("r", keys, [2]string{"", `factory = "a b"`}),
		"target.key_version = 128":       rules("r", keys, [2]string{"", `key_version = 128`}),
		"target.applet":                  rules("r", keys, [2]string{"", `applet = "1.4"`}),
	} {
		if r, err := profile.DecodeResolver([]byte(document)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("want %q: %+v, %v", text, r, err)
		}
	}
	// All that is wrong is said at once.
	_, err := profile.DecodeResolver([]byte(rules("a b", "", [2]string{"sym_key_size = 1", ""})))
	for _, text := range []string{"name", "operations", "sym_key_size"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not speak of %s", err, text)
		}
	}
}

// FuzzDecodeResolver: what is taken can be asked, and the first that passes wins.
func FuzzDecodeResolver(f *testing.F) {
	f.Add(rules("r", `operations = ["enroll"]`, [2]string{`token_type = "soKey"`, `profile = "soKey"`}, [2]string{"appletMajorVersion = 1", ""}))
	f.Add(rules("k", "operations = [\"format\"]\nresolves = \"keys\"", [2]string{"sym_key_size = 128", `key_set = "wide"`}))
	f.Fuzz(func(t *testing.T, document string) {
		r, err := profile.DecodeResolver([]byte(document))
		if err != nil {
			return
		}
		winner, misses := r.Winner(aCard)
		if winner < 0 && len(misses) != len(r.Mappings) || winner >= 0 && len(misses) != winner || slices.Contains(misses, "") {
			t.Errorf("winner %d after %q of %d", winner, misses, len(r.Mappings))
		}
	})
}
