package realm

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

	"inkan/tps/auth"
)

// ScopeOpenID asks for an id token at a login.
const ScopeOpenID = "openid"

// CommandLine is the client id of the command line.
const CommandLine = "inkan"

// maxNonce is the longest nonce, in bytes.
const maxNonce = 255

// IDClaims say who logged in, to the client that Audience names (OpenID Connect Core
// 1.0 §2). Times are seconds since 1970.
type IDClaims struct {
	Claims
	AuthTime   int64       `json:"auth_time"` // of the login, not of the latest refresh
	Nonce      string      `json:"nonce,omitempty"`
	AccessHash string      `json:"at_hash"`
	Session    string      `json:"sid"`
	Name       string      `json:"name,omitempty"`
	Mail       string      `json:"email,omitempty"`
	Roles      []auth.Role `json:"roles"`
}

// IDToken says to a registered client who a grant is of. It is as long good as the
// access token beside it.
func (l *Logins) IDToken(ctx context.Context, g Grant, clientID, nonce string) (string, error) {
	known := clientID == CommandLine || slices.ContainsFunc(l.realm.cfg.Clients, func(c Client) bool { return c.ID == clientID })
	if !known {
		return "", fmt.Errorf("client_id %q is not registered ([[realm.client]] in inkan.toml): %w", clientID, ErrInput)
	}
	if len(nonce) > maxNonce {
		return "", fmt.Errorf("nonce of %d bytes: %w", len(nonce), ErrInput)
	}
	c := &IDClaims{
		Claims:   Claims{Subject: string(g.user.ID), Audience: clientID},
		AuthTime: g.session.Created.Unix(), Nonce: nonce, AccessHash: accessHash(g.Access), Session: string(g.session.ID),
		Name: g.user.Name, Mail: g.user.Mail, Roles: append([]auth.Role{}, g.user.Roles...),
	}
	return l.realm.Sign(ctx, idType, AccessLife, c)
}

// accessHash binds the access token beside an id token to it: the left half of its
// SHA-256, the hash of all algorithms of id tokens.
func accessHash(access string) string {
	sum := sha256.Sum256([]byte(access))
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
