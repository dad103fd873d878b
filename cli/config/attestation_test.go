package config_test

import (
	"strings"
	"testing"

	"inkan/cli/config"
)

// TestAttestation: the nameless set and the named ones are one list, and names are checked.
func TestAttestation(t *testing.T) {
	t.Parallel()
	c, err := config.Decode([]byte("[attestation]\nroots = [\"own.pem\"]\nintermediates = [\"between.pem\"]\n" +
		"[[attestation.set]]\nname = \"acme-2\"\nroots = [\"acme.pem\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	all := c.Attestation.Sets()
	if len(all) != 2 || all[0].Name != "site" || all[0].Intermediates[0] != "between.pem" || all[1].Name != "acme-2" || all[1].Roots[0] != "acme.pem" {
		t.Errorf("%+v", all)
	}
	for doc, says := range map[string]string{
		"[attestation]\nintermediates = [\"a.pem\"]":                                                             "intermediates without roots",
		"[[attestation.set]]\nname = \"Acme\"\nroots = [\"a.pem\"]":                                              `set "Acme": want a name`,
		"[[attestation.set]]\nroots = [\"a.pem\"]":                                                               `set "": want a name`,
		"[[attestation.set]]\nname = \"yubico\"\nroots = [\"a.pem\"]":                                            "built in",
		"[[attestation.set]]\nname = \"site\"\nroots = [\"a.pem\"]":                                              "built in",
		"[[attestation.set]]\nname = \"a\"":                                                                      "has no roots",
		"[[attestation.set]]\nname = \"a\"\nroots = [\"a\"]\n[[attestation.set]]\nname = \"a\"\nroots = [\"b\"]": "twice",
	} {
		if _, err := config.Decode([]byte(doc)); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "[attestation]") {
			t.Errorf("%q: %v, want %q", doc, err, says)
		}
	}
}
