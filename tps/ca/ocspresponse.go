package ca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"time"

	"golang.org/x/crypto/ocsp"
)

var oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1} // RFC 6960 §4.2.1

// ocspAnswer is the status of one certificate.
type ocspAnswer struct {
	cert       ocspCertID
	status     int // ocsp.Good, ocsp.Revoked or ocsp.Unknown
	revocation Revocation
}

// ocspDates are the times of a response.
type ocspDates struct{ thisUpdate, nextUpdate time.Time }

// The grammar of RFC 6960 §4.2.1. golang.org/x/crypto/ocsp writes responses for
// one certificate and without extensions of their own only, hence this one.
type (
	ocspResponseASN1 struct {
		Status asn1.Enumerated
		Bytes  ocspResponseBytes `asn1:"explicit,tag:0"`
	}
	ocspResponseBytes struct {
		Type     asn1.ObjectIdentifier
		Response []byte
	}
	ocspBasic struct {
		TBS          asn1.RawValue
		Algorithm    pkix.AlgorithmIdentifier
		Signature    asn1.BitString
		Certificates []asn1.RawValue `asn1:"explicit,tag:0"`
	}
	ocspData struct {
		Responder  []byte    `asn1:"explicit,tag:2"` // byKey
		ProducedAt time.Time `asn1:"generalized"`
		Responses  []ocspSingleResponse
		Extensions []pkix.Extension `asn1:"explicit,tag:1,optional,omitempty"`
	}
	ocspSingleResponse struct {
		CertID     asn1.RawValue
		Status     asn1.RawValue
		ThisUpdate time.Time `asn1:"generalized"`
		NextUpdate time.Time `asn1:"generalized,explicit,tag:0"`
	}
	ocspRevoked struct {
		At     time.Time       `asn1:"generalized"`
		Reason asn1.Enumerated `asn1:"explicit,tag:0"`
	}
)

// encodeOCSP signs a response with the responder's key. A nil nonce is left out.
func encodeOCSP(r *ocspResponder, answers []ocspAnswer, nonce []byte, dates ocspDates) ([]byte, error) {
	data := ocspData{Responder: sum(crypto.SHA1, r.keyBits), ProducedAt: dates.thisUpdate}
	for _, a := range answers {
		status, err := encodeStatus(a)
		if err != nil {
			return nil, err
		}
		data.Responses = append(data.Responses, ocspSingleResponse{
			CertID: asn1.RawValue{FullBytes: a.cert.Raw}, Status: status,
			ThisUpdate: dates.thisUpdate, NextUpdate: dates.nextUpdate,
		})
	}
	if nonce != nil {
		value, err := asn1.Marshal(nonce)
		if err != nil {
			return nil, err
		}
		data.Extensions = []pkix.Extension{{Id: oidOCSPNonce, Value: value}}
	}
	tbs, err := asn1.Marshal(data)
	if err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(r.key, rand.Reader, tbs, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	basic, err := asn1.Marshal(ocspBasic{
		TBS:          asn1.RawValue{FullBytes: tbs},
		Algorithm:    pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, // ecdsa-with-SHA256
		Signature:    asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
		Certificates: []asn1.RawValue{{FullBytes: r.cert.Raw}},
	})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(ocspResponseASN1{Bytes: ocspResponseBytes{Type: oidOCSPBasic, Response: basic}})
}

// encodeStatus is CertStatus: a choice of good [0], revoked [1], unknown [2], all implicit.
func encodeStatus(a ocspAnswer) (asn1.RawValue, error) {
	v := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: a.status}
	if a.status != ocsp.Revoked {
		return v, nil
	}
	info := ocspRevoked{At: a.revocation.At.UTC(), Reason: asn1.Enumerated(a.revocation.Reason)}
	if info.Reason == asn1.Enumerated(ReasonUnspecified) { // to be left out (RFC 5280 §5.3.1)
		b, err := asn1.MarshalWithParams(info.At, "generalized")
		v.IsCompound, v.Bytes = true, b
		return v, err
	}
	b, err := asn1.MarshalWithParams(info, "tag:1")
	return asn1.RawValue{FullBytes: b}, err
}
