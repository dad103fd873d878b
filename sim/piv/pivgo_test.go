//go:build cgo && unix

package piv_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	pivgo "github.com/go-piv/piv-go/v2/piv"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/sim/vpcd/vpcdtest"
)

// TestRealPIVGo has the client of piv-go work with cards of both firmwares through
// the real pcscd. It is one test with one pcscd, because a process can have one only.
func TestRealPIVGo(t *testing.T) {
	vpcdtest.Need(t)
	d := vpcdtest.Start(t, 2)
	d.Setenv(t)
	for slot, model := range []string{"yubikey-5.4", "yubikey-5.7"} {
		t.Run("model="+model, func(t *testing.T) {
			s, err := sim.New(sim.Config{Model: model, Serial: serial, Keys: keyPool()})
			check(t, err)
			defer s.Close()
			root, err := x509.ParseCertificate(s.Info().Attestation)
			check(t, err)
			unplug := d.Plug(t, slot, s)
			defer unplug()
			yk := vpcdtest.OpenWithPIVGo(t, d.Readers[slot])
			defer yk.Close()
			useWithPIVGo(t, yk, root, s)
		})
	}
}

func useWithPIVGo(t *testing.T, yk *pivgo.YubiKey, root *x509.Certificate, s *sim.Card) {
	n, err := yk.Serial()
	if err != nil || n != serial {
		t.Errorf("serial number %d, %v", n, err)
	}
	key := pivgo.DefaultManagementKey
	const pin = "314159"
	check(t, yk.SetPIN(pivgo.DefaultPIN, pin))
	if yk.VerifyPIN(pivgo.DefaultPIN) == nil {
		t.Error("the old PIN is taken")
	}
	if left, err := yk.Retries(); err != nil || left != 2 {
		t.Errorf("%d tries left, %v", left, err)
	}
	for slot, k := range map[pivgo.Slot]pivgo.Key{
		pivgo.SlotAuthentication:     {Algorithm: pivgo.AlgorithmEC256, PINPolicy: pivgo.PINPolicyOnce, TouchPolicy: pivgo.TouchPolicyNever},
		pivgo.SlotSignature:          {Algorithm: pivgo.AlgorithmRSA2048, PINPolicy: pivgo.PINPolicyAlways, TouchPolicy: pivgo.TouchPolicyNever},
		pivgo.SlotKeyManagement:      {Algorithm: pivgo.AlgorithmEC384, PINPolicy: pivgo.PINPolicyOnce, TouchPolicy: pivgo.TouchPolicyCached},
		pivgo.SlotCardAuthentication: {Algorithm: pivgo.AlgorithmEC256, PINPolicy: pivgo.PINPolicyNever, TouchPolicy: pivgo.TouchPolicyNever},
	} {
		pub, err := yk.GenerateKey(key, slot, k)
		check(t, err)
		info, err := yk.KeyInfo(slot)
		if err != nil || info.PINPolicy != k.PINPolicy || info.TouchPolicy != k.TouchPolicy || info.Origin != pivgo.OriginGenerated {
			t.Errorf("slot %v: %+v, %v", slot, info, err)
		}
		attestedByPIVGo(t, yk, root, slot, k, pub)
		private, err := yk.PrivateKey(slot, pub, pivgo.KeyAuth{PIN: pin})
		check(t, err)
		signer := private.(crypto.Signer)
		for range 2 { // PIN policy always, too
			signs(t, signer)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: slot.String()}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, pub, signer)
		check(t, err)
		cert, err := x509.ParseCertificate(der)
		check(t, err)
		check(t, yk.SetCertificate(key, slot, cert))
		if back, err := yk.Certificate(slot); err != nil || !back.Equal(cert) {
			t.Errorf("certificate of slot %v: %v", slot, err)
		}
	}
	next := make([]byte, 24)
	rand.Read(next)
	check(t, yk.SetManagementKey(key, next))
	if _, err := yk.GenerateKey(key, pivgo.SlotAuthentication, pivgo.Key{Algorithm: pivgo.AlgorithmEC256, PINPolicy: pivgo.PINPolicyOnce, TouchPolicy: pivgo.TouchPolicyNever}); err == nil {
		t.Error("the old management key is taken")
	}
	check(t, yk.SetRetries(next, pin, 5, 6))
	check(t, yk.VerifyPIN(pivgo.DefaultPIN))
	check(t, yk.Unblock(pivgo.DefaultPUK, pin))
	check(t, yk.VerifyPIN(pin))
	check(t, yk.SetMetadata(next, &pivgo.Metadata{ManagementKey: &next}))
	guardedByPIVGo(t, s, pin, next)
	check(t, yk.Reset())
	check(t, yk.VerifyPIN(pivgo.DefaultPIN))
	if _, err := yk.Certificate(pivgo.SlotSignature); err == nil {
		t.Error("a certificate outlived the reset")
	}
}

// guardedByPIVGo: the management key that piv-go stored behind the PIN is read there.
func guardedByPIVGo(t *testing.T, s *sim.Card, pin string, want []byte) {
	t.Helper()
	ctx, d := t.Context(), apdu.NewConn(s)
	_, err := piv.Select(ctx, d)
	check(t, err)
	p, err := secret.NewPIN([]byte(pin))
	check(t, err)
	check(t, piv.VerifyPIN(ctx, d, p))
	b, err := piv.GetData(ctx, d, piv.PrintedInformation)
	check(t, err)
	if key, err := piv.ParseStoredManagementKey(b); err != nil || !key.Equal(secret.New(want)) {
		t.Errorf("the management key that piv-go stored is not what is read: %v", err)
	}
}

// attestedByPIVGo: the maker's roots refuse the card, its own root takes it.
func attestedByPIVGo(t *testing.T, yk *pivgo.YubiKey, root *x509.Certificate, slot pivgo.Slot, k pivgo.Key, pub crypto.PublicKey) {
	t.Helper()
	leaf, err := yk.Attest(slot)
	check(t, err)
	between, err := yk.AttestationCertificate()
	check(t, err)
	if _, err := pivgo.Verify(between, leaf); err == nil {
		t.Errorf("slot %v: a software card passes for a YubiKey", slot)
	}
	own := pivgo.Verifier{Roots: x509.NewCertPool()}
	own.Roots.AddCert(root)
	a, err := own.Verify(between, leaf)
	check(t, err)
	if a.Slot != slot || a.Serial != serial || a.PINPolicy != k.PINPolicy || a.TouchPolicy != k.TouchPolicy || !keysEqual(leaf.PublicKey, pub) {
		t.Errorf("slot %v: %+v", slot, a)
	}
}

func signs(t *testing.T, signer crypto.Signer) {
	t.Helper()
	digest := sha256.Sum256([]byte("message"))
	sig, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	check(t, err)
	switch pub := signer.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest[:], sig) {
			t.Error("signature is wrong")
		}
	case *rsa.PublicKey:
		check(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig))
	default:
		t.Errorf("key of type %T", pub)
	}
}
