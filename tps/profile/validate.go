package profile

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"inkan/tks"
)

// Operations that a profile may serve.
const (
	Formatting   = "format"
	Enrolling    = "enroll"
	Renewing     = "renew"
	ResettingPIN = "pin-reset"
	ChangingKeys = "key-changeover"
)

// MaxKeys is how many key pairs a profile may have (tps-operations.md §23.3).
const MaxKeys = 8

var (
	operations   = []string{Formatting, Enrolling, Renewing, ResettingPIN, ChangingKeys}
	algorithms   = []string{"rsa-2048", "rsa-3072", "rsa-4096", "p256", "p384", "p521"}
	protocols    = []string{"SCP01", "SCP02", "SCP03"}
	capabilities = []string{"encrypt", "sign", "signRecover", "decrypt", "derive", "unwrap", "wrap",
		"verifyRecover", "verify", "sensitive", "private", "token"}
	oldCerts = []string{"revoke", "keep", "hold"}
	// Reasons for revoking what a formatted card held (RFC 5280 §5.3.1).
	reasons = []int{0, 1, 3, 4, 5, 6}

	profileName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	connectorID = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)
	appletText  = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}\.[0-9a-f]{8}$`)
)

// Operations lists the operations that a profile may serve.
func Operations() []string { return slices.Clone(operations) }

// check collects what is wrong.
type check struct{ errs []error }

func (c *check) that(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

func (c *check) oneOf(key, value string, of ...string) {
	c.that(slices.Contains(of, value), "%s = %q: want one of %s", key, value, strings.Join(of, ", "))
}

func (c *check) subset(key string, values, of []string) {
	for i, v := range values {
		c.oneOf(key, v, of...)
		c.that(!slices.Contains(values[:i], v), "%s names %q twice", key, v)
	}
}

func (c *check) between(key string, n, low, high int) {
	c.that(low <= n && n <= high, "%s = %d: want %d to %d", key, n, low, high)
}

func (c *check) err(key string, err error) {
	c.that(err == nil, "%s: %w", key, err)
}

// Serves says whether the profile serves an operation.
func (p Profile) Serves(operation string) bool { return slices.Contains(p.Operations, operation) }

// Validate checks the profile as a whole and returns all that is wrong, joined.
// Whether the authenticator, the authorities and the load files exist is for
// the node to say.
func (p Profile) Validate() error {
	var c check
	c.that(profileName.MatchString(string(p.Name)), "name = %q: want 1 to 64 letters, digits, _ and -, beginning with a letter", p.Name)
	c.oneOf("family", p.Family, FamilyCoolKey, FamilyPIV)
	c.that(len(p.Operations) > 0, "operations: none")
	c.subset("operations", p.Operations, operations)
	p.validateCard(&c)
	p.validateApplet(&c)
	p.validatePIN(&c)
	c.that(slices.Contains(reasons, p.Format.Reason), "format.reason = %d: want one of %v", p.Format.Reason, reasons)
	c.oneOf("enroll.old_certs", p.Enroll.OldCerts, oldCerts...)
	c.err("enroll.label", CheckPattern(p.Enroll.Label))
	p.validateKeys(&c)
	p.validateRenewal(&c)
	if p.Family == FamilyPIV {
		p.validatePIV(&c)
	} else {
		p.validateCoolKey(&c)
	}
	return errors.Join(c.errs...)
}

func (p Profile) validateCard(c *check) {
	c.that(connectorID.MatchString(p.Auth.ID), "auth.id = %q: not the name of an authenticator", p.Auth.ID)
	c.oneOf("auth.role", string(p.Auth.Role), "", "admin", "agent", "operator")
	c.between("auth.retries", p.Auth.Retries, 1, 10)
	c.oneOf("card.allow_unknown", p.Card.AllowUnknown, "operator", "anyone", "never")
	c.that(p.Card.KeyVersionMin <= p.Card.KeyVersionMax, "card.key_version_min = %d is above key_version_max = %d",
		p.Card.KeyVersionMin, p.Card.KeyVersionMax)
	c.oneOf("channel.level", p.Channel.Level, "mac", "enc", "best")
	_, err := tks.ParseKeySetName(string(p.Keys.Set))
	c.err("keys.set", err)
	_, err = tks.ParseKeySetName(string(p.Keys.Factory))
	c.err("keys.factory", err)
	c.between("keys.version", p.Keys.Version, 0, 127)
	c.subset("keys.change_on", p.Keys.ChangeOn, operations)
}

func (p Profile) validateApplet(c *check) {
	a := p.Applet
	form, such := appletText, "1.4.58768072, in lower case"
	if p.Family == FamilyPIV {
		form, such = pivVersion, "0.9.0"
	}
	// A PIV applet that is built into the card has the version it has.
	if a.Version != "" || p.Family != FamilyPIV && (a.Update || p.Serves(Formatting)) {
		c.that(form.MatchString(a.Version), "applet.version = %q: want a version such as %s", a.Version, such)
	}
	for protocol, version := range a.ByProtocol {
		c.oneOf("applet.by_scp", protocol, protocols...)
		c.that(form.MatchString(version), "applet.by_scp.%s = %q: want a version such as %s", protocol, version, such)
	}
	c.between("applet.instance_size", a.InstanceSize, 1, 0xFFFF)
	c.between("applet.heap", a.Heap, 1, 0xFFFF)
	if a.Block != 0 {
		c.between("applet.block", a.Block, 16, 255)
	}
	if a.IssuerURL == "" {
		return
	}
	_, err := a.Issuer(map[string]string{ // of any card
		"cuid": "40906145C76224192D2B", "pretty_cuid": "4090-6145-C762-2419-2D2B", "msn": "00000001", "profileId": string(p.Name),
	})
	c.err("applet.issuer_url", err)
}

// validateCoolKey: a CoolKey PIN has 4 to 16 bytes (coolkey-applet.md, CREATE PIN).
func (p Profile) validateCoolKey(c *check) {
	c.between("pin.min", p.PIN.Min, 4, 16)
	c.between("pin.max", p.PIN.Max, 4, 16)
	c.between("pin.tries", p.PIN.Tries, 1, 127)
	c.that(reflect.ValueOf(p.PIV).IsZero(), "piv: is of profiles of the family piv")
	for _, k := range p.Key {
		k.validateCoolKey(c)
	}
}

func (p Profile) validatePIN(c *check) {
	c.that(p.PIN.Min <= p.PIN.Max, "pin.min = %d is above pin.max = %d", p.PIN.Min, p.PIN.Max)
	c.between("pin.kinds", p.PIN.Kinds, 1, 4)
}

func (p Profile) validateKeys(c *check) {
	c.that(len(p.Key) <= MaxKeys, "%d keys, at most %d", len(p.Key), MaxKeys)
	c.that(len(p.Key) > 0 || !p.Serves(Enrolling), "serves enroll without a [[key]]")
	for i, k := range p.Key {
		k.validate(c)
		for _, other := range p.Key[:i] {
			c.that(k.Type != other.Type, "two keys of type %q", k.Type)
			c.that(k.Cert != other.Cert, "keys %q and %q both with certificate number %d", other.Type, k.Type, k.Cert)
			c.that(k.Label != other.Label, "keys %q and %q both with label %q", other.Type, k.Type, k.Label)
		}
	}
}

func (k Key) validate(c *check) {
	at := fmt.Sprintf("key %q: ", k.Type)
	c.that(profileName.MatchString(k.Type), "key.type = %q: want 1 to 64 letters, digits, _ and -, beginning with a letter", k.Type)
	c.between(at+"cert", k.Cert, 0, MaxKeys-1)
	c.that(connectorID.MatchString(k.CA), "%sca = %q: not the name of an authority", at, k.CA)
	c.that(k.CAProfile != "", "%sca_profile is missing", at)
	c.err(at+"label", CheckPattern(k.Label))
	c.oneOf(at+"old_certs", k.OldCerts, append([]string{""}, oldCerts...)...)
	k.validateMade(c)
}

// validateCoolKey checks what a CoolKey applet needs to know of a key.
func (k Key) validateCoolKey(c *check) {
	at := fmt.Sprintf("key %q: ", k.Type)
	c.oneOf(at+"alg", k.Alg, algorithms...)
	c.that(k.Slot == "" && k.PINPolicy == "" && k.TouchPolicy == "" && k.Retire == 0,
		"%sslot, pin_policy, touch_policy and retire are of PIV profiles", at)
	c.between(at+"user", k.User, 0, 15)
	c.between(at+"usage", k.Usage, 0, 3)
	c.subset(at+"private", k.Private, capabilities)
	c.subset(at+"public", k.Public, capabilities)
	c.that(slices.ContainsFunc(k.Private, func(s string) bool {
		return slices.Contains([]string{"sign", "decrypt", "unwrap", "derive"}, s)
	}), "%sprivate has none of sign, decrypt, unwrap, derive: the key would be of no use", at)
	k.validateMadeCoolKey(c)
}
