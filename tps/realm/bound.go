package realm

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"

	"inkan/tps/auth"
	"inkan/tps/token"
)

// Connection is what somebody comes over.
type Connection struct {
	Address string // network address; empty = this machine
	// Chain has the certificate that was shown when the connection was made, and whose
	// private key was proved to be there, before those that came with it; empty = none.
	Chain []*x509.Certificate
}

// errNoCards is the answer where nobody logs in with a card.
var errNoCards = &auth.CertificateError{Reason: "nobody logs in with a card at this node"}

// thumbprint is the SHA-256 of the certificate in base64url, x5t#S256 of RFC 8705 §3.1;
// empty without one.
func (c Connection) thumbprint() string {
	if len(c.Chain) == 0 {
		return ""
	}
	sum := sha256.Sum256(c.Chain[0].Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Cards knows whose the certificates on cards are; auth.Cards is one. Errors wrap
// auth.ErrBadCredentials where a certificate is not accepted.
type Cards interface {
	// Login says who logs in from an address, and slows down who tries again.
	Login(ctx context.Context, chain []*x509.Certificate, address string) (auth.Person, error)
	// Check says whether that is still so.
	Check(ctx context.Context, chain []*x509.Certificate) (auth.Person, error)
}

// ErrBound: a token is bound to a certificate that the connection it came over does not
// have. It is an ErrToken.
var ErrBound = fmt.Errorf("the session is bound to a certificate that this connection does not have: %w", ErrToken)

// confirmation is the claim cnf of a token that is bound to a certificate (RFC 8705
// §3.1).
type confirmation struct {
	Thumbprint string `json:"x5t#S256"`
}

func confirm(thumbprint string) *confirmation {
	if thumbprint == "" {
		return nil
	}
	return &confirmation{thumbprint}
}

// LoginCard begins a session of the person on whose card the certificate of the
// connection is. Its tokens are good over connections with that certificate alone, and
// as long as it and its card are good. Errors are those of [Cards].
func (l *Logins) LoginCard(ctx context.Context, on Connection) (Grant, error) {
	if l.cards == nil {
		return Grant{}, errNoCards
	}
	p, err := l.cards.Login(ctx, on.Chain, on.Address)
	if err != nil {
		return Grant{}, err
	}
	return l.begin(ctx, p.ID, on)
}

// bound refuses a connection without the certificate that a token of a person is bound
// to, and a certificate that is not theirs any more.
func (l *Logins) bound(ctx context.Context, id token.UserID, thumbprint string, on Connection) error {
	if l.cards == nil {
		return fmt.Errorf("%w: %w", ErrToken, errNoCards)
	}
	if len(on.Chain) == 0 || subtle.ConstantTimeCompare([]byte(on.thumbprint()), []byte(thumbprint)) != 1 {
		return ErrBound
	}
	p, err := l.cards.Check(ctx, on.Chain)
	switch {
	case errors.Is(err, auth.ErrBadCredentials):
		return fmt.Errorf("%w: %w", ErrToken, err)
	case err != nil:
		return err
	case p.ID != id:
		return fmt.Errorf("the certificate is somebody else's now: %w", ErrToken)
	}
	return nil
}

// stillBound is bound for a session, which ends where its certificate is not good any
// more.
func (l *Logins) stillBound(ctx context.Context, s Session, on Connection) error {
	if s.Certificate == "" {
		return nil
	}
	err := l.bound(ctx, s.User, s.Certificate, on)
	if errors.Is(err, ErrToken) && !errors.Is(err, ErrBound) {
		err = errors.Join(err, l.sessions.DeleteSession(ctx, s.ID))
	}
	return err
}
