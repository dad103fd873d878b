package realm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// ErrToken: a token is no token, not ours, of another type, expired, or issued
// before the latest compromise.
var ErrToken = errors.New("token not accepted")

// Claims are those of every token (RFC 7519 §4.1). Times are seconds since 1970;
// Sign sets Issuer and IssuedAt.
type Claims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub,omitempty"`
	Audience string `json:"aud,omitempty"`
	IssuedAt int64  `json:"iat"`
	Expires  int64  `json:"exp"`
	ID       string `json:"jti,omitempty"`
}

// Standard returns the claims; a type that embeds Claims has it.
func (c *Claims) Standard() *Claims { return c }

// claimer is a type that embeds Claims.
type claimer interface{ Standard() *Claims }

// leeway is by how much clocks of nodes may differ.
const leeway = 5 * time.Second

// maxToken is the longest token that is read, in bytes.
const maxToken = 16 << 10

// Sign makes a token of a type with the key that signs now, good for a time from now.
// It waits out the second of a compromise. [ErrNoKey] where no key of the use has one
// of the algorithms.
func (r *Realm) Sign(ctx context.Context, t Type, lifetime time.Duration, claims claimer) (string, error) {
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return "", err
	}
	now := r.now()
	if d := rec.notBefore(t.Use).Sub(now); d > 0 {
		if err := r.wait(ctx, d); err != nil {
			return "", err
		}
		now = rec.notBefore(t.Use)
	}
	c := claims.Standard()
	c.Issuer, c.IssuedAt, c.Expires = r.cfg.Issuer, now.Unix(), now.Add(lifetime).Unix()
	k, err := r.signer(ctx, rec, t)
	if err != nil {
		return "", err
	}
	return r.signWith(ctx, k, t.Name, claims)
}

// signWith makes a compact JWS of the JSON of v.
func (r *Realm) signWith(ctx context.Context, k Key, typ string, v any) (string, error) {
	signer, err := r.cfg.Vault.Signer(ctx, k.Material)
	if err != nil {
		return "", fmt.Errorf("finding realm key %s, for which inkan realm rotate makes another one: %w", k.KID, err)
	}
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: k.jose(), Key: &opaque{signer, k}}, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", fmt.Errorf("signing with realm key %s: %w", k.KID, err)
	}
	out, err := jwt.Signed(js).Claims(v).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing with realm key %s: %w", k.KID, err)
	}
	return out, nil
}

// opaque lets go-jose sign with a key that it cannot see.
type opaque struct {
	signer crypto.Signer
	key    Key
}

// Public implements jose.OpaqueSigner.
func (o *opaque) Public() *jose.JSONWebKey {
	return &jose.JSONWebKey{Key: o.signer.Public(), KeyID: o.key.KID, Algorithm: string(o.key.Algorithm), Use: "sig"}
}

// Algs implements jose.OpaqueSigner.
func (o *opaque) Algs() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{o.key.jose()}
}

// SignPayload implements jose.OpaqueSigner.
func (o *opaque) SignPayload(payload []byte, _ jose.SignatureAlgorithm) ([]byte, error) {
	h := o.key.Algorithm.hash()
	if h == 0 {
		return o.signer.Sign(rand.Reader, payload, crypto.Hash(0))
	}
	d := h.New()
	d.Write(payload)
	var opts crypto.SignerOpts = h
	if o.key.Algorithm[0] == 'P' { // RFC 7518 §3.5: the salt is as long as the hash
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	sig, err := o.signer.Sign(rand.Reader, d.Sum(nil), opts)
	if err != nil {
		return nil, err
	}
	if pub, ok := o.signer.Public().(*ecdsa.PublicKey); ok {
		return fixedWidth(sig, (pub.Curve.Params().BitSize+7)/8)
	}
	return sig, nil
}

// fixedWidth turns the DER of ECDSA into r ‖ s (RFC 7518 §3.4).
func fixedWidth(der []byte, n int) ([]byte, error) {
	var v struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 || v.R.Sign() <= 0 || v.S.Sign() <= 0 ||
		v.R.BitLen() > 8*n || v.S.BitLen() > 8*n {
		return nil, errors.New("the vault's ECDSA signature is not one")
	}
	out := make([]byte, 2*n)
	v.R.FillBytes(out[:n])
	v.S.FillBytes(out[n:])
	return out, nil
}

// Verify reads a token of a type into claims, which embed [Claims]. The signature
// must be by a key of the use and one of the algorithms that is not disabled. Errors
// wrap [ErrToken], or token.ErrUnavailable.
func (r *Realm) Verify(ctx context.Context, text string, typ Type, claims claimer) error {
	var allowed []jose.SignatureAlgorithm
	for _, a := range typ.Algorithms {
		allowed = append(allowed, jose.SignatureAlgorithm(a))
	}
	if len(text) > maxToken {
		return fmt.Errorf("%d bytes: %w", len(text), ErrToken)
	}
	t, err := jwt.ParseSigned(text, allowed)
	if err != nil || len(t.Headers) != 1 {
		return fmt.Errorf("not a signed token of an accepted algorithm: %w", ErrToken)
	}
	h := t.Headers[0]
	if got, _ := h.ExtraHeaders[jose.HeaderType].(string); got != typ.Name {
		return fmt.Errorf("a token of type %q, not %q: %w", got, typ.Name, ErrToken)
	}
	rec, err := r.cfg.Store.Realm(ctx)
	if err != nil {
		return err
	}
	k, err := verifying(rec.Keys, h.KeyID, typ.Use, Algorithm(h.Algorithm))
	if err != nil {
		return err
	}
	pub, err := k.PublicKey()
	if err != nil {
		return err
	}
	if err := t.Claims(pub, claims); err != nil {
		return fmt.Errorf("the signature does not verify: %w", ErrToken)
	}
	return r.accept(*claims.Standard(), rec.notBefore(typ.Use))
}

// accept checks issuer and times.
func (r *Realm) accept(c Claims, notBefore time.Time) error {
	now := r.now()
	switch {
	case c.Issuer != r.cfg.Issuer:
		return fmt.Errorf("issued by %q: %w", c.Issuer, ErrToken)
	case c.Expires <= now.Unix():
		return fmt.Errorf("expired: %w", ErrToken)
	case c.IssuedAt > now.Add(leeway).Unix():
		return fmt.Errorf("issued in the future: %w", ErrToken)
	case !notBefore.IsZero() && c.IssuedAt < notBefore.Unix():
		return fmt.Errorf("issued before the keys were replaced: %w", ErrToken)
	}
	return nil
}

// selfTest signs and verifies with a key, before anything depends on it.
func selfTest(signer crypto.Signer, a Algorithm) error {
	o := &opaque{signer, Key{Algorithm: a}}
	payload := []byte("self test")
	sig, err := o.SignPayload(payload, "")
	if err != nil {
		return fmt.Errorf("testing the key: %w", err)
	}
	pub := signer.Public()
	h := a.hash()
	var digest []byte
	if h != 0 {
		d := h.New()
		d.Write(payload)
		digest = d.Sum(nil)
	}
	ok := false
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if a[0] == 'P' {
			ok = rsa.VerifyPSS(k, h, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		} else {
			ok = rsa.VerifyPKCS1v15(k, h, digest, sig) == nil
		}
	case *ecdsa.PublicKey:
		n := len(sig) / 2
		ok = ecdsa.Verify(k, digest, new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:]))
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, payload, sig)
	}
	if !ok {
		return fmt.Errorf("testing the key: its signature does not verify: %w", ErrInput)
	}
	return nil
}
