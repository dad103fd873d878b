package tps_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// attesting is a family whose keys come with evidence.
type attesting struct{ tps.Family }

// Open implements tps.Family.
func (f attesting) Open(ctx context.Context, l tps.Link, p profile.Profile) (tps.Applet, error) {
	a, err := f.Family.Open(ctx, l, p)
	return &attested{Applet: a}, err
}

type attested struct {
	tps.Applet
	made int
}

// GenerateKey implements tps.Applet.
func (a *attested) GenerateKey(ctx context.Context, k profile.Key) (tps.KeyResult, error) {
	res, err := a.Applet.GenerateKey(ctx, k)
	a.made++
	res.Evidence = fmt.Sprintf("evidence %d of the %s key", a.made, k.Type)
	return res, err
}

// deaf is an authority that answers from the n-th request on; its answer to the one
// before is lost on the way.
type deaf struct {
	ca.Authority
	n int
}

// Issue implements ca.Authority.
func (d *deaf) Issue(ctx context.Context, r ca.Request) (ca.Certificate, error) {
	d.n--
	if d.n > 0 {
		return ca.Certificate{}, ca.ErrUnavailable
	}
	c, err := d.Authority.Issue(ctx, r)
	if d.n == 0 && err == nil {
		return ca.Certificate{}, ca.ErrUnavailable
	}
	return c, err
}

// TestEvidenceKept: the evidence of a key stands in the record of its certificate,
// also where the key was made before a cut, and where the authority's answer was lost
// and the operation is rolled back.
func TestEvidenceKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.adjust = func(c *tps.Config) { c.Families = []tps.Family{attesting{c.Families[0]}} }
	s.ca = &deaf{s.ca, 2}
	card := newCard(t, "gp-scp03")
	for range 2 {
		if _, err := s.run(tps.OpEnroll, card); !errors.Is(err, ca.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	_, err := s.run(tps.OpFormat, card) // rolls the enrollment back
	must(t, err)
	s.ca.(*deaf).n = 2
	if _, err := s.run(tps.OpEnroll, card); !errors.Is(err, ca.ErrUnavailable) {
		t.Fatal(err)
	}
	s.ca.(*deaf).n = 0
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	certs, err := s.db.CertificatesOf(t.Context(), cuidOf(t, card))
	must(t, err)
	active, revoked := 0, 0
	for _, c := range certs {
		want := "evidence 1 of the signing key" // its key was made in the run before
		if c.KeyType == "encryption" {
			want = "evidence 1 of the encryption key"
		}
		if c.Evidence != want {
			t.Errorf("%s certificate, %s: evidence %q, want %q", c.KeyType, c.State, c.Evidence, want)
		}
		switch c.State {
		case token.CertActive:
			active++
		case token.CertRevoked:
			revoked++
		}
	}
	if active != 2 || revoked != 1 {
		t.Errorf("%d active, %d revoked certificates of %d, want 2 and 1", active, revoked, len(certs))
	}
}
