package tps

import (
	"fmt"
	"slices"

	"inkan/tps/ca"
	"inkan/tps/token"
)

// A message names the certificate that it was encrypted to by issuer and serial number,
// and many programs look for that one and then for its key. So the certificates that a
// key which decrypts had before stay on the card beside its present one, where the
// family has room for them and the card's policy says so (RENEW_KEEP_OLD_ENC_CERTS,
// §14). Their keys are on the card already: none has to be recovered.

// former are the certificates that the keys of certs had before on this card, newest
// first.
func (f Facts) former(certs []CardCertificate) (all []CardCertificate, err error) {
	p, err := f.policy()
	if err != nil {
		return nil, within(StatusMisconfiguration, "", fmt.Errorf("former certificates: %w", err))
	}
	if !p.RenewKeepOldEncCerts {
		return nil, nil
	}
	for _, on := range certs {
		if !on.Key.Decrypts() {
			continue
		}
		present := token.Certificate{DER: on.DER}
		for _, c := range slices.Backward(f.Certs) { // oldest first
			if c.KeyType == on.Key.Type && wasUsed(c) && string(c.DER) != string(on.DER) && SameKey(c, present) {
				all = append(all, CardCertificate{Key: on.Key, Label: on.Label, DER: c.DER})
			}
		}
	}
	return all, nil
}

// wasUsed reports a certificate that was on the card: one that was issued in vain is
// revoked for that.
func wasUsed(c token.Certificate) bool {
	vain := c.State == token.CertRevoked && c.Reason == int(ca.ReasonCessationOfOperation)
	return c.State != token.CertUninitialized && !vain
}
