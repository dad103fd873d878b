//go:build cgo && !windows

package pkcs11

import (
	"crypto/ed25519"
	"encoding/asn1"
	"fmt"
)

// Numbers of PKCS #11 3.0 for Ed25519, which the module's header of 2.40 lacks.
const (
	ckkEdwards           = 0x40
	ckmEdwardsKeyPairGen = 0x1055
	ckmEdDSA             = 0x1057
)

// Names of the curve in CKA_EC_PARAMS: the PrintableString of PKCS #11 3.0 §2.3.10,
// and the object identifier of RFC 8410 that some tokens answer.
const (
	edwards25519    = "\x13\x0Cedwards25519"
	edwards25519OID = "\x06\x03\x2B\x65\x70"
)

// parseEdwards reads the 32 bytes of a public key, bare or in a DER OCTET STRING.
func parseEdwards(b []byte) (ed25519.PublicKey, error) {
	var inner []byte
	if rest, err := asn1.Unmarshal(b, &inner); err == nil && len(rest) == 0 {
		b = inner
	}
	if len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("reading an Ed25519 point: %d bytes", len(b))
	}
	return ed25519.PublicKey(b), nil
}
