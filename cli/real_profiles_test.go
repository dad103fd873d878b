//go:build unix

package cli_test

import (
	"fmt"
	"strings"

	"inkan/fixtures"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// Names of the profiles of a story.
func (st story) rsa2048() string { return st.name + "-rsa2048" }
func (st story) next() string    { return st.name + "-next" }
func (st story) rsa3072() string { return st.name + "-rsa3072" }
func (st story) p256() string    { return st.name + "-p256" }

// profiles are those a story uses: the same card with other keys and key versions.
func (st story) profiles() []profile.Record {
	var all []profile.Record
	for _, v := range []struct {
		name, alg string
		version   int
	}{
		{st.rsa2048(), "rsa-2048", st.first}, {st.next(), "rsa-2048", st.second},
		{st.rsa3072(), "rsa-3072", st.second}, {st.p256(), "p256", st.second},
	} {
		all = append(all, profile.Record{Name: token.ProfileName(v.name), State: profile.Enabled, Document: st.document(v.name, v.alg, v.version)})
	}
	return all
}

// document is a profile of the story with keys of one algorithm.
func (st story) document(name, alg string, version int) string {
	decrypt := `"decrypt", "unwrap"`
	if alg == "p256" {
		decrypt = `"derive"`
	}
	return strings.NewReplacer("NAME", name, "SET", st.set, "KEYVERSION", fmt.Sprint(version), "ALG", alg,
		"APPLET", fixtures.DefaultApplet, "DECRYPT", decrypt).Replace(profileDocument)
}

const profileDocument = `name = "NAME"
operations = ["format", "enroll", "renew", "pin-reset", "key-changeover"]

[renewal]
enabled = true

[keys]
set = "SET"
version = KEYVERSION

[applet]
version = "APPLET"

[pin]
max = 16
tries = 3

[[key]]
type = "signing"
cert = 1
alg = "ALG"
ca_profile = "signing"
label = "signing key for $userid$"
private = ["sign", "signRecover", "sensitive", "private", "token"]
public = ["verify", "verifyRecover", "token"]

[[key]]
type = "encryption"
cert = 2
alg = "ALG"
ca_profile = "encryption"
label = "encryption key for $userid$"
private = [DECRYPT, "sensitive", "private", "token"]
public = ["encrypt", "wrap", "token"]
`
