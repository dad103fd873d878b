package tps_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/token"
)

// managed proves the public management key of a card that is as the factory left it.
func managed(t *testing.T, card *sim.Card, alg piv.Algorithm) apdu.Doer {
	t.Helper()
	d := pivCard(t, card)
	must(t, piv.Authenticate(t.Context(), d, alg, secret.New(piv.DefaultManagementKey()[:alg.KeyLen()])))
	return d
}

func pinOf(t *testing.T, s string) secret.PIN {
	t.Helper()
	p, err := secret.NewPIN([]byte(s))
	must(t, err)
	return p
}

// blockPIN spends the tries of the PIN, and of the PUK.
func blockPIN(t *testing.T, card *sim.Card, puk bool) {
	t.Helper()
	d := pivCard(t, card)
	for range 10 {
		piv.VerifyPIN(t.Context(), d, pinOf(t, "000000"))
		if puk {
			piv.ChangePUK(t.Context(), d, pinOf(t, "00000000"), pinOf(t, "00000000"))
		}
	}
}

// TestPIVForeign: a card that is not known here and holds something is left as it is,
// whatever that is, unless the profile takes such cards.
func TestPIVForeign(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(*testing.T, *sim.Card){
		"a key": func(t *testing.T, c *sim.Card) {
			_, err := piv.Generate(t.Context(), managed(t, c, piv.TripleDES), piv.Authentication, piv.P256, piv.Policy{})
			must(t, err)
		},
		"something in slot": func(t *testing.T, c *sim.Card) {
			must(t, piv.PutData(t.Context(), managed(t, c, piv.TripleDES), piv.Signature.Certificate(), []byte{0x70, 0x01, 0x00}))
		},
		"a PIN": func(t *testing.T, c *sim.Card) {
			must(t, piv.ChangePIN(t.Context(), pivCard(t, c), pinOf(t, piv.DefaultPIN), pinOf(t, "8402716")))
		},
		"a blocked PIN": func(t *testing.T, c *sim.Card) { blockPIN(t, c, false) },
		"former keys": func(t *testing.T, c *sim.Card) {
			must(t, piv.PutData(t.Context(), managed(t, c, piv.TripleDES), piv.KeyHistoryObject, piv.KeyHistory{OnCard: 2}.Encode()))
		},
		"a management key behind its PIN": func(t *testing.T, c *sim.Card) {
			must(t, piv.PutData(t.Context(), managed(t, c, piv.TripleDES), piv.AdminData, []byte{0x80, 3, 0x81, 1, 2}))
		},
		"a management key of its own and a key": func(t *testing.T, c *sim.Card) {
			d := managed(t, c, piv.TripleDES)
			_, err := piv.Generate(t.Context(), d, piv.Authentication, piv.P256, piv.Policy{})
			must(t, err)
			must(t, piv.SetManagementKey(t.Context(), d, piv.AES128, secret.Random(16), false))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(pivProfile("test", nil))
			s.put(pivProfile("taking", map[string]string{"[piv]\n": "[piv]\nwipe_foreign = true\n"}))
			card := newCard(t, "yubikey-5.4")
			hold(t, card)
			before := changes(card)
			for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll} {
				_, err := s.run(op, before)
				wantStatus(t, err, tps.StatusDisabledToken)
				words := strings.Fields(name)
				if !strings.Contains(err.Error(), words[len(words)-1]) {
					t.Errorf("%v does not say what the card holds", err)
				}
			}
			if len(before.seen) > 0 {
				t.Errorf("the card got %X", before.seen)
			}
			_, err := s.run(tps.OpEnroll, card, with("taking"))
			must(t, err)
			s.wantPIV(card, "7351924")
		})
	}
}

// witness is a card that notes the commands which change something.
type witness struct {
	*sim.Card
	seen [][]byte
}

func changes(c *sim.Card) *witness { return &witness{Card: c} }

func (w *witness) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	switch cmd[1] {
	case piv.InsGenerate, piv.InsPutData, piv.InsImport, piv.InsSetManagement, piv.InsReset, piv.InsMoveKey, piv.InsSetRetries, piv.InsChange, piv.InsResetRetry:
		w.seen = append(w.seen, bytes.Clone(cmd))
	case piv.InsVerify:
		if len(cmd) > 5 {
			w.seen = append(w.seen, bytes.Clone(cmd))
		}
	}
	return w.Card.Transmit(ctx, cmd)
}

// enrolledPIV is a card that ada has, of a profile changed by edits.
func enrolledPIV(t *testing.T, s *site, model string, edits map[string]string) *sim.Card {
	t.Helper()
	s.put(pivProfile("test", edits))
	pool, err := rsaKeys()
	must(t, err)
	card, err := sim.New(sim.Config{Model: model, Keys: pool})
	must(t, err)
	t.Cleanup(func() { card.Close() })
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	return card
}

// TestPIVWrongKeys: a card with another management key than its record names is
// refused where that is what proves it, and served where its card manager does.
func TestPIVWrongKeys(t *testing.T) {
	t.Parallel()
	for _, model := range pivModels {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := enrolledPIV(t, s, model, nil)
			cuid := card.Info().CUID
			rec, err := s.db.Token(t.Context(), cuid)
			must(t, err)
			rep, err := s.local.CardSecret(t.Context(), tks.SecretRequest{KeySet: "piv", KeyVersion: 1, CUID: cuid, Use: tks.ManagementKey, Algorithm: rec.AppletKeys.Algorithm})
			must(t, err)
			d := pivCard(t, card)
			must(t, piv.Authenticate(t.Context(), d, piv.Algorithm(rec.AppletKeys.Algorithm), rep.Secret))
			must(t, piv.SetManagementKey(t.Context(), d, piv.AES256, secret.Random(32), false))
			for _, op := range []tps.Operation{tps.OpPINReset, tps.OpEnroll, tps.OpFormat} {
				before := changes(card)
				_, err := s.run(op, before)
				if model == "piv" && op != tps.OpPINReset {
					must(t, err)
					continue
				}
				wantStatus(t, err, tps.StatusSecureChannel)
				if len(before.seen) > 0 {
					t.Errorf("%s: the card got %X", op, before.seen)
				}
			}
		})
	}
}

// liarCard claims the serial number of another card.
type liarCard struct {
	*sim.Card
	serial [4]byte
}

func (l liarCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if cmd[1] == piv.InsSerial {
		return append(l.serial[:], 0x90, 0x00), nil
	}
	return l.Card.Transmit(ctx, cmd)
}

// TestPIVClaim: the PIN of a stolen card is not reset under the name of one's own.
func TestPIVClaim(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	own := enrolledPIV(t, s, "yubikey-5.7", map[string]string{"[card]": "[enroll]\nseveral_active = true\n[card]"})
	stolen := newCard(t, "yubikey-5.7")
	_, err := s.run(tps.OpEnroll, stolen, as("bob"))
	must(t, err)
	cuid := own.Info().CUID
	before := changes(stolen)
	_, err = s.run(tps.OpPINReset, liarCard{stolen, [4]byte(cuid[6:])})
	wantStatus(t, err, tps.StatusSecureChannel)
	_, err = s.run(tps.OpPINReset, before)
	wantStatus(t, err, tps.StatusNotOwner)
	if len(before.seen) > 0 {
		t.Errorf("the card got %X", before.seen)
	}
	s.wantPIV(stolen, "7351924")
}

// TestPIVBlocked: a blocked PIN is what a PIN reset is for; with a blocked PUK nothing
// but format helps, and the person is told so.
func TestPIVBlocked(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"yubikey-5.4", "yubikey-5.7"} {
		t.Run(model, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := enrolledPIV(t, s, model, nil)
			blockPIN(t, card, false)
			_, err := s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} })
			must(t, err)
			s.wantPIV(card, "9518402")
			blockPIN(t, card, true)
			before := changes(card)
			_, err = s.run(tps.OpPINReset, before)
			wantStatus(t, err, tps.StatusNotPINResettable)
			if !strings.Contains(err.Error(), "formatted and enrolled again") || len(before.seen) > 0 {
				t.Errorf("%v; the card got %X", err, before.seen)
			}
			_, err = s.run(tps.OpEnroll, before)
			wantStatus(t, err, tps.StatusNotPINResettable)
			s.put(pivProfile("test", map[string]string{`["key-changeover"]`: `["renew"]`, "[piv]\n": "[piv]\nmanagement = \"aes-256\"\n"}))
			_, err = s.run(tps.OpRenew, before)
			wantStatus(t, err, tps.StatusKeyChangeover)
			if !strings.Contains(err.Error(), "formatted and enrolled again") || len(before.seen) > 0 || s.openOn(t, card.Info().CUID) != nil {
				t.Errorf("%v; the card got %X", err, before.seen)
			}
			_, err = s.run(tps.OpFormat, card)
			must(t, err)
			_, err = s.run(tps.OpEnroll, card)
			must(t, err)
			s.wantPIV(card, "7351924")
		})
	}
}

// TestPIVTries: numbers of tries that the profile names, on cards that have others. One
// try of the PUK is enough for whoever knows which it is.
func TestPIVTries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		model string
		puk   int
	}{{"piv", 4}, {"yubikey-5.4", 4}, {"yubikey-5.7", 1}} {
		s := newSite(t)
		card := enrolledPIV(t, s, c.model, map[string]string{"[piv]\n": fmt.Sprintf("[pin]\ntries = 7\n[piv]\npuk_tries = %d\n", c.puk)})
		d := pivCard(t, card)
		for ref, want := range map[piv.Slot]int{piv.PIN: 7, piv.PUK: c.puk} {
			if m, err := piv.ReadMetadata(t.Context(), d, ref); err != nil || m.Default || m.Tries != want || m.Left != want {
				t.Errorf("%s: %X: %+v, %v", c.model, byte(ref), m, err)
			}
		}
		s.wantPIV(card, "7351924")
		_, err := s.run(tps.OpPINReset, card)
		must(t, err)
		s.wantPIV(card, "7351924")
	}
}

// TestPIVTriesUntold: cut while it had the factory's PUK, a card that tells nothing of its
// PUK gets its own again, and loses no try by another enrollment.
func TestPIVTriesUntold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", map[string]string{"[piv]\n": "[pin]\ntries = 7\n[piv]\npuk_tries = 4\n"}))
	card := newCard(t, "yubikey-5.4")
	cut := lostAnswer(t, card, piv.InsSetRetries)
	mute := oddCard{card, func(cmd []byte) []byte {
		if cmd[1] == piv.InsMetadata {
			return []byte{0x6D, 0x00}
		}
		return cut.answer(cmd)
	}}
	_, err := s.run(tps.OpEnroll, mute)
	wantStatus(t, err, tps.StatusSetPIN)
	_, err = s.run(tps.OpEnroll, mute)
	must(t, err)
	s.wantPIV(card, "7351924")
	for ref, want := range map[piv.Slot]int{piv.PIN: 7, piv.PUK: 4} {
		if m, err := piv.ReadMetadata(t.Context(), pivCard(t, card), ref); err != nil || m.Default || m.Tries != want || m.Left != want {
			t.Errorf("%X: %+v, %v", byte(ref), m, err)
		}
	}
}

// TestPIVAlgorithms: every kind of key that a card makes proves itself and is
// certified.
func TestPIVAlgorithms(t *testing.T) {
	t.Parallel()
	signing, agreeing := `ca_profile = "signing"`, "retire = 20\n"
	for model, all := range map[string][][2]string{
		"piv":         {{"rsa-2048", "rsa-2048"}, {"p384", "p384"}},
		"yubikey-5.4": {{"rsa-2048", "p384"}},
		"yubikey-5.7": {{"ed25519", "x25519"}, {"rsa-3072", "rsa-3072"}, {"p384", "p256"}},
	} {
		for _, a := range all {
			t.Run(model+"/"+a[0]+"/"+a[1], func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				card := enrolledPIV(t, s, model, map[string]string{
					signing: "alg = \"" + a[0] + "\"\n" + signing, agreeing: agreeing + "alg = \"" + a[1] + "\"\n",
				})
				s.wantPIV(card, "7351924")
			})
		}
	}
	s := newSite(t)
	s.put(pivProfile("test", map[string]string{signing: "alg = \"ed25519\"\n" + signing}))
	card := newCard(t, "yubikey-5.4")
	_, err := s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusDisabledToken)
	if _, err := s.db.Token(t.Context(), card.Info().CUID); !errors.Is(err, token.ErrNotFound) {
		t.Errorf("a record of a card that was refused: %v", err)
	}
}

// TestPIVRetires: what was encrypted to a former key of 9D can be read after another
// enrollment, as often as the profile says.
func TestPIVRetires(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := enrolledPIV(t, s, "yubikey-5.7", map[string]string{"retire = 20": "retire = 2"})
	var former []*ecdsa.PublicKey
	for range 2 {
		c, err := piv.ReadCertificate(t.Context(), pivCard(t, card), piv.KeyManagement)
		must(t, err)
		former = append(former, c.PublicKey.(*ecdsa.PublicKey))
		_, err = s.run(tps.OpEnroll, card)
		must(t, err)
	}
	s.wantPIV(card, "7351924")
	d := pivCard(t, card)
	b, err := piv.GetData(t.Context(), d, piv.KeyHistoryObject)
	must(t, err)
	if h, err := piv.ParseKeyHistory(b); err != nil || h.OnCard != 2 {
		t.Errorf("history %+v, %v", h, err)
	}
	must(t, piv.VerifyPIN(t.Context(), d, pinOf(t, "7351924")))
	for i, pub := range former {
		slot := piv.Retired(i + 1)
		c, err := piv.ReadCertificate(t.Context(), d, slot)
		must(t, err)
		if !pub.Equal(c.PublicKey) {
			t.Errorf("slot %v has the certificate of another key", slot)
		}
		other, err := ecdh.P256().GenerateKey(rand.Reader)
		must(t, err)
		k, err := pub.ECDH()
		must(t, err)
		want, err := other.ECDH(k)
		must(t, err)
		if got, err := piv.Agree(t.Context(), d, slot, piv.P256, other.PublicKey().Bytes()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("slot %v: %v", slot, err)
		}
	}
	before := changes(card)
	_, err = s.run(tps.OpEnroll, before)
	wantStatus(t, err, tps.StatusEnroll)
	if !strings.Contains(err.Error(), "keeps 2 former keys") || len(before.seen) > 0 {
		t.Errorf("%v; the card got %X", err, before.seen)
	}
	s.wantPIV(card, "7351924")
	_, err = s.run(tps.OpRenew, card)
	must(t, err)
}

// TestPIVForeignPUK: a card on which somebody changed or blocked nothing but the PUK is as
// foreign as one with a PIN, and can be emptied; also one that does not tell.
func TestPIVForeignPUK(t *testing.T) {
	t.Parallel()
	for _, told := range []bool{true, false} {
		for _, tries := range []int{0, 3} { // wrong ones
			s, card := newSite(t), newCard(t, "yubikey-5.4")
			client := oddCard{card, func(cmd []byte) []byte {
				if cmd[1] == piv.InsMetadata && !told {
					return []byte{0x6D, 0x00}
				}
				return nil
			}}
			for range tries {
				piv.ChangePUK(t.Context(), pivCard(t, card), pinOf(t, "00000000"), pinOf(t, "00000000"))
			}
			if tries == 0 {
				must(t, piv.ChangePUK(t.Context(), pivCard(t, card), pinOf(t, piv.DefaultPUK), pinOf(t, "87654321")))
			}
			s.put(pivProfile("test", nil))
			_, err := s.run(tps.OpEnroll, client)
			want := map[bool]string{true: "holds a PUK", false: "prepare-applet: the card has a PUK that is not known here"}[told]
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "prepare-applet: prepare-applet") {
				t.Errorf("told=%t: %v", told, err)
			}
			wantStatus(t, err, tps.StatusDisabledToken)
			s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nwipe_foreign = true\n"}))
			_, err = s.run(tps.OpFormat, client)
			must(t, err)
			_, err = s.run(tps.OpEnroll, client)
			must(t, err)
			s.wantPIV(card, "7351924")
		}
	}
}

// TestPIVKeeps: a key that the profile keeps stays, and is renewed, where the profile has
// lost the key before it; also on a card that tells nothing of its keys.
func TestPIVKeeps(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"yubikey-5.4", "yubikey-5.2"} {
		s, card := newSite(t), newCard(t, "yubikey-5.4")
		client := oddCard{card, func(cmd []byte) []byte {
			if cmd[1] == piv.InsMetadata && model == "yubikey-5.2" {
				return []byte{0x6D, 0x00}
			}
			return nil
		}}
		s.put(pivProfile("test", map[string]string{"retire = 20": "keep = true"}))
		_, err := s.run(tps.OpEnroll, client)
		must(t, err)
		first, err := piv.ReadCertificate(t.Context(), pivCard(t, card), piv.KeyManagement)
		must(t, err)
		signing := "[[key]]\ntype = \"signing\"\nslot = \"9C\"\nca_profile = \"signing\"\n"
		s.put(pivProfile("test", map[string]string{"retire = 20": "keep = true", signing: ""}))
		for _, op := range []tps.Operation{tps.OpEnroll, tps.OpRenew} {
			_, err = s.run(op, client)
			must(t, err)
			c, err := piv.ReadCertificate(t.Context(), pivCard(t, card), piv.KeyManagement)
			must(t, err)
			if !first.PublicKey.(*ecdsa.PublicKey).Equal(c.PublicKey) || (op == tps.OpEnroll) != first.Equal(c) {
				t.Errorf("%s, %s: the kept key or its certificate is another one", model, op)
			}
		}
	}
}

// TestPIVKeepsWhatIsThere: a certificate whose key somebody replaced on the card is not kept.
func TestPIVKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := enrolledPIV(t, s, "yubikey-5.4", map[string]string{"retire = 20": "keep = true"})
	rep, err := s.local.CardSecret(t.Context(), tks.SecretRequest{KeySet: "piv", KeyVersion: 1, CUID: card.Info().CUID, Use: tks.ManagementKey, Algorithm: byte(piv.TripleDES)})
	must(t, err)
	d := pivCard(t, card)
	must(t, piv.Authenticate(t.Context(), d, piv.TripleDES, rep.Secret))
	_, err = piv.Generate(t.Context(), d, piv.KeyManagement, piv.P256, piv.Policy{})
	must(t, err)
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	s.wantPIV(card, "7351924")
}

// TestPIVPublishedKeys: outside a lab no card becomes active with keys that everybody
// knows.
func TestPIVPublishedKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lab = false
	s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nkey_version = 0\n"}))
	_, err := s.run(tps.OpEnroll, newCard(t, "yubikey-5.7"))
	wantStatus(t, err, tps.StatusSecureChannel)
	s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nkey_version = 9\n"}))
	_, err = s.run(tps.OpEnroll, newCard(t, "yubikey-5.7"))
	wantStatus(t, err, tps.StatusSecureChannel)
	s.put(pivProfile("test", nil))
	_, err = s.run(tps.OpEnroll, newCard(t, "yubikey-5.7"))
	must(t, err)
	s.noSim = true
	_, err = s.run(tps.OpEnroll, newCard(t, "yubikey-5.7"), as("bob"))
	wantStatus(t, err, tps.StatusUnknownToken)
}

// TestPIVCompressed: a certificate that the profile wants compressed is read back.
func TestPIVCompressed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := enrolledPIV(t, s, "yubikey-5.4", map[string]string{"[card]": "[enroll]\ncompress = true\n[card]"})
	b, err := piv.GetData(t.Context(), pivCard(t, card), piv.Authentication.Certificate())
	must(t, err)
	der, err := piv.ParseCertificate(b)
	must(t, err)
	if _, err := x509.ParseCertificate(der); err != nil || bytes.Contains(b, der) {
		t.Errorf("not compressed, or not readable: %v", err)
	}
	s.wantPIV(card, "7351924")
}
