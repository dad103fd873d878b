package config_test

import (
	"strings"
	"testing"

	"inkan/cli/config"
)

func TestSet(t *testing.T) {
	t.Parallel()
	const doc = "# ours\n[node]\nname = \"desk\" # the old one\n\n[tps]\n  allow_simulator = false\n[listen]\nnames = [\"a\",\n \"b\"]\n"
	for _, c := range []struct{ key, value, want string }{
		{"node.name", "front desk", "# ours\n[node]\nname = \"front desk\"\n\n[tps]"},
		{"tps.allow_simulator", "true", "\n  allow_simulator = true\n"},
		{"tps.sweep_every", "2m", "[tps]\nsweep_every = \"2m\"\n  allow"},
		{"tks.calls_per_card", "17", "\n\n[tks]\ncalls_per_card = 17\n"},
		{"ca.organization", `Ünïcode "Ltd" = #1`, `organization = "Ünïcode \"Ltd\" = #1"`},
		{"listen.url", "https://x:8443", "[listen]\nurl = \"https://x:8443\"\nnames"},
	} {
		out, err := config.Set([]byte(doc), config.Assignment{Key: c.key, Value: c.value})
		if err != nil || !strings.Contains(string(out), c.want) || !strings.HasPrefix(string(out), "# ours\n") {
			t.Errorf("%s=%s: %v\n%s", c.key, c.value, err, out)
		}
	}
	if out, err := config.Set(nil, config.Assignment{Key: "node.name", Value: "x"}); err != nil || string(out) != "[node]\nname = \"x\"\n" {
		t.Errorf("%q, %v", out, err)
	}
	for _, c := range []struct{ key, value string }{
		{"name", "x"}, {"node", "x"}, {"node.nam", "x"}, {"nod.name", "x"}, {"tps.allow_simulator", "perhaps"}, {"tps.sweep_every", "-1s"},
		{"listen.names", `["c"]`}, {"node.a.b", "x"}, {"tks.calls_per_card", "0x"},
	} {
		if out, err := config.Set([]byte(doc), config.Assignment{Key: c.key, Value: c.value}); err == nil {
			t.Errorf("%s=%s was set:\n%s", c.key, c.value, out)
		}
	}
	if out, err := config.Set([]byte(doc), config.Assignment{Key: "node.name", Value: "a\n[tps]\nallow_simulator = true"}); err != nil || strings.Contains(string(out), "\nallow_simulator = true") {
		t.Errorf("a line break came through: %v\n%s", err, out)
	}
}

// TestSetTogether: keys that only go together are changed together.
func TestSetTogether(t *testing.T) {
	t.Parallel()
	a, b := config.Assignment{Key: "listen.certificate", Value: "site.pem"}, config.Assignment{Key: "listen.key", Value: "site.key"}
	if _, err := config.Set(nil, a); err == nil {
		t.Error("a certificate without its key")
	}
	if out, err := config.Set(nil, a, b); err != nil || !strings.Contains(string(out), "site.pem") || !strings.Contains(string(out), "site.key") {
		t.Errorf("%s, %v", out, err)
	}
}
