package tps_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/tps"
	"inkan/tps/ca"
	familypiv "inkan/tps/piv"
	"inkan/tps/piv/attest"
	"inkan/tps/token"
)

// forGood is a refusal in the middle of an enrollment: by what the profile demands, by
// the card, or by the authority.
type forGood struct {
	model  string
	edits  map[string]string // of the profile; the administrator takes them out
	answer func(cmd []byte) []byte
	status tps.Status
	want   string
}

var refusedForGood = map[string]forGood{
	"form factor": {"yubikey-5.7", map[string]string{"[piv]\nreset = true": "[piv]\nattest = true\nattest_forms = [\"lightning\"]"}, nil,
		tps.StatusEnroll, "the attestation is of the form factor"},
	"certificate profile, PivApplet": {"piv", map[string]string{`ca_profile = "signing"`: `ca_profile = "nonsense"`}, nil,
		tps.StatusEnroll, "unknown certificate profile"},
	"not attested": {"yubikey-5.4", map[string]string{"[piv]\n": "[piv]\nattest = true\n"}, onCommand(piv.InsAttest, nil, 0x6A, 0x80),
		tps.StatusEnroll, "does not attest its key"},
	"certificate profile": {"yubikey-5.7", map[string]string{"reset = true\n": "", `ca_profile = "signing"`: `ca_profile = "nonsense"`}, nil,
		tps.StatusEnroll, "unknown certificate profile"},
	"certificate profile, CoolKey": {"gp-scp03", map[string]string{`ca_profile = "encryption"`: `ca_profile = "nonsense"`}, nil,
		tps.StatusEnroll, "unknown certificate profile"},
	"kind of key": {"yubikey-5.4", nil, onCommand(piv.InsGenerate, []byte{0x9C}, 0x6A, 0x80), tps.StatusEnroll, "9C"},
	"possession": {"yubikey-5.4", nil, onCommand(piv.InsAuthenticate, []byte{byte(piv.P256), 0x9A}, 0x7C, 0x0A, 0x82, 0x08, 0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x90, 0x00),
		tps.StatusEnroll, "does not prove that it has the key"},
	"full": {"yubikey-5.4", map[string]string{"reset = true\n": ""}, onCommand(piv.InsPutData, []byte{0x5F, 0xC1, 0x0A}, 0x6A, 0x84),
		tps.StatusEnroll, "the card is full"},
	"key version": {"yubikey-5.7", map[string]string{"[piv]\nreset = true": "[piv]\nkey_version = 9"}, nil, tps.StatusSecureChannel, "unknown key set or key version"},
	"key version of the card manager": {"gp-scp03", map[string]string{"version = 2\nchange_on = [\"key-changeover\"]": "version = 99\nchange_on = [\"enroll\"]"}, nil,
		tps.StatusSecureChannel, "wrapping the new keys"},
}

// onCommand answers commands of an instruction that hold some bytes.
func onCommand(ins byte, holding []byte, answer ...byte) func([]byte) []byte {
	return func(cmd []byte) []byte {
		if cmd[1] == ins && bytes.Contains(cmd, holding) {
			return answer
		}
		return nil
	}
}

// profile is the profile of a card's family.
func (f forGood) profile(edits map[string]string) string {
	if strings.HasPrefix(f.model, "gp-") {
		return ecProfile("test", edits)
	}
	return pivProfile("test", edits)
}

// TestRefusedForGood: what would be refused again is rolled back at once: nothing that was
// issued stays valid. When the administrator has mended the profile, or the card takes what
// it refused, the same person enrolls the same card with the profile as it is then.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	for name, c := range refusedForGood {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			watched := &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
			s.ca = watched
			card := newCard(t, c.model)
			if root := card.Info().Attestation; root != nil {
				s.believe(root)
			}
			s.put(c.profile(c.edits))
			var refusing apdu.Card = card
			if c.answer != nil {
				refusing = oddCard{card, c.answer}
			}
			_, err := s.run(tps.OpEnroll, refusing)
			wantStatus(t, err, c.status)
			if !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "has been rolled back") != 1 {
				t.Errorf("got %v, want %q", err, c.want)
			}
			cuid := card.Info().CUID
			s.wantRolledBack(t, cuid, c.want)
			if left := watched.of(cuid); len(left) > 0 {
				t.Errorf("valid certificates: %v", left)
			}
			s.put(c.profile(map[string]string{"title = \"Test profile\"": "title = \"Mended\""}))
			_, err = s.run(tps.OpEnroll, card)
			must(t, err)
			rec, err := s.db.Token(t.Context(), cuid)
			must(t, err)
			if n := len(s.certificatesOf(card)); rec.State != token.Active || n < 2 {
				t.Errorf("state %s, %d certificates", rec.State, n)
			}
		})
	}
}

// believe has the site take attestations under a software card's root.
func (s *site) believe(der []byte) {
	s.t.Helper()
	root, err := x509.ParseCertificate(der)
	must(s.t, err)
	v := &attest.Verifier{Simulated: true, Sets: []attest.Set{{Name: "lab", Chain: attest.Roots([]*x509.Certificate{root}, nil)}}}
	s.adjust = func(c *tps.Config) {
		c.Families[len(c.Families)-1] = familypiv.Family{Applets: applets(), Attest: v}
	}
}

// wantRolledBack looks at the last operation of a card, and at what its people are told.
func (s *site) wantRolledBack(t *testing.T, cuid apdu.CUID, why string) {
	t.Helper()
	if j := s.openOn(t, cuid); j != nil {
		t.Fatalf("left open: %+v", j)
	}
	as, err := s.db.Activities(t.Context(), token.Filter{CUID: &cuid, Limit: 10})
	must(t, err)
	var told, undone bool
	for _, a := range as {
		told = told || strings.Contains(a.Message, why) && !strings.Contains(a.Message, "unfinished:")
		undone = undone || a.Message == "unfinished enroll rolled back"
	}
	if !told || !undone {
		t.Errorf("activities %+v", as)
	}
}

// TestRefusedForGoodAgain: an active card that is enrolled again and refused loses what
// the enrollment took from it, and its records say so; and what cannot be rolled back at
// once is when the same is asked for again.
func TestRefusedForGoodAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	authority := &unwillingCA{watchedCA: &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}}
	s.ca = authority
	card := enrolledPIV(t, s, "yubikey-5.7", nil)
	cuid := card.Info().CUID
	s.put(pivProfile("test", map[string]string{`ca_profile = "signing"`: `ca_profile = "nonsense"`}))
	authority.unwilling = true
	_, err := s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusEnroll)
	if j := s.openOn(t, cuid); j == nil || strings.Contains(err.Error(), "rolled back") {
		t.Errorf("%+v is open: %v", j, err)
	}
	authority.unwilling = false
	_, err = s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusEnroll)
	s.wantRolledBack(t, cuid, "unknown certificate profile")
	rec, err := s.db.Token(t.Context(), cuid)
	must(t, err)
	if left := authority.of(cuid); len(left) > 0 || rec.State != token.Formatted || rec.UserID != "" {
		t.Errorf("valid certificates %v, record %s of %q", left, rec.State, rec.UserID)
	}
	s.put(pivProfile("test", nil))
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	s.wantPIV(card, "7351924")
}

// unwillingCA may refuse to answer when something is to be revoked, and cannot look
// requests up.
type unwillingCA struct {
	*watchedCA
	unwilling bool
}

func (u *unwillingCA) Revoke(ctx context.Context, i ca.Issuer, s ca.Serial, r ca.Reason) error {
	if u.unwilling {
		return ca.ErrUnavailable
	}
	return u.watchedCA.Revoke(ctx, i, s, r)
}

// Find is not that of an authority that finds.
func (u *unwillingCA) Find() error { return errors.ErrUnsupported }
