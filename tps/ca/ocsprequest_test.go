package ca_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"

	"golang.org/x/crypto/ocsp"

	"inkan/tps/ca"
)

func TestOCSPRequestRefused(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, nil)
	_, cert := a.issue(t, request("j1", "signing", rsaKey().Public()))
	good := ask(t, a.root, nil, cert)
	extended := func(x ...pkix.Extension) []byte { return ask(t, a.root, x, cert) }
	for name, der := range map[string][]byte{
		"empty":            {},
		"no DER":           []byte("GET / HTTP/1.1"),
		"cut":              good[:len(good)-1],
		"trailing data":    append(slices.Clone(good), 0),
		"no certificate":   ask(t, a.root, nil),
		"65 certificates":  ask(t, a.root, nil, slices.Repeat([]*x509.Certificate{cert}, 65)...),
		"too large":        extended(pkix.Extension{Id: oidUnknown, Value: make([]byte, 16<<10)}),
		"nonce empty":      extended(nonceOf(t, 0)...),
		"nonce of 129":     extended(nonceOf(t, 129)...),
		"nonce bare":       extended(pkix.Extension{Id: oidNonce, Value: bytes.Repeat([]byte{1}, 16)}),
		"nonce and more":   extended(pkix.Extension{Id: oidNonce, Value: append(nonceOf(t, 16)[0].Value, 0)}),
		"two nonces":       extended(append(nonceOf(t, 16), nonceOf(t, 16)...)...),
		"critical":         extended(pkix.Extension{Id: oidUnknown, Critical: true, Value: []byte{5, 0}}),
		"critical in one":  critical(t, good),
		"version 2":        versioned(t, good, 1),
		"serial not a DER": bytes.Replace(good, []byte{2, 16}, []byte{4, 16}, 1),
	} {
		res, err := a.OCSP(t.Context(), der)
		wantError(t, err, ca.ErrMalformed)
		if t.Failed() {
			t.Fatalf("%s: %X", name, res.DER)
		}
	}
	for name, der := range map[string][]byte{
		"64 certificates":   ask(t, a.root, nil, slices.Repeat([]*x509.Certificate{cert}, 64)...),
		"unknown extension": extended(pkix.Extension{Id: oidUnknown, Value: []byte{5, 0}}),
		"version 1":         versioned(t, good, 0),
	} {
		if res := a.check(t, a.respond(t, der).DER, cert); res.Status != ocsp.Good {
			t.Errorf("%s: status %d", name, res.Status)
		}
	}
}

// critical adds a critical extension to the single request of a request.
func critical(t *testing.T, der []byte) []byte {
	var req struct{ TBS struct{ List []ocspSingle } }
	if _, err := asn1.Unmarshal(der, &req); err != nil {
		t.Fatal(err)
	}
	req.TBS.List[0].Extensions = []pkix.Extension{{Id: oidUnknown, Critical: true, Value: []byte{5, 0}}}
	return marshal(t, req)
}

// versioned writes a version, which a client leaves out, into a request.
func versioned(t *testing.T, der []byte, version int) []byte {
	var req struct{ TBS struct{ List asn1.RawValue } }
	if _, err := asn1.Unmarshal(der, &req); err != nil {
		t.Fatal(err)
	}
	number := marshal(t, version)
	return marshal(t, struct {
		TBS struct{ Version, List asn1.RawValue }
	}{struct{ Version, List asn1.RawValue }{
		asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: number}, req.TBS.List,
	}})
}

// FuzzOCSPRequestAgrees: what golang.org/x/crypto/ocsp reads in a request is what
// we read, bounds hold, and whatever is read gets an answer that names the same
// certificates.
func FuzzOCSPRequestAgrees(f *testing.F) {
	a := newAuthority(f, nil)
	_, cert := a.issue(f, request("j1", "signing", rsaKey().Public()))
	f.Add(ask(f, a.root, nil, cert))
	f.Add(ask(f, a.root, nonceOf(f, 32), cert, cert))
	f.Add(ask(f, a.root, []pkix.Extension{{Id: oidUnknown, Value: []byte{5, 0}}}, cert))
	f.Fuzz(func(t *testing.T, der []byte) {
		serials, nonce, err := ca.ParseOCSPRequest(der)
		if err != nil {
			return
		}
		if len(serials) == 0 || len(serials) > 64 || len(nonce) > 128 || nonce != nil && len(nonce) == 0 {
			t.Fatalf("%d certificates, nonce of %d bytes", len(serials), len(nonce))
		}
		if theirs, err := ocsp.ParseRequest(der); err == nil && theirs.SerialNumber.Cmp(serials[0]) != 0 {
			t.Errorf("serial %X, theirs %X", serials[0], theirs.SerialNumber)
		}
		res, err := a.OCSP(t.Context(), der)
		if err != nil {
			t.Fatalf("no answer to what was read: %v", err)
		}
		for _, n := range serials {
			if !bytes.Contains(res.DER, marshal(t, n)) {
				t.Errorf("serial %X is not in the answer", n)
			}
		}
	})
}
