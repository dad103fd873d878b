//go:build cgo || windows

package server

import (
	"crypto/x509"
	"fmt"

	"github.com/go-piv/piv-go/v2/piv"

	"inkan/tps/piv/attest"
)

// makers verifies by the makers' roots and intermediates that piv-go has built in.
var makers attest.Chain = func(leaf, card *x509.Certificate) error {
	mine, err := x509.ParseCertificate(card.Raw) // piv-go changes that of old cards
	if err != nil {
		return fmt.Errorf("the card's attestation certificate: %w", err)
	}
	var v piv.Verifier
	_, err = v.Verify(mine, leaf)
	return err
}
