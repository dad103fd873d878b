package api

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"net/http"

	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps/token"
)

// CardSecrets derives the secrets of PIV applets; the key service is one.
type CardSecrets interface {
	CardSecret(ctx context.Context, req tks.SecretRequest) (tks.SecretReply, error)
}

// SecretRequest is the body of POST tokens/{id}/secret: puk or management-key.
type SecretRequest struct {
	Use string `json:"Use"`
}

// CardSecret answers it. It is shown on the node's own machine alone.
type CardSecret struct {
	TokenID string `json:"TokenID"`
	Use     string `json:"Use"`
	Keys    string `json:"Keys"`   // what it is derived from, SET:VERSION:ALGORITHM
	Secret  Shown  `json:"Secret"` // the PUK's digits, or the management key in hexadecimal
}

// Shown is a secret that an answer shows: digits and letters alone.
type Shown struct{ Text }

// MarshalJSON implements json.Marshaler.
func (s Shown) MarshalJSON() ([]byte, error) {
	for _, b := range s.Bytes() {
		if b < '0' || b > 'z' || b == '\\' {
			return nil, errText
		}
	}
	return append(append([]byte{'"'}, s.Bytes()...), '"'), nil
}

var _ json.Marshaler = Shown{}

// showSecret shows a card's PUK or management key to an agent at the node itself.
func (a *api) showSecret(c *call) (reply, error) {
	cuid, err := parseCUID(c.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	var in SecretRequest
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	use := tks.Use(in.Use)
	if use != tks.PUK && use != tks.ManagementKey {
		return reply{}, badRequest("Use = %q: want %s or %s", in.Use, tks.PUK, tks.ManagementKey)
	}
	c.event.CUID = cuid.String()
	if err := a.intend(c, map[string]string{"op": "show-secret", "use": in.Use}); err != nil {
		return reply{}, err
	}
	if c.who.Address != "" {
		return reply{}, refuse(http.StatusForbidden, "secrets of cards are shown on the node's own machine alone: inkan --data DIR token secret")
	}
	t, err := a.Tokens.Token(c.Context(), cuid)
	if err != nil {
		return reply{}, missing(err, "there is no token %s", cuid)
	}
	k := t.AppletKeys
	if k.IsZero() || k.Set == tks.Factory {
		return reply{}, refuse(http.StatusConflict, "the card %s has no %s of its own", cuid, use)
	}
	rep, err := a.Secrets.CardSecret(c.Context(), tks.SecretRequest{KeySet: k.Set, KeyVersion: k.Version, CUID: cuid, Use: use, Algorithm: k.Algorithm})
	if err != nil {
		return reply{}, err
	}
	err = a.Activities.AddActivity(context.WithoutCancel(c.Context()), token.Activity{
		CUID: cuid, UserID: token.UserID(c.who.Name), Operation: "token_secret", Success: true, Message: "the card's " + in.Use + " was shown",
	})
	if err != nil {
		return reply{}, err
	}
	return reply{body: CardSecret{TokenID: cuid.String(), Use: in.Use, Keys: k.String(), Secret: shown(use, rep.Secret)}}, nil
}

// shown is a secret in the form that people and programs want it.
func shown(use tks.Use, v secret.Secret) Shown {
	if use == tks.PUK {
		return Shown{Text{v}}
	}
	defer v.Wipe()
	out := make([]byte, 2*v.Len())
	hex.Encode(out, v.Bytes())
	return Shown{Text{secret.New(out)}}
}
