package tps_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"inkan/apdu/piv"
	"inkan/apdu/tlv"
	"inkan/sim"
	"inkan/tps"
	familypiv "inkan/tps/piv"
	"inkan/tps/piv/attest"
	"inkan/tps/token"
)

// attester is a certificate that signs others.
type attester struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (a *attester) sign(t testing.TB, c *x509.Certificate, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, pub, a.key)
	must(t, err)
	return der
}

// under makes one that is valid for some time; nil = a root.
func (a *attester) under(t testing.TB, name string, valid time.Duration) *attester {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
		IsCA: true, BasicConstraintsValid: true,
	}
	if a == nil {
		a = &attester{c, key}
	}
	cert, err := x509.ParseCertificate(a.sign(t, c, &key.PublicKey))
	must(t, err)
	return &attester{cert, key}
}

// made is a card whose attestations are of another maker: what the software card attests
// is signed anew. Of one slot it may lie.
type made struct {
	*sim.Card
	t         *testing.T
	by        *attester
	object    []byte                 // DER; nil = the certificate of by
	version   []byte                 // told by INS FD; nil = the card's
	statement func(s *piv.Statement) // what is wrong with the statement on slot 9C
	valid     time.Duration          // of that statement
	answer    func(der []byte) []byte
	before    []byte // the statement on slot 9C that was told last
	rest      []byte // of an answer
}

// Transmit implements apdu.Card.
func (m *made) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	switch {
	case cmd[1] == 0xC0 && m.rest != nil:
		return m.next()
	case cmd[1] == piv.InsVersion && m.version != nil:
		return append(bytes.Clone(m.version), 0x90, 0), nil
	case cmd[1] == piv.InsGetData && bytes.Contains(cmd, []byte{0x5F, 0xFF, 0x01}):
		object := m.object
		if object == nil {
			object = m.by.cert.Raw
		}
		m.rest = tlv.Encode(0x53, tlv.Encode(0x70, object))
		return m.next()
	case cmd[1] != piv.InsAttest:
		return m.Card.Transmit(ctx, cmd)
	}
	honest, err := batching{&client{Card: m.Card}}.whole(ctx, cmd)
	if err != nil || len(honest) < 3 {
		return honest, err
	}
	m.rest = m.again(honest[:len(honest)-2])
	return m.next()
}

func (m *made) next() ([]byte, error) {
	n := min(len(m.rest), 256)
	out := bytes.Clone(m.rest[:n])
	if m.rest = m.rest[n:]; len(m.rest) == 0 {
		m.rest = nil
		return append(out, 0x90, 0), nil
	}
	return append(out, 0x61, byte(min(len(m.rest), 256))), nil
}

// again signs a statement of the software card.
func (m *made) again(der []byte) []byte {
	m.t.Helper()
	c, err := x509.ParseCertificate(der)
	must(m.t, err)
	s, err := piv.ParseStatement(c)
	must(m.t, err)
	victim, valid := s.Slot == piv.Signature, time.Hour
	if victim && m.statement != nil {
		m.statement(&s)
	}
	if victim && m.valid != 0 {
		valid = m.valid
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: piv.AttestationSubject + strings.ToLower(s.Slot.String())},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(valid),
	}
	es, err := s.Extensions()
	must(m.t, err)
	for _, e := range es {
		leaf.ExtraExtensions = append(leaf.ExtraExtensions, pkix.Extension{Id: e.ID, Value: e.Value})
	}
	out := m.by.sign(m.t, leaf, s.Public)
	if victim && m.answer != nil {
		return m.answer(out)
	}
	if victim {
		m.before = out
	}
	return out
}

// TestPIVForged: whatever is wrong with an attestation, no certificate is issued on it.
// What shows before a key is made leaves the card as it is, and an honest card is
// enrolled afterwards. The site believes two makers, and has forgotten an authority of
// the first in another set.
func TestPIVForged(t *testing.T) {
	t.Parallel()
	root := (*attester)(nil).under(t, "Maker Root", time.Hour)
	between := root.under(t, "Maker Intermediate", time.Hour)
	other := (*attester)(nil).under(t, "Other Root", time.Hour)
	certs := func(all ...*attester) (out []*x509.Certificate) {
		for _, a := range all {
			out = append(out, a.cert)
		}
		return out
	}
	v := &attest.Verifier{Sets: []attest.Set{
		{Name: "maker", Chain: attest.Roots(certs(root), certs(between))},
		{Name: "forgetful", Chain: attest.Roots(certs(root), nil)},
		{Name: "other", Chain: attest.Roots(certs(other), nil)},
	}}
	statement := func(change func(s *piv.Statement)) func(*made) { return func(m *made) { m.statement = change } }
	signedBy := func(a *attester) func(*made) { return func(m *made) { m.by = a } }
	for name, c := range map[string]struct {
		demands string // more of [piv]
		change  func(m *made)
		status  tps.Status // of StatusEnroll alone something on the card was changed
		want    string
	}{
		"forged": {"", func(m *made) {
			m.answer = func(der []byte) []byte { der[len(der)-1] ^= 1; return der }
		}, tps.StatusEnroll, "not signed with the card's attestation key"},
		"signed by a foreign card": {"", func(m *made) {
			m.object, m.by = m.by.cert.Raw, (*attester)(nil).under(m.t, "Maker PIV Attestation", time.Hour)
		}, tps.StatusEnroll, "not signed with the card's attestation key"},
		"foreign maker": {"", signedBy((*attester)(nil).under(t, "Maker PIV Attestation", time.Hour)), tps.StatusDisabledToken,
			"by the roots other: x509: certificate signed by unknown authority"},
		"not a root of the profile": {"attest_roots = [\"other\"]\n", func(*made) {}, tps.StatusDisabledToken, "by the roots other: x509: certificate signed by unknown"},
		"no roots of that name":     {"attest_roots = [\"nobody\"]\n", func(*made) {}, tps.StatusMisconfiguration, `no attestation roots "nobody" in this node's configuration`},
		"intermediate missing":      {"attest_roots = [\"forgetful\"]\n", func(*made) {}, tps.StatusDisabledToken, "by the roots forgetful: x509: certificate signed by unknown"},
		"expired card":              {"", signedBy(between.under(t, "Maker PIV Attestation", -time.Minute)), tps.StatusDisabledToken, "expired"},
		"expired":                   {"", func(m *made) { m.valid = -time.Minute }, tps.StatusEnroll, "expired"},
		"wrong slot":                {"", statement(func(s *piv.Statement) { s.Slot = piv.Authentication }), tps.StatusEnroll, "the key of slot 9A, not of slot 9C"},
		"another card":              {"", statement(func(s *piv.Statement) { s.Serial++ }), tps.StatusEnroll, "the attestation is of the card with serial number"},
		"no serial number":          {"", statement(func(s *piv.Statement) { s.Serial = 0 }), tps.StatusEnroll, "the card with serial number 0, this one has"},
		"another policy":            {"", statement(func(s *piv.Statement) { s.Policy.PIN = piv.PINNever }), tps.StatusEnroll, "the PIN policy never, always is demanded"},
		"too old":                   {"attest_firmware = \"5.7.0\"\n", func(*made) {}, tps.StatusDisabledToken, "the card has the firmware 5.4.3, at least 5.7.0 is demanded"},
		"older than it says": {"attest_firmware = \"5.7.0\"\n", func(m *made) { m.version = []byte{5, 7, 1} }, tps.StatusEnroll,
			"the attestation is of firmware 5.4.3, at least 5.7.1 is demanded"},
		"form factor": {"attest_forms = [\"usb-a-fips\", \"usb-c\"]\n", func(*made) {}, tps.StatusEnroll, "form factor usb-a, one of [usb-a-fips usb-c] is demanded"},
		"truncated statement": {"", func(m *made) { m.answer = func(der []byte) []byte { return der[:len(der)/2] } }, tps.StatusEnroll,
			"the card does not attest its key, as profile test demands"},
		"truncated chain": {"", func(m *made) { m.object = m.by.cert.Raw[:200] }, tps.StatusDisabledToken, "reading the card's attestation certificate"},
		"no chain":        {"", func(m *made) { m.object = []byte{} }, tps.StatusDisabledToken, "reading the card's attestation certificate"},
		"wrong order":     {"", func(m *made) { m.answer = func(der []byte) []byte { m.object = der; return m.by.cert.Raw } }, tps.StatusEnroll, "attestation for the subject"},
		"signed in a slot": {"", func(m *made) {
			m.object = m.by.sign(m.t, &x509.Certificate{
				SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: piv.AttestationSubject + "9a"}, NotAfter: time.Now().Add(time.Hour),
				ExtraExtensions: []pkix.Extension{{Id: piv.OIDPolicy, Value: []byte{2, 1}}},
			}, &m.by.key.PublicKey)
		}, tps.StatusDisabledToken, "not with a card's attestation key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.adjust = func(c *tps.Config) { c.Families = []tps.Family{familypiv.Family{Applets: applets(), Attest: v}} }
			s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nattest = true\n" + c.demands}))
			by := between.under(t, "Maker PIV Attestation", time.Hour)
			card := newCard(t, "yubikey-5.4")
			m := &made{Card: card, t: t, by: by}
			c.change(m)
			early, before := c.status != tps.StatusEnroll, ""
			if early {
				before = fmt.Sprint(pivState(t, card))
			}
			_, err := s.run(tps.OpEnroll, m)
			wantStatus(t, err, c.status)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if early && fmt.Sprint(pivState(t, card)) != before {
				t.Errorf("the card changed: %v, was %s", pivState(t, card), before)
			}
			certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
			must(t, err)
			for _, x := range certs {
				if early || x.KeyType == "signing" {
					t.Errorf("a %s certificate was issued", x.KeyType)
				}
			}
			s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nattest = true\n"}))
			if c.demands != "" && !early { // the enrollment goes on with the profile that it began with, until the card is formatted
				_, err = s.run(tps.OpFormat, card)
				must(t, err)
			}
			_, err = s.run(tps.OpEnroll, &made{Card: card, t: t, by: by})
			must(t, err)
			if n := len(s.certificatesOf(card)); n != 4 {
				t.Errorf("%d certificates in the end, want 4", n)
			}
		})
	}
}

// TestPIVStale: the attestation of the key that was in the slot before counts for nothing,
// although card, slot and signature are right. Format serves a card that enroll refuses.
func TestPIVStale(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	by := (*attester)(nil).under(t, "Maker PIV Attestation", time.Hour)
	v := &attest.Verifier{Sets: []attest.Set{{Name: "maker", Chain: attest.Roots([]*x509.Certificate{by.cert}, nil)}}}
	s.adjust = func(c *tps.Config) { c.Families = []tps.Family{familypiv.Family{Applets: applets(), Attest: v}} }
	demanding := "[piv]\nattest = true\nattest_roots = [\"maker\"]\nattest_firmware = \"5.4.3\"\nattest_forms = [\"usb-c\", \"usb-a\"]\n"
	s.put(pivProfile("test", map[string]string{"[piv]\n": demanding}))
	card := newCard(t, "yubikey-5.4")
	m := &made{Card: card, t: t, by: by}
	_, err := s.run(tps.OpEnroll, m)
	must(t, err)
	first := s.certificatesOf(card)
	m.answer = func([]byte) []byte { return m.before }
	_, err = s.run(tps.OpEnroll, m)
	wantStatus(t, err, tps.StatusEnroll)
	if want := "another key than the one that it made in slot 9C"; !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
	must(t, err)
	signing := 0
	for _, c := range certs {
		if c.KeyType == "signing" {
			signing++
		}
	}
	if len(first) != 4 || signing != 1 {
		t.Errorf("%d certificates at first, %d signing certificates in the end", len(first), signing)
	}
	m.answer, m.by = nil, (*attester)(nil).under(t, "Maker PIV Attestation", time.Hour)
	_, err = s.run(tps.OpEnroll, m)
	wantStatus(t, err, tps.StatusDisabledToken)
	_, err = s.run(tps.OpFormat, m)
	must(t, err)
}

// TestPIVRenewAttested: a renewal has the keys attested as the profile demands it today,
// whatever was demanded when they were made.
func TestPIVRenewAttested(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	by := (*attester)(nil).under(t, "Maker PIV Attestation", time.Hour)
	v := &attest.Verifier{Sets: []attest.Set{{Name: "maker", Chain: attest.Roots([]*x509.Certificate{by.cert}, nil)}}}
	s.adjust = func(c *tps.Config) { c.Families = []tps.Family{familypiv.Family{Applets: applets(), Attest: v}} }
	card := newCard(t, "yubikey-5.4")
	m := &made{Card: card, t: t, by: by}
	s.put(pivProfile("test", nil))
	_, err := s.run(tps.OpEnroll, m)
	must(t, err)
	evidence := func() (proved, signing int) {
		certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
		must(t, err)
		for _, c := range certs {
			if c.KeyType == "signing" {
				signing++
			}
			if c.Evidence == "" || c.State == token.CertRevoked {
				continue
			}
			e, err := attest.ParsePEM([]byte(c.Evidence))
			must(t, err)
			st, err := e.Statement()
			must(t, err)
			x, err := x509.ParseCertificate(c.DER)
			must(t, err)
			if !st.SameKey(x.PublicKey) {
				t.Errorf("the evidence of the %s certificate is of another key", c.KeyType)
			}
			proved++
		}
		return proved, signing
	}
	s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nattest = true\n"}))
	other := (*attester)(nil).under(t, "Maker PIV Attestation", time.Hour)
	_, err = s.run(tps.OpRenew, &made{Card: card, t: t, by: other})
	wantStatus(t, err, tps.StatusDisabledToken)
	m.statement = func(st *piv.Statement) { st.Public = &other.key.PublicKey }
	_, err = s.run(tps.OpRenew, m)
	wantStatus(t, err, tps.StatusRenewal)
	if proved, signing := evidence(); proved > 1 || signing != 1 { // authentication comes first
		t.Errorf("%d certificates with evidence, %d signing certificates", proved, signing)
	}
	m.statement = nil
	_, err = s.run(tps.OpRenew, m)
	must(t, err)
	if proved, signing := evidence(); proved != 4 || signing != 2 {
		t.Errorf("%d certificates with evidence, %d signing certificates", proved, signing)
	}
}
