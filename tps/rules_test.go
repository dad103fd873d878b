package tps_test

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/tps"
	"inkan/tps/audit"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// lastActivity is the newest one.
func lastActivity(t *testing.T, s *site) token.Activity {
	t.Helper()
	as, err := s.db.Activities(t.Context(), token.Filter{Limit: 1})
	must(t, err)
	if len(as) != 1 {
		t.Fatal("no activity")
	}
	return as[0]
}

// failures are the audit records of refusals and failures, by name.
func (m *memoryAudit) failures(name string) (out []audit.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if e.Outcome == audit.Failure && (name == "" || e.Name == name) {
			out = append(out, e)
		}
	}
	return out
}

// guessing types wrong passwords, under another name each time.
type guessing struct {
	*client
	names   []string
	invalid []bool
}

func (g *guessing) Login(ctx context.Context, f auth.Form) (auth.Answers, error) {
	g.user = g.names[len(g.invalid)%len(g.names)]
	g.invalid = append(g.invalid, f.Invalid)
	return g.client.Login(ctx, f)
}

// TestDEF10: a wrong password is asked for again, as often as the profile allows
// and no oftener, and the form says why. Who guesses under other names is slowed
// down for the card, and only for that one.
func TestDEF10(t *testing.T) {
	t.Parallel()
	synctest.Test(t, slowedDown) // the wait of a second does not end while a busy machine guesses
}

func slowedDown(t *testing.T) {
	s := newSite(t)
	s.put(ecProfile("test", map[string]string{"[card]": "[auth]\nretries = 2\n[card]"}))
	e := s.engine()
	card := newCard(t, "gp-scp03")
	guess := func() error {
		g := &guessing{client: &client{Card: card, password: "wrong", pins: []string{"7351924"}}, names: []string{"ada", "bob", "olga", "eve"}}
		err := e.Run(t.Context(), tps.Request{Operation: tps.OpFormat}, g)
		if want := []bool{false, true}; len(g.invalid) > 2 || !slices.Equal(g.invalid, want[:len(g.invalid)]) {
			t.Errorf("forms said invalid: %v", g.invalid)
		}
		return err
	}
	for range 2 {
		if err := guess(); tps.StatusOf(err) != tps.StatusLogin || errors.Is(err, auth.ErrThrottled) {
			t.Fatalf("got %v", err)
		}
	}
	if err := guess(); tps.StatusOf(err) != tps.StatusLogin || !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the fifth wrong password for one card: %v", err)
	}
	right := &client{Card: card, user: "ada", password: "right", pins: []string{"7351924"}}
	if err := e.Run(t.Context(), tps.Request{Operation: tps.OpFormat}, right); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the right one while the card waits: %v", err)
	}
	right.Card = newCard(t, "gp-scp03")
	must(t, e.Run(t.Context(), tps.Request{Operation: tps.OpFormat}, right))
}

// TestDEF11: a login that fails is recorded as what was asked for.
func TestDEF11(t *testing.T) {
	eachOperation(t, func(c *client, _ *tps.Request) { c.password = "wrong" }, tps.StatusLogin)
}

// TestDEF17: so is every other refusal, in the words of one enumeration.
func TestDEF17(t *testing.T) {
	eachOperation(t, func(_ *client, r *tps.Request) { r.Profile = "nosuch" }, tps.StatusNoMapping)
	s := newSite(t)
	_, err := s.run("../unblock", newCard(t, "gp-scp03"))
	wantStatus(t, err, tps.StatusCannotPerform)
	if got := lastActivity(t, s).Operation; got != "unsupported" {
		t.Errorf("an operation that does not exist is recorded as %q", got)
	}
	// A card whose keys are not those recorded: the check of its keys.
	card := newCard(t, "gp-scp03")
	_, err = s.run(tps.OpEnroll, card)
	must(t, err)
	s.change(cuidOf(t, card), func(r *token.Token) { r.KeySet = "site" })
	_, err = s.run(tps.OpEnroll, card)
	wantStatus(t, err, tps.StatusSecureChannel)
	if got := lastActivity(t, s).Operation; got != "enrollment" {
		t.Errorf("foreign keys at an enrollment are recorded as %q", got)
	}
}

func eachOperation(t *testing.T, edit func(*client, *tps.Request), want tps.Status) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	for op, name := range map[tps.Operation]string{
		tps.OpFormat: "format", tps.OpEnroll: "enrollment", tps.OpPINReset: "pin_reset", tps.OpKeyChangeover: "key_changeover",
	} {
		_, err := s.run(op, card, edit)
		wantStatus(t, err, want)
		if a := lastActivity(t, s); a.Operation != name || a.Success {
			t.Errorf("%s: recorded as %+v", op, a)
		}
	}
}

// TestDEF18: a refusal leaves one activity and one audit record, with the same
// reference: another active card, and every refusal of a PIN reset.
func TestDEF18(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		op     tps.Operation
		before func(*site, apdu.CUID)
		want   tps.Status
	}{
		{"another active card", tps.OpEnroll, func(s *site, _ apdu.CUID) {
			_, err := s.run(tps.OpEnroll, newCard(t, "gp-scp03"), as("bob"))
			must(t, err)
			s.people.all["ada"] = auth.Person{ID: "bob", Name: "Bob"} // who logs in as ada is bob, who has that card
			s.change(onlyOf(t, s, "ada"), func(r *token.Token) { r.State, r.UserID = token.Formatted, "" })
		}, tps.StatusOtherActiveToken},
		{"not active", tps.OpPINReset, setState(token.Formatted), tps.StatusNotPINResettable},
		{"policy", tps.OpPINReset, setPolicy("PIN_RESET=NO"), tps.StatusNotPINResettable},
		{"suspended", tps.OpPINReset, setState(token.Suspended), tps.StatusDisabledToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			card := newCard(t, "gp-scp03")
			_, err := s.run(tps.OpEnroll, card)
			must(t, err)
			c.before(s, cuidOf(t, card))
			log := &memoryAudit{}
			s.audit = log
			before := countActivities(t, s)
			_, err = s.run(c.op, card)
			wantStatus(t, err, c.want)
			a, fails := lastActivity(t, s), log.failures("")
			if countActivities(t, s) != before+1 || a.Success || len(fails) != 1 || fails[0].Reference != a.Reference || a.Reference == "" {
				t.Errorf("%d activities more, the last %+v; audit %+v", countActivities(t, s)-before, a, fails)
			}
		})
	}
}

// onlyOf is the only card of a person.
func onlyOf(t *testing.T, s *site, user token.UserID) apdu.CUID {
	t.Helper()
	ts, err := s.db.Tokens(t.Context(), token.Filter{UserID: user})
	must(t, err)
	if len(ts) != 1 {
		t.Fatalf("%d cards of %s", len(ts), user)
	}
	return ts[0].CUID
}

// TestDEF20: a PIN reset of a card that is not known here is refused with status 16.
func TestDEF20(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.run(tps.OpPINReset, newCard(t, "gp-scp03"))
	wantStatus(t, err, 16)
	if a := lastActivity(t, s); a.Operation != "pin_reset" || !strings.Contains(a.Message, "not known here") || strings.Contains(a.Message, "16") {
		t.Errorf("recorded %+v", a)
	}
}

// TestDEF23: $cuid$ is plain and $pretty_cuid$ hyphenated, in the card's label and
// in its keys'.
func TestDEF23(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("test", map[string]string{
		"[applet]":                  "[enroll]\nlabel = \"$cuid$\"\n[applet]",
		"signing key for $userid$":  "s $cuid$",
		"encryption key for $useri": "e $pretty_cuid$ of $useri",
	}))
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	cuid := cuidOf(t, card)
	name, labels := labelsOn(t, card)
	if want := cuid.String(); name != want || len(want) != 20 || strings.ToUpper(want) != want {
		t.Errorf("the card is called %q", name)
	}
	if want := []string{"e " + cuid.Pretty() + " of ada", "s " + cuid.String()}; !slices.Equal(labels, want) {
		t.Errorf("labels %q, want %q", labels, want)
	}
}

// labelsOn reads the names of a card and of its certificates.
func labelsOn(t *testing.T, card apdu.Card) (name string, labels []string) {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	objects, err := coolkey.ListObjects(t.Context(), conn)
	must(t, err)
	for _, o := range objects {
		b, err := coolkey.ReadObject(t.Context(), conn, coolkey.Anonymous(), o.ID, 0, o.Size)
		must(t, err)
		z, err := coolkey.Decode(b)
		must(t, err)
		name = z.Label
		for _, c := range z.Certificates() {
			labels = append(labels, c.Label)
		}
	}
	slices.Sort(labels)
	return name, labels
}

// TestDEF24: what a person's record holds is put into labels and names as it is:
// no variable in it is expanded, and it adds nothing to a name.
func TestDEF24(t *testing.T) {
	t.Parallel()
	const name = `$auth.cn$ $userid$,O=Evil+UID=root`
	s := newSite(t)
	s.people.all["ada"] = auth.Person{ID: "ada", Name: name}
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	if got, _ := labelsOn(t, card); got != name {
		t.Errorf("the card is called %q", got)
	}
	certs, err := s.db.CertificatesOf(t.Context(), cuidOf(t, card))
	must(t, err)
	for _, c := range certs {
		x, err := x509.ParseCertificate(c.DER)
		must(t, err)
		if x.Subject.CommonName != name || len(x.Subject.Organization) != 0 || len(x.Subject.Names) != 2 {
			t.Errorf("subject %q", x.Subject)
		}
		if !strings.Contains(c.Subject, `\,O=Evil\+UID=root`) {
			t.Errorf("recorded subject %s", c.Subject)
		}
	}
}

// TestDEF70: the cause of an operation that fails before anything is known of the
// card is in its audit record.
func TestDEF70(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log := &memoryAudit{}
	s.audit = log
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpFormat, &refusing{Card: card, ins: 0xCA, sw: 0x6F42})
	wantStatus(t, err, tps.StatusSecureChannel)
	_, err = s.run("unblock", card)
	wantStatus(t, err, tps.StatusCannotPerform)
	for name, cause := range map[string]string{"TOKEN_FORMAT": "6F42", "TOKEN_OP_REQUEST": `operation "unblock" does not exist`} {
		if f := log.failures(name); len(f) != 1 || !strings.Contains(f[0].Fields["info"], cause) {
			t.Errorf("%s: %+v, want the cause %s", name, f, cause)
		}
	}
}

// TestDEF72: who has not logged in is nobody: no record bears the claimed name,
// which the audit keeps apart.
func TestDEF72(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log := &memoryAudit{}
	s.audit = log
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card)
	must(t, err)
	s.change(cuidOf(t, card), func(r *token.Token) { r.UserID = "" })
	log.events = nil
	claim := "bob\x1b[31m" + strings.Repeat("x", 100)
	_, err = s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.user, c.password = claim, "wrong" })
	wantStatus(t, err, tps.StatusLogin)
	if a := lastActivity(t, s); a.UserID != "" || strings.Contains(a.Message, "bob") {
		t.Errorf("recorded %+v", a)
	}
	r, err := s.db.Token(t.Context(), cuidOf(t, card))
	must(t, err)
	if r.UserID != "" {
		t.Errorf("the card belongs to %q", r.UserID)
	}
	logins := log.failures("TOKEN_AUTH")
	if len(logins) != 3 {
		t.Fatalf("%d failed logins audited", len(logins))
	}
	for _, e := range log.failures("") {
		if e.Subject != "" {
			t.Errorf("%s by %q", e.Name, e.Subject)
		}
	}
	if got := logins[0].Fields["claim"]; !strings.HasPrefix(got, `bob\x1b[31mxxx`) || len(got) > 80 {
		t.Errorf("claim %q", got)
	}
}
