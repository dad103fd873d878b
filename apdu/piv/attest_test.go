package piv_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"

	"inkan/apdu/piv"
)

// attestation makes a certificate with a name and extensions.
func attestation(t testing.TB, name string, extensions ...pkix.Extension) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, ExtraExtensions: extensions}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestStatement(t *testing.T) {
	t.Parallel()
	firmware := pkix.Extension{Id: piv.OIDFirmware, Value: []byte{5, 4, 3}}
	policy := pkix.Extension{Id: piv.OIDPolicy, Value: []byte{2, 1}}
	serial := pkix.Extension{Id: piv.OIDSerial, Value: []byte{2, 5, 0, 0xF0, 0, 0, 1}}
	const name = "YubiKey PIV Attestation "
	s, err := piv.ParseStatement(attestation(t, name+"9c", firmware, serial, policy))
	if err != nil || s.Slot != piv.Signature || s.Serial != 0xF0000001 || s.Firmware.String() != "5.4.3" || s.Policy.PIN != piv.PINOnce {
		t.Errorf("%+v, %v", s, err)
	}
	if other := attestation(t, name+"9c", firmware, policy); s.SameKey(other.PublicKey) {
		t.Error("two keys are the same")
	}
	for what, cert := range map[string]*x509.Certificate{
		"another name":      attestation(t, "9c", firmware, policy),
		"no slot":           attestation(t, name+"9b", firmware, policy),
		"words for a slot":  attestation(t, name+"signature", firmware, policy),
		"no policies":       attestation(t, name+"9c", firmware),
		"no firmware":       attestation(t, name+"9c", policy),
		"short firmware":    attestation(t, name+"9c", pkix.Extension{Id: piv.OIDFirmware, Value: []byte{5, 4}}, policy),
		"long policies":     attestation(t, name+"9c", firmware, pkix.Extension{Id: piv.OIDPolicy, Value: []byte{2, 1, 0}}),
		"negative serial":   attestation(t, name+"9c", firmware, policy, pkix.Extension{Id: piv.OIDSerial, Value: []byte{2, 1, 0x80}}),
		"more behind":       attestation(t, name+"9c", firmware, policy, pkix.Extension{Id: piv.OIDSerial, Value: []byte{2, 1, 1, 0}}),
		"serial of 64 bits": attestation(t, name+"9c", firmware, policy, pkix.Extension{Id: piv.OIDSerial, Value: []byte{2, 8, 1, 1, 1, 1, 1, 1, 1, 1}}),
	} {
		if s, err := piv.ParseStatement(cert); err == nil {
			t.Errorf("%s: %+v", what, s)
		}
	}
	twice := attestation(t, name+"9c", firmware, policy)
	twice.Extensions = append(twice.Extensions, policy)
	if _, err := piv.ParseStatement(twice); err == nil {
		t.Error("an extension twice is taken")
	}
}

// FuzzStatementExtensions: no value of an extension breaks the parser, and what it
// reads it writes.
func FuzzStatementExtensions(f *testing.F) {
	f.Add([]byte{5, 4, 3}, []byte{2, 2, 0x30, 0x39}, []byte{2, 1}, []byte{1})
	f.Add([]byte{}, []byte{2, 1, 0x80}, []byte{0xFF, 0xFF}, []byte{})
	cert := attestation(f, "YubiKey PIV Attestation 9a")
	f.Fuzz(func(t *testing.T, firmware, serial, policy, form []byte) {
		c := *cert
		c.Extensions = []pkix.Extension{
			{Id: piv.OIDFirmware, Value: firmware}, {Id: piv.OIDSerial, Value: serial},
			{Id: piv.OIDPolicy, Value: policy}, {Id: piv.OIDFormFactor, Value: form},
		}
		s, err := piv.ParseStatement(&c)
		if err != nil {
			return
		}
		es, err := s.Extensions()
		if err != nil {
			t.Fatal(err)
		}
		c.Extensions = nil
		for _, e := range es {
			c.Extensions = append(c.Extensions, pkix.Extension{Id: e.ID, Value: e.Value})
		}
		again, err := piv.ParseStatement(&c)
		if err != nil || again.Firmware != s.Firmware || again.Serial != s.Serial || again.Policy != s.Policy {
			t.Errorf("%+v, then %+v, %v", s, again, err)
		}
	})
}

func TestFormFactor(t *testing.T) {
	t.Parallel()
	for n, want := range map[piv.FormFactor]string{
		0: "not told", 1: "usb-a", 4: "usb-c-nano", 7: "usb-c-bio", 0x81: "usb-a-fips", 0x85: "lightning-fips",
		8: "unknown 08", 0x80: "unknown 80", 0xFF: "unknown FF",
	} {
		if n.String() != want {
			t.Errorf("%02X is %q, want %q", byte(n), n, want)
		}
		back, err := piv.ParseFormFactor(want)
		if known := n&0x7F != 0 && n&0x7F < 8; (err == nil) != known || known && back != n {
			t.Errorf("%q: %02X, %v", want, byte(back), err)
		}
	}
}
