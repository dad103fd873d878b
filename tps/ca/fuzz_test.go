package ca_test

import (
	"crypto/elliptic"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"inkan/tps/ca"
)

// FuzzSerialCanonical: what is accepted has one spelling, which is accepted again.
func FuzzSerialCanonical(f *testing.F) {
	for _, s := range []string{"4A", "004a", "0", "-1", "+1", "0x4A", "4_A", "ffffffffffffffffffffffffffffffffffffffff", "1ffffffffffffffffffffffffffffffffffffffff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		serial, err := ca.ParseSerial(s)
		if err != nil {
			return
		}
		again, err := ca.ParseSerial(string(serial))
		if err != nil || again != serial || len(serial) > 40 || serial[0] == '0' {
			t.Errorf("%q became %q, then %q, %v", s, serial, again, err)
		}
	})
}

// FuzzDNNoPanic: a damaged name is an error; a readable one gives one line of text, which
// steers no terminal.
func FuzzDNNoPanic(f *testing.F) {
	a := newAuthority(f, nil)
	f.Add(a.Issuer().Name)
	f.Add([]byte{0x30, 0})
	steering, err := asn1.Marshal(pkix.Name{CommonName: "A\u009b2J"}.ToRDNSequence()) // a terminal's control sequence
	if err != nil {
		f.Fatal(err)
	}
	f.Add(steering)
	f.Fuzz(func(t *testing.T, der []byte) {
		s, err := ca.FormatDN(der)
		if err != nil {
			return
		}
		if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
			t.Errorf("%X became %q", der, s)
		}
	})
}

// FuzzSignatureAlgorithmNoPanic: a damaged stored body is an error.
func FuzzSignatureAlgorithmNoPanic(f *testing.F) {
	a := newAuthority(f, nil)
	if _, err := a.Issue(f.Context(), request("j1", "signing", ecKey(f, elliptic.P256()).Public())); err != nil {
		f.Fatal(err)
	}
	f.Add(a.store.Records()[0].TBS)
	f.Fuzz(func(t *testing.T, tbs []byte) {
		algorithm, hash, err := ca.SignatureAlgorithm(tbs)
		if err != nil {
			return
		}
		if _, err := asn1.Marshal(algorithm); err != nil || !hash.Available() {
			t.Errorf("algorithm %s, hash %s, %v", algorithm.Algorithm, hash, err)
		}
	})
}
