//go:build cgo && !windows

package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// ImportSigner implements hsm.Signers. The private object is sensitive and not
// extractable from then on.
func (t *Token) ImportSigner(ctx context.Context, l hsm.SignerLabel, key crypto.Signer) (crypto.Signer, error) {
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("importing key pair: %w", err)
	}
	public, private, err := importTemplates(l, key)
	if err != nil {
		return nil, fmt.Errorf("importing key pair: %w", err)
	}
	s, err := t.borrow(ctx)
	if err != nil {
		return nil, fmt.Errorf("importing key pair: %w", err)
	}
	defer s.giveBack()
	pub, err := do(ctx, s, "importing key pair", func(r raw) (crypto.PublicKey, error) { return s.c.putPair(r, l, public, private) })
	if err != nil {
		return nil, err
	}
	return &signer{t: t, label: l, pub: pub}, nil
}

func (c *conn) putPair(r raw, l hsm.SignerLabel, public, private []*p11.Attribute) (crypto.PublicKey, error) {
	before, err := r.find(maxObjects, attr(p11.CKA_LABEL, string(l)))
	if err != nil {
		return nil, err
	}
	if len(before) > 0 {
		return nil, fmt.Errorf("%s: %w", l, hsm.ErrExists)
	}
	pubObject, err := r.c.CreateObject(r.h, public)
	if err != nil {
		return nil, c.refusedPair(l, err)
	}
	privObject, err := r.c.CreateObject(r.h, private)
	if err != nil {
		return nil, errors.Join(c.refusedPair(l, err), r.c.DestroyObject(r.h, pubObject))
	}
	pub, err := r.publicKey(privObject, l)
	if err != nil {
		return nil, errors.Join(err, r.c.DestroyObject(r.h, pubObject), r.c.DestroyObject(r.h, privObject))
	}
	return pub, nil
}

// refusedPair names the call where the token does not take private keys from
// outside, or not of this kind.
func (c *conn) refusedPair(l hsm.SignerLabel, err error) error {
	if !isRV(err, p11.CKR_ATTRIBUTE_VALUE_INVALID, p11.CKR_TEMPLATE_INCONSISTENT, p11.CKR_FUNCTION_NOT_SUPPORTED, p11.CKR_CURVE_NOT_SUPPORTED) {
		return err
	}
	return &hsm.MechanismError{Token: c.name(), Operation: "take in the key pair of " + string(l),
		Candidates: []hsm.Candidate{{Name: "C_CreateObject", Reason: err.Error()}},
		Remedy:     "Generate the key in the token instead"}
}

// importTemplates are the public and the private object of a key pair.
func importTemplates(l hsm.SignerLabel, key crypto.Signer) (public, private []*p11.Attribute, err error) {
	if _, err := hsm.AlgorithmOf(key.Public()); err != nil {
		return nil, nil, err
	}
	id, err := hsm.PublicKeyID(key.Public())
	if err != nil {
		return nil, nil, err
	}
	public, private = halves(l, id)
	public = append(public, attr(p11.CKA_CLASS, uint(p11.CKO_PUBLIC_KEY)))
	private = append(private, attr(p11.CKA_CLASS, uint(p11.CKO_PRIVATE_KEY)))
	switch k := key.(type) {
	case *rsa.PrivateKey:
		public, private = rsaTemplates(k, public, private)
		return public, private, nil
	case *ecdsa.PrivateKey:
		return ecTemplates(k, public, private)
	case ed25519.PrivateKey:
		point, err := asn1.Marshal([]byte(k.Public().(ed25519.PublicKey)))
		kind, params := attr(p11.CKA_KEY_TYPE, uint(ckkEdwards)), attr(p11.CKA_EC_PARAMS, []byte(edwards25519))
		return append(public, kind, params, attr(p11.CKA_EC_POINT, point)), append(private, kind, params, attr(p11.CKA_VALUE, k.Seed())), err
	}
	return nil, nil, fmt.Errorf("a %T has no value to store", key)
}

func rsaTemplates(k *rsa.PrivateKey, public, private []*p11.Attribute) (pub, priv []*p11.Attribute) {
	k.Precompute()
	e := big.NewInt(int64(k.E)).Bytes()
	both := []*p11.Attribute{attr(p11.CKA_KEY_TYPE, uint(p11.CKK_RSA)), attr(p11.CKA_MODULUS, k.N.Bytes()), attr(p11.CKA_PUBLIC_EXPONENT, e)}
	return append(public, both...), append(append(private, both...),
		attr(p11.CKA_PRIVATE_EXPONENT, k.D.Bytes()), attr(p11.CKA_PRIME_1, k.Primes[0].Bytes()), attr(p11.CKA_PRIME_2, k.Primes[1].Bytes()),
		attr(p11.CKA_EXPONENT_1, k.Precomputed.Dp.Bytes()), attr(p11.CKA_EXPONENT_2, k.Precomputed.Dq.Bytes()),
		attr(p11.CKA_COEFFICIENT, k.Precomputed.Qinv.Bytes()))
}

func ecTemplates(k *ecdsa.PrivateKey, public, private []*p11.Attribute) (pub, priv []*p11.Attribute, err error) {
	value, err := k.Bytes()
	if err != nil {
		return nil, nil, err
	}
	bare, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, nil, err
	}
	point, err := asn1.Marshal(bare)
	if err != nil {
		return nil, nil, err
	}
	both := []*p11.Attribute{attr(p11.CKA_KEY_TYPE, uint(p11.CKK_EC)), attr(p11.CKA_EC_PARAMS, []byte(paramsOf(k.Curve)))}
	return append(append(public, both...), attr(p11.CKA_EC_POINT, point)), append(append(private, both...), attr(p11.CKA_VALUE, value)), nil
}

func paramsOf(c elliptic.Curve) string {
	for der, known := range curves {
		if known == c {
			return der
		}
	}
	return ""
}

// DestroySigner implements hsm.Signers: both objects of the label go, the private
// one first.
func (t *Token) DestroySigner(ctx context.Context, l hsm.SignerLabel) error {
	s, err := t.borrow(ctx)
	if err != nil {
		return fmt.Errorf("destroying key pair %s: %w", l, err)
	}
	defer s.giveBack()
	if _, err := s.privateKey(ctx, l); err != nil {
		return fmt.Errorf("destroying key pair: %w", err)
	}
	s.c.mu.Lock()
	delete(s.c.private, l)
	s.c.mu.Unlock()
	_, err = do(ctx, s, "destroying key pair "+string(l), func(r raw) (struct{}, error) {
		for _, class := range []uint{p11.CKO_PRIVATE_KEY, p11.CKO_PUBLIC_KEY} {
			found, err := r.find(maxObjects, attr(p11.CKA_CLASS, class), attr(p11.CKA_TOKEN, true), attr(p11.CKA_LABEL, string(l)))
			if err != nil {
				return struct{}{}, err
			}
			for _, o := range found {
				if err := r.c.DestroyObject(r.h, o); err != nil {
					return struct{}{}, err
				}
			}
		}
		return struct{}{}, nil
	})
	return err
}
