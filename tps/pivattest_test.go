package tps_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps"
	familypiv "inkan/tps/piv"
	"inkan/tps/piv/attest"
	"inkan/tps/token"
)

// attestedSite believes the attestations of the cards given.
func attestedSite(t *testing.T, cards ...*sim.Card) *site {
	t.Helper()
	s := newSite(t)
	var roots []*x509.Certificate
	for _, c := range cards {
		root, err := x509.ParseCertificate(c.Info().Attestation)
		must(t, err)
		roots = append(roots, root)
	}
	v := &attest.Verifier{Simulated: true, Sets: []attest.Set{{Name: "lab", Chain: attest.Roots(roots, nil)}}}
	s.adjust = func(c *tps.Config) { c.Families = []tps.Family{familypiv.Family{Applets: applets(), Attest: v}} }
	s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nattest = true\n", `slot = "9C"`: "slot = \"9C\"\ntouch_policy = \"cached\""}))
	return s
}

// TestPIVAttested: where the profile demands it, the card proves of each key that it
// made it, and the proof stands in the certificate's record.
func TestPIVAttested(t *testing.T) {
	t.Parallel()
	for _, model := range []string{"yubikey-5.4", "yubikey-5.7"} {
		card := newCard(t, model)
		s := attestedSite(t, card)
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
		must(t, err)
		for _, c := range certs {
			e, err := attest.ParsePEM([]byte(c.Evidence))
			must(t, err)
			st, err := e.Statement()
			must(t, err)
			x, err := x509.ParseCertificate(c.DER)
			must(t, err)
			if !st.SameKey(x.PublicKey) || piv.SerialCUID(st.Serial) != card.Info().CUID || (st.Slot == piv.Signature) != (st.Policy.Touch == piv.TouchCached) {
				t.Errorf("%s: %+v", c.KeyType, st)
			}
		}
		if len(certs) != 4 {
			t.Errorf("%d certificates, want 4", len(certs))
		}
	}
}

// between changes what goes to a card.
type between struct {
	*sim.Card
	change func(cmd []byte) (to *sim.Card, sent []byte)
}

// Transmit implements apdu.Card.
func (b *between) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	to, sent := b.change(bytes.Clone(cmd))
	return to.Transmit(ctx, sent)
}

// TestPIVNotAttested: an attestation that is foreign, of another slot, of another key or
// of another policy ends the enrollment before the certificate of its key is issued, and
// an honest card is enrolled afterwards.
func TestPIVNotAttested(t *testing.T) {
	t.Parallel()
	const victim = piv.Signature
	for name, c := range map[string]struct {
		trusted bool // the other card's root
		change  func(card, other *sim.Card) func([]byte) (*sim.Card, []byte)
		want    string
	}{
		"foreign card": {false, attestedBy, "signed by unknown authority"},
		"another key":  {true, attestedBy, "another key than the one that it made in slot 9C"},
		"another slot": {true, func(card, _ *sim.Card) func([]byte) (*sim.Card, []byte) {
			return func(cmd []byte) (*sim.Card, []byte) {
				if cmd[1] == piv.InsAttest && cmd[2] == byte(victim) {
					cmd[2] = byte(piv.Authentication)
				}
				return card, cmd
			}
		}, "the key of slot 9A, not of slot 9C"},
		"another policy": {true, func(card, _ *sim.Card) func([]byte) (*sim.Card, []byte) {
			return func(cmd []byte) (*sim.Card, []byte) {
				if cmd[1] == piv.InsGenerate && cmd[3] == byte(victim) { // without a touch
					cmd = bytes.Replace(cmd, []byte{0xAB, 1, byte(piv.TouchCached)}, []byte{0xAB, 1, byte(piv.TouchNever)}, 1)
				}
				return card, cmd
			}
		}, "touch policy never, cached is demanded"},
		"no attestation": {true, func(card, _ *sim.Card) func([]byte) (*sim.Card, []byte) {
			return func(cmd []byte) (*sim.Card, []byte) {
				if cmd[1] == piv.InsAttest && cmd[2] == byte(victim) {
					cmd[2] = byte(piv.Retired(7)) // which is empty
				}
				return card, cmd
			}
		}, "the card does not attest its key, as profile test demands"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			card, other := newCard(t, "yubikey-5.4"), newCard(t, "yubikey-5.4")
			generateAt(t, other, victim)
			trusted := []*sim.Card{card}
			if c.trusted {
				trusted = append(trusted, other)
			}
			s := attestedSite(t, trusted...)
			_, err := s.run(tps.OpEnroll, &between{card, c.change(card, other)})
			wantStatus(t, err, tps.StatusEnroll)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			certs, err := s.db.CertificatesOf(t.Context(), card.Info().CUID)
			must(t, err)
			for _, x := range certs {
				if x.KeyType == "signing" || x.State == token.CertActive {
					t.Errorf("a %s certificate was issued, %s", x.KeyType, x.State)
				}
			}
			_, err = s.run(tps.OpEnroll, card)
			must(t, err)
			if n := len(s.certificatesOf(card)); n != 4 {
				t.Errorf("%d certificates in the end, want 4", n)
			}
		})
	}
}

// attestedBy has the attestation of the signing key come from another card.
func attestedBy(card, other *sim.Card) func([]byte) (*sim.Card, []byte) {
	asked, signing := false, false
	return func(cmd []byte) (*sim.Card, []byte) {
		switch {
		case cmd[1] == piv.InsAttest && cmd[2] == byte(piv.Signature):
			asked, signing = true, true
		case cmd[1] == piv.InsGetData && bytes.Contains(cmd, []byte{0x5F, 0xFF, 0x01}):
			asked = signing // the certificate that goes with it
		case cmd[1] != 0xC0:
			asked, signing = false, false
		}
		if asked {
			return other, cmd
		}
		return card, cmd
	}
}

func generateAt(t *testing.T, card *sim.Card, slot piv.Slot) {
	t.Helper()
	d := pivCard(t, card)
	must(t, piv.Authenticate(t.Context(), d, piv.TripleDES, secret.New(piv.DefaultManagementKey())))
	_, err := piv.Generate(t.Context(), d, slot, piv.P256, piv.Policy{Touch: piv.TouchCached})
	must(t, err)
}

// TestPIVAttestationUnverified: a node that cannot verify attestations refuses profiles
// that demand them before it touches the card.
func TestPIVAttestationUnverified(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", map[string]string{"[piv]\n": "[piv]\nattest = true\n"}))
	s.adjust = func(c *tps.Config) { c.Families = []tps.Family{familypiv.Family{Applets: applets()}} }
	card := newCard(t, "yubikey-5.4")
	before := fmt.Sprint(pivState(t, card))
	_, err := s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusMisconfiguration)
	if !errors.Is(err, attest.ErrNoMakers) {
		t.Error(err)
	}
	if after := fmt.Sprint(pivState(t, card)); after != before {
		t.Errorf("the card changed: %s, was %s", after, before)
	}
}

func pivState(t *testing.T, card *sim.Card) []piv.Metadata {
	t.Helper()
	d := pivCard(t, card)
	var all []piv.Metadata
	for _, ref := range []piv.Slot{piv.PIN, piv.PUK, piv.Management} {
		m, err := piv.ReadMetadata(t.Context(), d, ref)
		must(t, err)
		all = append(all, m)
	}
	if _, err := piv.ReadMetadata(t.Context(), d, piv.Authentication); !piv.IsAbsent(err) {
		t.Errorf("slot 9A: %v", err)
	}
	return all
}

// TestPIVHiddenSerial: a card that attests its serial number and is known by another name,
// because something hides the number from us, is refused: so a lost card could come back.
func TestPIVHiddenSerial(t *testing.T) {
	t.Parallel()
	for name, told := range map[string][]byte{"refused": {0x6D, 0x00}, "zero": {0, 0, 0, 0, 0x90, 0x00}} {
		card := newCard(t, "yubikey-5.4")
		s := attestedSite(t, card)
		must(t, piv.PutData(t.Context(), managed(t, card, piv.TripleDES), piv.CHUIDObject, piv.CHUID{FASCN: piv.NonFederal, GUID: [16]byte{7}, Expiry: "20300101"}.Encode()))
		_, err := s.run(tps.OpEnroll, oddCard{card, func(cmd []byte) []byte {
			if cmd[1] == piv.InsSerial {
				return told
			}
			return nil
		}})
		if err == nil || !strings.Contains(err.Error(), "and this one tells none") {
			t.Errorf("%s: %v", name, err)
		}
		if recs, err := s.db.Tokens(t.Context(), token.Filter{Limit: 9}); err != nil || len(recs) != 1 || recs[0].CUID[2] == 'Y' {
			t.Errorf("%s: records %+v, %v", name, recs, err)
		}
	}
}
