package station

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

// Identity is the certificate on a card that its person logs in to servers with. Its key
// is used by opening the card anew each time. It serves one goroutine at a time.
type Identity struct {
	Certificate *x509.Certificate
	// Stored says that the PIN comes from a file: it does not get the last try, which
	// every command would spend that comes after a change of the PIN.
	Stored bool

	source Source
	tries  func(ctx context.Context, d apdu.Doer) (int, error) // that the PIN has left, the applet selected
	pin    func(context.Context) (secret.PIN, error)
	sign   func(ctx context.Context, d apdu.Doer, pin secret.PIN, h crypto.Hash, digest []byte) ([]byte, error)
	failed error // of the first signature that failed: a wrong PIN costs one try
}

// FindIdentity reads from a card the certificate of PIV slot 9A, or else the first
// CoolKey certificate that is for logins. The PIN, which pin returns, is wanted when the
// key is used.
func FindIdentity(ctx context.Context, s Source, pin func(context.Context) (secret.PIN, error)) (*Identity, error) {
	card, err := OpenCard(ctx, s)
	if err != nil {
		return nil, err
	}
	i := &Identity{source: s, pin: pin}
	err = i.find(ctx, apdu.NewConn(card))
	if err = errors.Join(err, card.Close()); err != nil {
		return nil, fmt.Errorf("looking for a certificate to log in with: %w", err)
	}
	return i, nil
}

func (i *Identity) find(ctx context.Context, d apdu.Doer) error {
	_, err := piv.Select(ctx, d)
	if err == nil {
		i.Certificate, err = piv.ReadCertificate(ctx, d, piv.Authentication)
	}
	if err == nil {
		i.tries = pivTries
		i.sign = signWithPIV(piv.Key{Slot: piv.Authentication, Public: i.Certificate.PublicKey})
		return nil
	}
	if lost(err) {
		return err
	}
	a, err := readApplet(ctx, d)
	if err != nil {
		return err
	}
	if a != nil {
		for _, c := range a.Certificates {
			if c.cert != nil && slices.Contains(c.cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
				i.Certificate, i.tries = c.cert, coolKeyTries
				i.sign = signWithCoolKey(coolkey.Key{Number: coolkey.KeyNumber(2 * c.Number), Public: c.cert.PublicKey})
				return nil
			}
		}
	}
	return errors.New("the card has none: enroll it first")
}

func pivTries(ctx context.Context, d apdu.Doer) (int, error) {
	if _, err := piv.Select(ctx, d); err != nil {
		return 0, err
	}
	s, err := piv.ReadPINStatus(ctx, d)
	return s.Tries, err
}

func coolKeyTries(ctx context.Context, d apdu.Doer) (int, error) {
	if err := coolkey.Select(ctx, d); err != nil {
		return 0, err
	}
	return coolkey.PINTries(ctx, d, 0)
}

func signWithPIV(k piv.Key) func(context.Context, apdu.Doer, secret.PIN, crypto.Hash, []byte) ([]byte, error) {
	return func(ctx context.Context, d apdu.Doer, pin secret.PIN, h crypto.Hash, digest []byte) ([]byte, error) {
		if _, err := piv.Select(ctx, d); err != nil {
			return nil, err
		}
		if err := piv.VerifyPIN(ctx, d, pin); err != nil {
			return nil, err
		}
		defer piv.LogOut(context.WithoutCancel(ctx), d)
		return k.SignDigest(ctx, d, h, digest)
	}
}

func signWithCoolKey(k coolkey.Key) func(context.Context, apdu.Doer, secret.PIN, crypto.Hash, []byte) ([]byte, error) {
	return func(ctx context.Context, d apdu.Doer, pin secret.PIN, h crypto.Hash, digest []byte) ([]byte, error) {
		if err := coolkey.Select(ctx, d); err != nil {
			return nil, err
		}
		nonce, err := coolkey.VerifyPIN(ctx, d, 0, pin)
		if err != nil {
			return nil, err
		}
		defer coolkey.Logout(context.WithoutCancel(ctx), d, 0, nonce)
		return k.SignDigest(ctx, d, coolkey.Login(nonce), h, digest)
	}
}

// Show has connections show the certificate to a server that asks for one. RSA keys of
// cards make PKCS #1 v1.5 signatures, which TLS 1.3 does not have (RFC 8446 §4.2.3).
func (i *Identity) Show(t *tls.Config) {
	c := tls.Certificate{Certificate: [][]byte{i.Certificate.Raw}, Leaf: i.Certificate}
	if _, ok := i.Certificate.PublicKey.(*rsa.PublicKey); ok {
		t.MaxVersion = tls.VersionTLS12
		c.SupportedSignatureAlgorithms = []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
	}
	t.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		shown := c
		shown.PrivateKey = handshake{i, r.Context()}
		return &shown, nil
	}
}

// handshake is the key during one handshake, with its context: a crypto.Signer is given
// none.
type handshake struct {
	*Identity
	ctx context.Context
}

// Public implements crypto.Signer.
func (h handshake) Public() crypto.PublicKey { return h.Certificate.PublicKey }

// Sign implements crypto.Signer.
func (h handshake) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if h.failed == nil {
		var sig []byte
		if sig, h.failed = h.use(h.ctx, opts.HashFunc(), digest); h.failed == nil {
			return sig, nil
		}
		h.failed = fmt.Errorf("showing the card's certificate: %w", h.failed)
	}
	return nil, h.failed
}

// use opens the card and signs.
func (i *Identity) use(ctx context.Context, h crypto.Hash, digest []byte) ([]byte, error) {
	pin, err := i.pin(ctx)
	if err != nil {
		return nil, err
	}
	card, err := OpenCard(ctx, i.source)
	if err != nil {
		return nil, err
	}
	d := apdu.NewConn(card)
	if err := i.spare(ctx, d); err != nil {
		return nil, errors.Join(err, card.Close())
	}
	sig, err := i.sign(ctx, d, pin, h, digest)
	return sig, errors.Join(err, card.Close())
}

// spare keeps the last try of the PIN from one out of a file. A card that does not tell is
// given that.
func (i *Identity) spare(ctx context.Context, d apdu.Doer) error {
	if !i.Stored {
		return nil
	}
	left, err := i.tries(ctx, d)
	if left != 1 || err != nil {
		if lost(err) {
			return err
		}
		return nil
	}
	return errors.New("the card's PIN has one try left, which a PIN out of a file does not get: use the card once with a PIN that you type")
}
