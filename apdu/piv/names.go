package piv

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
)

// Algorithm is an algorithm identifier (SP 800-78-4 table 6-2; 05, 16, E0 and E1
// as YubiKeys from 5.7 on).
type Algorithm byte

// Algorithms of keys and of the management key.
const (
	TripleDES Algorithm = 0x03
	RSA3072   Algorithm = 0x05
	RSA1024   Algorithm = 0x06
	RSA2048   Algorithm = 0x07
	AES128    Algorithm = 0x08
	AES192    Algorithm = 0x0A
	AES256    Algorithm = 0x0C
	P256      Algorithm = 0x11
	P384      Algorithm = 0x14
	RSA4096   Algorithm = 0x16
	Ed25519   Algorithm = 0xE0
	X25519    Algorithm = 0xE1
)

type algorithmTraits struct {
	name   string
	bits   int            // of an RSA modulus
	curve  elliptic.Curve // of an ECDSA key
	length int            // of a management key, or of an Edwards or Montgomery key; bytes
	block  int            // of a management key's cipher, bytes
}

var algorithms = map[Algorithm]algorithmTraits{
	TripleDES: {name: "3DES", length: 24, block: 8},
	AES128:    {name: "AES-128", length: 16, block: 16},
	AES192:    {name: "AES-192", length: 24, block: 16},
	AES256:    {name: "AES-256", length: 32, block: 16},
	RSA1024:   {name: "RSA-1024", bits: 1024},
	RSA2048:   {name: "RSA-2048", bits: 2048},
	RSA3072:   {name: "RSA-3072", bits: 3072},
	RSA4096:   {name: "RSA-4096", bits: 4096},
	P256:      {name: "P-256", curve: elliptic.P256()},
	P384:      {name: "P-384", curve: elliptic.P384()},
	Ed25519:   {name: "Ed25519", length: 32},
	X25519:    {name: "X25519", length: 32},
}

// String is the algorithm's usual name.
func (a Algorithm) String() string {
	if t, ok := algorithms[a]; ok {
		return t.name
	}
	return fmt.Sprintf("algorithm %02X", byte(a))
}

// ParseAlgorithm finds an algorithm by the name that String gives.
func ParseAlgorithm(name string) (Algorithm, error) {
	var names []string
	for a, t := range algorithms {
		if t.name == name {
			return a, nil
		}
		names = append(names, t.name)
	}
	slices.Sort(names)
	return 0, fmt.Errorf("algorithm %q is none of %q", name, names)
}

// Bits is the length of an RSA modulus, 0 for everything else.
func (a Algorithm) Bits() int { return algorithms[a].bits }

// Curve is the curve of an ECDSA key, nil for everything else.
func (a Algorithm) Curve() elliptic.Curve { return algorithms[a].curve }

// Symmetric reports whether a is an algorithm of management keys.
func (a Algorithm) Symmetric() bool { return algorithms[a].block > 0 }

// Asymmetric reports whether a is an algorithm of key pairs.
func (a Algorithm) Asymmetric() bool {
	_, known := algorithms[a]
	return known && !a.Symmetric()
}

// Block is the block length of a management key's cipher in bytes, 0 for
// everything else.
func (a Algorithm) Block() int { return algorithms[a].block }

// KeyLen is the length of a management key in bytes, 0 for everything else.
func (a Algorithm) KeyLen() int {
	if !a.Symmetric() {
		return 0
	}
	return algorithms[a].length
}

// AlgorithmOf is the algorithm of a public key.
func AlgorithmOf(pub crypto.PublicKey) (Algorithm, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		for a, t := range algorithms {
			if t.bits != 0 && t.bits == k.N.BitLen() {
				return a, nil
			}
		}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		}
	case ed25519.PublicKey:
		return Ed25519, nil
	case *ecdh.PublicKey:
		if k.Curve() == ecdh.X25519() {
			return X25519, nil
		}
	}
	return 0, errors.New("PIV has no algorithm for this public key")
}

// Slot is a key reference (SP 800-73-4 part 1 table 4b; F9 is the YubiKey's).
type Slot byte

// Slots of key pairs. Retired keys are 82 to 95: see [Retired].
const (
	Authentication     Slot = 0x9A
	Signature          Slot = 0x9C
	KeyManagement      Slot = 0x9D
	CardAuthentication Slot = 0x9E
	Attestation        Slot = 0xF9
)

// Management is the reference of the card management key, PIN and PUK those of
// the secrets: [Metadata] takes them.
const (
	Management Slot = 0x9B
	PIN        Slot = 0x80
	PUK        Slot = 0x81
)

// MaxRetired is how many slots there are for retired key management keys.
const MaxRetired = 20

const firstRetired = 0x82

// Retired is the slot of retired key n, 1 to MaxRetired; 0 for another n.
func Retired(n int) Slot {
	if n < 1 || n > MaxRetired {
		return 0
	}
	return Slot(firstRetired + n - 1)
}

// RetiredNumber is the n of [Retired], 0 for another slot.
func (s Slot) RetiredNumber() int {
	if s < firstRetired || s >= firstRetired+MaxRetired {
		return 0
	}
	return int(s) - firstRetired + 1
}

// HoldsKey reports whether s is a slot of a key pair, attestation included.
func (s Slot) HoldsKey() bool {
	switch s {
	case Authentication, Signature, KeyManagement, CardAuthentication, Attestation:
		return true
	}
	return s.RetiredNumber() > 0
}

// String is the slot as everybody writes it: 9A.
func (s Slot) String() string { return fmt.Sprintf("%02X", byte(s)) }

// Purpose says what a slot is for, in words.
func (s Slot) Purpose() string {
	switch s {
	case Authentication:
		return "authentication"
	case Signature:
		return "signature"
	case KeyManagement:
		return "key management"
	case CardAuthentication:
		return "card authentication"
	case Attestation:
		return "attestation"
	case Management:
		return "card management"
	}
	if n := s.RetiredNumber(); n > 0 {
		return fmt.Sprintf("retired key management %d", n)
	}
	return "unknown"
}

// Slots are all slots of key pairs in the order people read them: the four, the
// retired ones. Attestation is not among them.
func Slots() []Slot {
	out := []Slot{Authentication, Signature, KeyManagement, CardAuthentication}
	for n := 1; n <= MaxRetired; n++ {
		out = append(out, Retired(n))
	}
	return out
}

// Certificate is the object of the slot's certificate; 0 where there is none.
func (s Slot) Certificate() Object {
	switch s {
	case Authentication:
		return 0x5FC105
	case Signature:
		return 0x5FC10A
	case KeyManagement:
		return 0x5FC10B
	case CardAuthentication:
		return 0x5FC101
	case Attestation:
		return AttestationCertificate
	}
	if n := s.RetiredNumber(); n > 0 {
		return firstRetiredCertificate + Object(n) - 1
	}
	return 0
}

// PINPolicy says when a key wants the PIN.
type PINPolicy byte

// PIN policies. The default is the slot's own: see [Slot.DefaultPINPolicy].
const (
	PINDefault     PINPolicy = 0
	PINNever       PINPolicy = 1
	PINOnce        PINPolicy = 2
	PINAlways      PINPolicy = 3 // directly before each use
	PINMatchOnce   PINPolicy = 4 // or a finger
	PINMatchAlways PINPolicy = 5
)

// String names the policy.
func (p PINPolicy) String() string {
	return nameOf(byte(p), "default", "never", "once", "always", "match-once", "match-always")
}

// TouchPolicy says when a key wants a touch.
type TouchPolicy byte

// Touch policies. The default is never.
const (
	TouchDefault TouchPolicy = 0
	TouchNever   TouchPolicy = 1
	TouchAlways  TouchPolicy = 2
	TouchCached  TouchPolicy = 3 // one touch lasts 15 seconds
)

// String names the policy.
func (p TouchPolicy) String() string {
	return nameOf(byte(p), "default", "never", "always", "cached")
}

func nameOf(n byte, names ...string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("unknown %02X", n)
}

// DefaultPINPolicy is what [PINDefault] means in this slot: 9C always, 9E never,
// the others once.
func (s Slot) DefaultPINPolicy() PINPolicy {
	switch s {
	case Signature:
		return PINAlways
	case CardAuthentication:
		return PINNever
	}
	return PINOnce
}
