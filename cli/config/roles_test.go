package config_test

import (
	"slices"
	"strings"
	"testing"

	"inkan/cli/config"
	"inkan/tks"
	"inkan/tks/remote"
)

// TestRoles: a node without roles does everything.
func TestRoles(t *testing.T) {
	t.Parallel()
	every := []config.Role{config.RoleTPS, config.RoleTKS, config.RoleConsole}
	for doc, want := range map[string][]config.Role{
		"": every, `roles = []`: every, `roles = ["all"]`: every,
		`roles = ["tps"]`: {config.RoleTPS}, `roles = ["tks", "console"]`: {config.RoleTKS, config.RoleConsole},
	} {
		c, err := config.Decode([]byte("[node]\n" + doc + "\n"))
		if err != nil {
			t.Errorf("%s: %v", doc, err)
		}
		for _, r := range every {
			if c.Node.Has(r) != slices.Contains(want, r) {
				t.Errorf("%s: has %s is %v", doc, r, c.Node.Has(r))
			}
		}
	}
	for doc, says := range map[string]string{
		"[node]\nroles = [\"ca\"]":                                     `role "ca": want tps, tks, console or all`,
		"[node]\nroles = [\"tps\", \"tps\"]":                           "twice",
		"[node]\nroles = [\"tps\", \"all\"]":                           "all stands alone",
		"[node]\nroles = [\"tks\"]\n[listen]\nplain = \"127.0.0.1:0\"": "needs the role tps",
		"[tks]\nkeying_quorum = \"none\"":                              "neither majority nor answering",
		"[tks]\ncall_timeout = \"2m\"":                                 "[tks] call_timeout",
		"[auth]\ncards = \"never\"":                                    `[auth] cards: "never" is neither on nor off`,
	} {
		if _, err := config.Decode([]byte(doc)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", doc, err, says)
		}
	}
}

// TestGrant: what other nodes may ask, by their roles or by the list.
func TestGrant(t *testing.T) {
	t.Parallel()
	c, err := config.Decode([]byte(`
[[peer]]
name = "tps1.example"
methods = ["session", "secret"]
key_sets = ["site", "factory"]
calls_per_minute = 60

[[peer]]
name = "tps2.example"
key_sets = []

[[peer]]
name = "tps3.example"
methods = []
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []struct {
		name    string
		roles   []config.Role
		methods string
		sets    []tks.KeySetName
		calls   int
	}{
		{"other.example", []config.Role{config.RoleTPS}, "random session keyset encrypt keys sign signers", []tks.KeySetName{"*"}, 6000},
		{"other.example", []config.Role{config.RoleAll}, "random session keyset encrypt keys sign signers ledger", []tks.KeySetName{"*"}, 6000},
		{"other.example", []config.Role{config.RoleConsole}, "random keys sign signers", []tks.KeySetName{"*"}, 6000},
		{"other.example", []config.Role{config.RoleTKS}, "random keys sign signers ledger", []tks.KeySetName{"*"}, 6000},
		{"other.example", nil, "", []tks.KeySetName{"*"}, 6000},
		{"tps1.example", []config.Role{config.RoleTPS}, "session secret", []tks.KeySetName{"site", "factory"}, 60},
		{"tps2.example", []config.Role{config.RoleTKS}, "random keys sign signers ledger", []tks.KeySetName{}, 6000},
		{"tps3.example", []config.Role{config.RoleAll}, "", []tks.KeySetName{"*"}, 6000},
	} {
		g := c.Grant(w.name, w.roles)
		var methods []string
		for _, m := range g.Methods {
			methods = append(methods, string(m))
			if _, err := remote.ParseMethod(string(m)); err != nil {
				t.Error(err)
			}
		}
		if strings.Join(methods, " ") != w.methods || !slices.Equal(g.KeySets, w.sets) || g.CallsPerMinute != w.calls {
			t.Errorf("%s with %v: %+v", w.name, w.roles, g)
		}
	}
	for doc, says := range map[string]string{
		"[[peer]]\nname = \"a\"\nmethods = [\"masters\"]":  `a: method "masters"`,
		"[[peer]]\nname = \"a\"\nkey_sets = [\"A B\"]":     "key set name",
		"[[peer]]\nname = \"a\"\ncalls_per_minute = -1":    "not positive",
		"[[peer]]\nname = \"a\"\n[[peer]]\nname = \"a\"":   "twice",
		"[[peer]]\nname = \"a\"\nroles = [\"tps\"]":        "unknown key peer.roles",
		"[[peer]]\nname = \"\"\nmethods = [\"session\"]\n": "empty",
	} {
		if _, err := config.Decode([]byte(doc)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", doc, err, says)
		}
	}
}
