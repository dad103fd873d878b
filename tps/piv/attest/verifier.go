package attest

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"inkan/apdu/piv"
)

// Chain verifies that a statement and the card's attestation certificate lead to a
// root. It may change neither.
type Chain func(leaf, card *x509.Certificate) error

// ErrNoMakers is why a build cannot verify cards by the roots of their makers.
var ErrNoMakers = errors.New("this program was built without cgo, and knows no maker's roots: use a build with cgo, or name the maker's roots in [attestation] roots")

// Verifier says whom to believe. The zero value believes nobody.
type Verifier struct {
	Makers        Chain // by the makers' roots; nil = this build has none
	Roots         []*x509.Certificate
	Intermediates []*x509.Certificate // that may stand between a root and a card
	// Simulated lets software cards pass whose root is among Roots. Their keys lie
	// open in a file, so their word is worth nothing outside a trial.
	Simulated bool
}

// Verify is a [Func].
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
	if err := v.chain(leaf, card); err != nil {
		return s, err
	}
	return s, d.check(s)
}

// chain tries the makers' roots, then the site's own.
func (v *Verifier) chain(leaf, card *x509.Certificate) error {
	if _, err := piv.ParseStatement(card); err == nil {
		return errors.New("it is signed with a key in a slot of a card, not with a card's attestation key")
	}
	if !v.Simulated && (simulated(leaf.Issuer.CommonName) || simulated(card.Subject.CommonName) || simulated(card.Issuer.CommonName)) {
		return errors.New("it is that of a software card, which proves nothing")
	}
	err := ErrNoMakers
	if v.Makers != nil {
		err = v.Makers(leaf, card)
	}
	if err == nil || len(v.Roots) == 0 {
		return err
	}
	own := v.own(leaf, card)
	switch {
	case own == nil:
		return nil
	case v.Makers == nil:
		return own
	}
	return fmt.Errorf("neither the maker (%w) nor the site's own roots (%w) vouch for it", err, own)
}

// own verifies the chain by Roots.
func (v *Verifier) own(leaf, card *x509.Certificate) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	for _, c := range v.Roots {
		o.Roots.AddCert(c)
	}
	for _, c := range v.Intermediates {
		o.Intermediates.AddCert(c)
	}
	o.Intermediates.AddCert(card)
	_, err := leaf.Verify(o)
	return err
}

func simulated(name string) bool { return strings.HasPrefix(name, piv.SimulatedName) }

// ParseRoots reads a PEM file of certificates for [Verifier]. The root of a software
// card is refused unless that is allowed.
func ParseRoots(b []byte, allowSimulated bool) ([]*x509.Certificate, error) {
	ders, err := certificatesIn(b)
	if err != nil {
		return nil, err
	}
	if len(ders) == 0 {
		return nil, errors.New("no PEM certificate in it")
	}
	var all []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return nil, err
		case !c.IsCA:
			return nil, fmt.Errorf("%q is not a certificate of an authority", c.Subject)
		case simulated(c.Subject.CommonName) && !allowSimulated:
			return nil, fmt.Errorf("%q is the root of a software card, which proves nothing", c.Subject)
		}
		all = append(all, c)
	}
	return all, nil
}
