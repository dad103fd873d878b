// Package attest decides whether a card has proved that a key was made in it: the
// chain of its attestation (INS F9) to a root that is trusted here, and what the
// statement says against what is demanded of the key.
//
// A [Verifier] does both. It believes named sets of roots: those of the makers that are
// built into piv-go, which is handed in because it does not exist in every build, and
// the site's own. What a chain does not prove is compared here: the public key, which
// makes an attestation fresh, slot, serial number, firmware, policies and form factor.
//
// But for [Read] and [ReadCard] nothing here does I/O, and nothing keeps state; everything is safe for concurrent use.
package attest

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
	"inkan/apdu/piv"
)

// Evidence is what a card gives. It is kept with the certificate that was issued on
// it, so that anybody can verify it again.
type Evidence struct {
	Leaf []byte // DER, the answer of INS F9: the statement on the key
	Card []byte // DER, object 5FFF01: who signed it, the card's attestation certificate
}

// maxEvidence bounds kept evidence, bytes.
const maxEvidence = 16 << 10

// pemType is what both certificates are in PEM.
const pemType = "CERTIFICATE"

// Read has a card attest the key of a slot. An empty slot and an imported key are
// [apdu.SWWrongData], a card that cannot attest is [piv.IsUnsupported] or, where it
// has no attestation certificate, [piv.IsAbsent].
func Read(ctx context.Context, d apdu.Doer, slot piv.Slot) (Evidence, error) {
	leaf, err := piv.Attest(ctx, d, slot)
	if err != nil {
		return Evidence{}, err
	}
	card, err := ReadCard(ctx, d)
	if err != nil {
		return Evidence{}, err
	}
	return Evidence{Leaf: leaf.Raw, Card: card.Raw}, nil
}

// ReadCard reads the card's attestation certificate.
func ReadCard(ctx context.Context, d apdu.Doer) (*x509.Certificate, error) {
	card, err := piv.ReadCertificate(ctx, d, piv.Attestation)
	if err != nil {
		return nil, fmt.Errorf("reading the card's attestation certificate: %w", err)
	}
	return card, nil
}

// PEM is the evidence as it is kept and shown: the two certificates, the statement
// first.
func (e Evidence) PEM() []byte {
	out := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: e.Leaf})
	return append(out, pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: e.Card})...)
}

// ParsePEM reads what [Evidence.PEM] wrote. It verifies nothing.
func ParsePEM(b []byte) (Evidence, error) {
	if len(b) > maxEvidence {
		return Evidence{}, fmt.Errorf("reading attestation: %d bytes, at most %d", len(b), maxEvidence)
	}
	ders, err := certificatesIn(b)
	if err != nil {
		return Evidence{}, fmt.Errorf("reading attestation: %w", err)
	}
	if len(ders) != 2 {
		return Evidence{}, fmt.Errorf("reading attestation: %d certificates, want 2", len(ders))
	}
	return Evidence{Leaf: ders[0], Card: ders[1]}, nil
}

// certificatesIn are the contents of a PEM file of certificates and nothing else.
func certificatesIn(b []byte) ([][]byte, error) {
	var ders [][]byte
	for {
		block, rest := pem.Decode(b)
		if block == nil {
			break
		}
		if block.Type != pemType {
			return nil, fmt.Errorf("a PEM block %q among the certificates", block.Type)
		}
		ders, b = append(ders, block.Bytes), rest
	}
	return ders, nil
}

// Statement is what the evidence says, verified or not.
func (e Evidence) Statement() (piv.Statement, error) {
	leaf, err := x509.ParseCertificate(e.Leaf)
	if err != nil {
		return piv.Statement{}, fmt.Errorf("reading attestation: %w", err)
	}
	return piv.ParseStatement(leaf)
}

// Signer is the card's attestation certificate, verified or not.
func (e Evidence) Signer() (*x509.Certificate, error) {
	card, err := x509.ParseCertificate(e.Card)
	if err != nil {
		return nil, fmt.Errorf("reading attestation: %w", err)
	}
	return card, nil
}

// Demands is what the evidence has to say. The public key and the slot are always
// compared.
type Demands struct {
	Public   crypto.PublicKey // the key that was made a moment ago
	Slot     piv.Slot
	Policy   piv.Policy       // exactly; the defaults are those of the slot
	Serial   uint32           // of the card; 0 = the card tells none, as cards before firmware 5.0 may
	Firmware piv.Version      // at least; zero = any
	Forms    []piv.FormFactor // one of them; empty = any
	Roots    []string         // names of the sets that the chain may lead to; empty = all
}

// check compares a statement of a good chain.
func (d Demands) check(s piv.Statement) error {
	want := effective(d.Policy, d.Slot)
	got := effective(s.Policy, s.Slot)
	switch {
	case d.Public == nil:
		return errors.New("no key is named that is to be attested")
	case s.Slot != d.Slot:
		return fmt.Errorf("the card attested the key of slot %v, not of slot %v", s.Slot, d.Slot)
	case !s.SameKey(d.Public):
		return fmt.Errorf("the card attested another key than the one that it made in slot %v", d.Slot)
	case s.Serial != d.Serial && d.Serial != 0:
		return fmt.Errorf("the attestation is of the card with serial number %d, this one has %d", s.Serial, d.Serial)
	case s.Serial != d.Serial && s.Firmware.AtLeast(5, 0, 0):
		return fmt.Errorf("the attestation is of the card with serial number %d, and this one tells none, which a card with firmware %v does", s.Serial, s.Firmware)
	case !s.Firmware.AtLeast(d.Firmware.Major, d.Firmware.Minor, d.Firmware.Patch):
		return fmt.Errorf("the attestation is of firmware %v, at least %v is demanded", s.Firmware, d.Firmware)
	case len(d.Forms) > 0 && !slices.Contains(d.Forms, s.FormFactor):
		return fmt.Errorf("the attestation is of the form factor %v, one of %v is demanded", s.FormFactor, d.Forms)
	case got.PIN != want.PIN:
		return fmt.Errorf("the key of slot %v has the PIN policy %v, %v is demanded", d.Slot, got.PIN, want.PIN)
	case got.Touch != want.Touch:
		return fmt.Errorf("the key of slot %v has the touch policy %v, %v is demanded", d.Slot, got.Touch, want.Touch)
	}
	return nil
}

// effective replaces the defaults by what they mean in the slot.
func effective(p piv.Policy, slot piv.Slot) piv.Policy {
	if p.PIN == piv.PINDefault {
		p.PIN = slot.DefaultPINPolicy()
	}
	if p.Touch == piv.TouchDefault {
		p.Touch = piv.TouchNever
	}
	return p
}
