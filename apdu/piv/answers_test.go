package piv_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
)

// FuzzAnswersNoPanic: whatever a card answers to whatever it is asked, the host's half
// returns.
func FuzzAnswersNoPanic(f *testing.F) {
	for _, s := range []string{
		"6111 4F06000010000100 7907 4F05A000000308", "6F0B 4F09A00000030800001000", "050403", "F0000001", "0101FF 050101 06020503",
		"7C0A8008 0000000000000000", "7C0A8208 0000000000000000", "7F490486020400", "7F49098103C0000182020101", "5303010203", "3000",
	} {
		f.Add(unhex(f, s), uint16(0x9000))
	}
	f.Add([]byte{}, uint16(0x63C0))
	f.Add([]byte{}, uint16(0x6983))
	key, pin := secret.New(piv.DefaultManagementKey()), secret.PIN{Secret: secret.New([]byte(piv.DefaultPIN))}
	digest := sha256.Sum256(nil)
	pub := attestation(f, "x").PublicKey
	f.Fuzz(func(t *testing.T, data []byte, sw uint16) {
		ctx, d := t.Context(), &answers{resp: apdu.Response{Data: data, SW: apdu.StatusWord(sw)}}
		piv.Select(ctx, d)
		piv.ReadVersion(ctx, d)
		piv.ReadSerial(ctx, d)
		for _, ref := range []piv.Slot{piv.PIN, piv.PUK, piv.Management, piv.Signature} {
			piv.ReadMetadata(ctx, d, ref)
		}
		piv.ReadPINStatus(ctx, d)
		piv.VerifyPIN(ctx, d, pin)
		piv.Unblock(ctx, d, pin, pin)
		piv.GetData(ctx, d, piv.CHUIDObject)
		piv.ReadCertificate(ctx, d, piv.Signature)
		piv.Attest(ctx, d, piv.Signature)
		for _, alg := range []piv.Algorithm{piv.TripleDES, piv.AES192} {
			piv.Authenticate(ctx, d, alg, key)
			piv.AuthenticateHost(ctx, d, alg, key)
		}
		for _, alg := range []piv.Algorithm{piv.RSA2048, piv.P256, piv.P384, piv.Ed25519, piv.X25519} {
			if pub, err := piv.Generate(ctx, d, piv.Signature, alg, piv.Policy{}); err == nil {
				roundTrip(t, alg, pub)
			}
		}
		k := piv.Key{Slot: piv.Signature, Public: pub}
		k.SignDigest(ctx, d, crypto.SHA256, digest[:])
		if k.ProveAgreement(ctx, d) == nil {
			t.Error("a card proves a key that it does not have")
		}
	})
}

// roundTrip writes a public key as a card does and reads it again.
func roundTrip(t *testing.T, alg piv.Algorithm, pub crypto.PublicKey) {
	t.Helper()
	b, err := piv.AppendPublicKey(nil, pub)
	if err != nil {
		t.Fatal(err)
	}
	again, err := piv.ParsePublicKey(alg, b)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := piv.AppendPublicKey(nil, again); err != nil || !bytes.Equal(b, c) {
		t.Errorf("%v: %X, then %X, %v", alg, b, c, err)
	}
}

// FuzzObjectsNoPanic: objects that others have written, whose parsers nothing else
// fuzzes.
func FuzzObjectsNoPanic(f *testing.F) {
	f.Add(piv.DiscoveryContent())
	f.Add(piv.Printed{Name: "Ada Lovelace", Expiry: "2031JAN05", Serial: "4711"}.Encode())
	f.Add(unhex(f, "6111 4F06000010000100 7907 4F05A000000308"))
	f.Fuzz(func(t *testing.T, b []byte) {
		piv.ParseDiscovery(b)
		piv.ParseApplication(b)
		p, err := piv.ParsePrinted(b)
		if err != nil {
			return
		}
		again, err := piv.ParsePrinted(p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if third, err := piv.ParsePrinted(again.Encode()); err != nil || third != again {
			t.Errorf("%+v, then %+v, %v", again, third, err)
		}
	})
}
