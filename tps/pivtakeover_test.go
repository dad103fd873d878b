package tps_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
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
	"inkan/tps/token"
)

// guarding is how the PIN of a card guards its management key, as ykman and older
// programs leave it.
type guarding struct {
	alg     piv.Algorithm
	derived bool   // from the PIN, in place of stored behind it
	silent  bool   // nothing on the card says so, as piv-go leaves it
	puk     string // of the card; "" = the factory's, "blocked"
}

func (g guarding) String() string {
	how := "stored"
	if g.derived {
		how = "derived"
	} else if g.silent {
		how = "silent"
	}
	return fmt.Sprintf("%v-%s-puk=%s", g.alg, how, g.puk)
}

// put guards the management key of a card whose present one is proved.
func (g guarding) put(t *testing.T, d apdu.Doer, pin string) secret.Secret {
	t.Helper()
	ctx, key, admin := t.Context(), secret.Random(g.alg.KeyLen()), piv.AdminContent{Stored: !g.derived, PUKBlocked: g.puk == "blocked"}
	if g.derived {
		admin.Salt = secret.Random(16).Bytes()
		var err error
		key, err = piv.DerivedManagementKey(pinOf(t, pin), admin.Salt)
		must(t, err)
	} else {
		stored := piv.StoredManagementKey(key)
		if g.silent {
			stored[1], stored[3] = 26, 24 // whatever the key's length
		}
		must(t, piv.PutData(ctx, d, piv.PrintedInformation, stored))
	}
	if !g.silent {
		must(t, piv.PutData(ctx, d, piv.AdminData, admin.Encode()))
	}
	must(t, piv.SetManagementKey(ctx, d, g.alg, key, false))
	return key
}

// by does to a card as the factory left it what its owner did: a PIN, a former key, a key
// in use, and the guarded management key. It returns both keys.
func (g guarding) by(t *testing.T, card *sim.Card, pin string) (former crypto.PublicKey, key secret.Secret) {
	t.Helper()
	ctx, d := t.Context(), pivCard(t, card)
	m, err := piv.ReadMetadata(ctx, d, piv.Management)
	must(t, err)
	if pin != piv.DefaultPIN {
		must(t, piv.ChangePIN(ctx, d, pinOf(t, piv.DefaultPIN), pinOf(t, pin)))
	}
	g.setPUK(t, d, piv.DefaultPUK)
	must(t, piv.Authenticate(ctx, d, m.Algorithm, secret.New(piv.DefaultManagementKey())))
	former, err = piv.Generate(ctx, d, piv.Retired(1), piv.P256, piv.Policy{})
	must(t, err)
	_, err = piv.Generate(ctx, d, piv.Authentication, piv.P256, piv.Policy{})
	must(t, err)
	return former, g.put(t, d, pin)
}

func (g guarding) setPUK(t *testing.T, d apdu.Doer, from string) {
	t.Helper()
	switch g.puk {
	case "":
	case "blocked":
		for range 10 {
			piv.ChangePUK(t.Context(), d, pinOf(t, "00000000"), pinOf(t, "00000000"))
		}
	default:
		must(t, piv.ChangePUK(t.Context(), d, pinOf(t, from), pinOf(t, g.puk)))
	}
}

// withApplet is a card with a PIV applet that is not known anywhere it matters.
func withApplet(t *testing.T, model string) *sim.Card {
	t.Helper()
	card := newCard(t, model)
	if model == "piv" {
		other := newSite(t)
		other.put(pivProfile("test", nil))
		_, err := other.run(tps.OpFormat, card)
		must(t, err)
	}
	return card
}

// taking takes foreign cards and cannot empty those without a card manager.
var taking = map[string]string{"reset = true": "wipe_foreign = true"}

// forgotten is nil for a card on which nothing says that it keeps a management key.
func forgotten(ctx context.Context, d apdu.Doer, pin string) error {
	if b, err := piv.GetData(ctx, d, piv.AdminData); !piv.IsAbsent(err) {
		return fmt.Errorf("admin data %X, %v", b, err)
	}
	p, err := secret.NewPIN([]byte(pin))
	if err != nil {
		return err
	}
	if err := piv.VerifyPIN(ctx, d, p); err != nil {
		return err
	}
	b, err := piv.GetData(ctx, d, piv.PrintedInformation)
	if _, stored := piv.ParseStoredManagementKey(b); stored == nil || err != nil && !piv.IsAbsent(err) {
		return fmt.Errorf("printed information %X, %v", b, err)
	}
	return nil
}

// TestPIVTakeover: a foreign card whose management key is behind its PIN is enrolled with
// that PIN and keeps what the profile does not want; afterwards it is a card like others.
func TestPIVTakeover(t *testing.T) {
	t.Parallel()
	for model, all := range map[string][]guarding{
		"piv":         {{alg: piv.TripleDES}, {alg: piv.AES256, puk: "blocked"}},
		"yubikey-5.4": {{alg: piv.TripleDES, puk: "87654321"}, {alg: piv.TripleDES, derived: true, puk: "blocked"}, {alg: piv.AES128}, {alg: piv.TripleDES, silent: true}},
		"yubikey-5.7": {{alg: piv.AES192}, {alg: piv.AES256, puk: "87654321"}, {alg: piv.AES192, derived: true}, {alg: piv.AES128, silent: true, puk: "blocked"}, {alg: piv.AES256, silent: true, puk: "8402716"}},
	} {
		for _, g := range all {
			t.Run(fmt.Sprintf("model=%s/%v", model, g), func(t *testing.T) {
				t.Parallel()
				s, l := newSite(t), &listening{}
				s.log = l.logger()
				s.put(pivProfile("test", taking))
				card := withApplet(t, model)
				former, key := g.by(t, card, s.cards)
				seen := changes(card)
				c, err := s.run(tps.OpEnroll, seen)
				must(t, err)
				if len(c.asks) != 1 || slices.ContainsFunc(seen.seen, func(cmd []byte) bool { return cmd[1] == piv.InsReset }) {
					t.Errorf("asked %d times; the card got %X", len(c.asks), seen.seen)
				}
				s.wantPIV(card, "7351924")
				must(t, forgotten(t.Context(), pivCard(t, card), "7351924"))
				if m, err := piv.ReadMetadata(t.Context(), pivCard(t, card), piv.Retired(1)); err != nil || !m.Public.(interface{ Equal(crypto.PublicKey) bool }).Equal(former) {
					t.Errorf("the former key is %+v, %v", m, err)
				}
				rec, err := s.db.Token(t.Context(), card.Info().CUID)
				must(t, err)
				if rec.State != token.Active || rec.AppletKeys != (token.AppletKeys{Set: "piv", Version: 1, Algorithm: byte(g.alg)}) {
					t.Errorf("record %+v", rec)
				}
				c, err = s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} }) // with the card's PUK
				must(t, err)
				if len(c.asks) > 0 {
					t.Error("a PIN reset asked for the card's PIN")
				}
				s.wantPIV(card, "9518402")
				if got := leaked(l.everything(t, s), map[string]string{s.cards: "the card's PIN", string(key.Bytes()): "the key behind it"}); len(got) > 0 {
					t.Errorf("in the open: %v", got)
				}
			})
		}
	}
}

// TestPIVTakeoverRefused: what a card with a management key behind its PIN is not asked,
// and how it is afterwards.
func TestPIVTakeoverRefused(t *testing.T) {
	t.Parallel()
	plain := func(*testing.T, *sim.Card) {}
	wrong := func(n int) func(*testing.T, *sim.Card) {
		return func(t *testing.T, card *sim.Card) {
			for range n {
				piv.VerifyPIN(t.Context(), pivCard(t, card), pinOf(t, "000000"))
			}
		}
	}
	for name, c := range map[string]struct {
		profile map[string]string
		hold    func(*testing.T, *sim.Card)
		edit    func(*client, *tps.Request)
		status  tps.Status
		want    string
		silent  string // in its place, of a card that does not say where its key is
		asked   int
		left    int
	}{
		"foreign":          {nil, plain, nil, tps.StatusDisabledToken, "a management key behind its PIN", "not known here and holds a PIN, ", 0, 3},
		"old client":       {taking, plain, func(_ *client, r *tps.Request) { r.Forms = false }, tps.StatusSecureChannel, "keeps its keys behind its PIN, and this client cannot ask for that", "may keep them behind its PIN, and this client cannot ask for that", 0, 3},
		"blocked":          {taking, wrong(3), nil, tps.StatusDisabledToken, "the card's PIN is blocked", "can be emptied only by resetting it, which profile test does not allow", 0, 0},
		"one try left":     {taking, wrong(2), nil, tps.StatusDisabledToken, "one try left, which is not risked", "one try left, which is not risked", 0, 1},
		"wrong twice":      {taking, plain, func(c *client, _ *tps.Request) { c.cardPINs = []string{"000000"} }, tps.StatusLogin, "1 try left", "1 try left", 2, 1},
		"no PIN at all":    {taking, plain, func(c *client, _ *tps.Request) { c.cardPINs = []string{"12", "", "123456789"} }, tps.StatusLogin, "6 to 8 characters", "6 to 8 characters", 3, 3},
		"not what is used": {taking, func(t *testing.T, card *sim.Card) { guardedElsewhere(t, card) }, nil, tps.StatusSecureChannel, "what is there is not its management key; nothing was changed", "not behind the card's PIN either; nothing was changed", 1, 3},
	} {
		for _, silent := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/silent=%v", name, silent), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.put(pivProfile("test", c.profile))
				card := newCard(t, "yubikey-5.7")
				_, key := guarding{alg: piv.AES192, silent: silent}.by(t, card, s.cards)
				c.hold(t, card)
				seen := changes(card)
				edits := []func(*client, *tps.Request){}
				if c.edit != nil {
					edits = append(edits, c.edit)
				}
				want := c.want
				if silent {
					want = c.silent
				}
				person, err := s.run(tps.OpEnroll, seen, edits...)
				wantStatus(t, err, c.status)
				if !strings.Contains(err.Error(), want) || len(person.asks) != c.asked || person.asked > 0 {
					t.Errorf("%v; asked %d times", err, len(person.asks))
				}
				if len(person.asks) > 1 && (!person.asks[1].Invalid || name == "wrong twice" && !strings.Contains(person.asks[1].Description, "wrong PIN, 2 tries left")) {
					t.Errorf("asked again with %+v", person.asks[1])
				}
				if slices.ContainsFunc(seen.seen, func(cmd []byte) bool { return cmd[1] != piv.InsVerify }) {
					t.Errorf("the card got %X", seen.seen)
				}
				if _, err := s.db.Token(t.Context(), card.Info().CUID); !errors.Is(err, token.ErrNotFound) {
					t.Errorf("a record of a card that was refused: %v", err)
				}
				if m, err := piv.ReadMetadata(t.Context(), pivCard(t, card), piv.PIN); err != nil || m.Left != c.left {
					t.Errorf("PIN %+v, %v, want %d tries left", m, err, c.left)
				}
				if name == "not what is used" {
					return
				}
				must(t, piv.Authenticate(t.Context(), pivCard(t, card), piv.AES192, key))
			})
		}
	}
}

// guardedElsewhere stores another key behind the PIN than the card's.
func guardedElsewhere(t *testing.T, card *sim.Card) {
	t.Helper()
	d := pivCard(t, card)
	must(t, piv.VerifyPIN(t.Context(), d, pinOf(t, "8402716")))
	b, err := piv.GetData(t.Context(), d, piv.PrintedInformation)
	must(t, err)
	key, err := piv.ParseStoredManagementKey(b)
	must(t, err)
	must(t, piv.Authenticate(t.Context(), d, piv.AES192, key))
	must(t, piv.SetManagementKey(t.Context(), d, piv.AES192, secret.Random(24), false))
}

// guardKnown has a card of ours keep another management key behind its PIN. One without a
// card manager is then as good as unknown: its record names no keys.
func (s *site) guardKnown(t *testing.T, card *sim.Card, g guarding, forgetRecord bool) {
	t.Helper()
	ctx, cuid := t.Context(), card.Info().CUID
	rec, err := s.db.Token(ctx, cuid)
	must(t, err)
	d := pivCard(t, card)
	key, alg, puk := secret.New(piv.DefaultManagementKey()), piv.Algorithm(rec.AppletKeys.Algorithm), piv.DefaultPUK
	if rec.AppletKeys.Set == "piv" {
		req := tks.SecretRequest{KeySet: "piv", KeyVersion: 1, CUID: cuid, Use: tks.ManagementKey, Algorithm: byte(alg)}
		rep, err := s.local.CardSecret(ctx, req)
		must(t, err)
		key, req.Use = rep.Secret, tks.PUK
		rep, err = s.local.CardSecret(ctx, req)
		must(t, err)
		puk = string(rep.Secret.Bytes())
	} else {
		m, err := piv.ReadMetadata(ctx, d, piv.Management)
		must(t, err)
		alg = m.Algorithm
		must(t, piv.ChangePIN(ctx, d, pinOf(t, piv.DefaultPIN), pinOf(t, s.cards)))
	}
	g.setPUK(t, d, puk)
	must(t, piv.Authenticate(ctx, d, alg, key))
	g.put(t, d, s.cards)
	if forgetRecord {
		rec.AppletKeys = token.AppletKeys{}
		_, err = s.db.ReplaceToken(ctx, rec)
		must(t, err)
	}
}

// TestPIVTakeoverKnown: a card that is known here and keeps another management key than
// its record names is re-keyed with its PIN, which stays; but not where that key is all
// that says which card it is.
func TestPIVTakeoverKnown(t *testing.T) {
	t.Parallel()
	for model, all := range map[string][]guarding{
		"piv":         {{alg: piv.AES128}, {alg: piv.AES128, puk: "blocked"}, {alg: piv.AES256, silent: true}},
		"yubikey-5.4": {{alg: piv.AES128}},
		"yubikey-5.7": {{alg: piv.AES128, puk: "blocked"}},
	} {
		for _, g := range all {
			t.Run(fmt.Sprintf("model=%s/%v", model, g), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.cards = "7351924" // which enrollment gave it
				card := enrolledPIV(t, s, model, nil)
				certs := s.certificatesOf(card)
				s.guardKnown(t, card, g, false)
				if model != "piv" {
					c, err := s.run(tps.OpKeyChangeover, card)
					wantStatus(t, err, tps.StatusSecureChannel)
					if len(c.asks) > 0 || !strings.Contains(err.Error(), "does not have that card's keys") {
						t.Errorf("asked %d times: %v", len(c.asks), err)
					}
					rec, err := s.db.Token(t.Context(), card.Info().CUID)
					must(t, err)
					rec.AppletKeys = token.AppletKeys{}
					_, err = s.db.ReplaceToken(t.Context(), rec)
					must(t, err)
				}
				_, err := s.run(tps.OpPINReset, card)
				wantStatus(t, err, map[bool]tps.Status{true: tps.StatusNotPINResettable, false: tps.StatusSecureChannel}[model == "piv" && g.puk == "blocked"])
				c, err := s.run(tps.OpKeyChangeover, card)
				must(t, err)
				if len(c.asks) != 1 || c.asked != 0 {
					t.Errorf("asked %d times for the card's PIN, %d times for a new one", len(c.asks), c.asked)
				}
				must(t, forgotten(t.Context(), pivCard(t, card), "7351924"))
				s.wantPIV(card, "7351924")
				if again := s.certificatesOf(card); !slices.Equal(again, certs) {
					t.Errorf("certificates %v after %v", again, certs)
				}
				_, err = s.run(tps.OpPINReset, card, func(c *client, _ *tps.Request) { c.pins = []string{"9518402"} })
				must(t, err)
				s.wantPIV(card, "9518402")
			})
		}
	}
}

// TestPIVTakeoverUntold: cards that tell nothing of their PIN and PUK are taken over too.
func TestPIVTakeoverUntold(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{false, true} {
		s := newSite(t)
		s.put(pivProfile("test", taking))
		card := newCard(t, "yubikey-5.4")
		guarding{alg: piv.TripleDES, puk: "87654321", silent: silent}.by(t, card, s.cards)
		mute := oddCard{card, func(cmd []byte) []byte {
			if cmd[1] == piv.InsMetadata {
				return []byte{0x6D, 0x00}
			}
			return nil
		}}
		c, err := s.run(tps.OpEnroll, mute, func(c *client, _ *tps.Request) { c.cardPINs = []string{"000000", s.cards} })
		must(t, err)
		if len(c.asks) != 2 || !strings.Contains(c.asks[1].Description, "cut it may be 123456") {
			t.Errorf("asked %+v", c.asks)
		}
		s.wantPIV(card, "7351924")
		must(t, forgotten(t.Context(), pivCard(t, card), "7351924"))
	}
}

// TestPIVTakeoverUnasked: nobody is asked for the PIN of a new card, nor, where the card
// does not say that its management key is behind its PIN, where it may be emptied.
func TestPIVTakeoverUnasked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		g      guarding
		pin    string
		edits  map[string]string
		resets bool
	}{
		"new PIN":         {guarding{alg: piv.AES192, puk: "blocked"}, piv.DefaultPIN, taking, false},
		"new PIN, silent": {guarding{alg: piv.AES192, silent: true}, piv.DefaultPIN, taking, false},
		"emptied":         {guarding{alg: piv.AES192, silent: true}, "8402716", map[string]string{"reset = true": "reset = true\nwipe_foreign = true"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put(pivProfile("test", c.edits))
			card := newCard(t, "yubikey-5.7")
			c.g.by(t, card, c.pin)
			seen := changes(card)
			person, err := s.run(tps.OpEnroll, seen)
			must(t, err)
			reset := slices.ContainsFunc(seen.seen, func(cmd []byte) bool { return cmd[1] == piv.InsReset })
			if len(person.asks) > 0 || reset != c.resets {
				t.Errorf("asked %+v, reset %v", person.asks, reset)
			}
			s.wantPIV(card, "7351924")
			must(t, forgotten(t.Context(), pivCard(t, card), "7351924"))
		})
	}
}

// TestPIVTakeoverCuts is TestPIVCuts for cards whose management key is behind their PIN:
// whatever is cut, the same again finishes it, with the card's PIN. Unless INKAN_REAL is
// set the places are a sample, on one kind of card; else of that kind they are all.
func TestPIVTakeoverCuts(t *testing.T) {
	t.Parallel()
	family := pivCuts
	family.applet = func(ctx context.Context, x *cutter, d apdu.Doer, rec token.Token) error {
		if err := checkPIV(ctx, x, d, rec); err != nil {
			return err
		}
		return forgotten(ctx, d, map[tps.Operation]string{tps.OpEnroll: "7351924", tps.OpKeyChangeover: "9518402"}[x.op])
	}
	for turn, model := range pivModels {
		for _, c := range []cutCase{{"take-over", tps.OpEnroll, nil}, {"take-over-known", tps.OpKeyChangeover, []tps.Operation{tps.OpEnroll}}} {
			batch := turn == 1 || !everything()
			if !everything() && model != "yubikey-5.7" {
				continue
			}
			t.Run(fmt.Sprintf("operation=%s/model=%s/batch=%v", c.name, model, batch), func(t *testing.T) {
				t.Parallel()
				x := &cutter{site: newSite(t), cutCase: c, family: family, model: model, turn: 2 * turn % 6}
				x.sample = !everything() || model != "yubikey-5.7"
				g := guarding{alg: piv.AES128, puk: "blocked", silent: model == "yubikey-5.7"}
				x.hold = func(t *testing.T, card *sim.Card) { g.by(t, card, x.cards) }
				if c.op == tps.OpKeyChangeover {
					x.cards = "9518402" // which enrollment gave it
					x.hold = func(t *testing.T, card *sim.Card) { x.guardKnown(t, card, g, model != "piv") }
				} else if model == "piv" {
					x.given = []tps.Operation{tps.OpFormat}
					x.hold = func(t *testing.T, card *sim.Card) { x.guardKnown(t, card, g, false) }
				}
				edits := map[string]string{"[card]": "[enroll]\nseveral_active = true\n[card]", "reset = true": "wipe_foreign = true"}
				x.put(pivProfile("test", edits))
				x.report(t, batch, "model="+model)
			})
		}
	}
}

// TestPIVTakeoverRolledBack: another operation than the one that was cut finds a card
// that is known here and has nothing to forget.
func TestPIVTakeoverRolledBack(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(pivProfile("test", taking))
	card := newCard(t, "yubikey-5.7")
	guarding{alg: piv.AES192}.by(t, card, s.cards)
	_, err := s.run(tps.OpEnroll, oddCard{card, func(cmd []byte) []byte {
		if cmd[1] == piv.InsPutData && bytes.Contains(cmd, []byte{0x5F, 0xC1, 0x09}) { // the first thing to forget
			return []byte{0x6F, 0x00}
		}
		return nil
	}})
	wantStatus(t, err, tps.StatusKeyChangeover)
	_, err = s.run(tps.OpKeyChangeover, card)
	must(t, err)
	must(t, forgotten(t.Context(), pivCard(t, card), s.cards))
	c, err := s.run(tps.OpEnroll, card)
	must(t, err)
	if len(c.asks) > 0 {
		t.Errorf("asked %+v", c.asks)
	}
	s.wantPIV(card, "7351924")
}

// TestPIVTakeoverLostAnswer: a card whose key was derived from its PIN, and that a cut left
// with the factory's PIN, is finished with the PIN that the key is derived from.
func TestPIVTakeoverLostAnswer(t *testing.T) {
	t.Parallel()
	for _, op := range []tps.Operation{tps.OpEnroll, tps.OpKeyChangeover} {
		s := newSite(t)
		s.put(pivProfile("test", taking))
		card := newCard(t, "yubikey-5.7")
		guarding{alg: piv.AES192, derived: true, puk: "blocked"}.by(t, card, s.cards)
		_, err := s.run(tps.OpEnroll, lostAnswer(t, card, piv.InsSetRetries))
		wantStatus(t, err, tps.StatusKeyChangeover)
		_, err = s.run(op, card)
		must(t, err)
		must(t, forgotten(t.Context(), pivCard(t, card), map[tps.Operation]string{tps.OpEnroll: "7351924", tps.OpKeyChangeover: s.cards}[op]))
	}
}
