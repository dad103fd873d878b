package tps_test

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
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps"
	familypiv "inkan/tps/piv"
)

// piv is the family as nodes have it.
func (s *site) piv() tps.Family { return familypiv.Family{Applets: applets()} }

// pivProfile is pivUser on the synthetic applet, for anybody, changed by edits.
func pivProfile(name string, edits map[string]string) string {
	doc := `
name = "` + name + `"
title = "Test profile"
family = "piv"
operations = ["format", "enroll", "renew", "pin-reset", "key-changeover"]
[card]
allow_unknown = "anyone"
[keys]
set = "site"
version = 2
change_on = ["key-changeover"]
[applet]
version = "0.9.0"
[piv]
reset = true
[renewal]
enabled = true
[[key]]
type = "authentication"
slot = "9A"
ca_profile = "authentication"
[[key]]
type = "signing"
slot = "9C"
ca_profile = "signing"
[[key]]
type = "encryption"
slot = "9D"
retire = 20
ca_profile = "encryption"
[[key]]
type = "card"
slot = "9E"
ca_profile = "authentication"
`
	for _, old := range slices.Sorted(maps.Keys(edits)) {
		if !strings.Contains(doc, old) {
			panic("profile has no " + old)
		}
		doc = strings.ReplaceAll(doc, old, edits[old])
	}
	return doc
}

// pivModels are the kinds of PIV cards.
var pivModels = []string{"piv", "yubikey-5.4", "yubikey-5.7"}

// pivCard talks to the PIV applet of a card, selected anew.
func pivCard(t testing.TB, card *sim.Card) apdu.Doer {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(context.Background()))
	_, err := piv.Select(context.Background(), conn)
	must(t, err)
	return conn
}

// usePIV verifies the PIN, and each certificate of the four slots by a use of its key.
// It returns their serial numbers.
func usePIV(ctx context.Context, d apdu.Doer, pin string) ([]string, error) {
	p, err := secret.NewPIN([]byte(pin))
	if err != nil {
		return nil, err
	}
	var serials []string
	for _, slot := range []piv.Slot{piv.Authentication, piv.Signature, piv.KeyManagement, piv.CardAuthentication} {
		cert, err := piv.ReadCertificate(ctx, d, slot)
		if piv.IsAbsent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := piv.VerifyPIN(ctx, d, p); err != nil {
			return nil, err
		}
		pub, err := x509.ParsePKIXPublicKey(cert.RawSubjectPublicKeyInfo)
		if err != nil {
			return nil, err
		}
		if err := useSlot(ctx, d, slot, pub); err != nil {
			return nil, fmt.Errorf("slot %v: %w", slot, err)
		}
		serials = append(serials, fmt.Sprintf("%X", cert.SerialNumber))
	}
	slices.Sort(serials)
	return serials, nil
}

// useSlot has the key of a slot prove that it belongs to a public key.
func useSlot(ctx context.Context, d apdu.Doer, slot piv.Slot, pub crypto.PublicKey) error {
	alg, err := piv.AlgorithmOf(pub)
	if err != nil {
		return err
	}
	message := []byte("message")
	digest := sha256.Sum256(message)
	wrong := errors.New("the key does not belong to its certificate")
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		sig, err := piv.Sign(ctx, d, slot, alg, digest[:])
		if err == nil && !ecdsa.VerifyASN1(k, digest[:], sig) {
			err = wrong
		}
		return err
	case ed25519.PublicKey:
		sig, err := piv.Sign(ctx, d, slot, alg, message)
		if err == nil && !ed25519.Verify(k, message, sig) {
			err = wrong
		}
		return err
	case *rsa.PublicKey:
		block := make([]byte, k.Size())
		copy(block[1:], message)
		x := new(big.Int).Exp(new(big.Int).SetBytes(block), big.NewInt(int64(k.E)), k.N) // the card does the rest
		got, err := piv.Sign(ctx, d, slot, alg, x.FillBytes(make([]byte, k.Size())))
		if err == nil && !bytes.Equal(got, block) {
			err = wrong
		}
		return err
	case *ecdh.PublicKey:
		own, err := k.Curve().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		want, err := own.ECDH(k)
		if err != nil {
			return err
		}
		got, err := piv.Agree(ctx, d, slot, alg, own.PublicKey().Bytes())
		if err == nil && !bytes.Equal(got, want) {
			err = wrong
		}
		return err
	}
	return fmt.Errorf("public key of type %T", pub)
}

// certificatesOf are the serial numbers of the active certificates of a card.
func (s *site) certificatesOf(card *sim.Card) []string {
	s.t.Helper()
	certs, err := s.db.CertificatesOf(context.Background(), card.Info().CUID)
	must(s.t, err)
	var active []string
	for _, c := range certs {
		if _, err := x509.ParseCertificate(c.DER); err != nil {
			s.t.Fatal(err)
		}
		if c.State == "active" {
			active = append(active, c.Serial)
		}
	}
	slices.Sort(active)
	return active
}
