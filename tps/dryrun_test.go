package tps_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/ca"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
	"inkan/tps/wire"
)

// stepLog is a log that keeps the steps of operations, in order.
type stepLog struct {
	mu    sync.Mutex
	steps []tps.StepName
}

func (l *stepLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *stepLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *stepLog) WithGroup(string) slog.Handler            { return l }

func (l *stepLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.Message == "step" {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "step" {
				l.steps = append(l.steps, tps.StepName(a.Value.String()))
			}
			return true
		})
	}
	return nil
}

// take returns the steps since it was last called.
func (l *stepLog) take() []tps.StepName {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.steps
	l.steps = nil
	return s
}

// readCard is a card of which the test says that it is only read.
type readCard struct {
	apdu.Card
	t *testing.T
}

func (c readCard) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if !wire.Reads(cmd) {
		c.t.Errorf("a dry run sends %X", cmd)
	}
	return c.Card.Transmit(ctx, cmd)
}

// rehearsing is a site on which operations are told of before they are done.
type rehearsing struct {
	*site
	t      *testing.T
	steps  *stepLog
	ca     *watchedCA
	writes *storetest.Faults
	log    *memoryAudit
}

func newRehearsing(t *testing.T) *rehearsing {
	s := newSite(t)
	x := &rehearsing{site: s, t: t, steps: &stepLog{}, ca: s.watched(), writes: storetest.NewFaults(s.db), log: &memoryAudit{}}
	s.log, s.audit = slog.New(x.steps), x.log
	s.stores = tps.Stores{Tokens: x.writes, Certificates: x.writes, Activities: x.writes, Journals: x.writes, Locks: x.writes}
	return x
}

// known is all that is kept of a card.
func (x *rehearsing) known(cuid apdu.CUID) string {
	x.t.Helper()
	ctx := context.Background()
	rec, err := x.db.Token(ctx, cuid)
	if err != nil && !errors.Is(err, token.ErrNotFound) {
		x.t.Fatal(err)
	}
	certs, err := x.db.CertificatesOf(ctx, cuid)
	must(x.t, err)
	return fmt.Sprintf("%+v %+v %+v %v", rec, certs, x.openOn(x.t, cuid), x.ca.of(cuid))
}

// dry tells of an operation, and looks that nothing was done.
func (x *rehearsing) dry(op tps.Operation, card *sim.Card, edit ...func(*client, *tps.Request)) (tps.Preview, error) {
	t := x.t
	t.Helper()
	cuid := card.Info().CUID
	x.steps.take()
	before, activities, writes := x.known(cuid), countActivities(t, x.site), x.writes.Writes()
	events := len(x.log.events)
	c := &client{Card: readCard{card, t}, user: "ada", password: "right"} // no PIN: a question for one would panic
	req := tps.Request{Operation: op, Client: "192.0.2.1", Forms: true}
	for _, e := range edit {
		e(c, &req)
	}
	c.pins, c.cardPINs = nil, nil
	var cl tps.Client = c
	if x.batch {
		cl = batching{c}
	}
	e := x.engine()
	p, err := e.DryRun(t.Context(), req, cl)
	if after := x.known(cuid); after != before {
		t.Errorf("dry run of %s: kept of the card was\n%s\nand is\n%s", op, before, after)
	}
	if n := x.writes.Writes() - writes; n > 2 || countActivities(t, x.site) != activities { // the lock, and back
		t.Errorf("dry run of %s: %d writes", op, n)
	}
	if len(c.tasks) > 0 || c.asked > 0 || len(c.asks) > 0 {
		t.Errorf("dry run of %s: told %v, asked %d and %d times", op, c.tasks, c.asked, len(c.asks))
	}
	last := x.log.events[len(x.log.events)-1]
	for _, e := range x.log.events[events:] {
		if e.Name != "TOKEN_AUTH" && e.Name != "TOKEN_DRY_RUN" {
			t.Errorf("dry run of %s: audited %+v", op, e)
		}
	}
	if last.Name != "TOKEN_DRY_RUN" || (last.Outcome == "success") != (err == nil) || last.CUID != cuid.String() {
		t.Errorf("dry run of %s: audited %+v", op, last)
	}
	if x.busy(t, token.Token{CUID: cuid}) {
		t.Errorf("dry run of %s: the card is locked", op)
	}
	if x.steps.take() != nil {
		t.Errorf("dry run of %s: steps were done", op)
	}
	return p, err
}

func names(steps []tps.PreviewStep) (ns []tps.StepName) {
	for _, s := range steps {
		ns = append(ns, s.Name)
	}
	return ns
}

// agrees runs an operation that a dry run told of, and compares.
func (x *rehearsing) agrees(op tps.Operation, card *sim.Card, p tps.Preview, told error, edit ...func(*client, *tps.Request)) {
	t := x.t
	t.Helper()
	ctx, cuid := context.Background(), card.Info().CUID
	before := map[string]token.CertState{}
	certs, err := x.db.CertificatesOf(ctx, cuid)
	must(t, err)
	for _, c := range certs {
		before[c.Serial] = c.State
	}
	_, err = x.run(op, card, edit...)
	did := x.steps.take()
	if p.Open != nil && p.Open.Fate == tps.FateFinished {
		if first := names(p.Open.Steps); len(did) < len(first) || !slices.Equal(did[:len(first)], first) || len(p.Steps) > 0 {
			t.Errorf("%s: told of %v first, and then %v; done was %v", op, first, names(p.Steps), did)
		}
		return // what came behind was not told of
	}
	if (err == nil) != (told == nil) || tps.StatusOf(err) != tps.StatusOf(told) {
		t.Errorf("%s: told was %v, done was %v", op, told, err)
	}
	if p.Refusal != nil {
		text, _, _ := strings.Cut(p.Refusal.Text, "what the server needs") // its log says what
		if p.Refusal.Status != tps.StatusOf(err) || !strings.Contains(err.Error(), text) || strings.Contains(p.Refusal.Text, "10.1.2.3") {
			t.Errorf("%s: told was %+v, done was %v", op, p.Refusal, err)
		}
	}
	if !slices.Equal(did, names(p.Steps)) {
		t.Errorf("%s: told of  %v\ndone was %v", op, names(p.Steps), did)
	}
	if p.Refusal != nil && p.Open == nil {
		if p.Before != (tps.PreviewRecord{}) || p.After != (tps.PreviewRecord{}) || p.Certificates != nil || p.Lost != nil {
			t.Errorf("%s: refused, and told of the card: %+v", op, p)
		}
		return
	}
	rec, err := x.db.Token(ctx, cuid)
	if told == nil && (err != nil || p.After != tps.PreviewRecord{State: rec.State, User: rec.UserID}) {
		t.Errorf("%s: told %+v, the record is %s of %q (%v)", op, p.After, rec.State, rec.UserID, err)
	}
	certs, err = x.db.CertificatesOf(ctx, cuid)
	must(t, err)
	var changed, foretold []string
	for _, c := range certs {
		if was, had := before[c.Serial]; had && was != c.State {
			changed = append(changed, fmt.Sprint(c.Serial, was, c.State))
		}
	}
	for _, c := range p.Certificates {
		foretold = append(foretold, fmt.Sprint(c.Serial, c.Before, c.After))
	}
	if slices.Sort(changed); !slices.Equal(changed, slices.Sorted(slices.Values(foretold))) {
		t.Errorf("%s: told that certificates become %v, became %v", op, foretold, changed)
	}
}

// dryState is a condition of a card.
type dryState struct {
	name    string
	model   string                              // of the card; "" = those of the family in turn
	family  string                              // that alone has it; "" = all
	make    func(*rehearsing, string) *sim.Card // of a model; nil = as the factory leaves it
	given   []tps.Operation
	then    func(*rehearsing, *sim.Card) // nil = nothing
	edits   map[string]string            // of the profile
	cut     tps.Operation                // cut behind given; "" = none
	at      float64                      // where, of its exchanges
	request func(*client, *tps.Request)  // nil = as ada
}

// unrecorded is behind all exchanges: only the records were not written.
const unrecorded = 2

var (
	enrolledOnce = []tps.Operation{tps.OpEnroll}
	resuming     = func(_ *client, r *tps.Request) { r.Resume = true }
)

var dryStates = []dryState{
	{name: "new"},
	{name: "formatted", given: []tps.Operation{tps.OpFormat}},
	{name: "enrolled", given: enrolledOnce},
	{name: "held", given: enrolledOnce, edits: map[string]string{"several_active = true": "several_active = true\nold_certs = \"hold\"\n[format]\nrevoke = false"}},
	{name: "renewed by policy", given: enrolledOnce, then: func(x *rehearsing, c *sim.Card) { setPolicy("RENEW=YES")(x.site, c.Info().CUID) }},
	{name: "emptied by policy", given: enrolledOnce, then: func(x *rehearsing, c *sim.Card) {
		setPolicy("FORCE_FORMAT=YES;RESET_PIN_RESET_TO_NO=YES")(x.site, c.Info().CUID)
	}},
	{name: "new keys", given: enrolledOnce, edits: map[string]string{
		`change_on = ["key-changeover"]`: `change_on = ["format", "enroll", "renew", "pin-reset", "key-changeover"]`}},
	{name: "keeps a key", given: enrolledOnce, edits: map[string]string{`type = "encryption"`: "type = \"encryption\"\nkeep = true"}},
	{name: "suspended", given: enrolledOnce, then: func(x *rehearsing, c *sim.Card) { setState(token.Suspended)(x.site, c.Info().CUID) }},
	{name: "somebody else's", given: enrolledOnce, request: as("bob")},
	{name: "an operator's", given: enrolledOnce, request: as("olga")},
	{name: "wrong profile", given: enrolledOnce, request: func(_ *client, r *tps.Request) { r.Profile = "nosuch" }},
	{name: "wrong password", given: enrolledOnce, request: func(c *client, _ *tps.Request) { c.password = "wrong" }},
	{name: "authority silent", given: enrolledOnce, then: func(x *rehearsing, _ *sim.Card) { x.site.ca = notReady{x.ca} }},
	{name: "enrollment cut early", cut: tps.OpEnroll, at: 0.3},
	{name: "enrollment cut late", cut: tps.OpEnroll, at: 0.8},
	{name: "enrollment cut at the end", given: enrolledOnce, cut: tps.OpEnroll, at: 1},
	{name: "enrollment cut, resumed", given: enrolledOnce, cut: tps.OpEnroll, at: 0.7, request: resuming},
	{name: "enrollment cut, somebody else", cut: tps.OpEnroll, at: 0.7, request: as("bob")},
	{name: "format cut", given: enrolledOnce, cut: tps.OpFormat, at: 0.6},
	{name: "renewal cut", given: enrolledOnce, cut: tps.OpRenew, at: 0.9},
	{name: "changeover cut", given: enrolledOnce, cut: tps.OpKeyChangeover, at: 0.9},
	{name: "changeover cut before the old keys go", family: "coolkey", model: "gp-keeps-factory", given: enrolledOnce, cut: tps.OpKeyChangeover, at: 0.95,
		edits: map[string]string{`set = "site"`: `set = "wide"`, "\nversion = 2\n": "\nversion = 3\n"}},
	{name: "PIN reset cut", given: enrolledOnce, cut: tps.OpPINReset, at: 1},
	{name: "enrollment unrecorded", given: enrolledOnce, cut: tps.OpEnroll, at: unrecorded},
	{name: "format unrecorded", given: enrolledOnce, cut: tps.OpFormat, at: unrecorded},
	{name: "foreign", family: "piv", make: guarded},
	{name: "foreign, taken", family: "piv", make: guarded, edits: taking},
	{name: "taken, cut early", family: "piv", model: "yubikey-5.7", make: guarded, edits: taking, cut: tps.OpEnroll, at: 0.4},
	{name: "taken, cut late", family: "piv", model: "yubikey-5.7", make: guarded, edits: taking, cut: tps.OpEnroll, at: 0.5},
	{name: "PUK blocked", family: "piv", given: enrolledOnce, then: func(x *rehearsing, c *sim.Card) {
		guarding{puk: "blocked"}.setPUK(x.t, pivCard(x.t, c), "")
	}},
}

// fate is what becomes of the open operation when op is asked for.
func (st dryState) fate(open *token.Journal, op tps.Operation) string {
	var req tps.Request
	if st.request != nil {
		st.request(&client{}, &req)
	}
	leaves := op == tps.OpPINReset || op == tps.OpKeyChangeover
	switch {
	case open == nil:
		return ""
	case st.at == unrecorded:
		return tps.FateRecorded
	case st.cut == op:
		return tps.FateContinued
	case req.Resume, st.cut == tps.OpRenew && leaves && began(open, tps.StepWrite):
		return tps.FateFinished
	}
	return tps.FateRolledBack
}

// notReady is an authority that does not answer.
type notReady struct{ *watchedCA }

func (notReady) Ready(context.Context) error {
	return fmt.Errorf("dialling 10.1.2.3: %w", ca.ErrUnavailable)
}

// guarded is a card that somebody else uses, with its management key behind its PIN.
func guarded(x *rehearsing, model string) *sim.Card {
	card := withApplet(x.t, model)
	guarding{alg: piv.AES192}.by(x.t, card, x.cards)
	return card
}

// card is a card in a state, before the cut.
func (st dryState) card(x *rehearsing, model string) *sim.Card {
	t := x.t
	t.Helper()
	x.site.ca = x.ca
	var card *sim.Card
	if st.make != nil {
		card = st.make(x, model)
	} else {
		card = newCard(t, model)
	}
	for _, op := range st.given {
		if _, err := x.run(op, card); err != nil {
			t.Fatalf("preparing with %s: %v", op, err)
		}
	}
	if st.then != nil {
		st.then(x, card)
	}
	return card
}

// prepared is a card in a state, cut where the state says so.
func (st dryState) prepared(x *rehearsing, model string) *sim.Card {
	t := x.t
	t.Helper()
	if st.cut == "" {
		return st.card(x, model)
	}
	if st.at == unrecorded {
		card := st.card(x, model)
		stores, f := x.stores, &afterSettling{Records: x.db}
		x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: x.db, Journals: f, Locks: x.db}
		if _, err := x.run(st.cut, card); err == nil {
			t.Fatal("the failing writes were not noticed")
		}
		x.stores = stores
		return card
	}
	whole := st.card(x, model)
	n := whole.Exchanges()
	_, err := x.run(st.cut, whole)
	must(t, err)
	n = whole.Exchanges() - n
	card := st.card(x, model)
	card.Cut(max(1, int(float64(n)*st.at)), sim.After)
	if _, err := x.run(st.cut, card); err == nil {
		t.Fatal("the cut was not noticed")
	}
	card.Insert()
	return card
}

// TestDryRun: what a dry run tells is what is then done, step by step, and itself does
// nothing. In each state all operations are told of, and some of them done. Unless
// INKAN_REAL is set that is one, and each family has every third state.
func TestDryRun(t *testing.T) {
	t.Parallel()
	all := []tps.Operation{tps.OpFormat, tps.OpEnroll, tps.OpRenew, tps.OpPINReset, tps.OpKeyChangeover}
	for turn, family := range []struct {
		cutFamily
		models []string
	}{{coolkeyCuts, []string{"gp-scp03", "gp-scp02", "gp-scp01"}}, {pivCuts, []string{"yubikey-5.7", "piv"}}} {
		for i, st := range dryStates {
			if st.family != "" && st.family != family.name || st.family == "" && !everything() && i%3 != turn {
				continue
			}
			model := cmp.Or(st.model, family.models[i/3%len(family.models)])
			t.Run(fmt.Sprintf("family=%s/state=%s", family.name, st.name), func(t *testing.T) {
				t.Parallel()
				x := newRehearsing(t)
				x.batch = i/3%2 == 0
				edits := map[string]string{"[card]": "[enroll]\nseveral_active = true\n[card]"}
				if model == "gp-scp01" || model == "gp-scp02" {
					edits[`set = "site"`] = `set = "des"`
				}
				maps.Copy(edits, st.edits)
				x.put(family.profile("test", edits))
				for j, done := range all {
					if everything() && st.model == "" && (i+j)%2 != 0 || !everything() && j != i/3%len(all) {
						continue
					}
					x.tells(st, st.prepared(x, model), all, done)
				}
			})
		}
	}
}

// tells has all operations told of, and one done.
func (x *rehearsing) tells(st dryState, card *sim.Card, all []tps.Operation, done tps.Operation) {
	x.t.Helper()
	var edits []func(*client, *tps.Request)
	if st.request != nil {
		edits = append(edits, st.request)
	}
	var p tps.Preview
	var told error
	for _, op := range all {
		open := x.openOn(x.t, card.Info().CUID)
		q, err := x.dry(op, card, edits...)
		if want := st.fate(open, op); err == nil && (q.Open == nil && want != "" || q.Open != nil && q.Open.Fate != want) {
			x.t.Errorf("%s: told of the open operation %+v, which is %s", op, q.Open, want)
		}
		if op == done {
			p, told = q, err
		}
	}
	x.agrees(done, card, p, told, edits...)
}

// TestDryRunLogin: wrong logins of dry runs count as those of operations do, a ticket is
// left for the operation, and a card on which somebody works is not read.
func TestDryRunLogin(t *testing.T) {
	t.Parallel()
	x := newRehearsing(t)
	card := newCard(t, "gp-scp03")
	_, err := x.run(tps.OpEnroll, card)
	must(t, err)
	box := &ticketFor{text: "good"}
	x.adjust = func(c *tps.Config) { c.Tickets = box }
	_, err = x.dry(tps.OpPINReset, card, func(_ *client, r *tps.Request) { r.Ticket = true })
	wantStatus(t, err, tps.StatusLogin)
	if box.op != "" {
		t.Error("the ticket was used up")
	}

	busy := token.Lock{CUID: card.Info().CUID, Node: "node", Boot: fmt.Sprint(x.start, "-", x.boot+1), Session: token.NewID(), Since: time.Now()}
	must(t, x.db.Lock(t.Context(), busy))
	c := &client{Card: card, user: "ada", password: "right"}
	p, err := x.engine().DryRun(t.Context(), tps.Request{Operation: tps.OpFormat}, c)
	wantStatus(t, err, tps.StatusInternal)
	if !errors.Is(err, token.ErrLocked) || p.Refusal != nil || p.Before != (tps.PreviewRecord{}) {
		t.Errorf("%v, told %+v", err, p)
	}
	must(t, x.db.Unlock(t.Context(), busy))

	e := x.engine()
	c.password = "wrong"
	for range 2 { // three times each
		_, err = e.DryRun(t.Context(), tps.Request{Operation: tps.OpFormat}, c)
		wantStatus(t, err, tps.StatusLogin)
	}
	c.password = "right"
	if err := e.Run(t.Context(), tps.Request{Operation: tps.OpFormat}, c); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("an operation behind the wrong logins of dry runs: %v", err)
	}
}

// TestDryRunTells: what people are told beside the steps.
func TestDryRunTells(t *testing.T) {
	t.Parallel()
	x := newRehearsing(t)
	x.put(ecProfile("test", map[string]string{`["key-changeover"]`: `["format", "key-changeover"]`}))
	card := newCard(t, "gp-scp03")
	p, err := x.dry(tps.OpEnroll, card)
	must(t, err)
	if fmt.Sprint(p.Asks) != "[a new PIN of 4 to 10 characters]" || p.Lost != nil || p.Replaced != nil || p.Certificates != nil || p.Open != nil ||
		p.Profile != "test" || p.Revision != 2 || p.Card != card.Info().CUID.String() || p.Before != (tps.PreviewRecord{}) || p.After != (tps.PreviewRecord{State: token.Active, User: "ada"}) {
		t.Errorf("of a new card: %+v", p)
	}
	_, err = x.run(tps.OpEnroll, card)
	must(t, err)
	p, err = x.dry(tps.OpFormat, card)
	must(t, err)
	if len(p.Lost) != 3 || len(p.Certificates) != 2 || p.Certificates[0].After != token.CertRevoked || !strings.Contains(p.Certificates[0].Subject, "Ada") || p.Asks != nil {
		t.Errorf("of a format: %+v", p)
	}
	var told []string
	for _, s := range p.Steps {
		told = append(told, fmt.Sprintf("%s: %s (%s) %t", s.Name, s.Task, s.Detail, s.Irreversible))
	}
	if want := []string{"prepare-applet: PROGRESS_APPLET_BLOCK (1.4.66000001) true", "change-keys: change-keys (factory FF to site 02) true",
		"revoke-certificates: revoke-certificates () false", "record-token: record-token () false"}; !slices.Equal(told, want) {
		t.Errorf("of a format: %q", told)
	}
	if p, err = x.dry(tps.OpEnroll, card); err != nil || fmt.Sprint(p.Replaced) != "[the PIN the signing key the encryption key]" {
		t.Errorf("of another enrollment: %+v (%v)", p, err)
	}
	if p, err = x.dry(tps.OpRenew, card); err != nil || fmt.Sprint(p.Replaced) != "[the signing certificate the encryption certificate]" {
		t.Errorf("of a renewal: %+v (%v)", p, err)
	}
}
