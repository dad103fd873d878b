package piv_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
)

// root is the root of the card's own attestation.
func (c *card) root() *x509.Certificate {
	c.t.Helper()
	cert, err := x509.ParseCertificate(c.sim.Info().Attestation)
	check(c.t, err)
	return cert
}

// chain verifies an attestation up to root.
func (c *card) chain(leaf, root *x509.Certificate) error {
	c.t.Helper()
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: root.NotBefore.AddDate(1, 0, 0)}
	o.Roots.AddCert(root)
	between, err := piv.ReadCertificate(c.ctx(), c, piv.Attestation)
	check(c.t, err)
	o.Intermediates.AddCert(between)
	_, err = leaf.Verify(o)
	return err
}

func TestAttest(t *testing.T) {
	t.Parallel()
	for _, alg := range all57 {
		t.Run(alg.String(), func(t *testing.T) {
			t.Parallel()
			c := newCard(t, "yubikey-5.7")
			c.manage()
			policy := piv.Policy{PIN: piv.PINAlways, Touch: piv.TouchCached}
			pub := c.generate(piv.Retired(3), alg, policy)
			leaf, err := piv.Attest(t.Context(), c, piv.Retired(3))
			check(t, err)
			check(t, c.chain(leaf, c.root()))
			s, err := piv.ParseStatement(leaf)
			check(t, err)
			if s.Slot != piv.Retired(3) || s.Policy != policy || s.Serial != serial || s.Firmware.String() != "5.7.1" || s.FormFactor != 1 || !s.SameKey(pub) {
				t.Errorf("%+v", s)
			}
			if leaf.Subject.CommonName != "YubiKey PIV Attestation 84" {
				t.Errorf("subject %v", leaf.Subject)
			}
		})
	}
}

// TestEachCardHasItsRoot: another card's root proves nothing, and the root stays.
func TestEachCardHasItsRoot(t *testing.T) {
	t.Parallel()
	a, b := newCard(t, "yubikey-5.4"), newCard(t, "yubikey-5.4")
	a.manage()
	a.generate(piv.Authentication, piv.P256, piv.Policy{})
	leaf, err := piv.Attest(t.Context(), a, piv.Authentication)
	check(t, err)
	if a.chain(leaf, b.root()) == nil {
		t.Error("another card's root verifies")
	}
	if a.root().Equal(b.root()) {
		t.Error("two cards have one root")
	}
	_, err = piv.Attest(t.Context(), a, piv.Signature)
	refused(t, "attesting an empty slot", err, apdu.SWWrongData)
	a.want("00F99B0000", "6B00")
	a.want("00F99A0100", "6A86")
}

// TestOwnAttestation: whoever has the management key may bring other attestation
// keys; then the statements are theirs.
func TestOwnAttestation(t *testing.T) {
	t.Parallel()
	keys := []crypto.Signer{fixedKeys()[2048]} // of every kind that such a key can be
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		check(t, err)
		keys = append(keys, key)
	}
	for _, key := range keys {
		c := newCard(t, "yubikey-5.7")
		c.manage()
		c.generate(piv.Authentication, piv.P256, piv.Policy{})
		c.generate(piv.KeyManagement, piv.X25519, piv.Policy{})
		template := c.root()
		template.RawSubject, template.PublicKey, template.Subject.CommonName, template.SignatureAlgorithm = nil, nil, "Site", 0
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		check(t, err)
		check(t, piv.Import(t.Context(), c, piv.Attestation, key, piv.Policy{}))
		check(t, piv.WriteCertificate(t.Context(), c, piv.Attestation, der))
		site, err := x509.ParseCertificate(der)
		check(t, err)
		leaf, err := piv.Attest(t.Context(), c, piv.Authentication)
		check(t, err)
		check(t, leaf.CheckSignatureFrom(site))
		agreeing, err := piv.Attest(t.Context(), c, piv.KeyManagement)
		check(t, err)
		check(t, agreeing.CheckSignatureFrom(site))
		if c.chain(leaf, c.root()) == nil {
			t.Error("the card's own root verifies the site's key")
		}
		content, err := piv.GetData(t.Context(), c, piv.AttestationCertificate)
		check(t, err)
		same(t, "attestation object", content, tlv.Encode(0x70, der))
		check(t, piv.PutData(t.Context(), c, piv.AttestationCertificate, []byte{0x70, 0x01, 0x30}))
		_, err = piv.Attest(t.Context(), c, piv.Authentication)
		refused(t, "attesting with a broken certificate", err, apdu.SWWrongData)
	}
}
