package tps_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/piv"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// successors are the serials of a renewed card's new certificates: each has the key of
// the one before it, which is active too. Where the first request had been fulfilled
// before it failed, the second one has renewed them once more.
func successors(ctx context.Context, db token.Certificates, cuid apdu.CUID) ([]string, error) {
	certs, err := db.CertificatesOf(ctx, cuid)
	if err != nil {
		return nil, err
	}
	keys, active := map[string][]string{}, map[string][]string{}
	for _, c := range certs {
		if c.State != token.CertActive {
			continue
		}
		x, err := x509.ParseCertificate(c.DER)
		if err != nil {
			return nil, err
		}
		keys[c.KeyType] = append(keys[c.KeyType], string(x.RawSubjectPublicKeyInfo))
		active[c.KeyType] = append(active[c.KeyType], c.Serial)
	}
	var last []string
	for t, serials := range active {
		if n := len(serials); n < 2 || n > 3 || len(slices.Compact(keys[t])) != 1 {
			return nil, fmt.Errorf("%d active %s certificates, want an old one and a new one of one key", n, t)
		}
		last = append(last, serials[len(serials)-1])
	}
	slices.Sort(last)
	return last, nil
}

// lastActive are the newest active certificates of a card by key type.
func (s *site) lastActive(t testing.TB, cuid apdu.CUID) map[string]token.Certificate {
	t.Helper()
	certs, err := s.db.CertificatesOf(context.Background(), cuid)
	must(t, err)
	last := map[string]token.Certificate{}
	for _, c := range certs { // oldest first
		if c.State == token.CertActive {
			last[c.KeyType] = c
		}
	}
	return last
}

// carriesLast sees that a card carries the newest active certificates, with their keys.
func (x *cutter) carriesLast(t *testing.T, card *sim.Card, pin string) error {
	t.Helper()
	var serials []string
	for _, c := range x.lastActive(t, card.Info().CUID) {
		serials = append(serials, c.Serial)
	}
	slices.Sort(serials)
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	return x.family.usable(t.Context(), conn, pin, serials)
}

// renewing is a site with the profile "test" of a family, and an enrolled card.
func renewing(t *testing.T, f cutFamily, edits map[string]string) (*cutter, *sim.Card, apdu.CUID) {
	t.Helper()
	s := newSite(t)
	s.ca = &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	s.put(f.profile("test", edits))
	card := newCard(t, f.model)
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	return &cutter{site: s, family: f, model: f.model}, card, onlyToken(t, s)
}

// eachFamily runs a test for both families.
func eachFamily(t *testing.T, test func(*testing.T, cutFamily)) {
	t.Parallel()
	for _, f := range []cutFamily{coolkeyCuts, pivCuts} {
		t.Run("family="+f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// TestRenewInsteadOfEnrolling: a client that knows enrollments alone gets a renewal on
// an active card whose policy says so, and nothing else does (§14).
func TestRenewInsteadOfEnrolling(t *testing.T) {
	eachFamily(t, func(t *testing.T, f cutFamily) {
		for _, c := range []struct {
			policy string
			renews bool
			state  token.State
		}{
			{"RENEW=YES", true, token.Active}, {"RENEW=YES;RE_ENROLL=NO", true, token.Active}, {"RENEW=YES;FORCE_FORMAT=YES", false, token.Active},
			{"RENEW=NO", false, token.Active}, {"RENEW=YES;RE_ENROLL=NO", false, token.Formatted},
		} {
			x, card, cuid := renewing(t, f, nil)
			x.change(cuid, func(r *token.Token) { r.Policy, r.State = c.policy, c.state })
			before := x.lastActive(t, cuid)["signing"]
			who, err := x.run(tps.OpEnroll, card, func(_ *client, r *tps.Request) { r.TokenType = "none" })
			must(t, err)
			after := x.lastActive(t, cuid)["signing"]
			a, b := parsed(t, before), parsed(t, after)
			kept := string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
			if kept != c.renews || (who.asked == 0) != c.renews || before.Serial == after.Serial || b.NotAfter.Before(a.NotAfter) {
				t.Errorf("%s, %s: the key stayed %t, %d PINs asked for, serial %s and %s", c.policy, c.state, kept, who.asked, before.Serial, after.Serial)
			}
			last := lastActivity(t, x.site)
			if want := map[bool]string{true: "renewal", false: "enrollment"}[c.renews]; last.Operation != want || !last.Success {
				t.Errorf("%s: activity %+v", c.policy, last)
			}
			if err := x.carriesLast(t, card, "7351924"); err != nil {
				t.Errorf("%s: %v", c.policy, err)
			}
		}
	})
}

func parsed(t *testing.T, c token.Certificate) *x509.Certificate {
	t.Helper()
	x, err := x509.ParseCertificate(c.DER)
	must(t, err)
	return x
}

// TestRenewOldCertificates: the certificates that were replaced stay the card's until
// they end, so that its loss revokes them too; or they are revoked at once.
func TestRenewOldCertificates(t *testing.T) {
	eachFamily(t, func(t *testing.T, f cutFamily) {
		for rule, want := range map[string]token.CertState{"keep": token.CertActive, "revoke": token.CertRevoked} {
			x, card, cuid := renewing(t, f, map[string]string{"[renewal]\nenabled = true\n": "[renewal]\nenabled = true\nkeys = [\"signing\"]\nold_certs = \"" + rule + "\"\n"})
			before := x.lastActive(t, cuid)
			_, err := x.run(tps.OpRenew, card)
			must(t, err)
			if err := x.carriesLast(t, card, "7351924"); err != nil {
				t.Errorf("%s: %v", rule, err)
			}
			after := x.lastActive(t, cuid)
			for keyType, c := range before {
				if renewed := after[keyType].ID != c.ID; renewed != (keyType == "signing") {
					t.Errorf("%s: the %s certificate renewed: %t", rule, keyType, renewed)
				}
			}
			_, old := stored(x.site, before["signing"])
			if old.State != want || want == token.CertRevoked && old.Reason != int(ca.ReasonSuperseded) {
				t.Errorf("%s: the old certificate is %s, reason %d", rule, old.State, old.Reason)
			}
			_, _, err = giveState(x.site, cuid, token.PermLost)
			must(t, err)
			if left := x.ca.(*watchedCA).of(cuid); len(left) > 0 {
				t.Errorf("%s: %v are valid on a lost card", rule, left)
			}
		}
	})
}

// TestRenewOtherCard: a card that does not show the certificates that are recorded, or
// keys for them, gets nothing issued.
func TestRenewOtherCard(t *testing.T) {
	answer := func(sw apdu.StatusWord) []byte { return apdu.Response{SW: sw}.Encode() }
	is := func(cmd []byte, ins byte, data string) bool {
		return len(cmd) > 4 && cmd[1] == ins && strings.HasPrefix(string(cmd[4:]), data)
	}
	eachFamily(t, func(t *testing.T, f cutFamily) {
		cases := map[string]func(card *sim.Card) func(cmd []byte) []byte{
			"no keys": func(*sim.Card) func([]byte) []byte {
				return func(cmd []byte) []byte {
					if len(cmd) > 1 && cmd[1] == 0x3A {
						return answer(apdu.SWSuccess)
					}
					return nil
				}
			},
			"no objects": func(*sim.Card) func([]byte) []byte {
				return func(cmd []byte) []byte {
					if len(cmd) > 1 && cmd[1] == 0x58 {
						return answer(coolkey.SWSequenceEnd)
					}
					return nil
				}
			},
		}
		if f.name == "piv" {
			cases = map[string]func(card *sim.Card) func(cmd []byte) []byte{
				"no certificate": func(*sim.Card) func([]byte) []byte {
					return func(cmd []byte) []byte {
						if is(cmd, 0xCB, "\x05\x5C\x03\x5F\xC1\x0A") {
							return answer(apdu.SWFileNotFound)
						}
						return nil
					}
				},
				"no key": func(*sim.Card) func([]byte) []byte {
					return func(cmd []byte) []byte {
						if len(cmd) > 3 && cmd[1] == piv.InsMetadata && cmd[3] == 0x9C {
							return answer(apdu.SWReferencedNotFound)
						}
						return nil
					}
				},
				"another key": func(card *sim.Card) func([]byte) []byte {
					return func(cmd []byte) []byte {
						if len(cmd) > 3 && cmd[1] == piv.InsMetadata && cmd[3] == 0x9C {
							other := append([]byte{}, cmd...)
							other[3] = 0x9A
							a, err := card.Transmit(t.Context(), other)
							must(t, err)
							return a
						}
						return nil
					}
				},
				"another certificate": func(card *sim.Card) func([]byte) []byte {
					return func(cmd []byte) []byte {
						if is(cmd, 0xCB, "\x05\x5C\x03\x5F\xC1\x0A") {
							other := append([]byte{}, cmd...)
							other[9] = 0x05
							a, err := card.Transmit(t.Context(), other)
							must(t, err)
							return a
						}
						return nil
					}
				},
			}
		}
		x, card, cuid := renewing(t, f, nil)
		for name, when := range cases {
			_, err := x.run(tps.OpRenew, &intercepting{Card: card, when: when(card)})
			if got := tps.StatusOf(err); got != tps.StatusRenewal || !strings.Contains(fmt.Sprint(err), "enroll the card again") {
				t.Errorf("%s: %v, status %d", name, err, got)
			}
			if open := x.openOn(t, cuid); open != nil {
				t.Errorf("%s left a journal: %+v", name, open)
			}
		}
		if err := x.carriesLast(t, card, "7351924"); err != nil {
			t.Error(err)
		}
		if valid := x.ca.(*watchedCA).of(cuid); len(valid) != len(x.lastActive(t, cuid)) {
			t.Errorf("valid are %v", valid)
		}
	})
}

// TestRenewCompromised: no successor for a key that somebody else may have, whatever
// becomes of its present certificate.
func TestRenewCompromised(t *testing.T) {
	t.Parallel()
	x, card, cuid := renewing(t, coolkeyCuts, nil)
	first := x.lastActive(t, cuid)["signing"]
	_, err := x.run(tps.OpRenew, card)
	must(t, err)
	second := x.lastActive(t, cuid)
	_, first = stored(x.site, first)
	first.State, first.Reason = token.CertRevoked, int(ca.ReasonKeyCompromise)
	_, err = x.db.ReplaceCertificate(t.Context(), first)
	must(t, err)
	_, err = x.run(tps.OpRenew, card)
	must(t, err)
	third := x.lastActive(t, cuid)
	if third["signing"].ID != second["signing"].ID || third["encryption"].ID == second["encryption"].ID {
		t.Errorf("renewed %s to %s", second["signing"].Serial, third["signing"].Serial)
	}
}

// TestDEF03: 37 means a failed renewal on the wire; audit and activity tell it from a
// recovery.
func TestDEF03(t *testing.T) {
	t.Parallel()
	x, card, _ := renewing(t, coolkeyCuts, nil)
	log := &memoryAudit{}
	x.audit, x.ca = log, brokenCA{x.ca}
	_, err := x.run(tps.OpRenew, card)
	wantStatus(t, err, 37)
	last := log.events[len(log.events)-1]
	if last.Name != "TOKEN_RENEWAL" || last.Outcome != audit.Failure || last.Fields["op"] != "renew" || last.Fields["status"] != "37" {
		t.Errorf("audited as %+v", last)
	}
	if a := lastActivity(t, x.site); a.Operation != "renewal" || a.Success {
		t.Errorf("activity %+v", a)
	}
}

// stubborn is an authority that does not issue certificates of one profile.
type stubborn struct {
	ca.Authority
	profile string
}

func (s stubborn) Issue(ctx context.Context, r ca.Request) (ca.Certificate, error) {
	if r.Profile == s.profile {
		return ca.Certificate{}, errors.New("not today")
	}
	return s.Authority.Issue(ctx, r)
}

// TestDEF37: a renewal that fails at the second key leaves an activity; what was issued
// for the first one is used by the next attempt, or revoked.
func TestDEF37(t *testing.T) {
	eachFamily(t, func(t *testing.T, f cutFamily) {
		for _, again := range []bool{true, false} {
			x, card, cuid := renewing(t, f, nil)
			before, good := x.lastActive(t, cuid), x.ca
			x.ca = stubborn{good, "encryption"}
			_, err := x.run(tps.OpRenew, card)
			wantStatus(t, err, tps.StatusRenewal)
			if a := lastActivity(t, x.site); a.Operation != "renewal" || a.Success || !strings.Contains(a.Message, "not today") {
				t.Errorf("activity %+v", a)
			}
			if err := x.carriesLast(t, card, "7351924"); err != nil {
				t.Errorf("the card after the failure: %v", err)
			}
			x.ca = good
			issued := serials(t, x.site, cuid, token.CertUninitialized)
			if len(issued["signing"]) != 1 || len(issued["encryption"]) != 0 {
				t.Fatalf("issued %v", issued)
			}
			if !again {
				x.later(25 * time.Hour)
				must(t, x.engine().Sweep(t.Context()))
				if got := serials(t, x.site, cuid, token.CertRevoked); !slices.Equal(got["signing"], issued["signing"]) {
					t.Errorf("revoked are %v, want %v", got, issued)
				}
				continue
			}
			_, err = x.run(tps.OpRenew, card)
			must(t, err)
			after := x.lastActive(t, cuid)
			if after["signing"].Serial != issued["signing"][0] || after["encryption"].ID == before["encryption"].ID {
				t.Errorf("issued %v, then active %s", issued, after["signing"].Serial)
			}
			if err := x.carriesLast(t, card, "7351924"); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDEF61: however many certificates a key has had, it gets one at each renewal, and
// so does every other key.
func TestDEF61(t *testing.T) {
	eachFamily(t, func(t *testing.T, f cutFamily) {
		x, card, cuid := renewing(t, f, nil)
		for round := 2; round < 4; round++ {
			_, err := x.run(tps.OpRenew, card)
			must(t, err)
			for keyType, all := range serials(t, x.site, cuid, token.CertActive) {
				if len(all) != round {
					t.Errorf("%s certificates after %d renewals: %v", keyType, round-1, all)
				}
			}
		}
		if err := x.carriesLast(t, card, "7351924"); err != nil {
			t.Error(err)
		}
	})
}

// TestRenewFormerCertificates: the certificates that a key had which reads messages stay
// on a CoolKey card, the newest of them where there is no room for all, unless its policy
// says otherwise.
func TestRenewFormerCertificates(t *testing.T) {
	t.Parallel()
	const numbers = 6 // that are left
	for _, c := range []struct {
		policy, heap        string
		rounds, least, most int
	}{{"", "8192", numbers, numbers, numbers}, {"", "3600", numbers, 1, numbers - 1}, {"RENEW_KEEP_OLD_ENC_CERTS=NO", "8192", 1, 0, 0}} {
		x, card, cuid := renewing(t, coolkeyCuts, map[string]string{"[applet]": "[enroll]\ncompress = false\n[applet]\nheap = " + c.heap})
		x.change(cuid, func(r *token.Token) { r.Policy = c.policy })
		had := []string{x.lastActive(t, cuid)["encryption"].Serial}
		for range c.rounds {
			_, err := x.run(tps.OpRenew, card)
			must(t, err)
			had = append(had, x.lastActive(t, cuid)["encryption"].Serial)
		}
		var got []string
		for _, f := range combinedOn(t, card).Formers() {
			cert, err := x509.ParseCertificate(f.DER)
			must(t, err)
			if f.Of != 2 || f.Number == 1 || f.Number == 2 {
				t.Errorf("former certificate %d of %d", f.Number, f.Of)
			}
			got = append(got, fmt.Sprintf("%X", cert.SerialNumber))
		}
		slices.Reverse(had)
		if n := len(got); n < c.least || n > c.most || !slices.Equal(got, had[1:1+n]) {
			t.Errorf("policy %q, heap %s: the card has %v of %v", c.policy, c.heap, got, had)
		}
		if err := x.carriesLast(t, card, "7351924"); err != nil {
			t.Errorf("policy %q, heap %s: %v", c.policy, c.heap, err)
		}
	}
}

// TestRenewForbiddenMeanwhile: a renewal that was cut goes on without the key of which an
// agent has said meanwhile that it is compromised or held. What was issued for it is not
// on the card, and is revoked.
func TestRenewForbiddenMeanwhile(t *testing.T) {
	t.Parallel()
	for _, action := range []tps.CertificateAction{tps.ActionRevoke, tps.ActionHold} {
		x, card, cuid := renewing(t, pivCuts, nil)
		old := x.lastActive(t, cuid)
		_, err := x.run(tps.OpRenew, lostAnswer(t, card, piv.InsPutData))
		wantStatus(t, err, tps.StatusRenewal)
		_, err = x.engine().ChangeCertificate(t.Context(), tps.CertificateChange{ID: old["signing"].ID, Action: action, Reason: ca.ReasonKeyCompromise, By: "agent"})
		must(t, err)
		_, err = x.run(tps.OpRenew, card)
		must(t, err)
		certs, err := x.db.CertificatesOf(t.Context(), cuid)
		must(t, err)
		for _, c := range certs {
			if good := c.State == token.CertActive; good == (c.KeyType == "signing") {
				t.Errorf("%s: the %s certificate %s is %s", action, c.KeyType, c.Serial, c.State)
			}
		}
		c, err := piv.ReadCertificate(t.Context(), pivCard(t, card), piv.Signature)
		must(t, err)
		if len(certs) != 8 || !c.Equal(parsed(t, old["signing"])) {
			t.Errorf("%s: %d certificates, the card shows %X", action, len(certs), c.SerialNumber)
		}
	}
}
