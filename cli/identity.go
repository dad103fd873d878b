package cli

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"inkan/tps/api"
	"inkan/tps/auth"
	"inkan/tps/realm"
	"inkan/tps/realm/client"
)

// loggedIn says who a login was of.
type loggedIn struct {
	Server string      `json:"server"`
	User   string      `json:"user"`
	Name   string      `json:"name,omitempty"`
	Roles  []auth.Role `json:"roles"`
	At     api.Millis  `json:"at"`
}

func joinRoles(roles []auth.Role) string {
	var s []string
	for _, r := range roles {
		s = append(s, string(r))
	}
	return strings.Join(s, ", ")
}

// identify verifies the id token of the latest answer by the keys that the server
// publishes.
func (a *account) identify(ctx context.Context, nonce string) (realm.IDClaims, error) {
	var who realm.IDClaims
	issuer, err := a.issuer(ctx)
	if err != nil {
		return who, err
	}
	keys := client.New(client.Config{Issuer: issuer, URL: a.Server, ID: realm.CommandLine, HTTP: a.client})
	if err := keys.Verify(ctx, a.id, realm.IDTokenType(), &who); err != nil {
		return who, fmt.Errorf("checking who logged in: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(who.Nonce), []byte(nonce)) != 1 {
		return who, errors.New("checking who logged in: the answer is that of another login")
	}
	return who, nil
}

// issuer is what the server calls itself in tokens (OpenID Connect Discovery 1.0 §4).
func (a *account) issuer(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.Server+"/.well-known/openid-configuration", nil)
	if err != nil {
		return "", err
	}
	res, err := a.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking %s: %w", a.Server, err)
	}
	defer res.Body.Close()
	var d struct {
		Issuer string `json:"issuer"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&d); err != nil || d.Issuer == "" {
		return "", fmt.Errorf("%s does not say who it is", a.Server)
	}
	return d.Issuer, nil
}
