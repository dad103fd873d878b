package station_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/cli/station"
	"inkan/sim"
)

// TestDescribePIV: a card with a generated key, an imported one, and a certificate
// object that is none.
func TestDescribePIV(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	card, err := sim.New(sim.Config{Model: "yubikey-5.7", Serial: 0xF0000001})
	must(err)
	defer card.Close()
	ctx, d := t.Context(), apdu.NewConn(card)
	_, err = piv.Select(ctx, d)
	must(err)
	must(piv.Authenticate(ctx, d, piv.AES192, secret.New(piv.DefaultManagementKey())))
	_, err = piv.Generate(ctx, d, piv.Authentication, piv.P256, piv.Policy{})
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	must(piv.Import(ctx, d, piv.Retired(1), key, piv.Policy{PIN: piv.PINNever, Touch: piv.TouchCached}))
	end := time.Date(2031, 5, 6, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "Ada"}, NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(err)
	must(piv.WriteCertificate(ctx, d, piv.Retired(1), der))
	must(piv.PutData(ctx, d, piv.Signature.Certificate(), []byte{0x70, 0x01, 0x30}))
	must(piv.PutData(ctx, d, piv.CHUIDObject, piv.NewCHUID([16]byte{0xAB}, end).Encode()))
	pin, err := secret.NewPIN([]byte("000000"))
	must(err)
	if err := piv.VerifyPIN(ctx, d, pin); !errors.Is(err, apdu.StatusWord(0x63C2)) {
		t.Fatal(err)
	}
	must(card.Reset(ctx))

	i, err := station.Describe(ctx, card)
	must(err)
	p := i.PIV
	if p == nil || i.CUID != "FFFF594B0000F0000001" || !i.Simulated || !i.Issuable() || len(i.Problems) > 0 {
		t.Fatalf("%+v", i)
	}
	if p.Version != "5.7.1" || p.Serial != 0xF0000001 || p.PIN != "2 tries left of 3, the factory's" || p.Management != "AES-192, the factory's" ||
		p.GUID != "ab000000000000000000000000000000" || p.Expiry != "20310506" || p.Attestation == "" || len(p.Slots) != 3 {
		t.Fatalf("%+v", p)
	}
	a, c, r := p.Slots[0], p.Slots[1], p.Slots[2]
	if a.Slot != "9A" || a.Key != "P-256" || a.Origin != "generated" || !a.Attested || a.PINPolicy != "once" || a.NotAfter != nil {
		t.Errorf("%+v", a)
	}
	if c.Slot != "9C" || c.Problem == "" {
		t.Errorf("%+v", c)
	}
	if r.Slot != "82" || r.Key != "P-384" || r.Origin != "imported" || r.Attested || r.TouchPolicy != "cached" || r.Subject != "CN=Ada" || !r.NotAfter.Equal(end) {
		t.Errorf("%+v", r)
	}
	have, present := piv.AES192, secret.New(piv.DefaultManagementKey())
	if kind := station.Kind(ctx, card); kind != "PIV 5.7.1, serial 4026531841" {
		t.Errorf("kind %q", kind)
	}
	if o := i.Contents(); o == nil || o.Kind != "PIV" || o.PIN != "none" || len(o.Certificates) != 0 || i.LooseKeys() != 1 || i.RetiredKeys() != 1 {
		t.Errorf("contents %+v, %d loose keys, %d retired ones", o, i.LooseKeys(), i.RetiredKeys())
	}
	for want, a := range map[string]piv.AdminContent{
		"AES-256, stored behind the PIN": {Stored: true}, "AES-256, derived from the PIN": {Salt: make([]byte, 16)}, "AES-256": {PUKBlocked: true},
	} {
		key := secret.Random(32)
		_, err = piv.Select(ctx, d)
		must(err)
		must(piv.Authenticate(ctx, d, have, present))
		must(piv.SetManagementKey(ctx, d, piv.AES256, key, false))
		must(piv.PutData(ctx, d, piv.AdminData, a.Encode()))
		have, present = piv.AES256, key
		if i, err := station.Describe(ctx, card); err != nil || i.PIV.Management != want {
			t.Errorf("management key %+v, %v, want %s", i.PIV, err, want)
		}
	}
	card.Remove()
	if _, err := station.Describe(ctx, card); !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("a card that is gone: %v", err)
	}
}

// yubikey4 tells its serial number in another application than PIV.
type yubikey4 struct{ *sim.Card }

func (y yubikey4) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	switch {
	case cmd[1] == piv.InsSerial:
		return []byte{0x6D, 0x00}, nil
	case bytes.Contains(cmd, []byte{0xA0, 0x00, 0x00, 0x05, 0x27, 0x20, 0x01, 0x01}):
		return []byte{0x90, 0x00}, nil
	case cmd[1] == 0x01:
		return []byte{0x00, 0x5E, 0xA1, 0x07, 0x90, 0x00}, nil
	}
	return y.Card.Transmit(ctx, cmd)
}

// TestDescribeYubiKey4: it has the number that the server knows it by.
func TestDescribeYubiKey4(t *testing.T) {
	t.Parallel()
	card, err := sim.New(sim.Config{Model: "yubikey-5.4"})
	if err != nil {
		t.Fatal(err)
	}
	defer card.Close()
	i, err := station.Describe(t.Context(), yubikey4{card})
	if err != nil || i.CUID != "FFFF594B0000005EA107" || i.PIV.Serial != 0x5EA107 || i.Simulated {
		t.Errorf("%+v, %v", i, err)
	}
}
