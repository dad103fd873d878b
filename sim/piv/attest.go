package piv

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
	"inkan/sim/gp"
)

// attestationSince and attestationUntil bound all certificates of the attestation.
// A card has no clock.
var (
	attestationSince = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	attestationUntil = time.Date(2056, 1, 1, 0, 0, 0, 0, time.UTC)
)

// certify makes the attestation of a new card: a root of its own, whose key is
// thrown away, and under it the key of slot F9 with its certificate.
func (a *Applet) certify(r io.Reader) error {
	root, err := gp.FreshKeys{}.EC(elliptic.P256())
	if err != nil {
		return fmt.Errorf("making the attestation root: %w", err)
	}
	k, err := makeKey(piv.P256, gp.FreshKeys{}, r)
	if err != nil {
		return fmt.Errorf("making the attestation key: %w", err)
	}
	k.Policy = piv.Policy{PIN: piv.PINNever, Touch: piv.TouchNever}
	pub, err := k.public()
	if err != nil {
		return err
	}
	top := authority(fmt.Sprintf("%s Attestation Root %d", piv.SimulatedName, a.p.Serial))
	if a.p.Root, err = x509.CreateCertificate(r, top, top, &root.PublicKey, root); err != nil {
		return fmt.Errorf("making the attestation root: %w", err)
	}
	under := authority(a.attestationName())
	der, err := x509.CreateCertificate(r, under, top, pub, root)
	if err != nil {
		return fmt.Errorf("making the attestation certificate: %w", err)
	}
	a.p.Keys[piv.Attestation] = k
	a.p.Objects[piv.AttestationCertificate] = tlv.Encode(0x70, der)
	return nil
}

func (a *Applet) attestationName() string {
	if a.cfg.yubikey() {
		return piv.SimulatedName + " PIV Attestation"
	}
	return "PIVApplet Attestation"
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: attestationSince, NotAfter: attestationUntil,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

// attest certifies with the key of slot F9 that a key was made here. The answer is
// the bare certificate.
func (a *Applet) attest(c call) ([]byte, apdu.StatusWord) {
	slot := piv.Slot(c.cmd.P1)
	switch {
	case c.cmd.P2 != 0:
		return nil, apdu.SWIncorrectP1P2
	case !a.cfg.keySlot(slot):
		return nil, a.noSlot()
	}
	k := a.p.Keys[slot]
	if k == nil || k.Origin != piv.Generated {
		return nil, apdu.SWWrongData
	}
	issuer, signer, err := a.attester()
	if err != nil {
		return nil, apdu.SWWrongData
	}
	der, err := a.statement(c.env.Rand(), slot, k, issuer, signer)
	if err != nil {
		return nil, apdu.SWWrongData // certificate and key do not belong together
	}
	return der, done
}

// attester is the attestation certificate and its key. Both may have been replaced
// by whoever has the management key.
func (a *Applet) attester() (*x509.Certificate, crypto.Signer, error) {
	k := a.p.Keys[piv.Attestation]
	der, ok := tlv.Find(a.p.Objects[piv.AttestationCertificate], 0x70)
	if k == nil || !ok {
		return nil, nil, fmt.Errorf("no attestation key or certificate")
	}
	issuer, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	signer, err := k.signer()
	return issuer, signer, err
}

func (a *Applet) statement(r io.Reader, slot piv.Slot, k *key, issuer *x509.Certificate, signer crypto.Signer) ([]byte, error) {
	pub, err := k.public()
	if err != nil {
		return nil, err
	}
	number := make([]byte, 16)
	if _, err := io.ReadFull(r, number); err != nil {
		return nil, err
	}
	number[0] = number[0]&0x7F | 1
	s := piv.Statement{Firmware: a.cfg.Firmware, Serial: a.p.Serial, Policy: k.Policy, FormFactor: 1}
	extensions, err := s.Extensions()
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(number), NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter,
		Subject: pkix.Name{CommonName: piv.AttestationSubject + strings.ToLower(slot.String())},
	}
	for _, e := range extensions {
		leaf.ExtraExtensions = append(leaf.ExtraExtensions, pkix.Extension{Id: e.ID, Value: e.Value})
	}
	if key, ok := signer.(*ecdsa.PrivateKey); ok && key.Curve == elliptic.P384() {
		leaf.SignatureAlgorithm = x509.ECDSAWithSHA384
	}
	if k.Algorithm == piv.X25519 {
		return certifyX25519(r, leaf, issuer, pub.(*ecdh.PublicKey), signer)
	}
	return x509.CreateCertificate(r, leaf, issuer, pub, signer)
}

// certifyX25519 makes a certificate for a key that package x509 makes none for: that
// of an Ed25519 key with the same bytes, the key exchanged and signed again.
func certifyX25519(r io.Reader, leaf, issuer *x509.Certificate, pub *ecdh.PublicKey, signer crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificate(r, leaf, issuer, ed25519.PublicKey(pub.Bytes()), signer)
	if err != nil {
		return nil, err
	}
	like, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	info, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	var parts struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		return nil, err
	}
	tbs := bytes.Replace(like.RawTBSCertificate, like.RawSubjectPublicKeyInfo, info, 1)
	digest, hash := tbs, crypto.Hash(0)
	switch like.SignatureAlgorithm {
	case x509.ECDSAWithSHA256, x509.SHA256WithRSA:
		h := sha256.Sum256(tbs)
		digest, hash = h[:], crypto.SHA256
	case x509.ECDSAWithSHA384:
		h := sha512.Sum384(tbs)
		digest, hash = h[:], crypto.SHA384
	}
	signature, err := signer.Sign(r, digest, hash)
	if err != nil {
		return nil, err
	}
	parts.TBS, parts.Signature = asn1.RawValue{FullBytes: tbs}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(parts)
}
