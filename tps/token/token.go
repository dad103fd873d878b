// Package token holds the records that Inkan keeps about cards: tokens,
// certificates, activities, journal entries and locks, their states, and the
// interfaces through which they are stored. It holds no SQL; tps/store does.
//
// Writes to a record that somebody else may have changed are compare-and-swap:
// Replace succeeds only if the stored revision is the one read.
package token

import (
	"context"
	"errors"
	"time"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks"
)

// Errors of all stores.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed by somebody else")
	// ErrUnavailable means that the database did not answer; it never means "not found".
	ErrUnavailable = errors.New("token database unavailable")
)

// UserID is a person's login name; empty means nobody.
type UserID string

// ProfileName names a profile.
type ProfileName string

// Token is the record of one card.
type Token struct {
	CUID     apdu.CUID
	KDD      *gp.KDD // of its first channel; nil until then. Unique over all tokens unless all zero
	UserID   UserID  // owner
	Profile  ProfileName
	State    State
	Reason   Reason
	AppletID string         // version text, canonical lower case: 1.4.58768072
	KeySet   tks.KeySetName // that KeyInfo's version belongs to
	KeyInfo  KeyInfo        // nil until known
	// AppletKeys are those that the applet has of its own; zero where it has none.
	AppletKeys AppletKeys
	Policy     string // text of §14; empty = default
	Created    time.Time
	Modified   time.Time
	Revision   int64 // 1 at creation, +1 per Replace
}

// KeyInfo is the key information of INITIALIZE UPDATE: version, protocol [, i].
type KeyInfo []byte

// Tokens stores token records.
type Tokens interface {
	Token(ctx context.Context, cuid apdu.CUID) (Token, error)   // ErrNotFound
	TokenByKDD(ctx context.Context, kdd gp.KDD) (Token, error)  // ErrNotFound
	Tokens(ctx context.Context, f Filter) ([]Token, error)      // ordered by CUID
	CreateToken(ctx context.Context, t Token) (Token, error)    // ErrConflict if CUID or KDD is taken
	ReplaceToken(ctx context.Context, new Token) (Token, error) // new.Revision is the one read; ErrConflict
}

// Filter narrows a list. Zero values do not filter. Text matches a substring of
// id, token or user. Limit 0 = 100; at most 1000. After continues behind the
// last id of the page before (empty: from the start).
type Filter struct {
	Text   string
	CUID   *apdu.CUID
	UserID UserID
	State  State
	Serial string // certificates: serial number in upper-case hexadecimal
	// Operation: activities with this name. Dogtag's documentation calls
	// cert_restoration cert_unrevocation; both find the same.
	Operation string
	After     string
	Limit     int
}

// Certificate is the record of one certificate issued for a card.
type Certificate struct {
	ID        string // UUIDv7
	CUID      apdu.CUID
	UserID    UserID
	KeyType   string // as in the profile: signing, encryption
	Number    int    // certificate number on the card (C n)
	Profile   ProfileName
	State     CertState
	Serial    string // upper-case hexadecimal
	Subject   string // RFC 4514
	Issuer    []byte // DER
	AKI       []byte
	DER       []byte // the certificate itself
	CA        string // connector that issued it
	Origin    apdu.CUID
	Operation string // journal id that asked for it
	NotBefore time.Time
	NotAfter  time.Time
	Reason    int // RFC 5280 reason code of a revocation
	// Pending is what is still to be told to the CA: "", "revoke". The sweeper retries.
	Pending string
	// Evidence that the key was made on the card, as the card's maker attests it:
	// certificates in PEM, the key's own first. Empty where none was asked for.
	Evidence string
	Created  time.Time
	Modified time.Time
	Revision int64
}

// CertState is the state of a certificate record.
type CertState string

// Certificate states.
const (
	CertUninitialized CertState = "uninitialized" // issued, not confirmed on the card
	CertActive        CertState = "active"
	CertOnHold        CertState = "revoked_on_hold"
	CertRevoked       CertState = "revoked"
	CertExpired       CertState = "expired"
)

// Certificates stores certificate records.
type Certificates interface {
	Certificate(ctx context.Context, id string) (Certificate, error) // ErrNotFound
	Certificates(ctx context.Context, f Filter) ([]Certificate, error)
	// CertificatesOf returns all records of a card, oldest first.
	CertificatesOf(ctx context.Context, cuid apdu.CUID) ([]Certificate, error)
	// Unsettled returns records with Pending set, and uninitialized ones created before t.
	Unsettled(ctx context.Context, t time.Time) ([]Certificate, error)
	CreateCertificate(ctx context.Context, c Certificate) (Certificate, error)
	ReplaceCertificate(ctx context.Context, c Certificate) (Certificate, error) // ErrConflict
}

// Activity is what happened to a card, one per outcome of an operation.
type Activity struct {
	ID        string // UUIDv7
	Time      time.Time
	CUID      apdu.CUID // zero when the card was never identified
	UserID    UserID    // who logged in; the claimed name is in Message only
	IP        string
	Operation string // add, enrollment, pin_reset, format, key_changeover, token_modify, …
	Success   bool
	Message   string
	Profile   ProfileName
	Reference string // journal and audit id of the same operation
}

// Activities stores activities. They are never changed.
type Activities interface {
	AddActivity(ctx context.Context, a Activity) error
	Activity(ctx context.Context, id string) (Activity, error) // ErrNotFound
	// Activities returns them newest first.
	Activities(ctx context.Context, f Filter) ([]Activity, error)
}

// Lock says that a session works on a card. Locks of a node that has been silent
// for 30 s, or of an older boot of it, are void.
type Lock struct {
	CUID    apdu.CUID
	Node    string
	Boot    string
	Session string
	Since   time.Time
}

// ErrLocked means that another session works on the card.
var ErrLocked = errors.New("card busy")

// Locks stores locks and the heartbeats of the nodes.
type Locks interface {
	Lock(ctx context.Context, l Lock) error   // ErrLocked
	Unlock(ctx context.Context, l Lock) error // no error if it is gone
	Heartbeat(ctx context.Context, node, boot string, now time.Time) error
}

// Journal is the durable memory of one operation on a card. It never holds a secret.
type Journal struct {
	ID              string // UUIDv7; reference of activities, audit and certificate requests
	CUID            apdu.CUID
	Operation       string // format, enroll, renew, pin-reset, key-changeover
	Profile         ProfileName
	ProfileRevision int
	UserID          UserID // who asked
	Client          string // address
	Started         time.Time
	Ended           time.Time // zero while open
	Result          string    // "", done, failed, rolled-back
	Status          int       // END_OP message
	Error           string
	Entries         []Entry
	Revision        int64
}

// Entry is one step of a journal: its intent (written before the step acts) and
// whether it is known to have happened.
type Entry struct {
	Step      string
	At        time.Time
	Confirmed bool
	Data      map[string]string // facts of the step, never a secret
}

// Journals stores journals.
type Journals interface {
	BeginJournal(ctx context.Context, j Journal) (Journal, error)
	// ReplaceJournal stores j durably before it returns.
	ReplaceJournal(ctx context.Context, j Journal) (Journal, error) // ErrConflict
	// OpenJournal returns the unfinished journal of a card. ErrNotFound
	OpenJournal(ctx context.Context, cuid apdu.CUID) (Journal, error)
	Journal(ctx context.Context, id string) (Journal, error)
	// OpenJournals returns all unfinished journals, oldest first.
	OpenJournals(ctx context.Context) ([]Journal, error)
	Journals(ctx context.Context, f Filter) ([]Journal, error) // newest first
}
