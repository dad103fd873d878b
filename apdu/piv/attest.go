package piv

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu"
)

// Extensions of an attestation certificate (developers.yubico.com, PIV
// attestation). Their values are raw but for the serial number.
var (
	OIDFirmware   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3}
	OIDSerial     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7}
	OIDPolicy     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8}
	OIDFormFactor = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 9}
)

// AttestationSubject is the common name of an attestation certificate, before the
// slot in lower-case hexadecimal.
const AttestationSubject = "YubiKey PIV Attestation "

// SimulatedName begins the common names of the attestation certificates that
// software cards are made with, root and card's: whoever has the program can make
// such a card, and read its keys out of the image.
const SimulatedName = "Inkan Software Card"

// Statement is what an attestation certificate says. It is the word of whoever
// signed the certificate: without a chain to a root that is trusted it is nobody's.
type Statement struct {
	Slot       Slot
	Public     crypto.PublicKey
	Firmware   Version
	Serial     uint32 // 0 = not told
	Policy     Policy
	FormFactor FormFactor // 0 = not told
}

// Attest has the card certify that the key of a slot was made in it (INS F9, from
// version 4.3 on). An empty slot and an imported key are [apdu.SWWrongData].
func Attest(ctx context.Context, d apdu.Doer, slot Slot) (*x509.Certificate, error) {
	what := fmt.Sprintf("attesting the key of slot %v", slot)
	b, err := call(ctx, d, what, command(InsAttest, byte(slot), 0, nil, apdu.MaxShortNe))
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return cert, nil
}

// ParseStatement reads an attestation certificate. It verifies no signature. The
// slot, the policies and the firmware must be told; an extension that is there
// twice is refused, as is one with anything behind its value.
func ParseStatement(cert *x509.Certificate) (Statement, error) {
	s := Statement{Public: cert.PublicKey}
	if s.Public == nil { // X25519, which package x509 leaves out
		var err error
		if s.Public, err = x509.ParsePKIXPublicKey(cert.RawSubjectPublicKeyInfo); err != nil {
			return Statement{}, fmt.Errorf("attestation: %w", err)
		}
	}
	name, ok := strings.CutPrefix(cert.Subject.CommonName, AttestationSubject)
	if !ok {
		return Statement{}, fmt.Errorf("attestation for the subject %q", cert.Subject.CommonName)
	}
	n, err := strconv.ParseUint(name, 16, 8)
	if err != nil || !Slot(n).HoldsKey() {
		return Statement{}, fmt.Errorf("attestation for the slot %q", name)
	}
	s.Slot = Slot(n)
	seen := map[string]bool{}
	for _, e := range cert.Extensions {
		known, err := s.extension(e.Id, e.Value)
		if err == nil && known && seen[e.Id.String()] {
			err = errors.New("twice")
		}
		if err != nil {
			return Statement{}, fmt.Errorf("attestation, extension %v: %w", e.Id, err)
		}
		seen[e.Id.String()] = true
	}
	if !seen[OIDFirmware.String()] || !seen[OIDPolicy.String()] {
		return Statement{}, errors.New("attestation without firmware or policies")
	}
	return s, nil
}

func (s *Statement) extension(id asn1.ObjectIdentifier, v []byte) (known bool, err error) {
	length := func(n int) error {
		if len(v) != n {
			return fmt.Errorf("%d bytes, want %d", len(v), n)
		}
		return nil
	}
	switch {
	case id.Equal(OIDFirmware):
		if err = length(3); err == nil {
			s.Firmware = Version{v[0], v[1], v[2]}
		}
	case id.Equal(OIDPolicy):
		if err = length(2); err == nil {
			s.Policy = Policy{PINPolicy(v[0]), TouchPolicy(v[1])}
		}
	case id.Equal(OIDFormFactor):
		if err = length(1); err == nil {
			s.FormFactor = FormFactor(v[0])
		}
	case id.Equal(OIDSerial):
		s.Serial, err = parseSerial(v)
	default:
		return false, nil
	}
	return true, err
}

func parseSerial(der []byte) (uint32, error) {
	var n int64
	rest, err := asn1.Unmarshal(der, &n)
	switch {
	case err != nil:
		return 0, err
	case len(rest) > 0 || n < 0 || n > 1<<32-1:
		return 0, errors.New("no number of 32 bits")
	}
	return uint32(n), nil
}

// Extensions writes what [ParseStatement] reads, but for slot and public key.
func (s Statement) Extensions() ([]Extension, error) {
	serial, err := asn1.Marshal(int64(s.Serial))
	if err != nil {
		return nil, fmt.Errorf("encoding serial number: %w", err)
	}
	return []Extension{
		{OIDFirmware, []byte{s.Firmware.Major, s.Firmware.Minor, s.Firmware.Patch}},
		{OIDSerial, serial},
		{OIDPolicy, []byte{byte(s.Policy.PIN), byte(s.Policy.Touch)}},
		{OIDFormFactor, []byte{byte(s.FormFactor)}},
	}, nil
}

// Extension is one extension of an attestation certificate, never critical.
type Extension struct {
	ID    asn1.ObjectIdentifier
	Value []byte
}

// SameKey reports whether the attested key is the given one.
func (s Statement) SameKey(pub crypto.PublicKey) bool {
	a, err1 := AppendPublicKey(nil, s.Public)
	b, err2 := AppendPublicKey(nil, pub)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}
