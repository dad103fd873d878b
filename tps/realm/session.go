package realm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"inkan/apdu/secret"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// Lifetimes of a login.
const (
	AccessLife  = 5 * time.Minute // of an access token
	SessionLife = 8 * time.Hour   // until the person logs in again
)

// SessionID names a session: a UUID of version 7.
type SessionID string

// Session is a login that goes on by refresh tokens.
type Session struct {
	ID         SessionID
	User       token.UserID
	Credential []byte // SHA-256 of the user's password hash at the login
	Hash       []byte // SHA-256 of the refresh token that is good next
	Address    string // of the login
	// Certificate is the thumbprint (x5t#S256) of the one that the session was begun
	// with, and is bound to; empty = none.
	Certificate string
	Created     time.Time
	Expires     time.Time
	Revision    int64
}

// Sessions stores sessions.
type Sessions interface {
	CreateSession(ctx context.Context, s Session) error
	Session(ctx context.Context, id SessionID) (Session, error) // token.ErrNotFound
	// ReplaceSession writes a new Hash; token.ErrConflict where the revision is another.
	ReplaceSession(ctx context.Context, s Session) error
	DeleteSession(ctx context.Context, id SessionID) error
}

// People finds who a session is of.
type People interface {
	User(ctx context.Context, id token.UserID) (auth.User, error)
}

// Logins turns people who proved themselves into tokens, and tokens into people. It
// is safe for concurrent use.
type Logins struct {
	realm    *Realm
	sessions Sessions
	people   People
	cards    Cards
}

// NewLogins returns the logins of a realm. Without cards, nil, no session begins with a
// certificate.
func NewLogins(r *Realm, s Sessions, p People, c Cards) *Logins {
	return &Logins{realm: r, sessions: s, people: p, cards: c}
}

// Grant is what a client gets.
type Grant struct {
	Access  string
	Expires time.Duration // of Access
	Refresh secret.Secret // good once

	session Session
	user    auth.User
}

// Person is who it is given to; zero where nobody logged in.
func (g Grant) Person() auth.Person { return g.user.Person() }

// accessClaims are those of an access token.
type accessClaims struct {
	Claims
	Session      string        `json:"sid"`
	Roles        []auth.Role   `json:"roles"`
	Confirmation *confirmation `json:"cnf,omitempty"`
}

// Login begins a session of a person who has just proved who they are.
func (l *Logins) Login(ctx context.Context, id token.UserID, address string) (Grant, error) {
	return l.begin(ctx, id, Connection{Address: address})
}

// begin begins a session, bound to the certificate of the connection if it has one.
func (l *Logins) begin(ctx context.Context, id token.UserID, on Connection) (Grant, error) {
	u, err := l.people.User(ctx, id)
	if err != nil {
		return Grant{}, fmt.Errorf("reading user %s: %w", id, err)
	}
	sid, err := uuid.NewV7()
	if err != nil {
		return Grant{}, err
	}
	now := l.realm.now().UTC()
	s := Session{ID: SessionID(sid.String()), User: id, Credential: credential(u), Address: on.Address, Certificate: on.thumbprint(),
		Created: now, Expires: now.Add(SessionLife)}
	g, err := l.grant(ctx, &s, u)
	if err != nil {
		return Grant{}, err
	}
	return g, l.sessions.CreateSession(ctx, s)
}

// Refresh goes on with a session: a new access token by the key that signs now, and
// the next refresh token. A refresh token that was used before ends the session: one
// of two has it who should not. One that is bound to a certificate goes on where the
// connection has that, as long as it is good. Errors wrap [ErrToken].
func (l *Logins) Refresh(ctx context.Context, refresh secret.Secret, on Connection) (Grant, error) {
	s, u, err := l.session(ctx, refresh)
	if err != nil {
		return Grant{}, err
	}
	if err := l.stillBound(ctx, s, on); err != nil {
		return Grant{}, err
	}
	g, err := l.grant(ctx, &s, u)
	if err != nil {
		return Grant{}, err
	}
	if err := l.sessions.ReplaceSession(ctx, s); err != nil {
		if errors.Is(err, token.ErrConflict) {
			err = errors.Join(fmt.Errorf("the refresh token was used twice at once: %w", ErrToken), l.sessions.DeleteSession(ctx, s.ID))
		}
		return Grant{}, err
	}
	return g, nil
}

// Logout ends the session of a refresh token, over whatever connection: the card that
// it began with may be in no reader any more.
func (l *Logins) Logout(ctx context.Context, refresh secret.Secret) error {
	s, _, err := l.session(ctx, refresh)
	if err != nil {
		return err
	}
	return l.sessions.DeleteSession(ctx, s.ID)
}

// Person reads an access token that came over a connection.
func (l *Logins) Person(ctx context.Context, access string, on Connection) (auth.Person, error) {
	var c accessClaims
	if err := l.realm.Verify(ctx, access, accessType, &c); err != nil {
		return auth.Person{}, err
	}
	if c.Audience != l.realm.cfg.Issuer || c.Subject == "" {
		return auth.Person{}, fmt.Errorf("not for this service: %w", ErrToken)
	}
	if c.Confirmation != nil {
		if err := l.bound(ctx, token.UserID(c.Subject), c.Confirmation.Thumbprint, on); err != nil {
			return auth.Person{}, err
		}
	}
	return auth.Person{ID: token.UserID(c.Subject), Roles: c.Roles}, nil
}

// session checks a refresh token.
func (l *Logins) session(ctx context.Context, refresh secret.Secret) (Session, auth.User, error) {
	id, _, ok := bytes.Cut(refresh.Bytes(), []byte("."))
	if !ok || len(id) > 36 || uuid.Validate(string(id)) != nil || refresh.Len() > 128 {
		return Session{}, auth.User{}, fmt.Errorf("not a refresh token: %w", ErrToken)
	}
	s, err := l.sessions.Session(ctx, SessionID(id))
	if errors.Is(err, token.ErrNotFound) {
		return s, auth.User{}, fmt.Errorf("the session has ended: %w", ErrToken)
	}
	if err != nil {
		return s, auth.User{}, err
	}
	sum := sha256.Sum256(refresh.Bytes())
	if subtle.ConstantTimeCompare(sum[:], s.Hash) != 1 {
		return s, auth.User{}, errors.Join(fmt.Errorf("the refresh token was used before, its session is ended: %w", ErrToken),
			l.sessions.DeleteSession(ctx, s.ID))
	}
	rec, err := l.realm.cfg.Store.Realm(ctx)
	if err != nil {
		return s, auth.User{}, err
	}
	u, err := l.people.User(ctx, s.User)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		return s, u, err
	}
	var why string
	switch {
	case err != nil:
		why = "the person is not known any more"
	case subtle.ConstantTimeCompare(credential(u), s.Credential) != 1:
		why = "the password has changed"
	case !l.realm.now().Before(s.Expires):
		why = "the session has expired"
	case s.Created.Before(rec.notBefore(ForSessions)):
		why = "the keys were replaced"
	default:
		return s, u, nil
	}
	return s, u, errors.Join(fmt.Errorf("%s: %w", why, ErrToken), l.sessions.DeleteSession(ctx, s.ID))
}

// grant makes both tokens and notes the refresh token in the session.
func (l *Logins) grant(ctx context.Context, s *Session, u auth.User) (Grant, error) {
	roles := u.Roles
	if roles == nil {
		roles = []auth.Role{}
	}
	c := &accessClaims{Claims: Claims{Subject: string(u.ID), Audience: l.realm.cfg.Issuer, ID: uuid.NewString()}, Session: string(s.ID), Roles: roles,
		Confirmation: confirm(s.Certificate)}
	access, err := l.realm.Sign(ctx, accessType, AccessLife, c)
	if err != nil {
		return Grant{}, err
	}
	if at := time.Unix(c.IssuedAt, 0).UTC(); s.Created.Before(at) && s.Hash == nil {
		s.Created = at // a login in the second of a compromise waited it out
	}
	random := secret.Random(32)
	defer random.Wipe()
	text := append([]byte(s.ID), '.')
	refresh := secret.New(base64.RawURLEncoding.AppendEncode(text, random.Bytes()))
	sum := sha256.Sum256(refresh.Bytes())
	s.Hash = sum[:]
	return Grant{Access: access, Expires: AccessLife, Refresh: refresh, session: *s, user: u}, nil
}

// credential changes with the password.
func credential(u auth.User) []byte {
	sum := sha256.Sum256([]byte(u.Hash))
	return sum[:]
}
