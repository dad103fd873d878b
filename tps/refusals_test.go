package tps_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/ca"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// brokenCA cannot be reached.
type brokenCA struct{ ca.Authority }

func (brokenCA) Ready(context.Context) error { return ca.ErrUnavailable }

// fullDisk is a store whose writes fail.
type fullDisk struct{ journals }

type journals interface{ token.Journals }

var errDisk = fmt.Errorf("database or disk is full: %w", token.ErrUnavailable)

func (fullDisk) BeginJournal(context.Context, token.Journal) (token.Journal, error) {
	return token.Journal{}, errDisk
}

// goneKeys is a key service whose HSM is gone.
type goneKeys struct{ tks.Service }

func (goneKeys) Random(context.Context, int) ([]byte, error) {
	return nil, fmt.Errorf("token removed: %w", tks.ErrUnavailable)
}

func (goneKeys) CardSecret(context.Context, tks.SecretRequest) (tks.SecretReply, error) {
	return tks.SecretReply{}, fmt.Errorf("token removed: %w", tks.ErrUnavailable)
}

// fullAudit cannot write.
type fullAudit struct{ audit.Log }

func (fullAudit) Record(context.Context, audit.Event) error {
	return errors.New("no space left on device")
}

// TestRefusals runs every refusal on a card that is enrolled, and sees the right
// status, one activity, one audit record, and the card unharmed: the same files,
// the same PIN, usable certificates.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, f := range []cutFamily{coolkeyCuts, pivCuts} {
		t.Run("family="+f.name, func(t *testing.T) {
			t.Parallel()
			testRefusals(t, f)
		})
	}
}

func testRefusals(t *testing.T, f cutFamily) {
	renewing := func(rule string) func(*site, apdu.CUID) {
		return func(s *site, _ apdu.CUID) {
			rules := "[renewal]\n" + rule + "\n"
			if !strings.HasPrefix(rule, "enabled") {
				rules = "[renewal]\nenabled = true\n" + rule + "\n"
			}
			s.put(f.profile("test", map[string]string{"[renewal]\nenabled = true\n": rules}))
		}
	}
	pins := func(p ...string) func(*client, *tps.Request) {
		return func(c *client, _ *tps.Request) { c.pins = p }
	}
	for _, c := range []struct {
		name   string
		op     tps.Operation
		want   tps.Status
		before func(*site, apdu.CUID)
		edit   []func(*client, *tps.Request)
		logins int
		only   string // family
	}{
		{name: "wrong password", op: tps.OpPINReset, want: tps.StatusLogin, logins: 3,
			edit: []func(*client, *tps.Request){func(c *client, _ *tps.Request) { c.password = "wrong" }}},
		{name: "unknown profile", op: tps.OpEnroll, want: tps.StatusNoMapping,
			edit: []func(*client, *tps.Request){func(_ *client, r *tps.Request) { r.Profile = "nosuch" }}},
		{name: "disabled profile", op: tps.OpEnroll, want: tps.StatusDisabledToken, before: func(s *site, _ apdu.CUID) { s.disable("off") },
			edit: []func(*client, *tps.Request){func(_ *client, r *tps.Request) { r.Profile = "off" }}},
		{name: "terminated", op: tps.OpFormat, want: tps.StatusTerminated, before: setState(token.Terminated)},
		{name: "suspended", op: tps.OpEnroll, want: tps.StatusDisabledToken, before: setState(token.Suspended)},
		{name: "lost", op: tps.OpPINReset, want: tps.StatusLostToken, before: setState(token.PermLost)},
		{name: "formatted has no PIN to reset", op: tps.OpPINReset, want: tps.StatusNotPINResettable, before: setState(token.Formatted)},
		{name: "PIN too short", op: tps.OpPINReset, want: tps.StatusSetPIN, edit: []func(*client, *tps.Request){pins("731")}},
		{name: "PIN too long", op: tps.OpPINReset, want: tps.StatusSetPIN, edit: []func(*client, *tps.Request){pins("73519247351924")}},
		{name: "PIN too simple", op: tps.OpPINReset, want: tps.StatusSetPIN, edit: []func(*client, *tps.Request){pins("123456")}},
		{name: "PIN of one digit", op: tps.OpEnroll, want: tps.StatusSetPIN, edit: []func(*client, *tps.Request){pins("111111")}},
		{name: "somebody else's card", op: tps.OpPINReset, want: tps.StatusNotOwner, edit: []func(*client, *tps.Request){as("bob")}},
		{name: "operator resets no PIN of others", op: tps.OpPINReset, want: tps.StatusNotOwner, edit: []func(*client, *tps.Request){as("olga")}},
		{name: "policy forbids PIN reset", op: tps.OpPINReset, want: tps.StatusNotPINResettable, before: setPolicy("PIN_RESET=NO")},
		{name: "policy forbids enrollment", op: tps.OpEnroll, want: tps.StatusDisabledToken, before: setPolicy("RE_ENROLL=NO")},
		{name: "somebody else's card to renew", op: tps.OpRenew, want: tps.StatusNotOwner, edit: []func(*client, *tps.Request){as("bob")}},
		{name: "operator renews nothing of others", op: tps.OpRenew, want: tps.StatusNotOwner, edit: []func(*client, *tps.Request){as("olga")}},
		{name: "formatted has nothing to renew", op: tps.OpRenew, want: tps.StatusDisabledToken, before: setState(token.Formatted)},
		{name: "too early to renew", op: tps.OpRenew, want: tps.StatusRenewal, before: renewing("before = 1")},
		{name: "none to renew", op: tps.OpRenew, want: tps.StatusDisabledToken, before: renewing("enabled = false")},
		{name: "renewal by another profile", op: tps.OpRenew, want: tps.StatusDisabledToken, before: func(s *site, _ apdu.CUID) { s.put(f.profile("other", nil)) },
			edit: []func(*client, *tps.Request){func(_ *client, r *tps.Request) { r.Profile = "other" }}},
		{name: "no renewal served", op: tps.OpRenew, want: tps.StatusDisabledToken, before: func(s *site, _ apdu.CUID) {
			s.put(f.profile("test", map[string]string{`"renew", `: "", "[renewal]\nenabled = true\n": ""}))
		}},
		{name: "format comes before renewal", op: tps.OpRenew, want: tps.StatusDisabledToken, before: setPolicy("FORCE_FORMAT=YES")},
		{name: "CA gone, renew", op: tps.OpRenew, want: tps.StatusRenewal, before: func(s *site, _ apdu.CUID) { s.ca = brokenCA{s.ca} }},
		{name: "too early to renew instead of enrolling", op: tps.OpEnroll, want: tps.StatusRenewal, before: func(s *site, cuid apdu.CUID) {
			setPolicy("RENEW=YES;RE_ENROLL=NO")(s, cuid)
			renewing("before = 1")(s, cuid)
		}},
		{name: "none to renew instead of enrolling", op: tps.OpEnroll, want: tps.StatusDisabledToken, before: func(s *site, cuid apdu.CUID) {
			setPolicy("RENEW=YES")(s, cuid)
			renewing("enabled = false")(s, cuid)
		}},
		{name: "HSM gone", op: tps.OpFormat, want: tps.StatusSecureChannel, before: func(s *site, _ apdu.CUID) { s.keys = goneKeys{s.local} }},
		{name: "CA gone, enroll", op: tps.OpEnroll, want: tps.StatusEnroll, before: func(s *site, _ apdu.CUID) { s.ca = brokenCA{s.ca} }},
		{name: "CA gone, format", op: tps.OpFormat, want: tps.StatusRevocationFailed, before: func(s *site, _ apdu.CUID) { s.ca = brokenCA{s.ca} }},
		{name: "disk full", op: tps.OpFormat, want: tps.StatusDatabase, before: func(s *site, _ apdu.CUID) { s.stores.Journals = fullDisk{s.db} }},
		{name: "another applet and no load file", op: tps.OpFormat, want: tps.StatusMisconfiguration, before: func(s *site, _ apdu.CUID) {
			s.put(ecProfile("test", map[string]string{"1.4.66000001": "1.4.58768072"}))
		}, only: "coolkey"},
		{name: "a card without card manager, not to be reset", op: tps.OpFormat, want: tps.StatusDisabledToken, before: func(s *site, _ apdu.CUID) {
			s.put(pivProfile("test", map[string]string{"reset = true": "reset = false"}))
		}, only: "piv"},
		{name: "no key version to change to", op: tps.OpKeyChangeover, want: tps.StatusMisconfiguration, before: func(s *site, _ apdu.CUID) {
			edits := map[string]string{"\nversion = 2\n": "\nversion = 0\n"}
			if f.name == "piv" {
				edits["[piv]\n"] = "[piv]\nkey_version = 0\n"
			}
			s.put(f.profile("test", edits))
		}},
		{name: "profile that does not serve", op: tps.OpKeyChangeover, want: tps.StatusDisabledToken, before: func(s *site, _ apdu.CUID) {
			s.put(f.profile("test", map[string]string{`, "key-changeover"]` + "\n[card]": "]\n[card]"}))
		}},
		{name: "operation that does not exist", op: "unblock", want: tps.StatusCannotPerform},
	} {
		if c.only != "" && c.only != f.name {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(f.profile("test", nil))
			card := newCard(t, f.model)
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			cuid := onlyToken(t, s)
			if c.before != nil {
				c.before(s, cuid)
			}
			log := &memoryAudit{}
			s.audit = log
			activities := countActivities(t, s)
			who, err := s.run(c.op, card, c.edit...)
			wantStatus(t, err, c.want)
			if n := countActivities(t, s) - activities; n != 1 {
				t.Errorf("%d activities, want 1", n)
			}
			last := log.events[len(log.events)-1]
			if last.Outcome != audit.Failure || last.Fields["status"] != fmt.Sprint(int(c.want)) {
				t.Errorf("last audit record %+v", last)
			}
			if c.logins != 0 && who.logins != c.logins {
				t.Errorf("%d logins, want %d", who.logins, c.logins)
			}
			if _, err := s.db.OpenJournal(t.Context(), cuid); !errors.Is(err, token.ErrNotFound) {
				t.Errorf("a refusal left an open journal: %v", err)
			}
			f.unharmed(t, s, card, cuid)
		})
	}
}

// unharmed sees a CoolKey card as its enrollment left it.
func unharmed(t *testing.T, s *site, card *sim.Card, cuid apdu.CUID) {
	t.Helper()
	coolkeyCuts.unharmed(t, s, card, cuid)
}

func (f cutFamily) unharmed(t *testing.T, s *site, card *sim.Card, cuid apdu.CUID) {
	t.Helper()
	certs, err := s.db.CertificatesOf(t.Context(), cuid)
	must(t, err)
	var active []string
	for _, c := range certs {
		if c.State == token.CertActive {
			active = append(active, c.Serial)
		}
	}
	slices.Sort(active)
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	p, err := profile.Decode([]byte(f.profile("test", nil)))
	must(t, err)
	if err := f.usable(t.Context(), conn, "7351924", active); err != nil || len(active) != len(p.Key) {
		t.Errorf("the card is harmed: %v, certificates %v", err, active)
	}
}

func onlyToken(t *testing.T, s *site) apdu.CUID {
	t.Helper()
	ts, err := s.db.Tokens(t.Context(), token.Filter{})
	must(t, err)
	if len(ts) != 1 {
		t.Fatalf("%d tokens", len(ts))
	}
	return ts[0].CUID
}

func countActivities(t *testing.T, s *site) int {
	t.Helper()
	as, err := s.db.Activities(t.Context(), token.Filter{Limit: 1000})
	must(t, err)
	return len(as)
}

func setState(st token.State) func(*site, apdu.CUID) {
	return func(s *site, cuid apdu.CUID) { s.change(cuid, func(r *token.Token) { r.State = st }) }
}

func setPolicy(p string) func(*site, apdu.CUID) {
	return func(s *site, cuid apdu.CUID) { s.change(cuid, func(r *token.Token) { r.Policy = p }) }
}

func (s *site) change(cuid apdu.CUID, f func(*token.Token)) {
	s.t.Helper()
	r, err := s.db.Token(context.Background(), cuid)
	must(s.t, err)
	f(&r)
	_, err = s.db.ReplaceToken(context.Background(), r)
	must(s.t, err)
}

// disable stores a profile that is disabled.
func (s *site) disable(name string) {
	s.t.Helper()
	_, err := s.db.PutProfile(context.Background(), profile.Record{Name: token.ProfileName(name), State: profile.Disabled, Document: ecProfile(name, nil)})
	must(s.t, err)
}

func TestUnknownCards(t *testing.T) {
	t.Parallel()
	operator := map[string]string{`allow_unknown = "anyone"`: `allow_unknown = "operator"`}
	t.Run("PIN reset", func(t *testing.T) {
		s := newSite(t)
		_, err := s.run(tps.OpPINReset, newCard(t, "gp-scp03"))
		wantStatus(t, err, tps.StatusUnknownToken)
	})
	t.Run("format by anyone", func(t *testing.T) {
		s := newSite(t)
		s.put(ecProfile("test", operator))
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpFormat, card)
		wantStatus(t, err, tps.StatusUnknownToken)
		_, err = s.run(tps.OpFormat, card, as("olga"))
		must(t, err)
		_, err = s.run(tps.OpEnroll, card) // then the owner may
		must(t, err)
	})
	t.Run("never", func(t *testing.T) {
		s := newSite(t)
		s.put(ecProfile("test", map[string]string{`allow_unknown = "anyone"`: `allow_unknown = "never"`}))
		_, err := s.run(tps.OpFormat, newCard(t, "gp-scp03"), as("olga"))
		wantStatus(t, err, tps.StatusUnknownToken)
	})
	t.Run("software card where none is allowed", func(t *testing.T) {
		s := newSite(t)
		s.noSim = true
		_, err := s.run(tps.OpFormat, newCard(t, "gp-scp03"))
		wantStatus(t, err, tps.StatusUnknownToken)
	})
}

// TestForeignKeys has a card whose keys nobody here knows.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := siteIn(t, t.TempDir()) // with keys of its own
	t.Cleanup(other.close)
	card := newCard(t, "gp-scp03")
	_, err := other.run(tps.OpFormat, card)
	must(t, err)
	_, err = other.run(tps.OpKeyChangeover, card)
	must(t, err)
	_, err = s.run(tps.OpFormat, card)
	wantStatus(t, err, tps.StatusSecureChannel)
	if _, err := other.run(tps.OpEnroll, card); err != nil {
		t.Errorf("the card is harmed: %v", err)
	}
}

// TestClaimedCUID has a client claim another card's CUID, and a card whose KDD
// belongs to another record.
func TestClaimedCUID(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	mine, err := sim.New(sim.Config{Model: "gp-scp03", Serial: 1})
	must(t, err)
	stolen, err := sim.New(sim.Config{Model: "gp-scp03", Serial: 2})
	must(t, err)
	for _, c := range []*sim.Card{mine, stolen} {
		_, err = s.run(tps.OpFormat, c)
		must(t, err)
	}
	log := &memoryAudit{}
	s.audit = log
	must(t, stolen.Reset(t.Context()))
	claim := &claimingCard{Card: mine, cplcOf: stolen}
	_, err = s.run(tps.OpFormat, claim)
	wantStatus(t, err, tps.StatusSecureChannel)
	if !strings.Contains(err.Error(), "claims") {
		t.Errorf("error %v", err)
	}
	found := false
	for _, e := range log.events {
		found = found || e.Name == "TOKEN_KEY_SANITY_CHECK" && e.Outcome == audit.Failure
	}
	if !found {
		t.Errorf("not audited: %+v", log.events)
	}
}

// claimingCard answers GET DATA CPLC with another card's.
type claimingCard struct {
	apdu.Card
	cplcOf apdu.Card
}

func (c *claimingCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) >= 4 && cmd[1] == 0xCA && cmd[2] == 0x9F {
		return c.cplcOf.Transmit(ctx, cmd)
	}
	return c.Card.Transmit(ctx, cmd)
}

// TestDEF71TwoSessions has a second session come while the first waits for a PIN.
func TestDEF71TwoSessions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	e := s.engine()
	var second error
	first := &asking{client: &client{Card: card, user: "ada", password: "right", pins: []string{"7351924"}}, ask: func() {
		second = e.Run(t.Context(), tps.Request{Operation: tps.OpFormat}, &client{Card: card, user: "ada", password: "right"})
	}}
	must(t, e.Run(t.Context(), tps.Request{Operation: tps.OpEnroll}, first))
	wantStatus(t, second, tps.StatusInternal)
	if !errors.Is(second, token.ErrLocked) {
		t.Errorf("second session: %v", second)
	}
	unharmed(t, s, card, onlyToken(t, s))
}

// asking runs something while it is asked for a PIN.
type asking struct {
	*client
	ask func()
}

func (a *asking) NewPIN(ctx context.Context, min, max int) (secret.PIN, error) {
	a.ask()
	return a.client.NewPIN(ctx, min, max)
}

// TestFactoryKeysStayOut: outside a lab no card becomes active on keys that
// everybody knows, and the text names the remedy.
func TestFactoryKeysStayOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.lab = false
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	_, err = s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusSecureChannel)
	if !strings.Contains(err.Error(), "rekey") {
		t.Errorf("no remedy in %q", err)
	}
	_, err = s.run(tps.OpKeyChangeover, card)
	must(t, err)
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
}

// TestOneKeying: the second keying of a card from a published set needs a release.
func TestOneKeying(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpFormat, card)
	must(t, err)
	_, err = s.run(tps.OpKeyChangeover, card)
	must(t, err)
	cuid := onlyToken(t, s)
	rec, err := s.db.Token(t.Context(), cuid)
	must(t, err)
	// The same card's twin, still on factory keys: what a thief would build.
	twin, err := sim.New(sim.Config{Model: "gp-scp03", Serial: serialOf(cuid)})
	must(t, err)
	s.change(cuid, func(r *token.Token) { r.KeySet, r.KeyInfo = tks.Factory, token.KeyInfo{0xFF, 3, 0x70} })
	s.put(ecProfile("wide", map[string]string{`set = "site"`: `set = "wide"`, "\nversion = 2\n": "\nversion = 3\n"}))
	_, err = s.run(tps.OpKeyChangeover, twin, with("wide"))
	wantStatus(t, err, tps.StatusKeyChangeover)
	if !errors.Is(err, tks.ErrDenied) {
		t.Fatalf("error %v", err)
	}
	must(t, s.local.Release(t.Context(), *rec.KDD, "agent"))
	_, err = s.run(tps.OpKeyChangeover, twin, with("wide"))
	must(t, err)
}

// serialOf undoes what the software card makes of its serial number: batch and
// serial number of the CPLC.
func serialOf(c apdu.CUID) uint64 {
	return uint64(c[4])<<40 | uint64(c[5])<<32 | uint64(c[6])<<24 | uint64(c[7])<<16 | uint64(c[8])<<8 | uint64(c[9])
}

// TestAuditFull: a step whose record cannot be written is not taken.
func TestAuditFull(t *testing.T) {
	t.Parallel()
	for _, op := range []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpPINReset, tps.OpKeyChangeover} {
		s := newSite(t)
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		s.audit = fullAudit{}
		_, err = s.run(op, card)
		wantStatus(t, err, tps.StatusInternal) // the login is the first that has to be recorded
		unharmed(t, s, card, onlyToken(t, s))
	}
}

// refusing answers one instruction with a status of its own.
type refusing struct {
	apdu.Card
	ins byte
	sw  apdu.StatusWord
}

func (c *refusing) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if len(cmd) > 1 && cmd[1] == c.ins {
		return apdu.Response{SW: c.sw}.Encode(), nil
	}
	return c.Card.Transmit(ctx, cmd)
}

// TestCardRefusesKeys: a card that takes no new keys keeps its old ones and stays
// usable, also for another operation at once.
func TestCardRefusesKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	_, err = s.run(tps.OpKeyChangeover, &refusing{Card: card, ins: 0xD8, sw: apdu.SWNoMemory})
	wantStatus(t, err, tps.StatusKeyChangeover)
	unharmed(t, s, card, onlyToken(t, s))
	_, err = s.run(tps.OpPINReset, card)
	must(t, err)
	rec, err := s.db.Token(t.Context(), onlyToken(t, s))
	must(t, err)
	if rec.KeySet != tks.Factory {
		t.Errorf("recorded key set %s", rec.KeySet)
	}
}

// TestCardKeepsOldKeys: a card that does not delete its old key version keeps both.
func TestCardKeepsOldKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	_, err = s.run(tps.OpKeyChangeover, card)
	must(t, err)
	s.put(ecProfile("test", map[string]string{`set = "site"`: `set = "wide"`, "\nversion = 2\n": "\nversion = 3\n"}))
	_, err = s.run(tps.OpKeyChangeover, &refusing{Card: card, ins: 0xE4, sw: apdu.SWConditionsOfUse})
	must(t, err)
	rec, err := s.db.Token(t.Context(), onlyToken(t, s))
	must(t, err)
	if rec.KeySet != "wide" || rec.KeyInfo[0] != 3 {
		t.Errorf("record %+v", rec)
	}
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
}

// TestOverwrite: a profile that keeps keys refuses to replace them.
func TestOverwrite(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	s.put(ecProfile("test", map[string]string{"cert = 1\n": "cert = 1\noverwrite = false\n"}))
	_, err = s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusEnroll)
	unharmed(t, s, card, onlyToken(t, s))
}

// TestProfileOfTheCard: where the client names no profile, a PIN reset keeps to the
// rules of the profile that the card was enrolled with.
func TestProfileOfTheCard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("long", map[string]string{"[applet]": "[pin]\nmin = 12\nmax = 16\n[applet]"}))
	card := newCard(t, "gp-scp03")
	pin := func(p string) func(*client, *tps.Request) {
		return func(c *client, _ *tps.Request) { c.pins = []string{p} }
	}
	_, err := s.run(tps.OpEnroll, card, with("long"), pin("739518204617"))
	must(t, err)
	_, err = s.run(tps.OpPINReset, card, pin("7351924"))
	wantStatus(t, err, tps.StatusSetPIN)
	_, err = s.run(tps.OpPINReset, card, pin("284061739528"))
	must(t, err)
}
