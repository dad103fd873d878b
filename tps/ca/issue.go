package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"inkan/tps/token"
)

const maxRequestID = 255 // bytes

// Issue implements [Authority]. The body of the certificate, with its serial
// number, is stored before it is signed: a crash at any moment leads, when the
// request is asked again, to the same certificate or leaves none. A request id
// that was used for another key or profile is refused.
func (e *Embedded) Issue(ctx context.Context, req Request) (Certificate, error) {
	hash, err := keyHash(req.PublicKey)
	if err != nil {
		return Certificate{}, err
	}
	if req.ID == "" || len(req.ID) > maxRequestID {
		return Certificate{}, fmt.Errorf("%w: request id of %d bytes, want 1 to %d", ErrRefused, len(req.ID), maxRequestID)
	}
	rec, err := e.cfg.Store.Issued(ctx, req.ID)
	switch {
	case errors.Is(err, token.ErrNotFound):
		if rec, err = e.intend(ctx, req, hash); err != nil {
			return Certificate{}, err
		}
	case err != nil:
		return Certificate{}, storeError("reading the record of a request", err)
	}
	if !bytes.Equal(rec.KeyHash, hash) || rec.Profile != e.profiles[req.Profile].Name {
		return Certificate{}, fmt.Errorf("%w: request %s was made for another key or profile", ErrRefused, req.ID)
	}
	return e.complete(ctx, rec)
}

// Find returns the certificate of a request that was answered before, or
// ErrUnknown; it never issues one.
func (e *Embedded) Find(ctx context.Context, requestID string) (Certificate, error) {
	rec, err := e.cfg.Store.Issued(ctx, requestID)
	switch {
	case errors.Is(err, token.ErrNotFound), err == nil && rec.DER == nil:
		return Certificate{}, fmt.Errorf("%w: request %s", ErrUnknown, requestID)
	case err != nil:
		return Certificate{}, storeError("reading the record of a request", err)
	}
	return certificateOf(rec.DER)
}

// intend decides what the certificate of a new request contains and stores that.
func (e *Embedded) intend(ctx context.Context, req Request, hash []byte) (Issued, error) {
	template, p, err := e.personTemplate(req)
	if err != nil {
		return Issued{}, err
	}
	return e.store(ctx, template, req.PublicKey, Issued{RequestID: req.ID, Profile: p.Name, KeyHash: hash})
}

// personTemplate checks a request and returns the certificate it leads to.
func (e *Embedded) personTemplate(req Request) (*x509.Certificate, CertProfile, error) {
	p, known := e.profiles[req.Profile]
	if !known {
		return nil, p, fmt.Errorf("%w: unknown certificate profile %q", ErrRefused, req.Profile)
	}
	usage, err := usageFor(p, req.PublicKey)
	if err != nil {
		return nil, p, err
	}
	if req.CSR != nil {
		if err := checkCSR(req.CSR, req.PublicKey); err != nil {
			return nil, p, err
		}
	}
	subject, err := subjectName(e.cfg.SubjectBase, req.Subject)
	if err != nil {
		return nil, p, err
	}
	san, err := altName(p, req.Subject)
	if err != nil {
		return nil, p, err
	}
	template := &x509.Certificate{Subject: subject, KeyUsage: usage, UnknownExtKeyUsage: p.ExtKeyUsage}
	if san != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, *san)
	}
	return template, p, e.finishTemplate(template, req.PublicKey, p.Validity)
}

// finishTemplate adds what every certificate of the authority has.
func (e *Embedded) finishTemplate(t *x509.Certificate, pub crypto.PublicKey, validity time.Duration) error {
	now := e.now()
	if err := e.checkValid(now); err != nil {
		return err
	}
	if samePublicKey(pub, e.cert.PublicKey) {
		return fmt.Errorf("%w: public key is the authority's own", ErrRefused)
	}
	id, err := keyID(pub)
	if err != nil {
		return err
	}
	t.SubjectKeyId = id
	t.NotBefore = latest(now.Add(-backdate), e.cert.NotBefore)
	t.NotAfter = earliest(now.Add(validity), e.cert.NotAfter)
	t.BasicConstraintsValid = true
	t.CRLDistributionPoints = e.crlURL
	t.IssuingCertificateURL = e.certURL
	t.OCSPServer = e.ocspURL
	return nil
}

// store gives a new certificate its serial number and stores its record. If the
// request turns out to have a record, that one is returned.
func (e *Embedded) store(ctx context.Context, template *x509.Certificate, pub crypto.PublicKey, rec Issued) (Issued, error) {
	template.SerialNumber = newSerial()
	tbs, err := toBeSigned(template, e.cert, pub, e.cert.PublicKey)
	if err != nil {
		return Issued{}, err
	}
	rec.Serial, rec.TBS = serialOf(template.SerialNumber), tbs
	rec.NotAfter, rec.Created = template.NotAfter, e.now()
	err = e.cfg.Store.CreateIssued(ctx, rec)
	if errors.Is(err, token.ErrConflict) {
		rec, err = e.cfg.Store.Issued(ctx, rec.RequestID)
	}
	if err != nil {
		return Issued{}, storeError("storing the record of a request", err)
	}
	return rec, nil
}

// complete signs the certificate of a record, unless it is signed already, and
// returns the one that is stored.
func (e *Embedded) complete(ctx context.Context, rec Issued) (Certificate, error) {
	if rec.DER != nil {
		return certificateOf(rec.DER)
	}
	if !e.now().Before(rec.NotAfter) {
		return Certificate{}, fmt.Errorf("%w: request %s is too old", ErrRefused, rec.RequestID)
	}
	der, err := e.await(ctx, func() ([]byte, error) { return signTBS(e.cfg.Signer, rec.TBS) })
	if err != nil {
		return Certificate{}, err
	}
	cert, err := e.checkSigned(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	err = e.cfg.Store.CompleteIssued(ctx, rec.RequestID, der)
	if errors.Is(err, token.ErrConflict) { // somebody else was faster: theirs counts
		return e.Find(ctx, rec.RequestID)
	}
	if err != nil {
		return Certificate{}, storeError("storing a certificate", err)
	}
	return describe(cert)
}

// checkSigned makes sure that what the signer produced verifies.
func (e *Embedded) checkSigned(der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("decoding the signed certificate: %w", err)
	}
	if err := cert.CheckSignatureFrom(e.cert); err != nil {
		return nil, fmt.Errorf("checking the signed certificate: %w", err)
	}
	return cert, nil
}

// IssueServer issues a TLS server certificate for a node: P-256, P-384, P-521 or
// RSA from 2048 bits, for the given host names and addresses (at least one),
// valid for 397 days. Each call issues a new one, which can be revoked as any other.
func (e *Embedded) IssueServer(ctx context.Context, pub crypto.PublicKey, dnsNames []string, ips []net.IP) (Certificate, error) {
	usage, err := usageFor(serverProfile(), pub)
	if err != nil {
		return Certificate{}, err
	}
	hash, err := keyHash(pub)
	if err != nil {
		return Certificate{}, err
	}
	template, err := serverTemplate(dnsNames, ips)
	if err != nil {
		return Certificate{}, err
	}
	template.KeyUsage = usage
	if err := e.finishTemplate(template, pub, serverValidity); err != nil {
		return Certificate{}, err
	}
	rec, err := e.store(ctx, template, pub, Issued{RequestID: "server:" + string(serialOf(newSerial())), Profile: serverName, KeyHash: hash})
	if err != nil {
		return Certificate{}, err
	}
	return e.complete(ctx, rec)
}

// certificateOf describes a certificate that was stored.
func certificateOf(der []byte) (Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("decoding a certificate: %w", err)
	}
	return describe(cert)
}

func describe(cert *x509.Certificate) (Certificate, error) {
	subject, err := FormatDN(cert.RawSubject)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{
		DER:       bytes.Clone(cert.Raw),
		Serial:    serialOf(cert.SerialNumber),
		Issuer:    Issuer{Name: bytes.Clone(cert.RawIssuer), KeyID: bytes.Clone(cert.AuthorityKeyId)},
		Subject:   subject,
		NotBefore: cert.NotBefore,
		NotAfter:  cert.NotAfter,
	}, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
