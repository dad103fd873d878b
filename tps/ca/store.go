package ca

import (
	"context"
	"time"
)

// Store is the durable memory of one [Embedded] authority. An implementation
// that keeps several authorities scopes every row by authority: request ids,
// serials, change number and CRL numbers are those of one authority.
//
// Implementations are safe for concurrent use. They report token.ErrNotFound,
// token.ErrConflict and, when the database does not answer, token.ErrUnavailable
// (package inkan/tps/token), wrapped or not. A write has happened durably when
// its method returns nil. Times have second precision and are UTC. Slices passed
// in are not retained; slices returned belong to the caller.
type Store interface {
	Issuances
	Revocations
}

// Issuances stores what the authority was asked to issue. Records are never deleted.
type Issuances interface {
	// Issued returns the record of a request. token.ErrNotFound
	Issued(ctx context.Context, requestID string) (Issued, error)
	// IssuedBySerial returns the record of a serial number. token.ErrNotFound
	IssuedBySerial(ctx context.Context, serial Serial) (Issued, error)
	// CreateIssued stores a new record. token.ErrConflict if its request id or its
	// serial number is taken.
	CreateIssued(ctx context.Context, i Issued) error
	// CompleteIssued adds the signed certificate to a record that has none.
	// token.ErrNotFound; token.ErrConflict if it has one already, even an equal one.
	CompleteIssued(ctx context.Context, requestID string, der []byte) error
}

// Revocations stores which certificates are revoked, and the list of them that
// was published last.
type Revocations interface {
	// SetRevocation replaces the revocation of a serial number and, in the same
	// transaction, raises the change number by one. r.Revision is the one read;
	// the stored one is r.Revision+1. token.ErrNotFound; token.ErrConflict if the
	// stored revision is another.
	SetRevocation(ctx context.Context, serial Serial, r Revocation) error
	// Revoked returns the certificates that are revoked and whose NotAfter is not
	// before since, ordered by serial number, and the change number, both of one
	// moment.
	Revoked(ctx context.Context, since time.Time) (entries []Revoked, change int64, err error)
	// LatestCRL returns the revocation list with the highest number (the zero CRL
	// if there is none) and the change number, both of one moment.
	LatestCRL(ctx context.Context) (latest CRL, change int64, err error)
	// PutCRL stores a revocation list; older ones may be deleted. token.ErrConflict
	// unless c.Number is the highest stored number plus one (1 for the first).
	PutCRL(ctx context.Context, c CRL) error
}

// Issued is the record of one request. It is created with TBS, before anything
// is signed, and completed with DER: whatever happens in between, one request
// leads to this certificate or to none.
type Issued struct {
	RequestID  string
	Serial     Serial
	Profile    string
	KeyHash    []byte // SHA-256 of the SubjectPublicKeyInfo, 32 bytes
	TBS        []byte // TBSCertificate, DER: what is, or will be, signed
	DER        []byte // the certificate; nil until signed
	NotAfter   time.Time
	Revocation Revocation // zero at creation
	Created    time.Time
}

// Revocation says whether a certificate is revoked.
type Revocation struct {
	At       time.Time // zero = not revoked
	Reason   Reason    // meaningful only with At
	Revision int64     // 0 = never changed, +1 per SetRevocation
}

// Revoked is one entry of a revocation list.
type Revoked struct {
	Serial Serial
	At     time.Time
	Reason Reason
}

// CRL is one published revocation list.
type CRL struct {
	Number     int64 // 1, 2, 3, …; 0 = none
	Change     int64 // change number that its entries show
	ThisUpdate time.Time
	NextUpdate time.Time
	DER        []byte
}
