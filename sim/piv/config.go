package piv

import (
	"errors"
	"fmt"
	"slices"

	"inkan/apdu/piv"
)

// Kind is the family of a PIV applet.
type Kind string

// Kinds. PivApplet is what is loaded onto GlobalPlatform cards, YubiKey what is
// built into cards without a card manager.
const (
	PivApplet Kind = "pivapplet"
	YubiKey   Kind = "yubikey"
)

// Config says what kind of applet a [Factory] makes. The zero value is a PivApplet
// 0.9.0. Card images keep it, so that a card stays what it was made as.
type Config struct {
	Kind       Kind            `json:",omitempty"` // "" = PivApplet
	Firmware   piv.Version     `json:",omitzero"`  // zero = the kind's own
	Algorithms []piv.Algorithm `json:",omitempty"` // of key pairs; nil = the kind's own
	// ManagementAlgorithm is the factory's management key algorithm; 0 = 3DES.
	ManagementAlgorithm piv.Algorithm `json:",omitempty"`
	ManagementKey       []byte        `json:",omitempty"` // nil = the public default
	NoAttestation       bool          `json:",omitempty"`
	Serial              uint32        `json:",omitempty"` // 0 = drawn at installation
}

// kindTraits is what differs between the kinds beyond the configuration.
type kindTraits struct {
	firmware   piv.Version
	algorithms []piv.Algorithm
	pinTries   int
	pukTries   int
	retired    int // slots
}

var kinds = map[Kind]kindTraits{
	PivApplet: {
		firmware: piv.Version{Major: 5, Minor: 4}, pinTries: 5, pukTries: 3, retired: 11,
		algorithms: []piv.Algorithm{piv.RSA1024, piv.RSA2048, piv.P256, piv.P384},
	},
	YubiKey: {
		firmware: piv.Version{Major: 5, Minor: 4, Patch: 3}, pinTries: 3, pukTries: 3, retired: piv.MaxRetired,
		algorithms: []piv.Algorithm{piv.RSA1024, piv.RSA2048, piv.P256, piv.P384},
	},
}

// withDefaults fills in what is zero.
func (c Config) withDefaults() Config {
	if c.Kind == "" {
		c.Kind = PivApplet
	}
	t := kinds[c.Kind]
	if c.Firmware == (piv.Version{}) {
		c.Firmware = t.firmware
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = t.algorithms
	}
	if c.ManagementAlgorithm == 0 {
		c.ManagementAlgorithm = piv.TripleDES
	}
	if len(c.ManagementKey) == 0 {
		c.ManagementKey = piv.DefaultManagementKey()[:min(c.ManagementAlgorithm.KeyLen(), 24)]
	}
	return c
}

// Check reports the first thing that makes c no card.
func (c Config) Check() error {
	c = c.withDefaults()
	if _, ok := kinds[c.Kind]; !ok {
		return fmt.Errorf("PIV kind %q is none of pivapplet, yubikey", c.Kind)
	}
	for _, alg := range c.Algorithms {
		if !alg.Asymmetric() {
			return fmt.Errorf("%v is no algorithm of key pairs", alg)
		}
		if newAlgorithm(alg) && !c.Firmware.AtLeast(5, 7, 0) {
			return fmt.Errorf("%v needs firmware 5.7, the card has %v", alg, c.Firmware)
		}
	}
	if _, err := piv.ManagementCipher(c.ManagementAlgorithm, c.ManagementKey); err != nil {
		return fmt.Errorf("management key: %w", err)
	}
	if c.ManagementAlgorithm != piv.TripleDES && !c.has(aesManagement) {
		return errors.New("an AES management key needs firmware 5.4")
	}
	return nil
}

func newAlgorithm(a piv.Algorithm) bool {
	return a == piv.RSA3072 || a == piv.RSA4096 || a == piv.Ed25519 || a == piv.X25519
}

// feature is something that came with a firmware.
type feature uint8

const (
	always        feature = iota
	attestation           // INS F9
	serialNumber          // INS F8
	metadata              // INS F7
	aesManagement         // AES management keys
	movingKeys            // INS F6
)

func (c Config) has(f feature) bool {
	switch f {
	case attestation:
		return !c.NoAttestation && c.Firmware.AtLeast(4, 3, 0)
	case serialNumber:
		return c.Firmware.AtLeast(5, 0, 0)
	case metadata:
		return c.Firmware.AtLeast(5, 3, 0)
	case aesManagement:
		return c.Firmware.AtLeast(5, 4, 0)
	case movingKeys:
		return c.Kind == YubiKey && c.Firmware.AtLeast(5, 7, 0)
	}
	return true
}

func (c Config) yubikey() bool { return c.Kind == YubiKey }

func (c Config) makes(a piv.Algorithm) bool { return slices.Contains(c.Algorithms, a) }

// keySlot reports whether the applet has the slot. The PivApplet's attestation key
// is not reached by commands.
func (c Config) keySlot(s piv.Slot) bool {
	if n := s.RetiredNumber(); n > 0 {
		return n <= kinds[c.Kind].retired
	}
	return s.HoldsKey() && (s != piv.Attestation || c.yubikey())
}

// object reports whether the applet stores the object.
func (c Config) object(o piv.Object) bool {
	if c.yubikey() {
		return o == piv.BiometricGroup || o >= 0x5F0000 && o <= 0x5FFFFF
	}
	return o >= 0x5FC101 && o <= 0x5FC117 || o == piv.AdminData || o == piv.AttestationCertificate
}
