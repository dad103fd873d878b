package attest

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"inkan/apdu/piv"
)

// Roots verifies by roots and the intermediates that may stand between them and a card.
func Roots(roots, intermediates []*x509.Certificate) Chain {
	return func(leaf, card *x509.Certificate) error {
		o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		for _, c := range roots {
			o.Roots.AddCert(c)
		}
		for _, c := range intermediates {
			o.Intermediates.AddCert(c)
		}
		o.Intermediates.AddCert(card)
		_, err := leaf.Verify(o)
		return err
	}
}

func simulated(name string) bool { return strings.HasPrefix(name, piv.SimulatedName) }

// ParseRoots reads a PEM file of certificates for [Roots]. The root of a software
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
