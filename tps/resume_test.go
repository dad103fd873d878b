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
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

// combinedOn reads the combined object of a card.
func combinedOn(t *testing.T, card *sim.Card) coolkey.Combined {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	objects, err := coolkey.ListObjects(t.Context(), conn)
	must(t, err)
	for _, o := range objects {
		if o.ID == coolkey.IDCombined {
			b, err := coolkey.ReadObject(t.Context(), conn, coolkey.Anonymous(), o.ID, 0, o.Size)
			must(t, err)
			z, err := coolkey.Decode(b)
			must(t, err)
			return z
		}
	}
	t.Fatal("the card has no combined object")
	return coolkey.Combined{}
}

// places are the exchanges at which a test cuts: all, or every third.
func places(n int) (at []int) {
	for i := 1; i <= n; i++ {
		if everything() || i%3 == 0 || i == n {
			at = append(at, i)
		}
	}
	return at
}

// TestSomebodyElse cuts an enrollment; somebody else is refused whatever they ask
// for and changes nothing, an operator finishes it: for the person who began it.
func TestSomebodyElse(t *testing.T) {
	t.Parallel()
	for name, given := range map[string][]tps.Operation{"new": nil, "re-enrolled": {tps.OpEnroll}} {
		t.Run("card="+name, func(t *testing.T) {
			t.Parallel()
			x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, given}, map[string]string{
				"[enroll]": "[enroll]\nlabel = \"$auth.cn$, $auth.mail$\"",
			})
			for _, n := range places(x.exchanges(t)) {
				card := x.cutCard(t, n, sim.After)
				cuid := cuidOf(t, card)
				open := x.openOn(t, cuid)
				if open == nil {
					continue
				}
				x.strangers(t, card, *open)
				if _, err := x.run(tps.OpEnroll, card, as("olga")); err != nil {
					t.Errorf("exchange %d: the operator: %v", n, err)
					continue
				}
				if err := x.check(t, card); err != nil {
					t.Errorf("exchange %d: %v", n, err)
				}
				x.belongsToAda(t, card)
				_, err := x.run(tps.OpPINReset, card, as("olga"))
				wantStatus(t, err, tps.StatusNotOwner)
			}
		})
	}
}

// strangers asks for everything as bob.
func (x *cutter) strangers(t *testing.T, card *sim.Card, open token.Journal) {
	t.Helper()
	for _, op := range []tps.Operation{tps.OpEnroll, tps.OpFormat, tps.OpRenew, tps.OpPINReset, tps.OpKeyChangeover} {
		for _, resume := range []bool{false, true} {
			_, err := x.run(op, card, as("bob"), func(_ *client, r *tps.Request) { r.Resume = resume })
			if got := tps.StatusOf(err); err == nil || got != tps.StatusNotOwner {
				t.Errorf("bob asks for %s, resume=%v: %v (status %d)", op, resume, err, got)
			}
		}
	}
	if j := x.openOn(t, open.CUID); j == nil || j.ID != open.ID || j.Revision != open.Revision {
		t.Errorf("bob changed the open journal %+v to %+v", open, j)
	}
}

// belongsToAda sees nobody but ada in record, certificates and on the card.
func (x *cutter) belongsToAda(t *testing.T, card *sim.Card) {
	t.Helper()
	certs, err := x.db.CertificatesOf(t.Context(), cuidOf(t, card))
	must(t, err)
	for _, c := range certs {
		cert, err := x509.ParseCertificate(c.DER)
		must(t, err)
		if c.UserID != "ada" || cert.Subject.CommonName != "Ada Lovelace" || !strings.Contains(c.Subject, "ada") || strings.Contains(c.Subject, "olga") ||
			!slices.Equal(cert.EmailAddresses, []string{"ada@example.org"}) {
			t.Errorf("certificate of %s for %s, mail %v", c.UserID, c.Subject, cert.EmailAddresses)
		}
	}
	z := combinedOn(t, card)
	if z.Label != "Ada Lovelace, ada@example.org" {
		t.Errorf("the card is called %q", z.Label)
	}
	for _, c := range z.Certificates() {
		if !strings.HasSuffix(c.Label, "key for ada") {
			t.Errorf("label %q", c.Label)
		}
	}
}

// TestOperatorHasCards: other cards of the operator do not stand in the way.
func TestOperatorHasCards(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, nil}, map[string]string{"[applet]": "[enroll]\nseveral_active = false\n[applet]"})
	_, err := x.run(tps.OpEnroll, newCard(t, "gp-scp03"), as("olga"))
	must(t, err)
	card := newCard(t, "gp-scp03")
	card.Cut(40, sim.After)
	if _, err := x.run(tps.OpEnroll, card); err == nil {
		t.Fatal("not cut")
	}
	card.Insert()
	_, err = x.run(tps.OpEnroll, card, as("olga"))
	must(t, err)
	must(t, x.check(t, card))
}

// TestProfileChanged: an unfinished enrollment is finished with the revision of
// the profile that it was begun with.
func TestProfileChanged(t *testing.T) {
	t.Parallel()
	third := "[[key]]\ntype = \"login\"\ncert = 3\nalg = \"p256\"\nca_profile = \"authentication\"\nprivate = [\"sign\", \"private\", \"token\"]\npublic = [\"verify\", \"token\"]\n[[key]]\ntype = \"signing\""
	edits := map[string]string{"[applet]": "[enroll]\nseveral_active = true\n[applet]", "signing key for": "other key for", "[[key]]\ntype = \"signing\"": third}
	for _, resume := range []bool{false, true} {
		t.Run(fmt.Sprintf("resume=%v", resume), func(t *testing.T) {
			t.Parallel()
			x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, nil}, nil)
			var cards []*sim.Card
			for _, n := range places(x.exchanges(t)) {
				cards = append(cards, x.cutCard(t, n, sim.After))
			}
			x.put(ecProfile("test", edits))
			finish := tps.OpEnroll
			if resume { // by another operation
				finish = tps.OpPINReset
			}
			for _, card := range cards {
				if x.openOn(t, cuidOf(t, card)) == nil {
					continue
				}
				_, err := x.run(finish, card, func(_ *client, r *tps.Request) { r.Resume = resume })
				must(t, err)
				must(t, x.check(t, card))
				certs := combinedOn(t, card).Certificates()
				if len(certs) != 2 || certs[0].Label != "signing key for ada" {
					t.Errorf("certificates %+v", certs)
				}
			}
			_, err := x.run(tps.OpEnroll, cards[len(cards)-1])
			must(t, err)
			if certs := combinedOn(t, cards[len(cards)-1]).Certificates(); len(certs) != 3 {
				t.Errorf("enrolled anew: %d certificates, want those of the new revision", len(certs))
			}
		})
	}
}

// TestLostMeanwhile has an agent declare a card lost while an operation on it is
// unfinished: neither finishing nor rolling back makes it anything else.
func TestLostMeanwhile(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, []tps.Operation{tps.OpEnroll}}, nil)
	n, turn := x.exchanges(t), 0
	for _, state := range []token.State{token.PermLost, token.Suspended, token.Terminated, token.Damaged} {
		for _, i := range places(n) {
			next := []tps.Operation{tps.OpEnroll, tps.OpFormat, tps.OpPINReset}[turn%3]
			if turn++; !everything() && turn%2 == 0 {
				continue
			}
			card := x.cutCard(t, i, sim.After)
			cuid := cuidOf(t, card)
			x.change(cuid, func(r *token.Token) { r.State = state })
			if _, err := x.run(next, card); err == nil {
				t.Errorf("exchange %d: %s of a card that is %s", i, next, state)
			}
			must(t, x.engine().Sweep(t.Context()))
			if rec, err := x.db.Token(t.Context(), cuid); err != nil || rec.State != state {
				t.Errorf("exchange %d, then %s: the card was %s, its record says %s (%v)", i, next, state, rec.State, err)
			}
		}
	}
}

// TestLostBeforeItsRecord: the card is done, its record is not written yet, and an
// agent declares it lost. Its certificates do not become valid.
func TestLostBeforeItsRecord(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, nil}, nil)
	card, cuid := x.unrecorded(t)
	x.change(cuid, func(r *token.Token) { r.State = token.PermLost })
	must(t, x.engine().Sweep(t.Context()))
	rec, err := x.db.Token(t.Context(), cuid)
	must(t, err)
	if rec.State != token.PermLost || rec.UserID != "ada" || x.openOn(t, cuid) != nil {
		t.Errorf("record %+v", rec)
	}
	if valid := x.ca.(*watchedCA).of(cuid); len(valid) != 0 {
		t.Errorf("valid certificates %v", valid)
	}
	_, err = x.run(tps.OpFormat, card)
	wantStatus(t, err, tps.StatusLostToken)
}

// unrecorded is a card whose operation is done but for the records: every write
// after the settling step's intent failed.
func (x *cutter) unrecorded(t *testing.T) (*sim.Card, apdu.CUID) {
	t.Helper()
	card := x.prepared(t)
	t.Cleanup(func() { card.Close() })
	f := &afterSettling{Records: x.db}
	x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: x.db, Journals: f, Locks: x.db}
	if _, err := x.run(x.op, card); err == nil {
		t.Fatal("the failing writes were not noticed")
	}
	x.whole(x.ca)
	return card, cuidOf(t, card)
}

// afterSettling is a store that fails once the record step's intent is written.
type afterSettling struct {
	storetest.Records
	down bool
}

var errDown = fmt.Errorf("down: %w", token.ErrUnavailable)

func (f *afterSettling) ReplaceJournal(ctx context.Context, j token.Journal) (token.Journal, error) {
	if f.down {
		return token.Journal{}, errDown
	}
	f.down = j.Entries[len(j.Entries)-1].Step == string(tps.StepRecord)
	return f.Records.ReplaceJournal(ctx, j)
}

func (f *afterSettling) ReplaceCertificate(ctx context.Context, c token.Certificate) (token.Certificate, error) {
	if f.down {
		return token.Certificate{}, errDown
	}
	return f.Records.ReplaceCertificate(ctx, c)
}

func (f *afterSettling) ReplaceToken(ctx context.Context, r token.Token) (token.Token, error) {
	if f.down {
		return token.Token{}, errDown
	}
	return f.Records.ReplaceToken(ctx, r)
}

// TestOrphansThenFinished: certificates that nobody confirmed for a day are
// revoked; who comes back after that gets others.
func TestOrphansThenFinished(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, nil}, nil)
	orphans := 0
	for _, n := range places(x.exchanges(t)) {
		card := x.cutCard(t, n, sim.Before)
		x.adjust = func(c *tps.Config) { c.Now = func() time.Time { return time.Now().Add(25 * time.Hour) } }
		must(t, x.engine().Sweep(t.Context()))
		cuid := cuidOf(t, card)
		certs, err := x.db.CertificatesOf(t.Context(), cuid)
		must(t, err)
		for _, c := range certs {
			orphans++
			if c.State != token.CertRevoked {
				t.Errorf("exchange %d: certificate is %s a day later", n, c.State)
			}
		}
		if _, err := x.run(x.op, card); err != nil {
			t.Errorf("exchange %d: %v", n, err)
			continue
		}
		if err := x.check(t, card); err != nil {
			t.Errorf("exchange %d: %v", n, err)
		}
		x.adjust = nil
	}
	if orphans == 0 {
		t.Error("no cut left an orphan")
	}
}

// TestForcedFormat: an agent forces a format while an enrollment is unfinished
// whose certificate nobody recorded. The keys are made anew; the certificate of
// the old ones does not stay valid.
func TestForcedFormat(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, []tps.Operation{tps.OpEnroll}}, nil)
	card := x.prepared(t)
	defer card.Close()
	x.stores.Certificates = noCertificates{Records: x.db}
	if _, err := x.run(x.op, card); err == nil {
		t.Fatal("the failing write was not noticed")
	}
	x.whole(x.ca)
	cuid := cuidOf(t, card)
	if valid := x.ca.(*watchedCA).of(cuid); len(valid) != 3 {
		t.Fatalf("%d valid certificates, want two recorded and one that is not", len(valid))
	}
	x.change(cuid, func(r *token.Token) { r.Policy = "FORCE_FORMAT=YES" })
	_, err := x.run(x.op, card)
	must(t, err)
	must(t, x.check(t, card))
}

// noCertificates cannot add any.
type noCertificates struct{ storetest.Records }

func (noCertificates) CreateCertificate(context.Context, token.Certificate) (token.Certificate, error) {
	return token.Certificate{}, errDown
}

// hangingUp ends a context at the n-th exchange.
type hangingUp struct {
	apdu.Card
	n      int
	hangUp func()
}

func (h *hangingUp) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if h.n--; h.n == 0 {
		h.hangUp()
	}
	return h.Card.Transmit(ctx, cmd)
}

// TestHangUp: whoever hangs up after the first irreversible step has begun does
// not stop the operation, the first time and when it is resumed.
func TestHangUp(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"enroll", tps.OpEnroll, nil}, nil)
	card := x.cutCard(t, 40, sim.After)
	for what, card := range map[string]*sim.Card{"first": newCard(t, "gp-scp03"), "resumed": card} {
		ctx, cancel := context.WithCancel(t.Context())
		hanging := &hangingUp{Card: card, n: 30, hangUp: cancel}
		c := &client{Card: hanging, user: "ada", password: "right", pins: []string{"7351924"}}
		if err := x.engine().Run(ctx, tps.Request{Operation: x.op}, c); err != nil || ctx.Err() == nil {
			t.Errorf("%s: %v (hung up: %v)", what, err, ctx.Err())
			continue
		}
		must(t, x.check(t, card))
	}
}

// TestBadPINLeavesNothing: a PIN that is refused leaves no trace of a card that
// nobody knew.
func TestBadPINLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	card := newCard(t, "gp-scp03")
	_, err := s.run(tps.OpEnroll, card, func(c *client, _ *tps.Request) { c.pins = []string{"1111"} })
	wantStatus(t, err, tps.StatusSetPIN)
	cuid := cuidOf(t, card)
	if _, err := s.db.Token(t.Context(), cuid); !errors.Is(err, token.ErrNotFound) || s.openOn(t, cuid) != nil {
		t.Errorf("a record or a journal is left (%v)", err)
	}
	_, err = s.run(tps.OpEnroll, card, as("bob"))
	must(t, err)
}

// TestLabelWithoutValue: a label that this person has no value for is refused
// while the card is as it was.
func TestLabelWithoutValue(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"label = \"$auth.upn$\"\nseveral_active", "label = \"$auth.department$\"\nseveral_active"} {
		s := newSite(t)
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		s.people.all["ada"] = auth.Person{ID: "ada", Name: "Ada Lovelace"}
		s.put(ecProfile("test", map[string]string{"[applet]": "[enroll]\n" + pattern + " = true\n[applet]"}))
		_, err = s.run(tps.OpEnroll, card)
		wantStatus(t, err, tps.StatusMisconfiguration)
		unharmed(t, s, card, onlyToken(t, s))
	}
}
