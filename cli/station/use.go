package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
)

// Used is what one certificate of a card was used for, and that it worked.
type Used struct {
	Label   string `json:"label"`
	Subject string `json:"subject"`
	Did     string `json:"did"` // "signed and verified"
	Trusted bool   `json:"trusted"`
}

// Use logs in to a card and uses every certificate on it for what its key is
// meant for: a random message is signed and verified, encrypted and decrypted, or
// a secret agreed on. The certificates are checked against roots, unless nil.
// It stops at the first thing that does not work.
func Use(ctx context.Context, card Card, pin secret.PIN, roots *x509.CertPool) ([]Used, error) {
	d := apdu.NewConn(card)
	a, err := readApplet(ctx, d)
	if err != nil {
		return nil, err
	}
	if a == nil || len(a.Certificates) == 0 {
		return nil, errors.New("the card carries no certificates: enroll it first")
	}
	nonce, err := coolkey.VerifyPIN(ctx, d, 0, pin)
	if err != nil {
		return nil, err
	}
	defer coolkey.Logout(context.WithoutCancel(ctx), d, 0, nonce)
	var all []Used
	for _, c := range a.Certificates {
		u, err := c.use(ctx, d, coolkey.Login(nonce))
		if err != nil {
			return all, fmt.Errorf("%s: %w", c.Label, err)
		}
		if roots != nil {
			if err := c.verify(roots); err != nil {
				return all, fmt.Errorf("%s: the certificate is not the authority's: %w", c.Label, err)
			}
			u.Trusted = true
		}
		all = append(all, u)
	}
	return all, nil
}

func (c Certificate) verify(roots *x509.CertPool) error {
	_, err := c.cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// use chooses by the certificate's key usage.
func (c Certificate) use(ctx context.Context, d apdu.Doer, a coolkey.Access) (Used, error) {
	if c.cert == nil {
		return Used{}, errors.New("the certificate cannot be read")
	}
	k := coolkey.Key{Number: coolkey.KeyNumber(2 * c.Number), Public: c.cert.PublicKey}
	u := Used{Label: c.Label, Subject: c.Subject}
	var err error
	switch usage := c.cert.KeyUsage; {
	case usage&x509.KeyUsageDigitalSignature != 0:
		u.Did, err = "signed a message, signature verified", sign(ctx, d, a, k, c.cert)
	case usage&x509.KeyUsageKeyEncipherment != 0:
		u.Did, err = "decrypted a message", decrypt(ctx, d, a, k)
	case usage&x509.KeyUsageKeyAgreement != 0:
		u.Did, err = "agreed on a secret", agree(ctx, d, a, k)
	default:
		err = errors.New("the certificate names no use that could be tried")
	}
	return u, err
}

func sign(ctx context.Context, d apdu.Doer, a coolkey.Access, k coolkey.Key, cert *x509.Certificate) error {
	message := secret.Random(64).Bytes()
	digest := sha256.Sum256(message)
	sig, err := k.SignDigest(ctx, d, a, crypto.SHA256, digest[:])
	if err != nil {
		return err
	}
	alg := x509.SHA256WithRSA
	if _, ec := k.Public.(*ecdsa.PublicKey); ec {
		alg = x509.ECDSAWithSHA256
	}
	if err := cert.CheckSignature(alg, message, sig); err != nil {
		return fmt.Errorf("the card's signature does not verify: %w", err)
	}
	return nil
}

func decrypt(ctx context.Context, d apdu.Doer, a coolkey.Access, k coolkey.Key) error {
	pub, ok := k.Public.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("decrypting with a %T: %w", k.Public, errors.ErrUnsupported)
	}
	message := secret.Random(32).Bytes()
	//lint:ignore SA1019 what mail programs send to a card
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, message)
	if err != nil {
		return fmt.Errorf("encrypting for the card: %w", err)
	}
	got, err := k.DecryptPKCS1(ctx, d, a, sealed)
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
	ours, err := theirs.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := ours.ECDH(theirs)
	if err != nil {
		return err
	}
	got, err := coolkey.DeriveECDH(ctx, d, a, k.Number, publicPoint(ours))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the card agreed on something else")
	}
	return nil
}

func publicPoint(k *ecdh.PrivateKey) []byte { return k.PublicKey().Bytes() }
