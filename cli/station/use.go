package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

// Used is what one certificate of a card was used for, and that it worked.
type Used struct {
	By      string `json:"by"`             // program: inkan, piv-go
	Slot    string `json:"slot,omitempty"` // of PIV
	Label   string `json:"label"`
	Subject string `json:"subject"`
	Key     string `json:"key"`
	Did     string `json:"did"` // "signed and verified"
	Trusted bool   `json:"trusted"`

	slot piv.Slot          // of PIV
	cert *x509.Certificate // of PIV
	pin  bool              // the key wanted the PIN
}

// What was done with a key.
const (
	didSign    = "signed a message, signature verified"
	didDecrypt = "decrypted a message"
	didAgree   = "agreed on a secret"
)

// Use logs in to a card and uses every certificate on it for what its key is
// meant for: a random message is signed and verified, encrypted and decrypted, or
// a secret agreed on. The certificates are checked against roots, unless nil.
// It stops at the first thing that does not work. A card with certificates for
// CoolKey and for PIV is used with both, by the one PIN.
func Use(ctx context.Context, card apdu.Card, pin secret.PIN, roots *x509.CertPool) ([]Used, error) {
	d := apdu.NewConn(card)
	all, err := useCoolKey(ctx, d, pin, roots)
	if err != nil {
		return all, err
	}
	more, err := usePIV(ctx, d, pin, roots)
	if all = append(all, more...); err == nil && len(all) == 0 {
		err = errors.New("the card carries no certificates: enroll it first")
	}
	return all, err
}

// useCoolKey does nothing on a card without the applet or without certificates.
func useCoolKey(ctx context.Context, d apdu.Doer, pin secret.PIN, roots *x509.CertPool) ([]Used, error) {
	a, err := readApplet(ctx, d)
	if err != nil || a == nil || len(a.Certificates) == 0 {
		return nil, err
	}
	nonce, err := coolkey.VerifyPIN(ctx, d, 0, pin)
	if err != nil {
		return nil, err
	}
	defer coolkey.Logout(context.WithoutCancel(ctx), d, 0, nonce)
	var all []Used
	for _, c := range a.Certificates {
		u, err := c.use(ctx, d, coolkey.Login(nonce))
		if err == nil {
			u.Trusted, err = trusted(c.cert, roots)
		}
		if err != nil {
			return all, fmt.Errorf("%s: %w", c.Label, err)
		}
		all = append(all, u)
	}
	return all, nil
}

// trusted checks a certificate against roots, unless nil.
func trusted(cert *x509.Certificate, roots *x509.CertPool) (bool, error) {
	if roots == nil {
		return false, nil
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return false, fmt.Errorf("the certificate is not the authority's: %w", err)
	}
	return true, nil
}

// use chooses by the certificate's key usage.
func (c Certificate) use(ctx context.Context, d apdu.Doer, a coolkey.Access) (Used, error) {
	if c.cert == nil {
		return Used{}, errors.New("the certificate cannot be read")
	}
	k := coolkey.Key{Number: coolkey.KeyNumber(2 * c.Number), Public: c.cert.PublicKey}
	u := Used{By: byInkan, Label: c.Label, Subject: c.Subject, Key: c.Key}
	var err error
	switch usage := c.cert.KeyUsage; {
	case usage&x509.KeyUsageDigitalSignature != 0:
		u.Did, err = didSign, sign(ctx, d, a, k, c.cert)
	case usage&x509.KeyUsageKeyEncipherment != 0:
		u.Did, err = didDecrypt, decrypt(ctx, d, a, k)
	case usage&x509.KeyUsageKeyAgreement != 0:
		u.Did, err = didAgree, agree(ctx, d, a, k)
	default:
		err = errors.New("the certificate names no use that could be tried")
	}
	return u, err
}

func sign(ctx context.Context, d apdu.Doer, a coolkey.Access, k coolkey.Key, cert *x509.Certificate) error {
	return challenge(cert, func(h crypto.Hash, digest []byte) ([]byte, error) { return k.SignDigest(ctx, d, a, h, digest) })
}

// challenge has a random message signed and verifies the signature. An Ed25519 key
// signs the message itself, hash 0.
func challenge(cert *x509.Certificate, sign func(crypto.Hash, []byte) ([]byte, error)) error {
	message := secret.Random(64).Bytes()
	digest := sha256.Sum256(message)
	alg, hash, input := x509.SHA256WithRSA, crypto.SHA256, digest[:]
	switch cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		alg = x509.ECDSAWithSHA256
	case ed25519.PublicKey:
		alg, hash, input = x509.PureEd25519, 0, message
	}
	sig, err := sign(hash, input)
	if err != nil {
		return err
	}
	if err := cert.CheckSignature(alg, message, sig); err != nil {
		return fmt.Errorf("the card's signature does not verify: %w", err)
	}
	return nil
}

func decrypt(ctx context.Context, d apdu.Doer, a coolkey.Access, k coolkey.Key) error {
	return decipher(k.Public, func(sealed []byte) ([]byte, error) { return k.DecryptPKCS1(ctx, d, a, sealed) })
}

// decipher encrypts a random message for a key and has it decrypted.
func decipher(key crypto.PublicKey, decrypt func(sealed []byte) ([]byte, error)) error {
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("decrypting with a %T: %w", key, errors.ErrUnsupported)
	}
	message := secret.Random(32).Bytes()
	//lint:ignore SA1019 what mail programs send to a card
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, message)
	if err != nil {
		return fmt.Errorf("encrypting for the card: %w", err)
	}
	got, err := decrypt(sealed)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return errors.New("the card decrypted something else")
	}
	return nil
}

func agree(ctx context.Context, d apdu.Doer, a coolkey.Access, k coolkey.Key) error {
	pub, ok := k.Public.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("agreeing with a %T: %w", k.Public, errors.ErrUnsupported)
	}
	theirs, err := pub.ECDH()
	if err != nil {
		return err
	}
	return agreed(theirs, func(other *ecdh.PublicKey) ([]byte, error) {
		return coolkey.DeriveECDH(ctx, d, a, k.Number, other.Bytes())
	})
}

// agreed makes a key for the purpose and has both come to a secret.
func agreed(theirs *ecdh.PublicKey, derive func(other *ecdh.PublicKey) ([]byte, error)) error {
	ours, err := theirs.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := ours.ECDH(theirs)
	if err != nil {
		return err
	}
	got, err := derive(ours.PublicKey())
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the card agreed on something else")
	}
	return nil
}
