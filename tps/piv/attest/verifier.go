package attest

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"

	"inkan/apdu/piv"
)

// Chain verifies that a certificate and the card's attestation certificate, which may
// be the same, lead to a root. It may change neither.
type Chain func(leaf, card *x509.Certificate) error

// Set are roots under the name that profiles have for them.
type Set struct {
	Name  string
	Chain Chain // nil = this build does not have them
}

// ErrNoMakers is why a build cannot verify cards by the roots of their makers.
var ErrNoMakers = errors.New("this program was built without cgo, and knows no maker's roots: use a build with cgo, or name the maker's roots in [attestation] roots")

// Verifier says whom to believe. The zero value, and nil, believe nobody.
type Verifier struct {
	Sets []Set // tried in this order
	// Simulated lets software cards pass whose root is among Sets. Their keys lie
	// open in a file, so their word is worth nothing outside a trial.
	Simulated bool
}

// Verify verifies the evidence for one key and what it says. The error is a sentence on
// what is wrong with the evidence, or on what is missing here.
func (v *Verifier) Verify(_ context.Context, e Evidence, d Demands) (piv.Statement, error) {
	s, err := v.verify(e, d)
	if err != nil {
		return piv.Statement{}, fmt.Errorf("verifying the attestation: %w", err)
	}
	return s, nil
}

func (v *Verifier) verify(e Evidence, d Demands) (piv.Statement, error) {
	leaf, err := x509.ParseCertificate(e.Leaf)
	if err != nil {
		return piv.Statement{}, fmt.Errorf("the card's answer is no certificate: %w", err)
	}
	card, err := x509.ParseCertificate(e.Card)
	if err != nil {
		return piv.Statement{}, fmt.Errorf("the card's attestation certificate is none: %w", err)
	}
	s, err := piv.ParseStatement(leaf)
	if err != nil {
		return s, err
	}
	if err := card.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		return s, fmt.Errorf("it is not signed with the card's attestation key: %w", err)
	}
	if err := v.chain(leaf, card, d.Roots); err != nil {
		return s, err
	}
	return s, d.check(s)
}

// VerifyCard verifies the attestation certificate of a card alone, before it makes a
// key: whether what it will attest can count. roots are those of [Demands].
func (v *Verifier) VerifyCard(card *x509.Certificate, roots []string) error {
	if err := v.chain(card, card, roots); err != nil {
		return fmt.Errorf("verifying the card's attestation certificate: %w", err)
	}
	return nil
}

// Has reports the first name that is no set's, and whether this build has none of the
// sets named: all of them where roots is empty.
func (v *Verifier) Has(roots []string) error {
	_, err := v.sets(roots)
	return err
}

// sets are those that are named, all without a name.
func (v *Verifier) sets(names []string) ([]Set, error) {
	if v == nil {
		v = &Verifier{}
	}
	var some []Set
	var all []string
	for _, s := range v.Sets {
		all = append(all, s.Name)
		if len(names) == 0 || slices.Contains(names, s.Name) {
			some = append(some, s)
		}
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, fmt.Errorf("there are no attestation roots %q in this node's configuration, only %s", n, strings.Join(all, ", "))
		}
	}
	if !slices.ContainsFunc(some, func(s Set) bool { return s.Chain != nil }) {
		return nil, ErrNoMakers
	}
	return some, nil
}

// chain tries the sets one after another.
func (v *Verifier) chain(leaf, card *x509.Certificate, roots []string) error {
	sets, err := v.sets(roots)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(card.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(piv.OIDPolicy) }) {
		return errors.New("it is signed with a key in a slot of a card, not with a card's attestation key")
	}
	if !v.Simulated && (simulated(leaf.Issuer.CommonName) || simulated(card.Subject.CommonName) || simulated(card.Issuer.CommonName)) {
		return errors.New("it is that of a software card, which proves nothing")
	}
	for i, s := range sets {
		why := s.verify(leaf, card)
		switch {
		case why == nil:
			return nil
		case i == 0:
			err = why
		default:
			err = fmt.Errorf("%w; %w", err, why)
		}
	}
	return err
}

func (s Set) verify(leaf, card *x509.Certificate) error {
	err := ErrNoMakers
	if s.Chain != nil {
		err = s.Chain(leaf, card)
	}
	if err != nil {
		return fmt.Errorf("by the roots %s: %w", s.Name, err)
	}
	return nil
}
