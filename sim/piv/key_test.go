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
	"crypto/sha256"
	"math/big"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
)

var all57 = []piv.Algorithm{piv.RSA1024, piv.RSA2048, piv.RSA3072, piv.RSA4096, piv.P256, piv.P384, piv.Ed25519, piv.X25519}

// works uses the key of a slot and checks the result with its public key.
func (c *card) works(slot piv.Slot, pub crypto.PublicKey) {
	c.t.Helper()
	alg, err := piv.AlgorithmOf(pub)
	check(c.t, err)
	digest := sha256.Sum256([]byte("message"))
	switch k := pub.(type) {
	case *rsa.PublicKey:
		block := pkcs1(k, digest[:])
		sig, err := piv.Sign(c.ctx(), c, slot, alg, block)
		check(c.t, err)
		if err := rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], sig); err != nil {
			c.t.Errorf("%v: %v", alg, err)
		}
	case *ecdsa.PublicKey:
		sig, err := piv.Sign(c.ctx(), c, slot, alg, digest[:])
		check(c.t, err)
		if !ecdsa.VerifyASN1(k, digest[:], sig) {
			c.t.Errorf("%v: signature is wrong", alg)
		}
		theirs, err := k.ECDH()
		check(c.t, err)
		c.agrees(slot, alg, theirs)
	case ed25519.PublicKey:
		message := bytes.Repeat([]byte("long "), 200)
		sig, err := piv.Sign(c.ctx(), c, slot, alg, message)
		check(c.t, err)
		if !ed25519.Verify(k, message, sig) {
			c.t.Errorf("%v: signature is wrong", alg)
		}
	case *ecdh.PublicKey:
		c.agrees(slot, alg, k)
	}
}

func (c *card) agrees(slot piv.Slot, alg piv.Algorithm, pub *ecdh.PublicKey) {
	c.t.Helper()
	mine, err := pub.Curve().GenerateKey(rand.Reader)
	check(c.t, err)
	want, err := mine.ECDH(pub)
	check(c.t, err)
	got, err := piv.Agree(c.ctx(), c, slot, alg, mine.PublicKey().Bytes())
	check(c.t, err)
	same(c.t, "secret", got, want)
}

// pkcs1 is a padded SHA-256 digest as long as the modulus.
func pkcs1(k *rsa.PublicKey, digest []byte) []byte {
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
	b := bytes.Repeat([]byte{0xFF}, k.Size())
	b[0], b[1], b[len(b)-len(info)-1] = 0, 1, 0
	copy(b[len(b)-len(info):], info)
	return b
}

func TestGenerate(t *testing.T) {
	t.Parallel()
	for _, alg := range all57 {
		t.Run(alg.String(), func(t *testing.T) {
			t.Parallel()
			c := newCard(t, "yubikey-5.7")
			_, err := piv.Generate(t.Context(), c, piv.Authentication, alg, piv.Policy{})
			refused(t, "generating without management key", err, apdu.SWSecurityStatus)
			c.manage()
			pub := c.generate(piv.Authentication, alg, piv.Policy{})
			if got, err := piv.AlgorithmOf(pub); err != nil || got != alg {
				t.Fatalf("a key of %v, %v", got, err)
			}
			_, err = piv.Sign(t.Context(), c, piv.Authentication, alg, make([]byte, 32))
			refused(t, "using the key without PIN", err, apdu.SWSecurityStatus)
			c.login()
			c.works(piv.Authentication, pub)
			m, err := piv.ReadMetadata(t.Context(), c, piv.Authentication)
			if err != nil || m.Algorithm != alg || m.Origin != piv.Generated || m.Policy != (piv.Policy{PIN: piv.PINOnce, Touch: piv.TouchNever}) || !keysEqual(m.Public, pub) {
				t.Errorf("metadata %+v, %v", m, err)
			}
		})
	}
}

func keysEqual(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func TestImport(t *testing.T) {
	t.Parallel()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	check(t, err)
	montgomery, err := ecdh.X25519().GenerateKey(rand.Reader)
	check(t, err)
	keys := map[piv.Algorithm]interface{ Public() crypto.PublicKey }{
		piv.RSA1024: fixedKeys()[1024], piv.RSA2048: fixedKeys()[2048], piv.RSA3072: fixedKeys()[3072], piv.RSA4096: fixedKeys()[4096],
		piv.P256: p256, piv.P384: p384, piv.Ed25519: edwards, piv.X25519: montgomery,
	}
	for _, alg := range all57 {
		t.Run(alg.String(), func(t *testing.T) {
			t.Parallel()
			c := newCard(t, "yubikey-5.7")
			refused(t, "importing without management key", piv.Import(t.Context(), c, piv.KeyManagement, keys[alg], piv.Policy{}), apdu.SWSecurityStatus)
			c.manage()
			check(t, piv.Import(t.Context(), c, piv.KeyManagement, keys[alg], piv.Policy{PIN: piv.PINNever, Touch: piv.TouchCached}))
			c.works(piv.KeyManagement, keys[alg].Public())
			m, err := piv.ReadMetadata(t.Context(), c, piv.KeyManagement)
			if err != nil || m.Origin != piv.Imported || m.Policy != (piv.Policy{PIN: piv.PINNever, Touch: piv.TouchCached}) {
				t.Errorf("metadata %+v, %v", m, err)
			}
			_, err = piv.Attest(t.Context(), c, piv.KeyManagement)
			refused(t, "attesting an imported key", err, apdu.SWWrongData)
		})
	}
}

func TestImportRefusals(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.manage()
	c.want("00FE119A03 060100", "6A80")
	c.want("00FE119A22 0620 FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "6A80") // above the order
	c.want("00FE119A22 0720 0101010101010101010101010101010101010101010101010101010101010101", "6A80")
	c.want("00FE119A25 0620 0101010101010101010101010101010101010101010101010101010101010101 AA0104", "6A80") // no sensor
	c.want("00FE119B22 0620 0101010101010101010101010101010101010101010101010101010101010101", "6B00")
	c.want("00FEE09A22 0720 0101010101010101010101010101010101010101010101010101010101010101", "6A86") // not in 5.4
	c.want("00F7009A00", "6A88")
	k := *fixedKeys()[2048]
	k.Primes = []*big.Int{k.Primes[0], new(big.Int).Add(k.Primes[1], big.NewInt(2))}
	refused(t, "primes that do not fit", piv.Import(t.Context(), c, piv.Authentication, &k, piv.Policy{}), apdu.SWWrongData)
}

func TestPINPolicies(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.manage()
	use := func(slot piv.Slot) error {
		_, err := piv.Sign(t.Context(), c, slot, piv.P256, make([]byte, 32))
		return err
	}
	for _, slot := range []piv.Slot{piv.Authentication, piv.Signature, piv.KeyManagement, piv.CardAuthentication, piv.Retired(20)} {
		c.generate(slot, piv.P256, piv.Policy{})
	}
	check(t, use(piv.CardAuthentication)) // never
	for _, slot := range []piv.Slot{piv.Authentication, piv.Signature, piv.KeyManagement, piv.Retired(20)} {
		refused(t, slot.String()+" without PIN", use(slot), apdu.SWSecurityStatus)
	}
	c.login()
	check(t, use(piv.Authentication))
	check(t, use(piv.Authentication))
	check(t, use(piv.Retired(20)))
	refused(t, "always, another command between", use(piv.Signature), apdu.SWSecurityStatus)
	c.login()
	check(t, use(piv.Signature))
	refused(t, "always, the second time", use(piv.Signature), apdu.SWSecurityStatus)
	c.generate(piv.Authentication, piv.P256, piv.Policy{PIN: piv.PINAlways})
	refused(t, "always by choice", use(piv.Authentication), apdu.SWSecurityStatus)
	// Chaining and GET RESPONSE lie between without harm.
	c.generate(piv.Signature, piv.RSA2048, piv.Policy{})
	c.login()
	if _, err := piv.Sign(t.Context(), c, piv.Signature, piv.RSA2048, make([]byte, 256)); err != nil {
		t.Errorf("chained signature directly after VERIFY: %v", err)
	}
	check(t, piv.LogOut(t.Context(), c))
	refused(t, "once, after logging out", use(piv.KeyManagement), apdu.SWSecurityStatus)
}

func TestUseRefusals(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.manage()
	c.generate(piv.CardAuthentication, piv.P256, piv.Policy{})
	c.generate(piv.Authentication, piv.RSA2048, piv.Policy{PIN: piv.PINNever})
	h := "8120" + "0101010101010101010101010101010101010101010101010101010101010101"
	c.want("0087119D267C24 8200"+h, "6A88")     // empty
	c.want("0087119B267C24 8200"+h, "6A86")     // management key
	c.want("008711F9267C24 8200"+h, "6B00")     // attestation key
	c.want("0087119F267C24 8200"+h, "6B00")     // no slot
	c.want("0087149E267C24 8200"+h, "6A86")     // other curve
	c.want("0087119E247C22"+h, "6A80")          // no 82
	c.want("0087119E277C25 820100"+h, "6A80")   // 82 filled
	c.want("0087119E267C24 8000"+h, "6A80")     // 80 instead
	c.want("0087119E067C04 82008100", "6A80")   // nothing to sign
	c.want("0087119E077C05 8200850104", "6A80") // no point
	c.want("0087119E267C25 8200"+h, "6A80")     // template cut
	c.want("0087079A267C24 8200"+h, "6A80")     // RSA block too short
	_, err := piv.Sign(t.Context(), c, piv.Authentication, piv.RSA2048, bytes.Repeat([]byte{0xFF}, 256))
	refused(t, "a block above the modulus", err, apdu.SWWrongData)
	_, err = piv.Generate(t.Context(), c, piv.Authentication, piv.Ed25519, piv.Policy{})
	refused(t, "an algorithm of 5.7", err, apdu.SWWrongData)
	_, err = piv.Generate(t.Context(), c, piv.Management, piv.P256, piv.Policy{})
	refused(t, "a key pair in 9B", err, apdu.SWWrongP1P2)
	_, err = piv.Generate(t.Context(), c, piv.Authentication, piv.P256, piv.Policy{PIN: piv.PINMatchOnce})
	refused(t, "a finger without sensor", err, apdu.SWWrongData)
}

func TestDecrypt(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.manage()
	pub := c.generate(piv.KeyManagement, piv.RSA2048, piv.Policy{}).(*rsa.PublicKey)
	c.login()
	block := append([]byte{0, 2}, bytes.Repeat([]byte{0xA5}, 254)...) // whatever the padding, the host takes it off
	sealed := new(big.Int).Exp(new(big.Int).SetBytes(block), big.NewInt(int64(pub.E)), pub.N).FillBytes(make([]byte, 256))
	plain, err := piv.Sign(t.Context(), c, piv.KeyManagement, piv.RSA2048, sealed)
	check(t, err)
	same(t, "plain block", plain, block)
}

func TestMoveAndDelete(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.7")
	refused(t, "moving without management key", piv.MoveKey(t.Context(), c, piv.KeyManagement, piv.Retired(1)), apdu.SWSecurityStatus)
	c.manage()
	pub := c.generate(piv.KeyManagement, piv.P256, piv.Policy{PIN: piv.PINNever})
	check(t, piv.MoveKey(t.Context(), c, piv.KeyManagement, piv.Retired(1)))
	c.works(piv.Retired(1), pub)
	c.want("00F7009D00", "6A88")
	refused(t, "moving an empty slot", piv.MoveKey(t.Context(), c, piv.KeyManagement, piv.Retired(2)), apdu.SWReferencedNotFound)
	c.generate(piv.KeyManagement, piv.P256, piv.Policy{})
	refused(t, "moving onto another key", piv.MoveKey(t.Context(), c, piv.KeyManagement, piv.Retired(1)), apdu.SWConditionsOfUse)
	refused(t, "moving to the management key", piv.MoveKey(t.Context(), c, piv.KeyManagement, piv.Management), apdu.SWWrongP1P2)
	c.works(piv.Retired(1), pub)
	check(t, piv.DeleteKey(t.Context(), c, piv.Retired(1)))
	refused(t, "deleting an empty slot", piv.DeleteKey(t.Context(), c, piv.Retired(1)), apdu.SWReferencedNotFound)
	check(t, piv.DeleteKey(t.Context(), c, piv.Attestation))
	_, err := piv.Attest(t.Context(), c, piv.KeyManagement)
	refused(t, "attesting without the attestation key", err, apdu.SWWrongData)
}
