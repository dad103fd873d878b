package profile_test

import (
	"strings"
	"testing"

	"inkan/tps/profile"
)

// TestDecodeMade: the server makes keys that read, never keys that sign, and what
// archives or exposes one is said.
func TestDecodeMade(t *testing.T) {
	t.Parallel()
	coolkey := minimal + "[[key]]\ntype = \"encryption\"\ncert = 2\nca_profile = \"encryption\"\n"
	piv := strings.Replace(minimalPIV, `family = "piv"`, "family = \"piv\"\n[piv]\nplain_import = true", 1)
	attested := strings.Replace(piv, "[piv]", "[piv]\nattest = true", 1)
	for name, c := range map[string]struct{ doc, want string }{
		"CoolKey":                    {coolkey + "private = [\"decrypt\", \"unwrap\"]\nmade = \"server\"\narchive = true", ""},
		"CoolKey, by the card":       {coolkey + "private = [\"sign\", \"decrypt\"]\nmade = \"card\"", ""},
		"CoolKey, signs":             {coolkey + "private = [\"sign\", \"decrypt\"]\nmade = \"server\"", "private lets it sign"},
		"CoolKey, signs and tells":   {coolkey + "private = [\"decrypt\", \"signRecover\"]\nmade = \"server\"", "private lets it sign"},
		"CoolKey, by nobody":         {coolkey + "private = [\"decrypt\"]\nmade = \"client\"", `made = "client": want one of card, server`},
		"CoolKey, archive":           {coolkey + "private = [\"decrypt\"]\narchive = true", `want made = "server"`},
		"CoolKey, of another family": {coolkey + "private = [\"decrypt\"]\nmade = \"server\"\n[piv]\nplain_import = true", "is of profiles of the family piv"},
		"PIV":                        {piv + "made = \"server\"\nalg = \"rsa-2048\"\nretire = 3\nkeep = true\narchive = true", ""},
		"PIV, X25519":                {piv + "made = \"server\"\nalg = \"x25519\"", ""},
		"PIV, Ed25519":               {piv + "made = \"server\"\nalg = \"ed25519\"", "ed25519 only signs"},
		"PIV, in the clear":          {minimalPIV + "made = \"server\"", "piv.plain_import = true"},
		"PIV, attested":              {attested + "made = \"server\"", "piv.attest demands"},
		"PIV, attested, by the card": {attested, ""},
		"PIV, archive":               {piv + "archive = true", `want made = "server"`},
		"PIV, slot":                  {strings.Replace(piv, `"9C"`, "\"9C\"\nmade = \"server\"", 1), "keys in slot 9D"},
	} {
		p, err := profile.Decode([]byte(c.doc))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want == "":
			if last := p.Key[len(p.Key)-1]; last.ServerMade() != strings.Contains(c.doc, "made = \"server\"") || last.Archive != strings.Contains(c.doc, "archive = true") || p.Key[0].ServerMade() {
				t.Errorf("%s: %+v", name, p.Key)
			}
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
}
