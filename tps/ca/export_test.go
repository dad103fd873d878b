package ca

import "math/big"

// SignatureAlgorithm is signatureAlgorithm.
var SignatureAlgorithm = signatureAlgorithm

// ParseOCSPRequest returns the serial numbers and the nonce of a request.
func ParseOCSPRequest(der []byte) (serials []*big.Int, nonce []byte, err error) {
	req, err := parseOCSPRequest(der)
	for _, id := range req.certs {
		serials = append(serials, id.Serial)
	}
	return serials, req.nonce, err
}
