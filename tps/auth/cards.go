package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"inkan/apdu"
	"inkan/tps/token"
)

// CardsConfig is what NewCards needs; all but Now are required.
type CardsConfig struct {
	// Authorities are those that certificates have to come from.
	Authorities []*x509.Certificate
	Records     CardRecords
	// NeedsPIN reports whether a card uses the key of a certificate only after the
	// person's PIN: whoever found the card could log in with another one.
	// token.ErrNotFound where that is not known.
	NeedsPIN func(ctx context.Context, c token.Certificate) (bool, error)
	Now      func() time.Time // nil = time.Now
}

// CardRecords are what is known of certificates, cards and people. Errors are those
// of package token.
type CardRecords interface {
	Certificates(ctx context.Context, f token.Filter) ([]token.Certificate, error)
	Token(ctx context.Context, cuid apdu.CUID) (token.Token, error)
	User(ctx context.Context, id token.UserID) (User, error)
}

// Cards authenticates people by the certificates on their cards. Whoever calls it has
// seen a proof that the private key is there, such as a TLS handshake. It is safe for
// concurrent use.
type Cards struct {
	cfg      CardsConfig
	roots    *x509.CertPool
	throttle Throttle
}

// NewCards returns the authenticator.
func NewCards(cfg CardsConfig) (*Cards, error) {
	if len(cfg.Authorities) == 0 || cfg.Records == nil || cfg.NeedsPIN == nil {
		return nil, errors.New("configuring logins by card: authorities, records and which keys need the PIN are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Cards{cfg: cfg, roots: x509.NewCertPool()}
	for _, a := range cfg.Authorities {
		c.roots.AddCert(a)
	}
	return c, nil
}

// CertificateError says why a certificate is not accepted. It is an
// ErrBadCredentials.
type CertificateError struct {
	User   token.UserID // whose it is, as far as that is known
	Reason string
}

// Error implements error.
func (e *CertificateError) Error() string { return "the certificate is not accepted: " + e.Reason }

// Unwrap returns ErrBadCredentials.
func (e *CertificateError) Unwrap() error { return ErrBadCredentials }

func notAccepted(id token.UserID, format string, args ...any) error {
	return &CertificateError{User: id, Reason: fmt.Sprintf(format, args...)}
}

// Login says who logs in with a certificate; chain is what they showed, their own
// first, and address where they are. Certificates that are not accepted slow down who
// tries them again. Errors are those of [Cards.Check], and ErrThrottled.
func (c *Cards) Login(ctx context.Context, chain []*x509.Certificate, address string) (Person, error) {
	stranger := c.verify(chain)
	key := "address " + address
	if stranger == nil {
		sum := sha256.Sum256(chain[0].Raw)
		key = hex.EncodeToString(sum[:])
	}
	var p Person
	err := c.throttle.Do(ctx, key, func() error {
		if stranger != nil {
			return stranger
		}
		u, rec, err := c.holder(ctx, chain[0])
		if err == nil {
			err = c.needsPIN(ctx, rec)
		}
		if err == nil {
			p = u.Person()
		}
		return err
	})
	return p, err
}

// Check says whose a certificate is that they logged in with before: it fails from the
// moment on that the certificate is revoked or held, or its card is not active any
// more. Errors are a [*CertificateError] where it is not accepted, or those of the
// records.
func (c *Cards) Check(ctx context.Context, chain []*x509.Certificate) (Person, error) {
	if err := c.verify(chain); err != nil {
		return Person{}, err
	}
	u, _, err := c.holder(ctx, chain[0])
	if err != nil {
		return Person{}, err
	}
	return u.Person(), nil
}

// verify checks everything that the records need not be asked for (RFC 5280 §6).
func (c *Cards) verify(chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return notAccepted("", "none was shown when this connection was made")
	}
	above := x509.NewCertPool()
	for _, a := range chain[1:] {
		above.AddCert(a)
	}
	leaf := chain[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: above, CurrentTime: c.cfg.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	errors.As(err, &invalid)
	switch {
	case errors.As(err, &unknown):
		return notAccepted("", "it comes from no authority whose certificates count here")
	case err != nil && invalid.Reason == x509.Expired:
		return notAccepted("", "it is good from %s to %s only", leaf.NotBefore.UTC().Format(time.DateTime), leaf.NotAfter.UTC().Format(time.DateTime))
	case err != nil && invalid.Reason != x509.IncompatibleUsage:
		return notAccepted("", "it does not verify: %v", err)
	case err != nil || !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth): // one without the extension would pass as any
		return notAccepted("", "it is not for logins (extended key usage clientAuth)")
	}
	return nil
}

// holder finds whose card a certificate is on. It may be on more than one.
func (c *Cards) holder(ctx context.Context, leaf *x509.Certificate) (User, token.Certificate, error) {
	all, err := c.cfg.Records.Certificates(ctx, token.Filter{Serial: strings.ToUpper(leaf.SerialNumber.Text(16)), Limit: 1000})
	if err != nil {
		return User{}, token.Certificate{}, fmt.Errorf("reading the certificate's record: %w", err)
	}
	why := notAccepted("", "it is on no card that is known here")
	for _, rec := range all {
		if !bytes.Equal(rec.DER, leaf.Raw) {
			continue
		}
		u, err := c.onCard(ctx, rec)
		if err == nil || !errors.Is(err, ErrBadCredentials) {
			return u, rec, err
		}
		why = err
	}
	return User{}, token.Certificate{}, why
}

// onCard checks one record of a certificate, its card's and its person's.
func (c *Cards) onCard(ctx context.Context, rec token.Certificate) (User, error) {
	t, err := c.cfg.Records.Token(ctx, rec.CUID)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		return User{}, fmt.Errorf("reading the record of card %s: %w", rec.CUID, err)
	}
	switch {
	case err != nil:
		return User{}, notAccepted(rec.UserID, "its card %s is not known here", rec.CUID)
	case t.State != token.Active:
		return User{}, notAccepted(rec.UserID, "its card %s is not active: %s", rec.CUID, t.State.Label())
	case t.UserID != rec.UserID:
		return User{}, notAccepted(rec.UserID, "its card %s is somebody else's now", rec.CUID)
	case rec.State != token.CertActive || rec.Pending != "":
		return User{}, notAccepted(rec.UserID, "%s", stateOf(rec))
	}
	u, err := c.cfg.Records.User(ctx, rec.UserID)
	if errors.Is(err, token.ErrNotFound) {
		return User{}, notAccepted(rec.UserID, "its owner %s is not a user here", rec.UserID)
	}
	if err != nil {
		return User{}, fmt.Errorf("reading user %s: %w", rec.UserID, err)
	}
	return u, nil
}

// stateOf says of a certificate that is not good what it is.
func stateOf(rec token.Certificate) string {
	switch {
	case rec.Pending != "": // the authority is still to be told
		return "it is being revoked or put on hold"
	case rec.State == token.CertOnHold:
		return "it is on hold"
	case rec.State == token.CertUninitialized:
		return "the enrollment of its card has not ended"
	}
	return "it is " + string(rec.State)
}

func (c *Cards) needsPIN(ctx context.Context, rec token.Certificate) error {
	needs, err := c.cfg.NeedsPIN(ctx, rec)
	if errors.Is(err, token.ErrNotFound) {
		return notAccepted(rec.UserID, "nothing is known of how its key was made: %v", err)
	}
	if err != nil {
		return fmt.Errorf("finding out whether the key of certificate %s needs the PIN: %w", rec.Serial, err)
	}
	if !needs {
		return notAccepted(rec.UserID, "its key is used without the PIN, so whoever has the card could show it")
	}
	return nil
}
