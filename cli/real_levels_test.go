//go:build unix

package cli_test

import (
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"inkan/sim/vpcd/vpcdtest"
	"inkan/tks/hsm/hsmtest"
)

// TestRealLevels: on an HSM the administrator sees at which protection level each key
// set is and why, and what is below the minimum is refused, with what to do about it.
func TestRealLevels(t *testing.T) {
	vpcdtest.Need(t, "go", "softhsm2-util", "cc")
	// 3DES as SoftHSM has it, AES keys wrapped inside, and HMAC not at all.
	s := newNode(t, hsmtest.Engine{Name: "Engine under test", Sign: []uint{p11.CKM_SHA256_HMAC}}.Open(t))
	const wraps = "new card keys pass through memory for PUT KEY: CKM_DES3_ECB(0x132) CKR_MECHANISM_INVALID(0x70)"

	s.configure(t, "minimum_protection = \"B\"", "minimum_protection = \"A\"")
	refused(t, s.call(t, "keyset", "create", "triple", "--version", "02", "--type", "des3"),
		"level B is in force, A is demanded: "+wraps, "minimum_protection = \"B\"")
	expect(t, s.run(t, "keyset", "list").out, "site  02 ", " A ")

	s.configure(t, "minimum_protection = \"A\"", "minimum_protection = \"B\"")
	expect(t, s.run(t, "keyset", "create", "triple", "--version", "02", "--type", "des3").out, "Level B of triple 02: "+wraps)
	expect(t, s.run(t, "keyset", "list").out, "Level B of triple 02: "+wraps)
	s.run(t, "keyset", "test", "triple", "02")
	s.run(t, "keyset", "test", "site", "02")
	refused(t, s.call(t, "keyset", "create", "old", "--version", "02", "--type", "des3", "--kdf", "dogtag-sp800-108"),
		"key set old version 02", "Engine under test", "CKM_SHA256_HMAC(0x251) CKR_MECHANISM_INVALID(0x70)")
	s.serve(t)
	s.stop(t)
	for _, line := range []string{"set=site", "level=A", "set=triple", "level=B why=\"" + wraps} {
		expect(t, string(s.said.bytes()), line)
	}

	s.configure(t, "minimum_protection = \"B\"", "minimum_protection = \"A\"")
	refused(t, s.call(t, "serve"), "key set triple version 02: ", "level B is in force, A is demanded: "+wraps, "minimum_protection = \"B\"")
}

func expect(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q is not in:\n%s", p, text)
		}
	}
}

func refused(t *testing.T, r result, parts ...string) {
	t.Helper()
	if r.code != 1 {
		t.Errorf("exit %d", r.code)
	}
	expect(t, r.err, parts...)
}
