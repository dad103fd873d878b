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
