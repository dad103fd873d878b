package tps_test

import (
	"fmt"
	"testing"

	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/token"
)

// TestPIVRotation moves cards to the next version of the key set that their PUK and
// management key are derived from, also with keys of another algorithm.
func TestPIVRotation(t *testing.T) {
	t.Parallel()
	names := map[piv.Algorithm]string{piv.TripleDES: "3des", piv.AES128: "aes-128", piv.AES192: "aes-192", piv.AES256: "aes-256"}
	for model, all := range map[string][][2]piv.Algorithm{
		"piv":         {{piv.TripleDES, piv.TripleDES}, {piv.AES128, piv.AES256}},
		"yubikey-5.4": {{piv.TripleDES, piv.AES192}, {piv.AES256, piv.TripleDES}},
		"yubikey-5.7": {{piv.AES192, piv.AES128}, {piv.AES256, piv.AES256}},
	} {
		for _, a := range all {
			t.Run(fmt.Sprintf("model=%s/%v-%v", model, a[0], a[1]), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				card := enrolledPIV(t, s, model, map[string]string{"[piv]\n": "[piv]\nmanagement = \"" + names[a[0]] + "\"\n"})
				cuid := card.Info().CUID
				old, err := s.local.CardSecret(t.Context(), tks.SecretRequest{KeySet: "piv", KeyVersion: 1, CUID: cuid, Use: tks.ManagementKey, Algorithm: byte(a[0])})
				must(t, err)
				next := "[piv]\nkey_version = 2\n"
				if a[0] != a[1] { // else as the card has it
					next += "management = \"" + names[a[1]] + "\"\n"
				}
				s.put(pivProfile("test", map[string]string{"[piv]\n": next}))
				for range 2 { // the second time there is nothing to change
					_, err = s.run(tps.OpKeyChangeover, card)
					must(t, err)
				}
				rec, err := s.db.Token(t.Context(), cuid)
				must(t, err)
				if rec.AppletKeys != (token.AppletKeys{Set: "piv", Version: 2, Algorithm: byte(a[1])}) {
					t.Errorf("record %+v", rec)
				}
				if err := piv.Authenticate(t.Context(), pivCard(t, card), a[0], secret.New(old.Secret.Bytes())); err == nil {
					t.Error("the card takes the old management key")
				}
				s.wantPIV(card, "7351924")
				_, err = s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} }) // with the new PUK
				must(t, err)
				s.wantPIV(card, "9518402")
			})
		}
	}
}

// TestPIVRotationCut: a rotation that was cut between PUK and management key is finished by
// whatever comes next, before that: the card's record would name the wrong PUK. So is one
// behind a PIN reset that was cut while the card had the factory's PUK.
func TestPIVRotationCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		model     string
		cut, next tps.Operation
		at        byte
	}{
		{"yubikey-5.7", tps.OpKeyChangeover, tps.OpPINReset, piv.InsChange}, {"piv", tps.OpKeyChangeover, tps.OpEnroll, piv.InsChange},
		{"yubikey-5.7", tps.OpKeyChangeover, tps.OpRenew, piv.InsChange}, {"yubikey-5.7", tps.OpPINReset, tps.OpKeyChangeover, piv.InsSetRetries},
	} {
		x := newRehearsing(t)
		s := x.site
		card := enrolledPIV(t, s, c.model, nil)
		s.put(pivProfile("test", map[string]string{"[piv]\n": "[pin]\ntries = 7\n[piv]\nkey_version = 2\n"}))
		if _, err := s.run(c.cut, lostAnswer(t, card, c.at)); err == nil {
			t.Errorf("the %s was not cut", c.cut)
		}
		_, err := x.dry(c.next, card)
		must(t, err)
		for _, op := range []tps.Operation{c.next, tps.OpPINReset} {
			_, err := s.run(op, card)
			must(t, err)
		}
		rec, err := s.db.Token(t.Context(), card.Info().CUID)
		must(t, err)
		if m, err := piv.ReadMetadata(t.Context(), pivCard(t, card), piv.PUK); err != nil || m.Left != m.Tries || rec.AppletKeys.Version != 2 {
			t.Errorf("%+v: PUK %+v, %v, record %+v", c, m, err, rec)
		}
		if _, err := usePIV(t.Context(), pivCard(t, card), "7351924"); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
