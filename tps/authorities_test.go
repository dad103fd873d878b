package tps_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// counting is an authority that numbers its certificates from 2A on, as others may.
type counting struct {
	mu   sync.Mutex
	key  *ecdsa.PrivateKey
	root *x509.Certificate
	done map[string]ca.Certificate
	gone map[ca.Serial]ca.Reason
}

func newCounting(t *testing.T, name string) *counting {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := ca.Create(t.Context(), ca.RootConfig{Signer: key, Subject: pkix.Name{CommonName: name}})
	must(t, err)
	root, err := x509.ParseCertificate(der)
	must(t, err)
	return &counting{key: key, root: root, done: map[string]ca.Certificate{}, gone: map[ca.Serial]ca.Reason{}}
}

func (c *counting) Ready(context.Context) error { return nil }

func (c *counting) Issue(_ context.Context, r ca.Request) (ca.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.done[r.ID]; ok {
		return have, nil
	}
	serial := big.NewInt(int64(0x2A + len(c.done)))
	x := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: r.Subject.UserID + " " + r.Profile},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, c.root, r.PublicKey, c.key)
	out := ca.Certificate{DER: der, Serial: ca.Serial(fmt.Sprintf("%X", serial)), Issuer: c.issuer(), Subject: x.Subject.String(),
		NotBefore: x.NotBefore, NotAfter: x.NotAfter}
	c.done[r.ID] = out
	return out, err
}

func (c *counting) issuer() ca.Issuer {
	return ca.Issuer{Name: c.root.RawSubject, KeyID: c.root.SubjectKeyId}
}

func (c *counting) Revoke(_ context.Context, i ca.Issuer, s ca.Serial, r ca.Reason) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if string(i.Name) != string(c.root.RawSubject) {
		return ca.ErrNotIssuer
	}
	c.gone[s] = r
	return nil
}

// TestDEF44: a serial number is one authority's only. Two certificates of one
// card with the same number from two authorities are two, on the card, in the
// records and when one card's are revoked.
func TestDEF44(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := newCounting(t, "One"), newCounting(t, "Two")
	s.adjust = func(cfg *tps.Config) { cfg.Authorities = map[string]ca.Authority{"one": one, "two": two} }
	s.put(ecProfile("test", map[string]string{`ca_profile = "signing"`: "ca = \"one\"\nca_profile = \"signing\"", `ca_profile = "encryption"`: "ca = \"two\"\nca_profile = \"encryption\""}))
	card := newCard(t, "gp-scp03")
	for round, serial := range []string{"2A", "2B"} { // the second one retires the first
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		certs, err := s.db.CertificatesOf(t.Context(), cuidOf(t, card))
		must(t, err)
		var active []token.Certificate
		for _, c := range certs {
			if c.State == token.CertActive {
				active = append(active, c)
			}
		}
		if len(certs) != 2*(round+1) || len(active) != 2 || active[0].Serial != serial || active[1].Serial != serial ||
			active[0].CA == active[1].CA || string(active[0].DER) == string(active[1].DER) {
			t.Fatalf("records %+v", certs)
		}
		if len(one.gone) != round || len(two.gone) != round || round == 1 && (one.gone["2A"] != ca.ReasonSuperseded || two.gone["2A"] != ca.ReasonSuperseded) {
			t.Errorf("round %d: revoked %v, %v", round, one.gone, two.gone)
		}
	}
	certs, err := s.db.CertificatesOf(t.Context(), cuidOf(t, card))
	must(t, err)
	_, err = s.engine().ChangeCertificate(t.Context(), tps.CertificateChange{ID: certs[2].ID, Action: tps.ActionHold, By: "anna"})
	must(t, err)
	other, err := s.db.Certificate(t.Context(), certs[3].ID)
	must(t, err)
	if other.State != token.CertActive {
		t.Errorf("the other authority's certificate is %s", other.State)
	}
}
