package tps_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/token"
)

// Mistakes of Dogtag's that are not repeated, by their numbers in tps-operations
// §24. Others have their test where the behaviour is.

// silentTokens does not answer for records.
type silentTokens struct{ tokens }

type tokens interface{ token.Tokens }

func (silentTokens) Token(context.Context, apdu.CUID) (token.Token, error) {
	return token.Token{}, errDown
}

// TestDEF07StoreFailureIsNotUnknown: a database that does not answer does not make a
// card an unknown one, which would be added and formatted.
func TestDEF07StoreFailureIsNotUnknown(t *testing.T) {
	t.Parallel()
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpRenew, tps.OpPINReset, tps.OpKeyChangeover} {
		s := newSite(t)
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		cuid := onlyToken(t, s)
		before, err := s.db.Token(t.Context(), cuid)
		must(t, err)
		s.stores.Tokens = silentTokens{s.db}
		_, err = s.run(op, card)
		wantStatus(t, err, tps.StatusDatabase)
		if after, err := s.db.Token(t.Context(), cuid); err != nil || after.Revision != before.Revision {
			t.Errorf("%s: the record became %+v (%v)", op, after, err)
		}
		unharmed(t, s, card, cuid)
	}
}

// intercepting answers some commands itself, with what when returns; nil = the card's.
type intercepting struct {
	apdu.Card
	when func(cmd []byte) []byte
	seen [256]int // commands by instruction, those answered here too
}

func (c *intercepting) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) > 1 {
		c.seen[cmd[1]]++
	}
	if a := c.when(cmd); a != nil {
		return a, nil
	}
	return c.Card.Transmit(ctx, cmd)
}

func isRecognition(cmd []byte) bool {
	return len(cmd) > 3 && cmd[1] == 0xCA && cmd[2] == 0x00 && cmd[3] == 0x66
}

// TestDEF08RecognitionData: only a card that has no card recognition data may be of
// the old kind; one that fails to give it is not taken for that, and data in another
// order or with unknown objects say the same.
func TestDEF08RecognitionData(t *testing.T) {
	t.Parallel()
	t.Run("statuses", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		card := newCard(t, "gp-scp03")
		for sw, want := range map[apdu.StatusWord]tps.Status{
			apdu.SWFileNotFound: tps.StatusOK, apdu.SWIncorrectP1P2: tps.StatusOK, apdu.SWReferencedNotFound: tps.StatusOK, apdu.SWInsNotSupported: tps.StatusOK,
			apdu.SWUnknown: tps.StatusSecureChannel, apdu.SWSecurityStatus: tps.StatusSecureChannel, apdu.SWMemoryFailure: tps.StatusSecureChannel,
		} {
			silent := &intercepting{Card: card, when: func(cmd []byte) []byte {
				if isRecognition(cmd) {
					return apdu.Response{SW: sw}.Encode()
				}
				return nil
			}}
			_, err := s.run(tps.OpFormat, silent)
			if want != tps.StatusOK {
				wantStatus(t, err, want)
				if silent.seen[0x50] != 0 {
					t.Errorf("%s: a channel was tried", sw)
				}
			} else if err != nil {
				t.Errorf("%s: %v", sw, err)
			}
		}
	})
	t.Run("order", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		// Tag 64 (the channel) first, an object nobody knows, then the others.
		data := []byte("\x66\x37\x73\x35\x64\x0B\x06\x09\x2A\x86\x48\x86\xFC\x6B\x04\x03\x70\xDF\x20\x02\x01\x02" +
			"\x60\x0B\x06\x09\x2A\x86\x48\x86\xFC\x6B\x02\x02\x01\x63\x09\x06\x07\x2A\x86\x48\x86\xFC\x6B\x03\x06\x07\x2A\x86\x48\x86\xFC\x6B\x01\x90\x00")
		_, err := s.run(tps.OpFormat, &intercepting{Card: newCard(t, "gp-scp03"), when: func(cmd []byte) []byte {
			if isRecognition(cmd) {
				return data
			}
			return nil
		}})
		must(t, err)
		if rec, err := s.db.Token(t.Context(), onlyToken(t, s)); err != nil || !slices.Equal(rec.KeyInfo, token.KeyInfo{0xFF, 3, 0x70}) {
			t.Errorf("record %+v (%v)", rec, err)
		}
	})
}

// TestDEF13FailedUpdateIsAudited fails every part of an applet update.
func TestDEF13FailedUpdateIsAudited(t *testing.T) {
	t.Parallel()
	refuse := apdu.Response{SW: apdu.SWNoMemory}.Encode()
	for name, c := range map[string]struct {
		when func(cmd []byte) bool
		want tps.Status
	}{
		"INSTALL [for load]":    {func(cmd []byte) bool { return cmd[1] == 0xE6 && cmd[2] == 0x02 }, tps.StatusApplet},
		"first LOAD":            {func(cmd []byte) bool { return cmd[1] == 0xE8 && cmd[3] == 0 }, tps.StatusApplet},
		"last LOAD":             {func(cmd []byte) bool { return cmd[1] == 0xE8 && cmd[2] == 0x80 }, tps.StatusApplet},
		"INSTALL [for install]": {func(cmd []byte) bool { return cmd[1] == 0xE6 && cmd[2] == 0x0C }, tps.StatusApplet},
		"issuer's address":      {func(cmd []byte) bool { return cmd[1] == 0xF4 }, tps.StatusApplet},
	} {
		t.Run("at="+name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := enrolled(t, s, "gp-scp03", oldApplet)
			s.put(wanting(midApplet))
			log := &memoryAudit{}
			s.audit = log
			_, err := s.run(tps.OpEnroll, &intercepting{Card: card, when: func(cmd []byte) []byte {
				if len(cmd) > 3 && c.when(cmd) {
					return refuse
				}
				return nil
			}})
			wantStatus(t, err, c.want)
			var outcomes []audit.Outcome
			for _, e := range log.events {
				if e.Name == "TOKEN_APPLET_UPGRADE" {
					outcomes = append(outcomes, e.Outcome)
				}
			}
			if !slices.Equal(outcomes, []audit.Outcome{audit.Attempt, audit.Failure}) {
				t.Errorf("audited %v", outcomes)
			}
			_, err = s.run(tps.OpEnroll, card)
			must(t, err)
			unharmed(t, s, card, onlyToken(t, s))
		})
	}
}

// TestDEF15KeysRecordedAtOnce: a format that fails after the card got new keys does
// not lock the card out.
func TestDEF15KeysRecordedAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	s.put(ecProfile("test", map[string]string{`change_on = ["key-changeover"]`: `change_on = ["format"]`}))
	good := s.ca
	s.ca = &silentCA{Authority: good}
	_, err = s.run(tps.OpFormat, card)
	wantStatus(t, err, tps.StatusRevocationFailed)
	rec, err := s.db.Token(t.Context(), onlyToken(t, s))
	must(t, err)
	if rec.KeySet != "site" || !slices.Equal(rec.KeyInfo, token.KeyInfo{2, 3, 0x70}) {
		t.Errorf("the card has its new keys, its record %s %X", rec.KeySet, []byte(rec.KeyInfo))
	}
	s.ca = good
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	unharmed(t, s, card, rec.CUID)
}

// watched has the site's authority watched.
func (s *site) watched() *watchedCA {
	w := &watchedCA{Authority: s.ca, valid: map[ca.Serial]apdu.CUID{}}
	s.ca = w
	return w
}

// TestDEF19UnrecordedCertificates: an enrollment whose certificate gets no record
// fails, and what was issued does not stay valid.
func TestDEF19UnrecordedCertificates(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	authority := s.watched()
	card := newCard(t, "gp-scp03")
	s.stores.Certificates = noCertificates{Records: s.db}
	_, err := s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusDatabase)
	cuid := onlyToken(t, s)
	if rec, err := s.db.Token(t.Context(), cuid); err != nil || rec.State == token.Active {
		t.Errorf("record %+v (%v)", rec, err)
	}
	if valid := authority.of(cuid); len(valid) != 1 {
		t.Fatalf("issued %v", valid)
	}
	s.stores.Certificates = s.db
	_, err = s.run(tps.OpFormat, card) // rolls back
	must(t, err)
	if valid := authority.of(cuid); len(valid) != 0 {
		t.Errorf("still valid: %v", valid)
	}
}

// tampering changes the answer to the first READ OBJECT after a command with an
// instruction of the card.
type tampering struct {
	apdu.Card
	after byte
	armed bool
	done  bool
}

func (c *tampering) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	answer, err := c.Card.Transmit(ctx, cmd)
	if err != nil || len(cmd) < 2 || c.done {
		return answer, err
	}
	switch {
	case cmd[1] == c.after:
		c.armed = true
	case c.armed && cmd[1] == 0x56 && len(answer) > 8:
		answer[len(answer)-4] ^= 1
		c.done = true
	}
	return answer, nil
}

// TestDEF26ReadBack: a combined object that is not on the card as it was written is
// no success, and the next enrollment writes it again.
func TestDEF26ReadBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	torn := &tampering{Card: card, after: 0x54}
	_, err := s.run(tps.OpEnroll, torn)
	wantStatus(t, err, tps.StatusEnroll)
	if !torn.done || !strings.Contains(err.Error(), "written") {
		t.Errorf("tampered %v: %v", torn.done, err)
	}
	cuid := onlyToken(t, s)
	if rec, err := s.db.Token(t.Context(), cuid); err != nil || rec.State == token.Active {
		t.Errorf("record %+v (%v)", rec, err)
	}
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	unharmed(t, s, card, cuid)
}

// TestDEF29ProofOfPossession: a key whose proof does not verify gets no certificate.
func TestDEF29ProofOfPossession(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	authority := s.watched()
	card := newCard(t, "gp-scp03")
	forged := &tampering{Card: card, after: 0x0D}
	_, err := s.run(tps.OpEnroll, forged)
	wantStatus(t, err, tps.StatusEnroll)
	cuid := onlyToken(t, s)
	certs, cerr := s.db.CertificatesOf(t.Context(), cuid)
	must(t, cerr)
	if valid := authority.of(cuid); !forged.done || len(valid) != 0 || len(certs) != 0 || !strings.Contains(err.Error(), "prove") {
		t.Errorf("tampered %v: %v; issued %v, recorded %v", forged.done, err, valid, certs)
	}
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	unharmed(t, s, card, cuid)
}

// TestDEF32ToldAfterItHappened: nothing says that a certificate is on the card before
// it is.
func TestDEF32ToldAfterItHappened(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log := &memoryAudit{}
	s.audit = log
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, &cutAt{Card: card, ins: 0x54}) // WRITE OBJECT
	wantStatus(t, err, tps.StatusConnectionLost)
	cuid := onlyToken(t, s)
	stored := func() (n int) {
		for _, e := range log.events {
			if e.Outcome == audit.Success && (e.Name == "TOKEN_CONTENTS_WRITE" || e.Name == "TOKEN_ENROLLMENT") {
				n++
			}
		}
		return n
	}
	as, err := s.db.Activities(t.Context(), token.Filter{CUID: &cuid, Limit: 100})
	must(t, err)
	for _, a := range as {
		if a.Operation == "enrollment" && a.Success {
			t.Errorf("activity %+v", a)
		}
	}
	certs, err := s.db.CertificatesOf(t.Context(), cuid)
	must(t, err)
	for _, c := range certs {
		if c.State != token.CertUninitialized {
			t.Errorf("certificate %s is %s", c.Serial, c.State)
		}
	}
	if n := stored(); n != 0 || len(certs) != 2 {
		t.Errorf("audited %d times, with %d certificates", n, len(certs))
	}
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	if n := stored(); n != 2 {
		t.Errorf("audited %d times", n)
	}
}

// TestDEF34OldCertificatesNewKeys cuts a second enrollment and asks for something
// else: before the first new key the old certificates work on; after it none of
// them stays valid without its key.
func TestDEF34OldCertificatesNewKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		ins  byte
		old  token.CertState
	}{{"PIN", 0x04, token.CertActive}, {"key", 0x0D, token.CertRevoked}, {"combined object", 0x54, token.CertRevoked}} {
		t.Run("cut="+c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			authority := s.watched()
			card := newCard(t, "gp-scp03")
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			cuid := onlyToken(t, s)
			old := authority.of(cuid)
			_, err = s.run(tps.OpEnroll, &cutAt{Card: card, ins: c.ins})
			wantStatus(t, err, tps.StatusConnectionLost)
			_, err = s.run(tps.OpPINReset, card)
			certs, cerr := s.db.CertificatesOf(t.Context(), cuid)
			must(t, cerr)
			for _, cert := range certs {
				want := token.CertRevoked
				if slices.Contains(old, cert.Serial) {
					want = c.old
				}
				if cert.State != want {
					t.Errorf("certificate %s is %s, want %s", cert.Serial, cert.State, want)
				}
			}
			if c.old == token.CertActive {
				must(t, err)
				unharmed(t, s, card, cuid)
				return
			}
			wantStatus(t, err, tps.StatusNotPINResettable)
			if valid := authority.of(cuid); len(valid) != 0 {
				t.Errorf("still valid: %v", valid)
			}
		})
	}
}

// TestDEF35ReEnrollment: what a second enrollment replaces is treated as the profile
// says, and not forgotten.
func TestDEF35ReEnrollment(t *testing.T) {
	t.Parallel()
	for old, want := range map[string]struct {
		state  token.CertState
		reason ca.Reason
	}{"": {token.CertRevoked, ca.ReasonSuperseded}, "revoke": {token.CertRevoked, ca.ReasonSuperseded},
		"hold": {token.CertOnHold, ca.ReasonCertificateHold}, "keep": {token.CertActive, 0}} {
		t.Run("old_certs="+old, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			if old != "" {
				s.put(ecProfile("test", map[string]string{"[applet]": fmt.Sprintf("[enroll]\nold_certs = %q\n[applet]", old)}))
			}
			card := newCard(t, "gp-scp03")
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			before, err := s.db.CertificatesOf(t.Context(), onlyToken(t, s))
			must(t, err)
			_, err = s.run(tps.OpEnroll, card)
			must(t, err)
			for _, c := range before {
				now, err := s.db.Certificate(t.Context(), c.ID)
				must(t, err)
				if now.State != want.state || now.Reason != int(want.reason) {
					t.Errorf("certificate %s is %s, reason %d", now.Serial, now.State, now.Reason)
				}
			}
		})
	}
}

// TestDEF38FormatKeepsWhoseItWas: format takes a card's owner, and not the records of
// what the owner had on it: what is to be recovered is found by the person.
func TestDEF38FormatKeepsWhoseItWas(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	cuid := onlyToken(t, s)
	before, err := s.db.CertificatesOf(t.Context(), cuid)
	must(t, err)
	_, err = s.run(tps.OpFormat, card, as("olga"))
	must(t, err)
	_, err = s.run(tps.OpEnroll, card, as("bob"))
	must(t, err)
	certs, err := s.db.Certificates(t.Context(), token.Filter{UserID: "ada", Limit: 10})
	must(t, err)
	if len(certs) != len(before) {
		t.Fatalf("%d certificates of ada, had %d", len(certs), len(before))
	}
	for _, c := range certs {
		if c.UserID != "ada" || c.CUID != cuid || c.Origin != cuid || len(c.DER) == 0 {
			t.Errorf("certificate %+v", c)
		}
	}
	as, err := s.db.Activities(t.Context(), token.Filter{UserID: "ada", Limit: 10})
	must(t, err)
	if !slices.ContainsFunc(as, func(a token.Activity) bool { return a.Operation == "enrollment" && a.CUID == cuid }) {
		t.Errorf("activities of ada: %+v", as)
	}
}

// TestDEF41SelectedManager: every operation works with the card manager that the card
// has, wherever it stands in the list of those allowed.
func TestDEF41SelectedManager(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.adjust = func(c *tps.Config) {
		c.Managers = []apdu.AID{apdu.MustAID("A000000151000000"), apdu.MustAID("A000000018434D00"), apdu.MustAID("A000000003000000")}
	}
	card := newCard(t, "gp-scp03")
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpPINReset, tps.OpKeyChangeover, tps.OpPINReset} {
		if _, err := s.run(op, card); err != nil {
			t.Fatalf("%s: %v", op, err)
		}
	}
	unharmed(t, s, card, onlyToken(t, s))
	s.adjust = func(c *tps.Config) { c.Managers = []apdu.AID{apdu.MustAID("A000000151000000")} }
	_, err := s.run(tps.OpPINReset, card)
	wantStatus(t, err, tps.StatusNoCardManager)
}

// TestDEF42NoPINReset: a profile without PIN reset refuses it, and does not report
// that it was done.
func TestDEF42NoPINReset(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	s.put(ecProfile("test", map[string]string{"[applet]": "[pin]\nreset = false\n[applet]"}))
	c, err := s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.pins = []string{"2846091"} })
	wantStatus(t, err, tps.StatusNotPINResettable)
	if c.asked != 0 {
		t.Error("a PIN was asked for")
	}
	unharmed(t, s, card, onlyToken(t, s))
}

// silentSessions is a key service that derives no session keys.
type silentSessions struct{ tks.Service }

func (silentSessions) DeriveSession(context.Context, tks.SessionRequest) (tks.SessionReply, error) {
	return tks.SessionReply{}, errKeys
}

// TestDEF47FailureIsNoOldKey: a card or a key service that fails is not taken for one
// that needs new keys.
func TestDEF47FailureIsNoOldKey(t *testing.T) {
	t.Parallel()
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpPINReset, tps.OpKeyChangeover} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(ecProfile("test", map[string]string{`change_on = ["key-changeover"]`: `change_on = ["enroll", "pin-reset", "key-changeover"]`}))
			card := newCard(t, "gp-scp03")
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			attempt := func(sw apdu.StatusWord) {
				t.Helper()
				failing := &intercepting{Card: card, when: func(cmd []byte) []byte {
					if len(cmd) > 1 && cmd[0] == 0x80 && cmd[1] == 0x50 && sw != apdu.SWSuccess {
						return apdu.Response{SW: sw}.Encode()
					}
					return nil
				}}
				_, err := s.run(op, failing)
				wantStatus(t, err, tps.StatusSecureChannel)
				if failing.seen[0xD8] != 0 || failing.seen[0xE4] != 0 {
					t.Errorf("status %s: PUT KEY or DELETE was sent", sw)
				}
			}
			for _, sw := range []apdu.StatusWord{apdu.SWUnknown, apdu.SWSecurityStatus, apdu.SWWrongLength, apdu.SWReferencedNotFound} {
				attempt(sw) // the last: the recorded version is not there, and no other is tried
			}
			s.keys = silentSessions{s.local}
			attempt(apdu.SWSuccess)
			s.keys = s.local
			unharmed(t, s, card, onlyToken(t, s))
		})
	}
}

// TestDEF48NoUpdateInPINReset: a PIN reset leaves the applet, whatever version the
// profile wants, and with it keys and certificates.
func TestDEF48NoUpdateInPINReset(t *testing.T) {
	t.Parallel()
	for _, had := range []string{oldApplet, newApplet} {
		s := newSite(t)
		card := enrolled(t, s, "gp-scp03", had)
		s.put(wanting(midApplet))
		counted := &loads{Card: card}
		_, err := s.run(tps.OpPINReset, counted)
		must(t, err)
		cuid := onlyToken(t, s)
		if rec, err := s.db.Token(t.Context(), cuid); err != nil || counted.n.Load() != 0 || appletOn(t, card) != had || rec.AppletID != had {
			t.Errorf("%d commands that delete or load; applet %s, record %+v (%v)", counted.n.Load(), appletOn(t, card), rec, err)
		}
		unharmed(t, s, card, cuid)
	}
}

// TestDEF60OwnerOnly: whoever holds somebody else's card cannot make it theirs.
func TestDEF60OwnerOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	cuid := onlyToken(t, s)
	for _, op := range []tps.Operation{tps.OpPINReset, tps.OpEnroll, tps.OpFormat, tps.OpKeyChangeover} {
		c, err := s.run(op, card, as("bob"), func(c *client, _ *tps.Request) { c.pins = []string{"2846091"} })
		wantStatus(t, err, tps.StatusNotOwner)
		if rec, err := s.db.Token(t.Context(), cuid); err != nil || rec.UserID != "ada" || c.asked != 0 {
			t.Errorf("%s: record %+v (%v), asked for %d PINs", op, rec, err, c.asked)
		}
		unharmed(t, s, card, cuid)
	}
}

// emptyKeys is a key service that answers one call with nothing, and no error.
type emptyKeys struct {
	tks.Service
	call string
}

func (k emptyKeys) Random(ctx context.Context, n int) ([]byte, error) {
	if k.call == "Random" {
		return nil, nil
	}
	return k.Service.Random(ctx, n)
}

func (k emptyKeys) DeriveSession(ctx context.Context, r tks.SessionRequest) (tks.SessionReply, error) {
	if k.call == "DeriveSession" {
		return tks.SessionReply{}, nil
	}
	return k.Service.DeriveSession(ctx, r)
}

func (k emptyKeys) WrapKeySet(ctx context.Context, r tks.KeySetRequest) (tks.KeySetReply, error) {
	if k.call == "WrapKeySet" {
		return tks.KeySetReply{}, nil
	}
	return k.Service.WrapKeySet(ctx, r)
}

func (k emptyKeys) Encrypt(ctx context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	if k.call == "Encrypt" {
		return tks.EncryptReply{}, nil
	}
	return k.Service.Encrypt(ctx, r)
}

// TestDEF67EmptyAnswer: a key service that answers nothing is one that does not
// answer.
func TestDEF67EmptyAnswer(t *testing.T) {
	t.Parallel()
	for call, op := range map[string]tps.Operation{
		"Random": tps.OpFormat, "DeriveSession": tps.OpFormat, "WrapKeySet": tps.OpKeyChangeover, "Encrypt": tps.OpEnroll,
	} {
		t.Run("call="+call, func(t *testing.T) {
			t.Parallel()
			for _, model := range []string{"gp-scp02", "gp-scp03"} {
				s := newSite(t)
				if model == "gp-scp02" {
					s.put(ecProfile("test", map[string]string{`set = "site"`: `set = "des"`}))
				}
				card := newCard(t, model)
				_, err := s.run(tps.OpEnroll, card)
				must(t, err)
				s.keys = emptyKeys{s.local, call}
				_, err = s.run(op, card)
				wantStatus(t, err, tps.StatusSecureChannel)
				if !errors.Is(err, tks.ErrUnavailable) {
					t.Errorf("%v", err)
				}
				s.keys = s.local
				_, err = s.run(tps.OpEnroll, card)
				must(t, err)
				unharmed(t, s, card, onlyToken(t, s))
			}
		})
	}
}
