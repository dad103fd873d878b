package station_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/sim"
)

// issuer makes certificates.
type issuer struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Site"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &issuer{t, cert, key}
}

func (i *issuer) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.cert)
	return pool
}

func (i *issuer) issue(pub crypto.PublicKey) []byte {
	i.t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "Ada"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, i.cert, pub, i.key)
	must(i.t, err)
	return der
}

// provision makes a key and a certificate in each slot. The PIN stays the factory's.
func (i *issuer) provision(card apdu.Card, keys map[piv.Slot]piv.Algorithm) {
	i.t.Helper()
	ctx, d := context.Background(), apdu.NewConn(card)
	_, err := piv.Select(ctx, d)
	must(i.t, err)
	m, err := piv.ReadMetadata(ctx, d, piv.Management)
	must(i.t, err)
	must(i.t, piv.Authenticate(ctx, d, m.Algorithm, secret.New(piv.DefaultManagementKey())))
	for slot, alg := range keys {
		pub, err := piv.Generate(ctx, d, slot, alg, piv.Policy{})
		must(i.t, err)
		must(i.t, piv.WriteCertificate(ctx, d, slot, i.issue(pub)))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func factoryPIN() secret.PIN { return secret.PIN{Secret: secret.New([]byte(piv.DefaultPIN))} }

// TestUsePIV: every key does what its slot is for, 9C after a PIN of its own and 9E
// without one.
func TestUsePIV(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	pool, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	card, err := sim.New(sim.Config{Model: "yubikey-5.7", Serial: 0xF0000001, Keys: sim.NewKeyPool(pool)})
	must(t, err)
	defer card.Close()
	i.provision(card, map[piv.Slot]piv.Algorithm{
		piv.Authentication: piv.Ed25519, piv.Signature: piv.P384, piv.KeyManagement: piv.RSA2048, piv.CardAuthentication: piv.P256,
		piv.Retired(1): piv.P256, piv.Retired(20): piv.P384,
	})
	must(t, card.Reset(t.Context()))
	used, err := station.Use(t.Context(), card, factoryPIN(), i.roots())
	must(t, err)
	var got []string
	for _, u := range used {
		if u.By != "inkan" || !u.Trusted || u.Subject != "CN=Ada" {
			t.Errorf("%+v", u)
		}
		got = append(got, u.Slot+" "+u.Label+", "+u.Key+": "+u.Did)
	}
	want := `9A authentication, Ed25519: signed a message, signature verified
9C signature, EC P-384: signed a message, signature verified
9D key management, RSA 2048: decrypted a message
9E card authentication, EC P-256: signed a message, signature verified
82 retired key management 1, EC P-256: agreed on a secret
95 retired key management 20, EC P-384: agreed on a secret`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	s, err := piv.ReadPINStatus(t.Context(), apdu.NewConn(card))
	if err != nil || s.Verified {
		t.Errorf("still logged in: %+v, %v", s, err)
	}

	if _, err := station.Use(t.Context(), card, factoryPIN(), newIssuer(t).roots()); err == nil || !strings.Contains(err.Error(), "slot 9A: the certificate is not the authority's") {
		t.Error(err)
	}
	var refused *piv.PINError
	wrong := secret.PIN{Secret: secret.New([]byte("000000"))}
	if _, err := station.Use(t.Context(), card, wrong, nil); !errors.As(err, &refused) || refused.Tries != 2 {
		t.Error(err)
	}
	card.Remove()
	if _, err := station.Use(t.Context(), card, factoryPIN(), nil); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Error(err)
	}
}

// TestUsePIVFails: a certificate whose key is another one's, one that is unreadable, and
// a card with nothing on it.
func TestUsePIVFails(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	for name, c := range map[string]struct {
		spoil func(ctx context.Context, d apdu.Doer)
		want  string
	}{
		"another key": {func(ctx context.Context, d apdu.Doer) {
			_, err := piv.Generate(ctx, d, piv.Authentication, piv.P256, piv.Policy{})
			must(t, err)
		}, "slot 9A: the card's signature does not verify"},
		"another key management key": {func(ctx context.Context, d apdu.Doer) {
			_, err := piv.Generate(ctx, d, piv.KeyManagement, piv.P256, piv.Policy{})
			must(t, err)
		}, "slot 9D: the card agreed on something else"},
		"another kind of key": {func(ctx context.Context, d apdu.Doer) {
			_, err := piv.Generate(ctx, d, piv.Signature, piv.P384, piv.Policy{})
			must(t, err)
		}, "using the key of slot 9C"},
		"no certificate": {func(ctx context.Context, d apdu.Doer) {
			must(t, piv.PutData(ctx, d, piv.Signature.Certificate(), []byte{0x70, 0x01, 0x30}))
		}, "slot 9C: certificate of slot 9C"},
		"nothing": {func(ctx context.Context, d apdu.Doer) {
			for _, slot := range []piv.Slot{piv.Authentication, piv.Signature, piv.KeyManagement} {
				must(t, piv.PutData(ctx, d, slot.Certificate(), nil))
			}
		}, "enroll it first"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			card, err := sim.New(sim.Config{Model: "yubikey-5.4", Serial: 0xF0000001})
			must(t, err)
			defer card.Close()
			i.provision(card, map[piv.Slot]piv.Algorithm{piv.Authentication: piv.P256, piv.Signature: piv.P256, piv.KeyManagement: piv.P256})
			c.spoil(t.Context(), apdu.NewConn(card))
			must(t, card.Reset(t.Context()))
			if _, err := station.Use(t.Context(), card, factoryPIN(), nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestProveEnrolled: the card is opened anew, and has to be the one that was enrolled.
func TestProveEnrolled(t *testing.T) {
	t.Parallel()
	i, image := newIssuer(t), filepath.Join(t.TempDir(), "card.img")
	card, err := sim.Create(image, "yubikey-5.4", 0xF0000007)
	must(t, err)
	i.provision(card, map[piv.Slot]piv.Algorithm{piv.Authentication: piv.P256})
	cuid, err := station.CUID(t.Context(), card)
	if err != nil || cuid != "FFFF594B0000F0000007" {
		t.Errorf("CUID %s, %v", cuid, err)
	}
	must(t, card.Close())
	src := station.Source{Sim: image}
	used, err := station.ProveEnrolled(t.Context(), src, cuid, factoryPIN())
	if err != nil || len(used) != 1 || used[0].Slot != "9A" {
		t.Errorf("%+v, %v", used, err)
	}
	var unproved *station.NotProvedError
	if _, err := station.ProveEnrolled(t.Context(), src, "FFFF594B0000F0000008", factoryPIN()); !errors.Is(err, station.ErrOtherCard) || !errors.As(err, &unproved) {
		t.Error(err)
	}
	wrong := secret.PIN{Secret: secret.New([]byte("000000"))}
	if _, err := station.ProveEnrolled(t.Context(), src, cuid, wrong); !errors.As(err, &unproved) || !strings.Contains(err.Error(), "2 tries left") {
		t.Error(err)
	}
	if used, err := station.Prove(t.Context(), src, factoryPIN(), i.roots()); err != nil || len(used) != 1 || !used[0].Trusted {
		t.Errorf("%+v, %v", used, err)
	}
	blank := filepath.Join(t.TempDir(), "blank.img")
	plain, err := sim.Create(blank, sim.DefaultModel, 0)
	must(t, err)
	cuid, err = station.CUID(t.Context(), plain)
	must(t, err)
	must(t, plain.Close())
	if used, err := station.ProveEnrolled(t.Context(), station.Source{Sim: blank}, cuid, factoryPIN()); err != nil || len(used) != 0 {
		t.Errorf("a card without PIV: %+v, %v", used, err)
	}
}
