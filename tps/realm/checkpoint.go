package realm

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"inkan/tps/audit"
)

// headClaims are what a checkpoint of the audit record says. It does not expire.
type headClaims struct {
	Issuer   string `json:"iss"`
	IssuedAt int64  `json:"iat"`
	Node     string `json:"node"`
	Seq      int64  `json:"seq"`
	Head     string `json:"head"`
}

// SignHead signs how far the audit record of this node goes.
func (r *Realm) SignHead(ctx context.Context, h audit.Head) (string, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return "", err
	}
	k, err := r.signer(ctx, rec, checkpointType)
	if err != nil {
		return "", err
	}
	now := r.now()
	if nb := rec.notBefore(checkpointType.Use); now.Before(nb) {
		now = nb
	}
	return r.signWith(ctx, k, checkpointType.Name, headClaims{Issuer: r.cfg.Issuer, IssuedAt: now.Unix(), Node: r.cfg.Node, Seq: h.Seq, Head: h.Hash})
}

// AuditKeys are all keys that ever were for the audit record, deleted ones too.
func (r *Realm) AuditKeys(ctx context.Context) ([]Key, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	return slices.DeleteFunc(rec.Keys, func(k Key) bool { return k.Use != ForAudit }), err
}

// CheckHead checks checkpoints by keys: whatever state they are in, but with a doubt
// where a key was known to others when it signed.
func CheckHead(keys []Key) audit.CheckSignature {
	var allowed []jose.SignatureAlgorithm
	for _, a := range checkpointType.Algorithms {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	return func(text string) (audit.Signature, error) {
		if len(text) > maxToken {
			return audit.Signature{}, fmt.Errorf("%d bytes: %w", len(text), ErrToken)
		}
		t, err := jwt.ParseSigned(text, allowed)
		if err != nil || len(t.Headers) != 1 || t.Headers[0].ExtraHeaders[jose.HeaderType] != checkpointType.Name {
			return audit.Signature{}, fmt.Errorf("not a checkpoint: %w", ErrToken)
		}
		return checkHead(t, keys)
	}
}

func checkHead(t *jwt.JSONWebToken, keys []Key) (audit.Signature, error) {
	h := t.Headers[0]
	i := slices.IndexFunc(keys, func(k Key) bool {
		return k.KID == h.KeyID && k.Use == ForAudit && string(k.Algorithm) == h.Algorithm
	})
	if i < 0 {
		return audit.Signature{}, fmt.Errorf("no audit key %q is known: %w", h.KeyID, ErrToken)
	}
	pub, err := keys[i].PublicKey()
	if err != nil {
		return audit.Signature{}, err
	}
	var c headClaims
	if err := t.Claims(pub, &c); err != nil {
		return audit.Signature{}, fmt.Errorf("the signature does not verify: %w", ErrToken)
	}
	s := audit.Signature{Head: audit.Head{Seq: c.Seq, Hash: c.Head}, Time: time.Unix(c.IssuedAt, 0).UTC(), KID: h.KeyID}
	if given := keys[i].Compromised; !given.IsZero() {
		s.Doubt = fmt.Sprintf("key %s, given up at %s as known to others, may have signed it at any time", h.KeyID, given.Format(time.DateTime))
	}
	return s, nil
}

// EncodeAuditKeys makes a JWKS (RFC 7517 §5) of audit keys, for auditors elsewhere; a
// key that was given up has the member "compromised", seconds since 1970.
func EncodeAuditKeys(keys []Key) ([]byte, error) {
	out := struct {
		Keys []json.RawMessage `json:"keys"`
	}{Keys: []json.RawMessage{}}
	for _, k := range keys {
		members, err := k.members()
		if err != nil {
			return nil, err
		}
		if !k.Compromised.IsZero() {
			members["compromised"], _ = json.Marshal(k.Compromised.Unix())
		}
		b, err := json.Marshal(members)
		if err != nil {
			return nil, err
		}
		out.Keys = append(out.Keys, b)
	}
	return json.MarshalIndent(out, "", "  ")
}

// ParseAuditKeys reads what EncodeAuditKeys made, for CheckHead.
func ParseAuditKeys(b []byte) ([]Key, error) {
	var in struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("reading audit keys: %w", errors.Join(err, ErrInput))
	}
	var out []Key
	for _, raw := range in.Keys {
		k, err := parseAuditKey(raw)
		if err != nil {
			return nil, fmt.Errorf("reading audit keys: %w", errors.Join(err, ErrInput))
		}
		out = append(out, k)
	}
	return out, nil
}

func parseAuditKey(raw json.RawMessage) (Key, error) {
	var j jose.JSONWebKey
	var more struct {
		Compromised int64 `json:"compromised"`
	}
	if err := errors.Join(j.UnmarshalJSON(raw), json.Unmarshal(raw, &more)); err != nil {
		return Key{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(j.Key)
	if err != nil {
		return Key{}, err
	}
	k := Key{KID: j.KeyID, Use: Use(j.Use), Algorithm: Algorithm(j.Algorithm), Public: spki}
	if more.Compromised != 0 {
		k.Compromised = time.Unix(more.Compromised, 0).UTC()
	}
	if k.Use != ForAudit || k.KID != kidOf(spki) {
		return Key{}, fmt.Errorf("%q is no audit key, or not under its own kid", k.KID)
	}
	return k, nil
}
