package profile

import (
	"regexp"
	"slices"
	"strconv"

	"inkan/tks"
)

// Applet families, as profiles name them.
const (
	FamilyCoolKey = "coolkey"
	FamilyPIV     = "piv"
)

// PIV is what profiles for PIV applets say besides.
type PIV struct {
	// KeySet and KeyVersion name the key set (diversification piv) that the management
	// key and the PUK of each card are derived from; version 0 leaves a card those it has.
	KeySet     tks.KeySetName `toml:"key_set"`     // default piv
	KeyVersion int            `toml:"key_version"` // default 1
	// Management is the algorithm of the management key: 3des, aes-128, aes-192,
	// aes-256; empty = that which the card comes with.
	Management string `toml:"management"`
	PUKTries   int    `toml:"puk_tries"` // where pin.tries are set too; default 3
	// Reset lets a card without card manager be emptied: PIN and PUK are blocked, and
	// then the card resets itself. Everything on it is lost; default false.
	Reset bool `toml:"reset"`
	// WipeForeign lets format and enroll empty a card that is not known here and holds
	// keys or certificates, or has a PIN, and lets a card be taken over whose management
	// key is behind its PIN; default false.
	WipeForeign bool `toml:"wipe_foreign"`
	// Printed writes the printed information (name, card number, expiry), but never
	// over a management key that the card keeps there; default true.
	Printed bool `toml:"printed"`
	// Organization and Affiliation go into the printed information.
	Organization string `toml:"organization"`
	Affiliation  string `toml:"affiliation"`
	// PlainImport lets a key that the server makes go to the card in the clear, which it
	// does between reader and card: PIV has no secure channel. Default false.
	PlainImport bool `toml:"plain_import"`
	// Attest demands that the card's maker attests every key; default false. The chain
	// has to lead to a set of roots that AttestRoots names (of the node's configuration;
	// empty = any), and to tell a firmware of at least AttestFirmware (such as 5.7.0) and
	// one of AttestForms (usb-a, usb-c-nano-fips, …); empty = any.
	Attest         bool     `toml:"attest"`
	AttestRoots    []string `toml:"attest_roots"`
	AttestFirmware string   `toml:"attest_firmware"`
	AttestForms    []string `toml:"attest_forms"`
}

var (
	pivSlots      = []string{"9A", "9C", "9D", "9E"}
	pivAlgorithms = []string{"rsa-2048", "rsa-3072", "rsa-4096", "p256", "p384", "ed25519", "x25519"}
	pinPolicies   = []string{"", "never", "once", "always"}
	touchPolicies = []string{"", "never", "always", "cached"}
	management    = []string{"", "3des", "aes-128", "aes-192", "aes-256"}

	pivVersion = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}$`)
)

// forPIV changes the defaults to those of PIV profiles: elliptic curves, PINs of six
// to eight digits, as many tries as the card comes with.
func (p *Profile) forPIV() {
	p.Family = FamilyPIV
	p.PIN.Min, p.PIN.Max, p.PIN.Tries, p.PIN.Digits = 6, 8, 0, true
	p.Enroll.Compress = false // most hosts cannot read a compressed certificate
	p.PIV = PIV{KeySet: "piv", KeyVersion: 1, PUKTries: 3, Printed: true}
}

func (p Profile) validatePIV(c *check) {
	v := p.PIV
	_, err := tks.ParseKeySetName(string(v.KeySet))
	c.err("piv.key_set", err)
	c.that(v.KeySet != tks.Factory, "piv.key_set = %q: everybody knows these keys", v.KeySet)
	c.between("piv.key_version", v.KeyVersion, 0, 127)
	c.oneOf("piv.management", v.Management, management...)
	c.between("piv.puk_tries", v.PUKTries, 1, 255)
	c.that(len(v.Organization) <= 20, "piv.organization = %q: at most 20 bytes", v.Organization)
	c.that(len(v.Affiliation) <= 20, "piv.affiliation = %q: at most 20 bytes", v.Affiliation)
	v.validateAttestation(c)
	c.that(p.Applet.IssuerURL == "", "applet.issuer_url: a PIV applet holds no address")
	c.between("pin.min", p.PIN.Min, 6, 8)
	c.between("pin.max", p.PIN.Max, 6, 8)
	c.between("pin.tries", p.PIN.Tries, 0, 255)
	for i, k := range p.Key {
		k.validatePIV(c)
		k.validateMadePIV(c, v)
		for _, other := range p.Key[:i] {
			c.that(k.Slot != other.Slot, "keys %q and %q both in slot %s", other.Type, k.Type, k.Slot)
		}
	}
}

func (k Key) validatePIV(c *check) {
	at := "key \"" + k.Type + "\": "
	c.oneOf(at+"slot", k.Slot, pivSlots...)
	c.oneOf(at+"alg", k.Alg, pivAlgorithms...)
	c.oneOf(at+"pin_policy", k.PINPolicy, pinPolicies...)
	c.oneOf(at+"touch_policy", k.TouchPolicy, touchPolicies...)
	c.that(k.Alg != "x25519" || k.Slot == "9D", "%sx25519 agrees on keys and signs nothing: it belongs into slot 9D", at)
	c.that(k.Retire >= 0 && k.Retire <= 20 && (k.Retire == 0 || k.Slot == "9D"), "%sretire = %d: 0 to 20, in slot 9D alone", at, k.Retire)
	c.that(k.User == 0 && k.Usage == 0 && len(k.Private) == 0 && len(k.Public) == 0,
		"%suser, usage, private and public are of CoolKey profiles", at)
}

// slotNumber is the number that Slot names, false where it names none.
func (k Key) slotNumber() (int, bool) {
	if !slices.Contains(pivSlots, k.Slot) {
		return 0, false
	}
	n, err := strconv.ParseUint(k.Slot, 16, 8)
	return int(n), err == nil
}
