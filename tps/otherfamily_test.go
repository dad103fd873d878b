package tps_test

import (
	"slices"
	"strings"
	"testing"

	"inkan/sim"
	"inkan/tps"
	"inkan/tps/token"
)

// twoApplets is a site with profiles of both families, and a card that is in use with the
// CoolKey applet.
func twoApplets(t *testing.T, edits map[string]string) (*site, *sim.Card) {
	t.Helper()
	s := newSite(t)
	s.put(pivProfile("piv", edits))
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	return s, card
}

// goodOf are the good certificates of a card by the profile that they are of, and its record.
func (s *site) goodOf(t *testing.T, card *sim.Card) (map[token.ProfileName]int, token.Token) {
	t.Helper()
	certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
	must(t, err)
	n := map[token.ProfileName]int{}
	for _, c := range certs {
		if c.State == token.CertActive {
			n[c.Profile]++
		}
	}
	rec, err := s.db.Token(t.Context(), card.Info().CUID)
	must(t, err)
	return n, rec
}

// TestOtherFamily: what would take the certificates of an applet from its person and leave
// its keys on the card is refused, with the way out, which works.
func TestOtherFamily(t *testing.T) {
	t.Parallel()
	s, card := twoApplets(t, nil)
	for _, op := range []tps.Operation{tps.OpEnroll, tps.OpFormat} {
		before := card.Exchanges()
		_, err := s.run(op, card, with("piv"))
		wantStatus(t, err, tps.StatusDisabledToken)
		if !strings.Contains(err.Error(), "in use with profile test") || !strings.Contains(err.Error(), "format the card with profile test first") {
			t.Error(err)
		}
		if n, rec := s.goodOf(t, card); n["test"] != 2 || rec.State != token.Active || rec.Profile != "test" || card.Exchanges()-before > 30 {
			t.Errorf("%s: certificates %v, record %+v", op, n, rec)
		}
	}
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	_, err = s.run(tps.OpEnroll, card, with("piv"))
	must(t, err)
	s.wantPIV(card, "7351924")
	if n, rec := s.goodOf(t, card); n["test"] != 0 || n["piv"] != 4 || rec.Profile != "piv" || rec.AppletID != "0.9.0" {
		t.Errorf("certificates %v, record %+v", n, rec)
	}
	if _, err = s.run(tps.OpEnroll, card, with("test")); tps.StatusOf(err) != tps.StatusDisabledToken {
		t.Errorf("the other way round: %v", err)
	}
}

// TestOtherFamilyTaken: where the profile takes such a card and keeps old certificates, its
// applets are used side by side, and what an operation does to one of them does not change
// what is recorded of the other.
func TestOtherFamilyTaken(t *testing.T) {
	t.Parallel()
	keep := map[string]string{"allow_unknown = \"anyone\"": "allow_unknown = \"anyone\"\nother_family = true", "[renewal]": "[enroll]\nold_certs = \"keep\"\n[renewal]"}
	s, card := twoApplets(t, keep)
	refused := map[string]string{`ca_profile = "signing"`: `ca_profile = "nonsense"`}
	for old, new := range keep {
		refused[old] = new
	}
	s.put(pivProfile("piv", refused))
	_, err := s.run(tps.OpEnroll, card, with("piv"))
	wantStatus(t, err, tps.StatusEnroll)
	s.wantRolledBack(t, card.Info().CUID, "unknown certificate profile")
	if n, rec := s.goodOf(t, card); n["test"] != 2 || n["piv"] != 0 || rec.State != token.Active || rec.UserID != "ada" || rec.Profile != "test" {
		t.Errorf("rolled back: certificates %v, record %+v", n, rec)
	}
	s.put(pivProfile("piv", keep))
	_, err = s.run(tps.OpEnroll, card, with("piv"))
	must(t, err)
	check := func(what string) {
		t.Helper()
		n, rec := s.goodOf(t, card)
		if n["test"] != 2 || n["piv"] != 4 || rec.Profile != "piv" || rec.AppletID != "0.9.0" || rec.AppletKeys.Set != "piv" || rec.State != token.Active {
			t.Errorf("%s: certificates %v, record %+v", what, n, rec)
		}
		onCard, err := usePIV(t.Context(), pivCard(t, card), "7351924")
		if all := s.certificatesOf(card); err != nil || len(onCard) != 4 || slices.ContainsFunc(onCard, func(serial string) bool { return !slices.Contains(all, serial) }) {
			t.Errorf("%s: PIV %v of %v, %v", what, onCard, all, err)
		}
		if got := combinedOn(t, card).Certificates(); len(got) != 2 {
			t.Errorf("%s: the CoolKey applet has %d certificates", what, len(got))
		}
	}
	check("enrolled")
	for _, op := range []tps.Operation{tps.OpPINReset, tps.OpKeyChangeover} {
		_, err = s.run(op, card, with("test"), func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} })
		must(t, err)
		check(string(op))
	}
}
