package tps_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// TestPIVDefault: without a wish a card without a card manager gets the profile for such
// cards, and another one the default.
func TestPIVDefault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.adjust = func(c *tps.Config) { c.UnmanagedProfile = "keys" }
	s.put(pivProfile("test", nil))
	s.put(pivProfile("keys", nil))
	for model, want := range map[string]token.ProfileName{"yubikey-5.7": "keys", "piv": "test"} {
		card := newCard(t, model)
		_, err := s.run(tps.OpFormat, card)
		must(t, err)
		rec, err := s.db.Token(t.Context(), card.Info().CUID)
		must(t, err)
		if rec.Profile != want {
			t.Errorf("a %s got the profile %s", model, rec.Profile)
		}
	}
}

// TestPIVLife takes each kind of PIV card through all operations, with batches and
// without.
func TestPIVLife(t *testing.T) {
	t.Parallel()
	for _, model := range pivModels {
		for _, batch := range []bool{false, true} {
			t.Run(fmt.Sprintf("model=%s/batch=%v", model, batch), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.batch = batch
				s.put(pivProfile("test", nil))
				card := newCard(t, model)
				_, err := s.run(tps.OpEnroll, card)
				must(t, err)
				s.wantPIV(card, "7351924")
				d := pivCard(t, card)
				for ref, what := range map[piv.Slot]string{piv.PIN: "PIN", piv.PUK: "PUK", piv.Management: "management key"} {
					if m, err := piv.ReadMetadata(t.Context(), d, ref); err != nil || m.Default {
						t.Errorf("the %s is the factory's: %+v, %v", what, m, err)
					}
				}
				first := s.certificatesOf(card)
				_, err = s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} })
				must(t, err)
				s.wantPIV(card, "9518402")
				s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nmanagement = \"aes-128\"\n"}))
				_, err = s.run(tps.OpKeyChangeover, card)
				must(t, err)
				rec, err := s.db.Token(t.Context(), card.Info().CUID)
				must(t, err)
				if rec.AppletKeys != (token.AppletKeys{Set: "piv", Version: 1, Algorithm: byte(piv.AES128)}) || model == "piv" != (rec.KeySet == "site") {
					t.Errorf("record after the changeover: %+v", rec)
				}
				s.wantPIV(card, "9518402")
				_, err = s.run(tps.OpEnroll, card, func(_ *client, r *tps.Request) {})
				must(t, err)
				s.wantPIV(card, "7351924")
				if again := s.certificatesOf(card); slices.Equal(first, again) || len(again) != 4 {
					t.Errorf("certificates %v after %v", again, first)
				}
				who, err := s.run(tps.OpFormat, card)
				must(t, err)
				if model != "piv" && !slices.Contains(who.tasks, "PROGRESS_APPLET_RESET") {
					t.Errorf("before the card was reset it was said: %v", who.tasks)
				}
				acts, err := s.db.Activities(t.Context(), token.Filter{Operation: "format"})
				must(t, err)
				if !strings.Contains(acts[0].Message, "gone from the card: a PIN, in slot 9A the certificate of UID=ada,CN=Ada Lovelace") {
					t.Errorf("activity %q", acts[0].Message)
				}
				rec, err = s.db.Token(t.Context(), card.Info().CUID)
				must(t, err)
				if rec.State != token.Formatted || rec.AppletKeys.Set != tks.Factory || len(s.certificatesOf(card)) != 0 {
					t.Errorf("record after format: %+v", rec)
				}
			})
		}
	}
}

// wantPIV uses every key of the card; its certificates are those recorded.
func (s *site) wantPIV(card *sim.Card, pin string) {
	s.t.Helper()
	got, err := usePIV(s.t.Context(), pivCard(s.t, card), pin)
	must(s.t, err)
	if want := s.certificatesOf(card); !slices.Equal(got, want) || len(got) == 0 {
		s.t.Errorf("the card carries %v, recorded are %v", got, want)
	}
}

// yubikey is a card without a card manager and with the keys it came with.
type yubikey struct{ *bare }

func (y yubikey) Card() tps.Card {
	return tps.Card{CUID: y.cuid, Unmanaged: true, Own: token.AppletKeys{Set: tks.Factory}}
}

// TestPIVImport: a key made elsewhere works in its slot; what is no key changes nothing.
func TestPIVImport(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"yubikey-5.4", "yubikey-5.7"} {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			s, card := newSite(t), newCard(t, model)
			a, err := s.piv().Open(t.Context(), yubikey{&bare{keys: s.local, conn: apdu.NewConn(card)}}, profile.Profile{})
			must(t, err)
			slot := profile.Key{Type: "encryption", Slot: "9D", Alg: "ec-p256"}
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			must(t, err)
			der, err := x509.MarshalPKCS8PrivateKey(key)
			must(t, err)
			must(t, a.ImportKey(t.Context(), slot, secret.New(slices.Clone(der))))
			if err := a.ImportKey(t.Context(), slot, secret.New(der[:20])); err == nil {
				t.Error("half a key was taken")
			}
			d := pivCard(t, card)
			pin, err := secret.NewPIN([]byte(piv.DefaultPIN))
			must(t, err)
			must(t, piv.VerifyPIN(t.Context(), d, pin))
			must(t, useSlot(t.Context(), d, piv.KeyManagement, key.Public()))
		})
	}
}
