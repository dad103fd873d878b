package ca

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Bounds of an OCSP request. A request for one certificate has about 100 bytes.
const (
	maxOCSPRequest = 16 << 10 // bytes
	maxOCSPSingles = 64       // certificates asked for
	maxOCSPNonce   = 128      // bytes (RFC 9654 §2.1)
)

var oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2} // RFC 6960 §4.4.1

// ocspRequest is what a client asks.
type ocspRequest struct {
	certs []ocspCertID // 1 to maxOCSPSingles
	nonce []byte       // 1 to maxOCSPNonce bytes; nil = none
}

// ocspCertID names a certificate (RFC 6960 §4.1.1). Raw goes back into the answer
// as it came: clients compare it byte by byte.
type ocspCertID struct {
	Raw       asn1.RawContent
	Algorithm pkix.AlgorithmIdentifier
	NameHash  []byte
	KeyHash   []byte
	Serial    *big.Int
}

// The grammar of RFC 6960 §4.1.1. Who asks, and a signature over the request, are
// not looked at: anybody may ask.
type (
	ocspRequestASN1 struct {
		TBS       ocspTBSRequest
		Signature asn1.RawValue `asn1:"explicit,tag:0,optional"`
	}
	ocspTBSRequest struct {
		Version    int              `asn1:"explicit,tag:0,default:0,optional"`
		Requestor  asn1.RawValue    `asn1:"explicit,tag:1,optional"`
		List       []ocspSingle     // more elements than it has bytes are impossible
		Extensions []pkix.Extension `asn1:"explicit,tag:2,optional"`
	}
	ocspSingle struct {
		CertID     ocspCertID
		Extensions []pkix.Extension `asn1:"explicit,tag:0,optional"`
	}
)

// parseOCSPRequest reads a request. Extensions that are not understood are
// ignored unless they are critical. golang.org/x/crypto/ocsp reads only the first
// certificate and no extension, hence this one.
func parseOCSPRequest(der []byte) (ocspRequest, error) {
	if len(der) > maxOCSPRequest {
		return ocspRequest{}, fmt.Errorf("OCSP request of more than %d bytes", maxOCSPRequest)
	}
	var req ocspRequestASN1
	switch rest, err := asn1.Unmarshal(der, &req); {
	case err != nil:
		return ocspRequest{}, fmt.Errorf("decoding an OCSP request: %w", err)
	case len(rest) > 0:
		return ocspRequest{}, errors.New("OCSP request with trailing data")
	case req.TBS.Version != 0:
		return ocspRequest{}, fmt.Errorf("OCSP request of version %d", req.TBS.Version+1)
	case len(req.TBS.List) == 0 || len(req.TBS.List) > maxOCSPSingles:
		return ocspRequest{}, fmt.Errorf("OCSP request for %d certificates, want 1 to %d", len(req.TBS.List), maxOCSPSingles)
	}
	var out ocspRequest
	for _, single := range req.TBS.List {
		if err := refuseCritical(single.Extensions); err != nil {
			return ocspRequest{}, err
		}
		out.certs = append(out.certs, single.CertID)
	}
	nonce, others, err := takeNonce(req.TBS.Extensions)
	if err != nil {
		return ocspRequest{}, err
	}
	out.nonce = nonce
	return out, refuseCritical(others)
}

// takeNonce returns the nonce among the extensions of a request, and the others.
func takeNonce(all []pkix.Extension) (nonce []byte, others []pkix.Extension, err error) {
	for _, x := range all {
		if !x.Id.Equal(oidOCSPNonce) {
			others = append(others, x)
			continue
		}
		if nonce != nil {
			return nil, nil, errors.New("OCSP request with two nonces")
		}
		if rest, err := asn1.Unmarshal(x.Value, &nonce); err != nil || len(rest) > 0 {
			return nil, nil, errors.New("OCSP request with a malformed nonce")
		}
		if len(nonce) == 0 || len(nonce) > maxOCSPNonce {
			return nil, nil, fmt.Errorf("OCSP request with a nonce of %d bytes, want 1 to %d", len(nonce), maxOCSPNonce)
		}
	}
	return nonce, others, nil
}

func refuseCritical(extensions []pkix.Extension) error {
	for _, x := range extensions {
		if x.Critical {
			return fmt.Errorf("OCSP request with critical extension %s", x.Id)
		}
	}
	return nil
}

// ocspHashes are the hashes by which a client may name the issuer.
var ocspHashes = map[string]crypto.Hash{
	"1.3.14.3.2.26":          crypto.SHA1, // names the issuer, protects nothing
	"2.16.840.1.101.3.4.2.1": crypto.SHA256,
	"2.16.840.1.101.3.4.2.2": crypto.SHA384,
	"2.16.840.1.101.3.4.2.3": crypto.SHA512,
}

// issuedBy reports whether a certificate is named as one of the authority with
// this name (DER) and public key (the bits within its SubjectPublicKeyInfo).
func (id ocspCertID) issuedBy(name, key []byte) bool {
	hash, known := ocspHashes[id.Algorithm.Algorithm.String()]
	return known && bytes.Equal(id.NameHash, sum(hash, name)) && bytes.Equal(id.KeyHash, sum(hash, key))
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}
