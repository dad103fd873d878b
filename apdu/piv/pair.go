package piv

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/internal/pkcs1"
)

// Key is a key pair in a slot, as its certificate or [Generate] tells the public half.
// Its methods do with padding what [Sign] and [Agree] do bare.
type Key struct {
	Slot   Slot
	Public crypto.PublicKey // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or *ecdh.PublicKey
}

// SignDigest signs a digest made with h, as x509 and openssl verify it: PKCS #1 v1.5
// with an RSA key, ECDSA in DER with an EC key. An Ed25519 key signs a message, and h
// is 0.
func (k Key) SignDigest(ctx context.Context, d apdu.Doer, h crypto.Hash, digest []byte) ([]byte, error) {
	alg, err := AlgorithmOf(k.Public)
	if err != nil {
		return nil, fmt.Errorf("signing in slot %v: %w", k.Slot, err)
	}
	input, err := k.Input(h, digest)
	if err != nil {
		return nil, err
	}
	return Sign(ctx, d, k.Slot, alg, input)
}

// Input is what [Sign] and [SignWithPIN] want for the signature of [Key.SignDigest].
func (k Key) Input(h crypto.Hash, digest []byte) ([]byte, error) {
	switch pub := k.Public.(type) {
	case *rsa.PublicKey:
		block, err := pkcs1.Sign(h, digest, pub.Size())
		if err != nil {
			return nil, fmt.Errorf("signing in slot %v: %w", k.Slot, err)
		}
		return block, nil
	case *ecdsa.PublicKey:
		if !h.Available() || len(digest) != h.Size() {
			return nil, fmt.Errorf("signing in slot %v: digest of %d bytes is not of %v", k.Slot, len(digest), h)
		}
		return fit(digest, pub), nil
	case ed25519.PublicKey:
		if h != 0 {
			return nil, fmt.Errorf("signing in slot %v: an Ed25519 key signs messages, not digests: %w", k.Slot, errors.ErrUnsupported)
		}
		return digest, nil
	}
	return nil, fmt.Errorf("signing in slot %v with a %T: %w", k.Slot, k.Public, errors.ErrUnsupported)
}

// fit cuts a digest to the curve's size, and fills up a shorter one: cards want as
// many bytes as the field has.
func fit(digest []byte, pub *ecdsa.PublicKey) []byte {
	n := (pub.Curve.Params().BitSize + 7) / 8
	if len(digest) >= n {
		return digest[:n]
	}
	return append(make([]byte, n-len(digest)), digest...)
}

// DecryptPKCS1 decrypts an RSA PKCS #1 v1.5 ciphertext. Every wrong padding is the
// same error.
func (k Key) DecryptPKCS1(ctx context.Context, d apdu.Doer, ciphertext []byte) ([]byte, error) {
	pub, ok := k.Public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("decrypting in slot %v with a %T: %w", k.Slot, k.Public, errors.ErrUnsupported)
	}
	alg, err := AlgorithmOf(pub)
	if err != nil {
		return nil, fmt.Errorf("decrypting in slot %v: %w", k.Slot, err)
	}
	if len(ciphertext) != pub.Size() {
		return nil, fmt.Errorf("decrypting in slot %v: ciphertext of %d bytes, want %d", k.Slot, len(ciphertext), pub.Size())
	}
	block, err := Sign(ctx, d, k.Slot, alg, ciphertext)
	if err != nil {
		return nil, err
	}
	return pkcs1.Decrypted(block)
}

// ECDH agrees on a secret with another key of the same curve.
func (k Key) ECDH(ctx context.Context, d apdu.Doer, other *ecdh.PublicKey) ([]byte, error) {
	mine, err := k.agreement()
	if err != nil {
		return nil, fmt.Errorf("agreeing in slot %v: %w", k.Slot, err)
	}
	if mine.Curve() != other.Curve() {
		return nil, fmt.Errorf("agreeing in slot %v: the other key is on another curve", k.Slot)
	}
	alg, err := AlgorithmOf(k.Public)
	if err != nil {
		return nil, fmt.Errorf("agreeing in slot %v: %w", k.Slot, err)
	}
	return Agree(ctx, d, k.Slot, alg, other.Bytes())
}

// agreement is the public key as package ecdh has it.
func (k Key) agreement() (*ecdh.PublicKey, error) {
	switch pub := k.Public.(type) {
	case *ecdsa.PublicKey:
		return pub.ECDH()
	case *ecdh.PublicKey:
		return pub, nil
	}
	return nil, fmt.Errorf("a %T: %w", k.Public, errors.ErrUnsupported)
}

// ErrNotPossessed means that a card does not have the private key of a public one.
var ErrNotPossessed = errors.New("the card does not have the private key")

// ProveAgreement has the card agree with a key made for the purpose, and fails unless
// it comes to the same secret: then it has the private half. That is the only proof of
// possession there is of a key that signs nothing (X25519).
func (k Key) ProveAgreement(ctx context.Context, d apdu.Doer) error {
	theirs, err := k.agreement()
	if err != nil {
		return fmt.Errorf("agreeing in slot %v: %w", k.Slot, err)
	}
	mine, err := theirs.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key to agree with: %w", err)
	}
	want, err := mine.ECDH(theirs)
	if err != nil {
		return fmt.Errorf("agreeing with the key of slot %v: %w", k.Slot, err)
	}
	got, err := k.ECDH(ctx, d, mine.PublicKey())
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, want) != 1 {
		return fmt.Errorf("%w of slot %v: it agreed on something else", ErrNotPossessed, k.Slot)
	}
	return nil
}
