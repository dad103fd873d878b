package profile

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// rootsName is what a node's configuration calls a set of attestation roots.
var rootsName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// forms are the form factors that an attestation tells, each also with "-fips".
var forms = []string{"usb-a", "usb-a-nano", "usb-c", "usb-c-nano", "lightning", "usb-a-bio", "usb-c-bio"}

// validateAttestation checks what the profile demands of attestations. A demand that
// nothing would look at is refused: it would be taken for a protection.
func (v PIV) validateAttestation(c *check) {
	c.that(v.Attest || len(v.AttestRoots) == 0 && v.AttestFirmware == "" && len(v.AttestForms) == 0,
		"piv.attest_roots, attest_firmware and attest_forms demand nothing without attest = true")
	for i, name := range v.AttestRoots {
		c.that(rootsName.MatchString(name), "piv.attest_roots = %q: want 1 to 32 lower-case letters, digits and -, beginning with a letter", name)
		c.that(!slices.Contains(v.AttestRoots[:i], name), "piv.attest_roots names %q twice", name)
	}
	c.that(v.AttestFirmware == "" || firmware(v.AttestFirmware), "piv.attest_firmware = %q: want a version such as 5.7.0", v.AttestFirmware)
	for i, f := range v.AttestForms {
		c.oneOf("piv.attest_forms", strings.TrimSuffix(f, "-fips"), forms...)
		c.that(!slices.Contains(v.AttestForms[:i], f), "piv.attest_forms names %q twice", f)
	}
}

// firmware reports three numbers of a byte each.
func firmware(version string) bool {
	parts := strings.Split(version, ".")
	return len(parts) == 3 && !slices.ContainsFunc(parts, func(part string) bool {
		n, err := strconv.ParseUint(part, 10, 8)
		return err != nil || strconv.FormatUint(n, 10) != part
	})
}
