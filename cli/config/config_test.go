package config_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"inkan/cli/config"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	c, err := config.Decode([]byte("[node]\nname = \"desk\"\n[listen]\naddress = \"127.0.0.1:9443\"\nnames = [\"desk.example\"]\n[tps]\norphan_after = \"1h\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen.URL != "https://desk.example:9443" || c.CA.URL != c.Listen.URL {
		t.Errorf("url %q, CA %q", c.Listen.URL, c.CA.URL)
	}
	if time.Duration(c.TPS.OrphanAfter) != time.Hour || c.TKS.MinimumProtection != "D" || c.TPS.DefaultProfile != "userKey" {
		t.Errorf("decoded %+v", c)
	}
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Decode(b)
	if err != nil {
		t.Fatalf("decoding what was encoded: %v\n%s", err, b)
	}
	if again.Listen.Address != c.Listen.Address || again.TPS.OrphanAfter != c.TPS.OrphanAfter {
		t.Errorf("round trip: %+v", again)
	}
}

// TestDatabase: the records are in a file, or at a URL and then in no file.
func TestDatabase(t *testing.T) {
	t.Parallel()
	for doc, file := range map[string]string{
		"":                                  "inkan.db",
		"[database]\nfile = \"other.db\"\n": "other.db",
		"[database]\nurl = \"postgres://inkan@db.example.org/inkan\"\npassword_file = \"db-password\"\n": "",
	} {
		c, err := config.Decode([]byte(doc))
		if err != nil || c.Database.File != file {
			t.Errorf("%q: file %q, %v", doc, c.Database.File, err)
		}
		b, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := config.Decode(b); err != nil || again.Database != c.Database {
			t.Errorf("round trip: %+v, %v", again.Database, err)
		}
	}
}

// TestComplete makes a configuration in code, as init does from answers.
func TestComplete(t *testing.T) {
	t.Parallel()
	c, err := config.Config{Listen: config.Listen{Address: "127.0.0.1:9443", Names: []string{"desk.example"}}}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen.URL != "https://desk.example:9443" || time.Duration(c.HSM.OpTimeout) != 10*time.Second {
		t.Errorf("completed %+v", c)
	}
	if _, err := (config.Config{Listen: config.Listen{Address: "9443"}}).Complete(); err == nil {
		t.Error("an address without port is taken")
	}
}

// TestHealthFrom: who is told how the node is.
func TestHealthFrom(t *testing.T) {
	t.Parallel()
	c, err := config.Decode([]byte("[listen]\nhealth_from = [\"192.0.2.7\", \"198.51.100.16/28\", \"2001:db8::/64\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.2.8": false,
		"198.51.100.31": true, "198.51.100.32": false, "2001:db8::1": true, "2001:db8:0:1::1": false, "0.0.0.0": false, "::": false,
	} {
		if got := c.Listen.TellsHealth(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if config.Default().Listen.TellsHealth(netip.MustParseAddr("192.0.2.7")) {
		t.Error("by default another machine is told")
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"[tps]\nallow_simulater = true\n":                                   "unknown key tps.allow_simulater",
		"[listen]\naddress = \"8443\"\n":                                    "[listen] address",
		"[listen]\nhealth_from = [\"balancer.example.org\"]\n":              "[listen] health_from",
		"[listen]\nhealth_from = [\"192.0.2.0/33\"]\n":                      "[listen] health_from",
		"[listen]\nhealth_from = [\"\"]\n":                                  "[listen] health_from",
		"[listen]\ncertificate = \"a.pem\"\n":                               "certificate and key go together",
		"[tks]\nminimum_protection = \"Z\"\n":                               "minimum_protection",
		"[hsm]\nuri = \"/usr/lib/libsofthsm2.so\"\n":                        "pkcs11 URI",
		"[tks]\ncalls_per_card = -1\n":                                      "calls_per_card",
		"[ca]\nocsp_lifetime = \"10s\"\n":                                   "ocsp_lifetime",
		"[database]\nfile = \"a.db\"\nurl = \"postgres://a@localhost/b\"\n": "not in both",
		"[database]\nurl = \"postgres://a:secret@localhost/b\"\n":           "password_file",
		"[database]\nurl = \"sqlite://b\"\n":                                "[database]: url",
		"[database]\npassword_file = \"p\"\n":                               "goes with url",
		"[tps]\norphan_after = \"-1h\"\n":                                   "not positive",
		"[tps]\norphan_after = 24\n":                                        "orphan_after",
		"[[peer]]\n":                                                        "[[peer]]: name",
		"[node\n":                                                           "decoding",
		"[ca]\ncountry = \"Germany\"\n":                                     "two-letter",
		"[tps]\ncard_managers = [\"A00000\"]\n":                             "AID",
		"[listen]\nurl = \"http://desk.example/\"\n":                        "https://",
		"[listen]\nurl = \"https://desk.example\"\n":                        "lacks host, port or path",
		"[listen]\nurl = \"https://[2001:db8::1]:8443\"\n":                  "IPv6",
		"[listen]\nnames = [\"2001:db8::1\"]\n":                             "[listen] url",
		"[seal]\nkey = \"x\"\n":                                             "unknown key seal.key",
	} {
		_, err := config.Decode([]byte(doc))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q in it", doc, err, want)
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"": "", "127.0.0.1:8080": "", "127.9.9.9:8080": "", "[::1]:8080": "", "localhost:8080": "", "127.0.0.1:0": "", "[::ffff:127.0.0.1]:8080": "",
		"0.0.0.0:8080": "0.0.0.0 is no loopback address", "[::]:8080": ":: is no loopback", ":8080": "no host", "192.0.2.1:8080": "192.0.2.1 is no loopback",
		"[::ffff:192.0.2.1]:8080": "192.0.2.1 is no loopback", "127.0.0.1": "missing port", "127.0.0.1:99999": "port", "name.invalid:8080": "[listen] plain",
	} {
		_, err := config.Decode([]byte("[listen]\nplain = \"" + address + "\"\n"))
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "[listen] plain")) {
			t.Errorf("%q: error %v, want %q in it", address, err, want)
		}
	}
}

func FuzzConfigNoPanic(f *testing.F) {
	f.Add([]byte("[node]\nname = \"x\"\n"))
	f.Add([]byte("[tps]\norphan_after = \"1h\"\n[[peer]]\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := config.Decode(b)
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Errorf("decoded but not valid: %v", err)
		}
	})
}

// TestRealm: the section's defaults are the policy's, and clients are checked.
func TestRealm(t *testing.T) {
	t.Parallel()
	c, err := config.Decode([]byte("[[realm.client]]\nid = \"console\"\nadmin_url = \"https://console.example.org\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Realm.Policy(); p.Every != 90*24*time.Hour || p.Off || c.Realm.Client[0].Protocol != config.TMS {
		t.Errorf("%+v", c.Realm)
	}
	for doc, says := range map[string]string{
		"[realm]\nrotate_every = \"1h\"":                               "rotation period",
		"[realm]\npassive_for = \"1h\"":                                "time passive",
		"[[realm.client]]\nid = \"\"":                                  "empty or there twice",
		"[[realm.client]]\nid = \"a\"\nadmin_url = \"http://a\"":       "https://",
		"[[realm.client]]\nid = \"a\"\nprotocol = \"paper\"":           "neither tms nor",
		"[[realm.client]]\nid = \"a\"\n[[realm.client]]\nid = \"a\"\n": "twice",
	} {
		if _, err := config.Decode([]byte(doc)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", doc, err, says)
		}
	}
}
