package profile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/tps/profile"
)

const minimal = `
name = "card"
[applet]
version = "1.4.58768072"
[[key]]
type = "signing"
cert = 1
ca_profile = "signing"
private = ["sign"]
public = ["verify"]
`

func TestDecodeDefaults(t *testing.T) {
	t.Parallel()
	got, err := profile.Decode([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	want := profile.Profile{
		Name: "card", Family: "coolkey",
		Operations: []string{"format", "enroll", "renew", "pin-reset", "key-changeover"},
		Auth:       profile.Auth{ID: "local", Retries: 3},
		Card:       profile.Card{AllowUnknown: "operator", CheckKeyInfo: true, KeyVersionMin: 1, KeyVersionMax: 255},
		Channel:    profile.Channel{Level: "best"},
		Keys:       profile.Keys{Set: "site", ChangeOn: []string{"format", "key-changeover"}, Factory: "factory"},
		Applet:     profile.Applet{Version: "1.4.58768072", Update: true, Downgrade: true, EmptyCard: true, InstanceSize: 18000, Heap: 8192},
		PIN:        profile.PIN{Min: 4, Max: 10, Tries: 10, Reset: true, Kinds: 1},
		Format:     profile.Format{Revoke: true},
		Enroll:     profile.Enroll{OldCerts: "revoke", Label: "$auth.cn$", Compress: true},
		Renewal:    profile.Renewal{OldCerts: "keep"},
		Compat:     profile.Compat{ListKeys: true, ClearSlots: true, ReadBack: true, AppletCheck: true},
		Key: []profile.Key{{Type: "signing", Cert: 1, Alg: "rsa-2048", CA: "embedded", CAProfile: "signing",
			Label: "signing key for $userid$", Overwrite: true, Made: "card", Private: []string{"sign"}, Public: []string{"verify"}}},
	}
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
	if k := got.Key[0]; k.PrivateSlot() != 2 || k.PublicSlot() != 3 {
		t.Errorf("slots %d and %d, want 2 and 3", k.PrivateSlot(), k.PublicSlot())
	}
}

func TestDecodeOverridesDefaults(t *testing.T) {
	t.Parallel()
	doc := strings.Replace(minimal, "[applet]", `operations = ["enroll"]
[card]
check_key_info = false
key_version_max = 3
[keys]
change_on = []
[pin]
max = 16
[compat]
no_le = true
empty_field = true
list_keys = false
clear_slots = false
read_back = false
applet_check = false
[applet]
by_scp = { SCP02 = "1.4.00000001" }
update = false`, 1) + "overwrite = false\nlabel = \"$auth.mail$ costs $$1\"\n"
	p, err := profile.Decode([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Operations, []string{"enroll"}) || len(p.Keys.ChangeOn) != 0 || p.Card.CheckKeyInfo ||
		p.Card.KeyVersionMax != 3 || p.PIN.Max != 16 || p.Compat != (profile.Compat{NoLe: true, EmptyField: true}) || p.Applet.Update ||
		p.Applet.ByProtocol["SCP02"] != "1.4.00000001" || p.Key[0].Overwrite || p.Key[0].Label != "$auth.mail$ costs $$1" {
		t.Errorf("got %+v", p)
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	key := func(lines string) string { return minimal + "[[key]]\n" + lines }
	tests := []struct{ name, doc, want string }{
		{"not TOML", "name = ", "decoding profile"},
		{"too long", minimal + strings.Repeat("#", profile.MaxDocument), "at most 65536"},
		{"unknown key", minimal + "[pin]\nlength = 4", "unknown key pin.length"},
		{"unknown table", minimal + "[recover]\nx = 1", "unknown key recover"},
		{"unknown key of a key", minimal + "colour = 1", "unknown key key.colour"},
		{"key in another case", "operations = [\"format\"]\nOperations = [\"enroll\"]\n" + minimal, "unknown key Operations, it is written operations"},
		{"table in another case", minimal + "[PIN]\nmin = 5", "unknown key PIN"},
		{"wrong type", minimal + "[pin]\nmin = \"4\"", "pin"},
		{"version too large for a byte", minimal + "[card]\nkey_version_min = 256", "card"},
		{"revision is not in the document", "Revision = 3\n" + minimal, "unknown key Revision"},
		{"no name", strings.Replace(minimal, `name = "card"`, "", 1), `name = ""`},
		{"bad name", strings.Replace(minimal, `"card"`, `"a b"`, 1), `name = "a b"`},
		{"family", "family = \"opgp\"\n" + minimal, `family = "opgp"`},
		{"key of another family", "family = \"piv\"\n" + minimal, "are of CoolKey profiles"},
		{"section of another family", minimal + "[piv]\nreset = true", "piv: is of profiles of the family piv"},
		{"operation", "operations = [\"enrol\"]\n" + minimal, `operations = "enrol"`},
		{"no operation", "operations = []\n" + minimal, "operations: none"},
		{"operation twice", "operations = [\"format\", \"format\"]\n" + minimal, "twice"},
		{"role", minimal + "[auth]\nrole = \"boss\"", `auth.role = "boss"`},
		{"authenticator", minimal + "[auth]\nid = \"\"", `auth.id = ""`},
		{"retries", minimal + "[auth]\nretries = 0", "auth.retries = 0"},
		{"unknown cards", minimal + "[card]\nallow_unknown = \"yes\"", "card.allow_unknown"},
		{"versions crossed", minimal + "[card]\nkey_version_min = 9\nkey_version_max = 8", "key_version_max = 8"},
		{"level", minimal + "[channel]\nlevel = \"none\"", "channel.level"},
		{"key set", minimal + "[keys]\nset = \"Site\"", "keys.set"},
		{"factory", minimal + "[keys]\nfactory = \"\"", "keys.factory"},
		{"key version", minimal + "[keys]\nversion = 128", "keys.version = 128"},
		{"negative key version", minimal + "[keys]\nversion = -1", "keys.version = -1"},
		{"change on", minimal + "[keys]\nchange_on = [\"never\"]", "keys.change_on"},
		{"applet version", strings.Replace(minimal, "1.4.58768072", "1.4.5876807Z", 1), "applet.version"},
		{"no applet version", strings.Replace(minimal, `version = "1.4.58768072"`, "", 1), "applet.version"},
		{"protocol", strings.Replace(minimal, "[applet]", "[applet]\nby_scp = { SCP04 = \"1.4.58768072\" }", 1), "applet.by_scp"},
		{"instance size", strings.Replace(minimal, "[applet]", "[applet]\ninstance_size = 65536", 1), "instance_size"},
		{"block", strings.Replace(minimal, "[applet]", "[applet]\nblock = 256", 1), "applet.block"},
		{"issuer", strings.Replace(minimal, "[applet]", "[applet]\nissuer_url = \"host\"", 1), "issuer_url"},
		{"issuer's variable", strings.Replace(minimal, "[applet]", "[applet]\nissuer_url = \"http://h/$userid$\"", 1), "no value for $userid$"},
		{"issuer's length", strings.Replace(minimal, "[applet]", "[applet]\nissuer_url = \"http://h/"+strings.Repeat("$cuid$", 11)+"\"", 1), "at most 224 bytes"},
		{"PIN too short for the applet", minimal + "[pin]\nmin = 3", "pin.min = 3"},
		{"PIN too long for the applet", minimal + "[pin]\nmax = 17", "pin.max = 17"},
		{"PIN lengths crossed", minimal + "[pin]\nmin = 8\nmax = 6", "pin.min = 8"},
		{"tries", minimal + "[pin]\ntries = 0", "pin.tries"},
		{"kinds", minimal + "[pin]\nkinds = 5", "pin.kinds"},
		{"reason", minimal + "[format]\nreason = 2", "format.reason"},
		{"old certificates", minimal + "[enroll]\nold_certs = \"burn\"", "enroll.old_certs"},
		{"renewal, old certificates", minimal + "[renewal]\nold_certs = \"hold\"", "renewal.old_certs"},
		{"renewal, days", minimal + "[renewal]\nbefore = -1\nafter = 99999", "renewal.after = 99999"},
		{"renewal of other keys", minimal + "[renewal]\nkeys = [\"encryption\"]", "renewal.keys"},
		{"renewal that is not served", "operations = [\"enroll\"]\n" + minimal + "[renewal]\nenabled = true", "operations does not name renew"},
		{"label variable", minimal + "[enroll]\nlabel = \"$nobody$\"", "$nobody$"},
		{"label dollar", minimal + "[enroll]\nlabel = \"5$\"", "without its partner"},
		{"no keys", strings.Split(minimal, "[[key]]")[0], "without a [[key]]"},
		{"key without type", key("cert = 2\nca_profile = \"x\"\nprivate = [\"sign\"]"), `key.type = ""`},
		{"key type twice", key("type = \"signing\"\ncert = 2\nlabel = \"x\"\nca_profile = \"x\"\nprivate = [\"sign\"]"), `two keys of type "signing"`},
		{"certificate number twice", key("type = \"b\"\ncert = 1\nca_profile = \"x\"\nprivate = [\"sign\"]"), "both with certificate number 1"},
		{"label twice", key("type = \"b\"\ncert = 2\nlabel = \"signing key for $userid$\"\nca_profile = \"x\"\nprivate = [\"sign\"]"), "both with label"},
		{"certificate number", key("type = \"b\"\ncert = 8\nca_profile = \"x\"\nprivate = [\"sign\"]"), "cert = 8"},
		{"algorithm", key("type = \"b\"\ncert = 2\nalg = \"rsa-1024\"\nca_profile = \"x\"\nprivate = [\"sign\"]"), "rsa-1024"},
		{"CA profile", key("type = \"b\"\ncert = 2\nprivate = [\"sign\"]"), "ca_profile is missing"},
		{"CA", key("type = \"b\"\ncert = 2\nca = \"\"\nca_profile = \"x\"\nprivate = [\"sign\"]"), `ca = ""`},
		{"key label", key("type = \"b\"\ncert = 2\nlabel = \"$x$\"\nca_profile = \"x\"\nprivate = [\"sign\"]"), "$x$"},
		{"user", key("type = \"b\"\ncert = 2\nuser = 16\nca_profile = \"x\"\nprivate = [\"sign\"]"), "user = 16"},
		{"usage", key("type = \"b\"\ncert = 2\nusage = 4\nca_profile = \"x\"\nprivate = [\"sign\"]"), "usage = 4"},
		{"capability", key("type = \"b\"\ncert = 2\nca_profile = \"x\"\nprivate = [\"sing\"]"), `"sing"`},
		{"capability twice", key("type = \"b\"\ncert = 2\nca_profile = \"x\"\nprivate = [\"sign\", \"sign\"]"), "twice"},
		{"useless key", key("type = \"b\"\ncert = 2\nca_profile = \"x\"\nprivate = [\"token\"]"), "of no use"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := profile.Decode([]byte(tt.doc))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDecodeRefusesNineKeys(t *testing.T) {
	t.Parallel()
	doc := strings.Split(minimal, "[[key]]")[0]
	for i := range 9 {
		doc += fmt.Sprintf("[[key]]\ntype = \"k%d\"\ncert = %d\nca_profile = \"x\"\nprivate = [\"sign\"]\n", i, i)
	}
	_, err := profile.Decode([]byte(doc))
	if err == nil || !strings.Contains(err.Error(), "9 keys, at most 8") {
		t.Errorf("got %v", err)
	}
}

// TestDEF25: at most eight certificates, numbered 0 to 7, each once: then all key
// numbers, 2n and 2n+1, fit the four bits they have.
func TestDEF25(t *testing.T) {
	t.Parallel()
	doc, _, _ := strings.Cut(minimal, "[[key]]")
	with := func(numbers ...int) string {
		d := doc
		for i, n := range numbers {
			d += fmt.Sprintf("\n[[key]]\ntype = \"k%d\"\ncert = %d\nca_profile = \"x\"\nprivate = [\"sign\"]\n", i, n)
		}
		return d
	}
	p, err := profile.Decode([]byte(with(7, 6, 5, 4, 3, 2, 1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, k := range p.Key {
		for _, slot := range []int{k.PrivateSlot(), k.PublicSlot()} {
			if slot < 0 || slot > 15 || seen[slot] {
				t.Errorf("key %s: slot %d", k.Type, slot)
			}
			seen[slot] = true
		}
	}
	for _, numbers := range [][]int{{8}, {-1}, {36}, {1, 1}, {0, 1, 2, 3, 4, 5, 6, 7, 0}} {
		if _, err := profile.Decode([]byte(with(numbers...))); err == nil {
			t.Errorf("certificate numbers %v are taken", numbers)
		}
	}
}

func TestValidateReportsEverything(t *testing.T) {
	t.Parallel()
	_, err := profile.Decode([]byte(minimal + "[pin]\ntries = 0\nkinds = 9\n[format]\nreason = 9"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"pin.tries", "pin.kinds", "format.reason"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestShipped(t *testing.T) {
	t.Parallel()
	served := map[string][]string{
		"userKey":        {"format", "enroll", "renew", "pin-reset", "key-changeover"},
		"soKey":          {"format", "enroll", "pin-reset", "key-changeover"},
		"userSigningKey": {"format", "enroll", "renew", "pin-reset", "key-changeover"},
		"pivUser":        {"format", "enroll", "renew", "pin-reset", "key-changeover"},
		"tokenKey":       {"format"},
		"cleanToken":     {"format"},
	}
	for _, lab := range []bool{false, true} {
		all := profile.Shipped(lab)
		if len(all) != len(served) {
			t.Errorf("lab=%t: %d profiles, want %d", lab, len(all), len(served))
		}
		for _, r := range all {
			p, err := r.Decode()
			if err != nil {
				t.Errorf("lab=%t: %v", lab, err)
				continue
			}
			version, unknown, days := 2, "operator", 30
			if lab {
				version, unknown, days = 0, "anyone", 0
			}
			if served := p.Serves("renew"); p.Renewal.Enabled != served || served && (p.Renewal.Before != days || p.Renewal.OldCerts != "keep") {
				t.Errorf("lab=%t %s: renewal %+v", lab, p.Name, p.Renewal)
			}
			if p.Keys.Version != version || p.Card.AllowUnknown != unknown {
				t.Errorf("lab=%t %s: version %d, allow_unknown %s", lab, p.Name, p.Keys.Version, p.Card.AllowUnknown)
			}
			if !slices.Equal(p.Operations, served[string(p.Name)]) || r.State != profile.Enabled || r.Revision != 0 {
				t.Errorf("%s: %v, %s, revision %d", p.Name, p.Operations, r.State, r.Revision)
			}
			if operator := p.Name == "cleanToken"; operator != (p.Auth.Role == "operator") {
				t.Errorf("%s: role %q", p.Name, p.Auth.Role)
			}
		}
	}
}

func TestShippedCertificates(t *testing.T) {
	t.Parallel()
	want := map[string]string{"userKey": "signing 1 encryption 2 ", "soKey": "signing 1 encryption 2 ",
		"pivUser": "authentication 0 signing 1 encryption 2 authentication 3 ", "userSigningKey": "signing 1 ", "tokenKey": "", "cleanToken": ""}
	for _, r := range profile.Shipped(false) {
		p, err := r.Decode()
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, k := range p.Key {
			got += fmt.Sprintf("%s %d ", k.CAProfile, k.Cert)
		}
		if got != want[string(r.Name)] {
			t.Errorf("%s: %q, want %q", r.Name, got, want[string(r.Name)])
		}
	}
}

func FuzzProfileNoPanic(f *testing.F) {
	f.Add([]byte(minimal))
	for _, r := range profile.Shipped(false) {
		f.Add([]byte(r.Document))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		p, err := profile.Decode(document)
		if err != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Errorf("decoded, but not valid: %v", err)
		}
	})
}
