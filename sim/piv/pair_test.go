package piv_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"testing"

	"inkan/apdu/piv"
)

// TestKeySigns: what a card signs verifies with the standard library, whatever the
// lengths of digest and curve are.
func TestKeySigns(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.7")
	c.manage()
	for _, alg := range []piv.Algorithm{piv.RSA2048, piv.P256, piv.P384, piv.Ed25519} {
		k := piv.Key{Slot: piv.Authentication, Public: c.generate(piv.Authentication, alg, piv.Policy{PIN: piv.PINNever})}
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := bytes.Repeat([]byte{0xA5}, h.Size())
			sig, err := k.SignDigest(t.Context(), c, h, digest)
			good := false
			switch pub := k.Public.(type) {
			case *rsa.PublicKey:
				good = rsa.VerifyPKCS1v15(pub, h, digest, sig) == nil
			case *ecdsa.PublicKey:
				good = ecdsa.VerifyASN1(pub, digest, sig)
			case ed25519.PublicKey:
				if !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("Ed25519 signs a digest: %v", err)
				}
				sig, err = k.SignDigest(t.Context(), c, 0, digest)
				good = ed25519.Verify(pub, digest, sig)
			}
			if err != nil || !good {
				t.Errorf("%v, %v: %X, %v", alg, h, sig, err)
			}
		}
		if _, err := k.SignDigest(t.Context(), c, crypto.SHA256, []byte{1}); err == nil {
			t.Errorf("%v: a digest of one byte is signed", alg)
		}
	}
}

func TestKeyDecrypts(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.manage()
	k := piv.Key{Slot: piv.KeyManagement, Public: c.generate(piv.KeyManagement, piv.RSA2048, piv.Policy{PIN: piv.PINNever})}
	//lint:ignore SA1019 what mail programs send to a card
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, k.Public.(*rsa.PublicKey), []byte("message"))
	check(t, err)
	got, err := k.DecryptPKCS1(t.Context(), c, sealed)
	check(t, err)
	same(t, "message", got, []byte("message"))
	sealed[0] ^= 1
	if _, err := k.DecryptPKCS1(t.Context(), c, sealed); err == nil {
		t.Error("what nobody encrypted is decrypted")
	}
	if _, err := k.DecryptPKCS1(t.Context(), c, sealed[1:]); err == nil {
		t.Error("a short ciphertext is taken")
	}
	if err := k.ProveAgreement(t.Context(), c); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// TestKeyAgrees: the proof of possession by an agreement, and that it fails with
// another key in the slot.
func TestKeyAgrees(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.7")
	c.manage()
	for _, alg := range []piv.Algorithm{piv.P256, piv.P384, piv.X25519} {
		k := piv.Key{Slot: piv.KeyManagement, Public: c.generate(piv.KeyManagement, alg, piv.Policy{PIN: piv.PINNever})}
		check(t, k.ProveAgreement(t.Context(), c))
		c.generate(piv.KeyManagement, alg, piv.Policy{PIN: piv.PINNever})
		if err := k.ProveAgreement(t.Context(), c); err == nil {
			t.Errorf("%v: the card proves a key that it does not have", alg)
		}
		if _, err := k.DecryptPKCS1(t.Context(), c, nil); !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
	x25519 := piv.Key{Slot: piv.KeyManagement, Public: c.generate(piv.KeyManagement, piv.X25519, piv.Policy{})}
	if _, err := x25519.SignDigest(t.Context(), c, crypto.SHA256, make([]byte, 32)); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	check(t, err)
	if _, err := x25519.ECDH(t.Context(), c, other.PublicKey()); err == nil {
		t.Error("keys of two curves agree")
	}
	odd, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	check(t, err)
	if _, err := (piv.Key{Slot: piv.Signature, Public: &odd.PublicKey}).SignDigest(t.Context(), c, crypto.SHA512, make([]byte, 64)); err == nil {
		t.Error("PIV has no P-521")
	}
}
