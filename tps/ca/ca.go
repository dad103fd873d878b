// Package ca holds the certificate authorities that issue for cards: the
// contract [Authority] and the embedded CA behind it.
package ca

import (
	"context"
	"crypto"
	"errors"
	"time"

	"inkan/apdu"
)

// Authority issues and revokes. Implementations are safe for concurrent use.
type Authority interface {
	// Ready says whether the authority can issue right now.
	Ready(ctx context.Context) error
	// Issue returns the certificate of a request. Asking again with the same
	// Request.ID returns the same certificate.
	Issue(ctx context.Context, req Request) (Certificate, error)
	// Revoke revokes, or with ReasonRemoveFromCRL takes off hold. It fails unless
	// issuer is this authority. Revoking what is revoked already with the same
	// reason is no error.
	Revoke(ctx context.Context, issuer Issuer, serial Serial, reason Reason) error
}

// Request asks for a certificate.
type Request struct {
	ID        string // journal id and key type: the same request has the same id
	Profile   string // certificate profile: signing, encryption, authentication
	PublicKey crypto.PublicKey
	CSR       []byte // DER, where the key can sign one; else nil, and possession was proved otherwise
	Subject   Subject
	CUID      apdu.CUID
}

// Subject is the person a certificate is for.
type Subject struct {
	UserID string // becomes UID
	Name   string // common name
	Mail   string // rfc822Name; empty = none
	UPN    string // user principal name, for smart-card logon; empty = none
}

// Issuer identifies a CA: its subject DN (DER) and key identifier.
type Issuer struct {
	Name  []byte
	KeyID []byte
}

// Serial is a serial number, upper-case hexadecimal without prefix.
type Serial string

// Certificate is what an authority issued.
type Certificate struct {
	DER       []byte
	Serial    Serial
	Issuer    Issuer
	Subject   string // RFC 4514
	NotBefore time.Time
	NotAfter  time.Time
}

// Reason is a revocation reason (RFC 5280 §5.3.1).
type Reason int

// Reasons.
const (
	ReasonUnspecified          Reason = 0
	ReasonKeyCompromise        Reason = 1
	ReasonAffiliationChanged   Reason = 3
	ReasonSuperseded           Reason = 4
	ReasonCessationOfOperation Reason = 5
	ReasonCertificateHold      Reason = 6
	ReasonRemoveFromCRL        Reason = 8
)

// Errors that callers branch on.
var (
	ErrUnavailable = errors.New("certificate authority unavailable")
	ErrRefused     = errors.New("certificate authority refused")
	ErrNotIssuer   = errors.New("certificate was issued by another authority")
	ErrUnknown     = errors.New("certificate unknown to the authority")
)
