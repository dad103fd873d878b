package hsmtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"inkan/tks/hsm"
)

// suiteCA is a signer that the suite makes and finds again.
var suiteCA = suiteLabel(1)

// TestSigners is the part of [TestVault] for key pairs, for whoever has nothing else.
// The key pairs are made under labels that label gives for 1 to 127, each the same
// every time.
func TestSigners(t *testing.T, v hsm.Signers, label func(n uint8) hsm.SignerLabel) {
	t.Run("Signers", func(t *testing.T) { testSigners(t, v, label) })
	t.Run("SignerErrors", func(t *testing.T) { testSignerErrors(t, v, label) })
	t.Run("ImportSigners", func(t *testing.T) { testImportSigners(t, v) })
}

func suiteLabel(n uint8) hsm.SignerLabel { return hsm.CALabel("suite", n) }

func testSigners(t *testing.T, v hsm.Signers, labelOf func(uint8) hsm.SignerLabel) {
	for i, a := range []hsm.Algorithm{hsm.RSA2048, hsm.P256, hsm.P384, hsm.P521, hsm.Ed25519} {
		t.Run("alg="+string(a), func(t *testing.T) {
			label := labelOf(uint8(1 + i))
			made, err := v.GenerateSigner(t.Context(), label, a)
			if lacks(v, err) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			found, err := v.Signer(t.Context(), label)
			if err != nil {
				t.Fatal(err)
			}
			if !samePublic(made, found) {
				t.Fatal("found another key than was made")
			}
			for _, s := range []crypto.Signer{made, found} {
				for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
					if err := sign(s, h); err != nil {
						t.Errorf("%v: %v", h, err)
					}
				}
				if err := issue(s); err != nil {
					t.Error(err)
				}
			}
			checkAlgorithm(t, made.Public(), a)
			if _, err := v.GenerateSigner(t.Context(), label, a); !errors.Is(err, hsm.ErrExists) {
				t.Errorf("the same label again: %v, want ErrExists", err)
			}
		})
	}
}

func checkAlgorithm(t *testing.T, pub crypto.PublicKey, a hsm.Algorithm) {
	t.Helper()
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() != a.Bits() || k.E != 65537 {
			t.Errorf("%d bits, e=%d", k.N.BitLen(), k.E)
		}
	case *ecdsa.PublicKey:
		if want := map[hsm.Algorithm]int{hsm.P256: 256, hsm.P384: 384, hsm.P521: 521}[a]; k.Curve.Params().BitSize != want {
			t.Errorf("curve %s", k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
		if a != hsm.Ed25519 {
			t.Errorf("made an Ed25519 key for %s", a)
		}
	default:
		t.Errorf("public key is a %T", pub)
	}
}

func samePublic(a, b crypto.Signer) bool {
	eq, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && eq.Equal(b.Public())
}

// sign signs and verifies a message with every scheme of the key; h 0 is SHA-256.
func sign(s crypto.Signer, h crypto.Hash) error {
	if h == 0 {
		h = crypto.SHA256
	}
	if pub, ok := s.Public().(ed25519.PublicKey); ok {
		return signMessage(s, pub)
	}
	digest := sum(h, []byte("message"))
	sig, err := s.Sign(rand.Reader, digest, h)
	if err != nil {
		return err
	}
	switch pub := s.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest, sig) {
			return errors.New("ECDSA signature does not verify")
		}
	case *rsa.PublicKey:
		if err := rsa.VerifyPKCS1v15(pub, h, digest, sig); err != nil {
			return fmt.Errorf("PKCS #1 v1.5: %w", err)
		}
		pss := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		if sig, err = s.Sign(rand.Reader, digest, pss); err != nil {
			return fmt.Errorf("PSS: %w", err)
		}
		if err := rsa.VerifyPSS(pub, h, digest, sig, pss); err != nil {
			return fmt.Errorf("PSS: %w", err)
		}
	}
	if _, err := s.Sign(rand.Reader, digest[1:], h); err == nil {
		return errors.New("signed a digest of the wrong length")
	}
	return nil
}

// signMessage is sign for a key that takes no digest.
func signMessage(s crypto.Signer, pub ed25519.PublicKey) error {
	sig, err := s.Sign(rand.Reader, []byte("message"), crypto.Hash(0))
	if err != nil {
		return err
	}
	if !ed25519.Verify(pub, []byte("message"), sig) {
		return errors.New("Ed25519 signature does not verify")
	}
	if _, err := s.Sign(rand.Reader, sum(crypto.SHA512, nil), crypto.SHA512); err == nil {
		return errors.New("signed a digest with Ed25519")
	}
	return nil
}

func sum(h crypto.Hash, msg []byte) []byte {
	switch h {
	case crypto.SHA384:
		d := sha512.Sum384(msg)
		return d[:]
	case crypto.SHA512:
		d := sha512.Sum512(msg)
		return d[:]
	}
	d := sha256.Sum256(msg)
	return d[:]
}

// issue makes a certificate as an authority does.
func issue(s crypto.Signer) error {
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "suite"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, s.Public(), s)
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	return c.CheckSignatureFrom(c)
}

func testSignerErrors(t *testing.T, v hsm.Signers, label func(uint8) hsm.SignerLabel) {
	if _, err := v.Signer(t.Context(), hsm.CALabel("nobody", 1)); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("no such signer: %v, want ErrNotFound", err)
	}
	if _, err := v.GenerateSigner(t.Context(), label(0x40), "rsa-512"); err == nil {
		t.Error("made a key of an unknown algorithm")
	}
	for _, l := range []hsm.SignerLabel{"", "ca", "tms:master:site:v01", "tms:ca:UPPER:v01", "tms:ca:x:v1"} {
		if _, err := v.GenerateSigner(t.Context(), l, hsm.P256); err == nil {
			t.Errorf("made a key labelled %q", l)
		}
	}
}

// testImportSigners: what was brought in signs as the key it was, until it is
// destroyed.
func testImportSigners(t *testing.T, v hsm.Signers) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"rsa": rsaKey, "ed": edKey}
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		if keys[name], err = ecdsa.GenerateKey(curve, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	for name, key := range keys {
		t.Run("key="+name, func(t *testing.T) { importSigner(t, v, hsm.SignerLabel("tms:sign:"+name+":v01"), key) })
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.ImportSigner(t.Context(), "tms:sign:small:v01", small); err == nil {
		t.Error("took in a P-224 key")
	}
	if _, err := v.ImportSigner(t.Context(), "small", keys["p256"]); err == nil {
		t.Error("took in a key without a proper label")
	}
}

func importSigner(t *testing.T, v hsm.Signers, l hsm.SignerLabel, key crypto.Signer) {
	made, err := v.ImportSigner(t.Context(), l, key)
	if lacks(v, err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	found, err := v.Signer(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []crypto.Signer{made, found} {
		if !samePublic(s, key) {
			t.Error("came back as another key")
		}
		if err := sign(s, crypto.SHA256); err != nil {
			t.Error(err)
		}
	}
	if _, err := v.ImportSigner(t.Context(), l, key); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("the same label again: %v, want ErrExists", err)
	}
	if err := v.DestroySigner(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := sign(found, crypto.SHA256); err == nil {
		t.Error("a destroyed key signs")
	}
	if _, err := v.Signer(t.Context(), l); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("after destroying: %v, want ErrNotFound", err)
	}
	if err := v.DestroySigner(t.Context(), l); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("destroying again: %v, want ErrNotFound", err)
	}
}
