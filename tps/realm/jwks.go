package realm

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// JWKS is the document of all public keys that signatures may name (RFC 7517 §5),
// those that sign first. Beside the usual members each has tp, its RFC 7638
// thumbprint.
func (r *Realm) JWKS(ctx context.Context) ([]byte, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return nil, err
	}
	out := struct {
		Keys []json.RawMessage `json:"keys"`
	}{Keys: []json.RawMessage{}}
	for _, k := range published(rec.Keys) {
		b, err := k.jwk()
		if err != nil {
			return nil, fmt.Errorf("publishing realm key %s: %w", k.KID, err)
		}
		out.Keys = append(out.Keys, b)
	}
	return json.Marshal(out)
}

// published are the keys that verify, those that sign in front.
func published(keys []Key) []Key {
	var first, rest []Key
	for _, k := range slices.SortedFunc(slices.Values(keys), Compare) {
		switch {
		case !k.State.verifies():
		case Signs(keys, k):
			first = append(first, k)
		default:
			rest = append(rest, k)
		}
	}
	return append(first, rest...)
}

func (k Key) jwk() (json.RawMessage, error) {
	members, err := k.members()
	if err != nil {
		return nil, err
	}
	return json.Marshal(members)
}

// members are those of the JWK.
func (k Key) members() (map[string]json.RawMessage, error) {
	pub, err := k.PublicKey()
	if err != nil {
		return nil, err
	}
	j := jose.JSONWebKey{Key: pub, KeyID: k.KID, Algorithm: string(k.Algorithm), Use: string(k.Use)}
	for _, der := range k.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		j.Certificates = append(j.Certificates, c)
	}
	if len(k.Chain) > 0 {
		sum := sha256.Sum256(k.Chain[0])
		j.CertificateThumbprintSHA256 = sum[:]
	}
	tp, err := j.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, err
	}
	b, err := j.MarshalJSON()
	if err != nil {
		return nil, err
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, err
	}
	if members["tp"], err = json.Marshal(base64.RawURLEncoding.EncodeToString(tp)); err != nil {
		return nil, err
	}
	return members, nil
}

// Revocation is what clients poll who cannot be told.
type Revocation struct {
	NotBefore map[string]int64 `json:"not_before"` // seconds since 1970, by use
	Revoked   []string         `json:"revoked_kids"`
	Issuer    string           `json:"iss"`
	Updated   int64            `json:"updated"`
}

// Revocation is the signed document of what no longer counts: a JWS by the key that
// signs with ES256, or else by the first that signs.
func (r *Realm) Revocation(ctx context.Context) (string, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return "", err
	}
	k, err := r.anySigning(rec.Keys)
	if err != nil {
		return "", err
	}
	doc := Revocation{NotBefore: map[string]int64{}, Revoked: revoked(rec.Keys), Issuer: r.cfg.Issuer,
		Updated: r.now().Truncate(revocationMaxAge).Unix()}
	for u, t := range rec.NotBefore {
		doc.NotBefore[string(u)] = t.Unix()
	}
	return r.signedOnce(ctx, k, doc)
}

// signedOnce signs a document that everybody may ask for once in its age: whoever
// asks often does not make the vault work.
func (r *Realm) signedOnce(ctx context.Context, k Key, doc Revocation) (string, error) {
	content, err := json.Marshal(doc)
	if err != nil {
		return "", err
	}
	r.document.Lock()
	defer r.document.Unlock()
	if about := k.KID + string(content); r.document.about != about {
		text, err := r.signWith(ctx, k, revocationType.Name, doc)
		if err != nil {
			return "", err
		}
		r.document.about, r.document.text = about, text
	}
	return r.document.text, nil
}

// anySigning is the key for sessions that signs with ES256, or else the first of
// them that signs.
func (r *Realm) anySigning(keys []Key) (Key, error) {
	return signing(r.here(keys), ForSessions, append([]Algorithm{ES256}, Algorithms()...)...)
}

// revoked are the kids of compromised keys.
func revoked(keys []Key) []string {
	out := []string{}
	for _, k := range keys {
		if !k.Compromised.IsZero() {
			out = append(out, k.KID)
		}
	}
	return out
}
