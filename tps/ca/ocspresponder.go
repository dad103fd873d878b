package ca

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"
)

const (
	// ocspName is the profile name in the records of OCSP signing certificates; no
	// request can ask for it.
	ocspName = "(ocsp)"
	// ocspCertLife is how long an OCSP signing certificate is valid. It cannot be
	// revoked (RFC 6960 §4.2.2.2.1), so it is short.
	ocspCertLife = 7 * day
)

var (
	oidOCSPSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}     // RFC 6960 §4.2.2.2
	oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5} // RFC 6960 §4.2.2.2.1
)

// ocspResponder is a key and certificate that sign responses on the authority's
// behalf.
//
// Not the authority's own key: whoever asks chooses the nonce and the moment, so
// each such question would be work for the HSM, which issuing needs, and a
// signature of the most valuable key over somebody else's bytes. This key lives
// in memory only, is gone with the process, and can say nothing but statuses,
// for a week at most.
type ocspResponder struct {
	key     *ecdsa.PrivateKey
	cert    *x509.Certificate
	keyBits []byte // public key as it stands in SubjectPublicKeyInfo
}

// signsAt reports whether the certificate is valid, and whether it is time for the next one.
func (r *ocspResponder) signsAt(now time.Time) (valid, renew bool) {
	if r == nil {
		return false, true
	}
	life := r.cert.NotAfter.Sub(r.cert.NotBefore)
	return !now.Before(r.cert.NotBefore) && now.Before(r.cert.NotAfter), now.After(r.cert.NotAfter.Add(-life / 2))
}

// ocspRetry is how long to wait after a certificate could not be had.
const ocspRetry = 5 * time.Second

// responder returns the present OCSP signer. A new one is made at first use and
// when half of its life is over, by one caller while the others go on with the
// last one; if that fails, everybody does so until its end.
func (e *Embedded) responder(ctx context.Context, now time.Time) (*ocspResponder, error) {
	o := &e.ocsp
	o.renewing.Lock()
	r := o.responder
	valid, renew := r.signsAt(now)
	wait := now.Before(o.retry) && !now.Before(o.retry.Add(-ocspRetry))
	switch {
	case valid && (!renew || wait):
		o.renewing.Unlock()
		return r, nil
	case valid:
		o.retry = now.Add(ocspRetry)
		o.renewing.Unlock()
		next, err := e.newResponder(ctx)
		if err != nil {
			return r, nil // it is good still
		}
		o.renewing.Lock()
		defer o.renewing.Unlock()
		o.responder = next
		return next, nil
	}
	defer o.renewing.Unlock()
	if wait {
		return nil, fmt.Errorf("%w: no OCSP signing certificate", ErrUnavailable)
	}
	next, err := e.newResponder(ctx)
	if err != nil {
		o.retry = now.Add(ocspRetry)
		return nil, err
	}
	o.responder = next
	return next, nil
}

// newResponder draws a key and issues its certificate, even if who asked has gone:
// others wait for it.
func (e *Embedded) newResponder(ctx context.Context) (*ocspResponder, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), serveTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an OCSP signing key: %w", err)
	}
	hash, err := keyHash(key.Public())
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:            pkix.Name{CommonName: "OCSP signer"},
		KeyUsage:           x509.KeyUsageDigitalSignature,
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{oidOCSPSigning},
		ExtraExtensions:    []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}},
	}
	if err := e.finishTemplate(template, key.Public(), ocspCertLife); err != nil {
		return nil, err
	}
	template.CRLDistributionPoints, template.OCSPServer = nil, nil // nobody is to check it
	rec, err := e.store(ctx, template, key.Public(), Issued{
		RequestID: "ocsp:" + string(serialOf(newSerial())), Profile: ocspName, KeyHash: hash,
	})
	if err != nil {
		return nil, err
	}
	c, err := e.complete(ctx, rec)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return nil, fmt.Errorf("decoding an OCSP signing certificate: %w", err)
	}
	bits, err := publicKeyBits(cert)
	if err != nil {
		return nil, err
	}
	return &ocspResponder{key: key, cert: cert, keyBits: bits}, nil
}

// publicKeyBits is the public key of a certificate without its algorithm: what
// OCSP hashes (RFC 6960 §4.1.1).
func publicKeyBits(c *x509.Certificate) ([]byte, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(c.RawSubjectPublicKeyInfo, &info); err != nil {
		return nil, fmt.Errorf("decoding a public key: %w", err)
	}
	return info.Key.RightAlign(), nil
}
