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
	s.init(t)
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
	s.importKeys(t)
	s.serve(t)
	s.stop(t)
	for _, line := range []string{"set=site", "level=A", "set=triple", "level=B why=\"" + wraps} {
		expect(t, string(s.said.bytes()), line)
	}

	s.configure(t, "minimum_protection = \"B\"", "minimum_protection = \"A\"")
	refused(t, s.call(t, "serve"), "key set triple version 02: ", "level B is in force, A is demanded: "+wraps, "minimum_protection = \"B\"")
}

// TestRealPoorEngine: a node whose HSM can do little is made with open eyes, or not.
func TestRealPoorEngine(t *testing.T) {
	vpcdtest.Need(t, "go", "softhsm2-util", "cc")
	s := newNode(t, hsmtest.Engine{Name: "Poor engine", Generate: []uint{p11.CKM_EC_KEY_PAIR_GEN},
		Derive: []uint{p11.CKM_AES_ECB_ENCRYPT_DATA, p11.CKM_DES3_ECB_ENCRYPT_DATA, p11.CKM_DES3_CBC_ENCRYPT_DATA}}.Open(t))
	refused(t, s.call(t, "init", "--answers", s.answers(t)),
		"level C is in force, B is demanded: the keys of cards are computed in memory: CKM_AES_ECB_ENCRYPT_DATA(0x1104)", "minimum_protection = \"C\"")
	refused(t, s.call(t, "keyset", "list"), "init")
	accept := `minimum_protection = "C"`
	refused(t, s.call(t, "init", "--answers", s.answers(t, accept)), "Poor engine", "CKM_EC_KEY_PAIR_GEN(0x1040)", "Choose another kind of key")
	refused(t, s.call(t, "init", "--answers", s.answers(t, accept, `ca_key = "rsa-2048"`)), "too short")
	s.run(t, "init", "--answers", s.answers(t, accept, `ca_key = "rsa-3072"`))
	expect(t, s.run(t, "keyset", "list").out, "Level C of piv 01, site 02: ")
	s.run(t, "keyset", "test", "site", "02")
	s.run(t, "keyset", "test", "piv", "01")
	s.serve(t)
	s.stop(t)
}

// importKeys brings keys of a card maker into the HSM: components with their check
// values, and a key under a transport key.
func (s *site) importKeys(t *testing.T) {
	t.Helper()
	part1 := s.file(t, "part1", "0123456789ABCDEF0123456789ABCDEF D5D44F\n")
	part2 := s.file(t, "part2", "1F2F3F4F5F6F7F8F9FAFBFCFDFEFFF0F 1D42F3\n")
	kek1 := s.file(t, "kek1", "0123456789ABCDEF0123456789ABCDEF1F2F3F4F5F6F7F8F9FAFBFCFDFEFFF0F D46619\n")
	kek2 := s.file(t, "kek2", "1E0C7A28D6C4B2609E8CFAA8564432E00123456789ABCDEF0123456789ABCDEF 9ACA61\n")
	wrapped := s.file(t, "wrapped", "CE1269CCB43D581AB8429EB29E8A674D29D3BA23BBAF9735\n")
	s.run(t, "keyset", "import", "maker", "--version", "01", "--type", "des2", "--kdf", "visa2", "--component", part1, "--component", part2, "--kcv", "E3E2B5")
	s.run(t, "keyset", "import", "maker", "--version", "03", "--type", "aes-128", "--wrapped", wrapped, "--component", kek1, "--component", kek2, "--kcv", "9EA8E6")
	refused(t, s.call(t, "keyset", "import", "maker", "--version", "01", "--type", "des2", "--component", part1, "--component", part2, "--kcv", "E3E2B5"),
		"key set maker has a version 01 already")
	list := s.run(t, "keyset", "list").out
	expect(t, list, "maker   01       des2     visa2  E3E2B5  B      imported", "maker   03       aes-128  kdf3   9EA8E6  A      imported")
	s.run(t, "keyset", "test", "maker", "01")
	s.run(t, "keyset", "test", "maker", "03")
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
