package tps_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/sim"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/ca"
	"inkan/tps/ca/catest"
	"inkan/tps/store/storetest"
	"inkan/tps/token"
)

// watchedCA remembers what an authority has issued and revoked, by card.
type watchedCA struct {
	ca.Authority
	mu    sync.Mutex
	valid map[ca.Serial]apdu.CUID
	gone  map[ca.Serial]bool // revoked: asked for again it does not become valid
}

func (w *watchedCA) Issue(ctx context.Context, r ca.Request) (ca.Certificate, error) {
	c, err := w.Authority.Issue(ctx, r)
	if err == nil {
		w.mu.Lock()
		if !w.gone[c.Serial] {
			w.valid[c.Serial] = r.CUID
		}
		w.mu.Unlock()
	}
	return c, err
}

func (w *watchedCA) Revoke(ctx context.Context, i ca.Issuer, s ca.Serial, r ca.Reason) error {
	err := w.Authority.Revoke(ctx, i, s, r)
	if err == nil {
		w.mu.Lock()
		delete(w.valid, s)
		if w.gone == nil {
			w.gone = map[ca.Serial]bool{}
		}
		w.gone[s] = true
		w.mu.Unlock()
	}
	return err
}

func (w *watchedCA) Find(ctx context.Context, id string) (ca.Certificate, error) {
	return w.Authority.(interface {
		Find(context.Context, string) (ca.Certificate, error)
	}).Find(ctx, id)
}

func (w *watchedCA) of(cuid apdu.CUID) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for s, c := range w.valid {
		if c == cuid {
			out = append(out, string(s))
		}
	}
	slices.Sort(out)
	return out
}

// faultyKeys fails the n-th call of a key service, before or after it acted.
type faultyKeys struct {
	tks.Service
	n, calls int
	after    bool
}

var errKeys = fmt.Errorf("cut: %w", tks.ErrUnavailable)

func faulty[A any](f *faultyKeys, call func() (A, error)) (A, error) {
	f.calls++
	var zero A
	if f.calls != f.n {
		return call()
	}
	if f.after {
		call()
	}
	return zero, errKeys
}

func (f *faultyKeys) Random(ctx context.Context, n int) ([]byte, error) {
	return faulty(f, func() ([]byte, error) { return f.Service.Random(ctx, n) })
}

func (f *faultyKeys) DeriveSession(ctx context.Context, r tks.SessionRequest) (tks.SessionReply, error) {
	return faulty(f, func() (tks.SessionReply, error) { return f.Service.DeriveSession(ctx, r) })
}

func (f *faultyKeys) WrapKeySet(ctx context.Context, r tks.KeySetRequest) (tks.KeySetReply, error) {
	return faulty(f, func() (tks.KeySetReply, error) { return f.Service.WrapKeySet(ctx, r) })
}

func (f *faultyKeys) Encrypt(ctx context.Context, r tks.EncryptRequest) (tks.EncryptReply, error) {
	return faulty(f, func() (tks.EncryptReply, error) { return f.Service.Encrypt(ctx, r) })
}

func (f *faultyKeys) CardSecret(ctx context.Context, r tks.SecretRequest) (tks.SecretReply, error) {
	return faulty(f, func() (tks.SecretReply, error) { return f.Service.CardSecret(ctx, r) })
}

// cutCase is an operation on a card in a certain condition.
type cutCase struct {
	name  string
	op    tps.Operation
	given []tps.Operation // what was done to the card before
}

var cutCases = []cutCase{
	{"format", tps.OpFormat, []tps.Operation{tps.OpEnroll}},
	{"enroll", tps.OpEnroll, nil},
	{"renew", tps.OpRenew, []tps.Operation{tps.OpEnroll}},
	{"pin-reset", tps.OpPINReset, []tps.Operation{tps.OpEnroll}},
	{"key-changeover", tps.OpKeyChangeover, []tps.Operation{tps.OpEnroll}},
}

// appletCuts are operations that load another version of the applet over the one
// that the card had.
var appletCuts = map[string]cutCase{
	oldApplet: {"update", tps.OpEnroll, []tps.Operation{tps.OpEnroll}},
	newApplet: {"downgrade", tps.OpFormat, []tps.Operation{tps.OpEnroll}},
}

// cutSites are the protocols, each with the key set its cards change to. The
// second SCP03 line changes to longer keys: the new set is added, the old one
// deleted.
var cutSites = []struct {
	scp, model, set string
	version         int
}{
	{"01", "gp-scp01", "des", 2},
	{"02", "gp-scp02", "des", 2},
	{"03", "gp-scp03", "site", 2},
	{"03-256", "gp-scp03", "wide", 3},
}

// TestCuts cuts every operation at every exchange with the card, before and after
// the card acted, and fails every write of the store and every call of the key
// service and the authority; then the same person asks for the same again, once.
// The exchanges are cut one command at a time and in batches, in their middle too;
// the rest only without batches, unless INKAN_REAL is set. Enrollments that update
// the applet and formats that downgrade it are cut at a sample of the places,
// unless INKAN_REAL is set.
func TestCuts(t *testing.T) {
	t.Parallel()
	for _, c := range cutCases {
		cutEverywhere(t, c, "")
	}
	for had, c := range appletCuts {
		cutEverywhere(t, c, had)
	}
}

// cutEverywhere runs a case on cards of all protocols that had a version of the
// applet, without batches and with them. Unless INKAN_REAL is set the places are a
// sample but for SCP03 and the applet that the operation wants.
func cutEverywhere(t *testing.T, c cutCase, had string) {
	for turn, where := range cutSites {
		if where.scp == "03-256" && c.op != tps.OpKeyChangeover || c.op == tps.OpRenew && where.scp != "03" && !everything() {
			continue // a renewal is the end of an enrollment
		}
		for _, batch := range []bool{false, true} {
			t.Run(fmt.Sprintf("operation=%s/scp=%s/batch=%v", c.name, where.scp, batch), func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				edits := map[string]string{
					`set = "site"`: fmt.Sprintf("set = %q", where.set), "\nversion = 2\n": fmt.Sprintf("\nversion = %d\n", where.version),
					"[applet]": "[enroll]\nseveral_active = true\n[applet]",
				}
				if had != "" {
					edits[oldApplet] = had
					s.put(ecProfile("before", edits))
					edits[oldApplet] = midApplet
				}
				s.put(ecProfile("test", edits))
				x := &cutter{site: s, family: coolkeyCuts, model: where.model, had: had, sample: c.sampled(had != "" || where.scp != "03"), turn: 2 * turn % 6, cutCase: c}
				if had != "" {
					x.before = "before"
				}
				x.report(t, batch, "scp="+where.scp)
			})
		}
	}
}

// cutFamily is what the suite needs to know of a family to look at a card behind it.
type cutFamily struct {
	name    string
	model   string // of its cards, where one will do
	profile func(name string, edits map[string]string) string
	applet  func(ctx context.Context, x *cutter, d apdu.Doer, rec token.Token) error // version and keys
	empty   func(ctx context.Context, d apdu.Doer) error
	usable  func(ctx context.Context, d apdu.Doer, pin string, recorded []string) error
}

var coolkeyCuts = cutFamily{name: "coolkey", model: "gp-scp03", profile: ecProfile, empty: checkEmpty, usable: checkUsable,
	applet: func(ctx context.Context, x *cutter, d apdu.Doer, rec token.Token) error {
		if err := x.checkKeys(ctx, d, rec); err != nil {
			return err
		}
		return x.checkApplet(ctx, d, rec)
	}}

// cutter tries one case.
type cutter struct {
	*site
	cutCase
	family           cutFamily
	model            string
	before           string                      // profile that the card was prepared with; "" = the one of the operation
	had              string                      // applet version of the card; "" = the one that the operation wants
	sample           bool                        // not at every place
	turn             int                         // which places are a sample
	hold             func(*testing.T, *sim.Card) // what others do to the card before; nil = nothing
	tried, converged int
}

// sizes are how much there is to cut in one uncut run.
type sizes struct{ exchanges, writes, keys, authority int }

// sampled reports a case that is not cut at every place: one that is like another, unless
// INKAN_REAL is set, and a renewal, which is the end of an enrollment, with either.
func (c cutCase) sampled(like bool) bool {
	if c.op == tps.OpRenew {
		return like || !everything()
	}
	return like && !everything()
}

// at are the places of n to cut at: all, or of an operation that is cut as another
// case already every sixth, on cards of each protocol other ones.
func (x *cutter) at(n int) (at []int) {
	for i := 1; i <= n; i++ {
		if !x.sample || i%6 == x.turn {
			at = append(at, i)
		}
	}
	return at
}

// report tries all there is and prints what came of it. where says which cards.
func (x *cutter) report(t *testing.T, batch bool, where string) {
	x.batch = batch
	x.ca = &watchedCA{Authority: x.ca, valid: map[ca.Serial]apdu.CUID{}}
	x.all(t)
	fmt.Printf("cuts operation=%s family=%s tried=%d converged=%d %s batch=%v\n", x.name, x.family.name, x.tried, x.converged, where, batch)
	if x.tried != x.converged || x.tried == 0 {
		t.Errorf("%d of %d cuts converged", x.converged, x.tried)
	}
}

func (x *cutter) all(t *testing.T) {
	n := x.measure(t)
	for _, after := range []bool{false, true} {
		for _, i := range x.at(n.exchanges) {
			x.try(t, fmt.Sprintf("exchange %d after=%v", i, after), func(card *sim.Card) {
				when := sim.Before
				if after {
					when = sim.After
				}
				card.Cut(i, when)
			})
		}
		if x.batch && !everything() {
			continue // the store and the services behind are no different
		}
		for _, i := range x.at(n.writes) {
			x.try(t, fmt.Sprintf("write %d after=%v", i, after), func(*sim.Card) {
				m := storetest.Before
				if after {
					m = storetest.After
				}
				f := storetest.NewFaults(x.db)
				f.FailAt(i, m)
				x.stores = tps.Stores{Tokens: f, Certificates: f, Activities: f, Journals: f, Locks: f}
			})
		}
		for _, i := range x.at(n.keys) {
			x.try(t, fmt.Sprintf("key service call %d after=%v", i, after), func(*sim.Card) {
				x.keys = &faultyKeys{Service: x.local, n: i, after: after}
			})
		}
		for _, i := range x.at(n.authority) {
			x.try(t, fmt.Sprintf("authority call %d after=%v", i, after), func(*sim.Card) {
				w := catest.Before
				if after {
					w = catest.After
				}
				x.ca = catest.NewFaults(i, w).Authority(x.ca)
			})
		}
	}
}

// measure counts what an uncut run does.
func (x *cutter) measure(t *testing.T) sizes {
	card := x.prepared(t)
	defer card.Close()
	f, k, a := storetest.NewFaults(x.db), &faultyKeys{Service: x.local}, catest.NewFaults(0, catest.Before)
	x.stores, x.keys = tps.Stores{Tokens: f, Certificates: f, Activities: f, Journals: f, Locks: f}, k
	inner := x.ca
	x.ca = a.Authority(inner)
	before := card.Exchanges()
	if _, err := x.run(x.op, card); err != nil {
		t.Fatalf("uncut: %v", err)
	}
	n := sizes{card.Exchanges() - before, f.Writes(), k.calls, a.Calls()}
	x.whole(inner)
	if err := x.check(t, card); err != nil {
		t.Fatalf("uncut: %v", err)
	}
	return n
}

// whole takes all faults away.
func (x *cutter) whole(inner ca.Authority) {
	x.stores = tps.Stores{Tokens: x.db, Certificates: x.db, Activities: x.db, Journals: x.db, Locks: x.db}
	x.keys, x.ca = x.local, inner
}

func (x *cutter) prepared(t *testing.T) *sim.Card {
	t.Helper()
	card, err := sim.New(sim.Config{Model: x.model})
	must(t, err)
	for _, op := range x.given {
		_, err := x.run(op, card, func(c *client, r *tps.Request) {
			c.pins = []string{"9518402"}
			r.TokenType = x.before
		})
		if err != nil {
			t.Fatalf("preparing with %s: %v", op, err)
		}
	}
	if x.hold != nil {
		x.hold(t, card)
	}
	return card
}

// try cuts once and asks again.
func (x *cutter) try(t *testing.T, name string, cut func(*sim.Card)) {
	t.Helper()
	card := x.prepared(t)
	defer card.Close()
	inner := x.ca
	x.tried++
	cut(card)
	_, first := x.run(x.op, card)
	x.whole(inner)
	card.Insert()
	if _, err := x.run(x.op, card); err != nil {
		t.Errorf("%s: first %v; then %v", name, first, err)
		return
	}
	if err := x.check(t, card); err != nil {
		t.Errorf("%s: first %v; asked again: %v", name, first, err)
		return
	}
	x.converged++
}

// check compares card, records and authority after the operation.
func (x *cutter) check(t *testing.T, card *sim.Card) error {
	ctx := t.Context()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(ctx))
	cuid := card.Info().CUID
	rec, err := x.db.Token(ctx, cuid)
	if err != nil {
		return err
	}
	if _, err := x.db.OpenJournal(ctx, cuid); !errors.Is(err, token.ErrNotFound) {
		return fmt.Errorf("the journal is still open: %v", err)
	}
	if err := x.family.applet(ctx, x, conn, rec); err != nil {
		return err
	}
	recorded, err := x.recordedCerts(ctx, cuid)
	if err != nil {
		return err
	}
	if err := x.checkAuthority(cuid, recorded); err != nil {
		return err
	}
	if x.op == tps.OpFormat {
		if rec.State != token.Formatted || rec.UserID != "" || len(recorded) != 0 {
			return fmt.Errorf("formatted card: record %+v with certificates %v", rec, recorded)
		}
		return x.family.empty(ctx, conn)
	}
	if rec.State != token.Active || rec.UserID != "ada" {
		return fmt.Errorf("record: %+v", rec)
	}
	pin := "7351924"
	if x.op == tps.OpKeyChangeover || x.op == tps.OpRenew {
		pin = "9518402"
	}
	if x.op == tps.OpRenew {
		if recorded, err = successors(ctx, x.db, cuid); err != nil {
			return err
		}
	}
	return x.family.usable(ctx, conn, pin, recorded)
}

// checkApplet sees the wanted version of the applet on the card and in its record.
func (x *cutter) checkApplet(ctx context.Context, d apdu.Doer, rec token.Token) error {
	want := oldApplet
	if x.had != "" {
		want = midApplet
	}
	if err := coolkey.Select(ctx, d); err != nil {
		return err
	}
	v, err := coolkey.ReadVersion(ctx, d)
	if err != nil || v.String() != want || rec.AppletID != want {
		return fmt.Errorf("the card has applet %v (%v), its record says %q, want %s", v, err, rec.AppletID, want)
	}
	return nil
}

// checkKeys has the card prove the keys that its record names.
func (x *cutter) checkKeys(ctx context.Context, d apdu.Doer, rec token.Token) error {
	if _, err := gp.SelectDefault(ctx, d); err != nil {
		return err
	}
	req := securechannel.Request{
		KeyVersion: gp.KeyVersion(rec.KeyInfo[0]), HostChallenge: secret.Random(8).Bytes(), HintProtocol: securechannel.SCP02, HintOption: 0x15,
	}
	iu, err := securechannel.Initialize(ctx, d, req)
	if errors.Is(err, apdu.SWWrongLength) { // S16 mode
		req.HostChallenge = secret.Random(16).Bytes()
		iu, err = securechannel.Initialize(ctx, d, req)
	}
	if err != nil {
		return fmt.Errorf("the recorded key version %X: %w", []byte(rec.KeyInfo), err)
	}
	if _, err := x.local.DeriveSession(ctx, tks.SessionRequest{CardProof: tks.Proof(rec.KeySet, rec.CUID, iu)}); err != nil {
		return fmt.Errorf("the recorded key set %s: %w", rec.KeySet, err)
	}
	if x.op == tps.OpKeyChangeover && rec.KeySet == tks.Factory {
		return errors.New("the card still has the factory keys")
	}
	return nil
}

// checkAuthority compares what the authority has valid with what is recorded.
func (x *cutter) checkAuthority(cuid apdu.CUID, recorded []string) error {
	if valid := x.ca.(*watchedCA).of(cuid); !slices.Equal(valid, recorded) {
		return fmt.Errorf("the authority has %v valid, the records %v active", valid, recorded)
	}
	return nil
}

// recordedCerts are the serials of the active certificates; every other record
// must be revoked.
func (x *cutter) recordedCerts(ctx context.Context, cuid apdu.CUID) ([]string, error) {
	certs, err := x.db.CertificatesOf(ctx, cuid)
	if err != nil {
		return nil, err
	}
	var active []string
	for _, c := range certs {
		switch {
		case c.State == token.CertActive && c.Pending == "":
			active = append(active, c.Serial)
		case c.State != token.CertRevoked:
			return nil, fmt.Errorf("certificate %s is %s, pending %q", c.Serial, c.State, c.Pending)
		}
	}
	slices.Sort(active)
	return active, nil
}

func checkEmpty(ctx context.Context, d apdu.Doer) error {
	if err := coolkey.Select(ctx, d); err != nil {
		return err
	}
	keys, err := coolkey.ListKeys(ctx, d)
	if err != nil || len(keys) != 0 {
		return fmt.Errorf("formatted card has keys %v (%w)", keys, err)
	}
	return nil
}

// checkUsable logs in and uses every key; the certificates on the card are
// exactly those recorded.
func checkUsable(ctx context.Context, d apdu.Doer, pin string, recorded []string) error {
	if err := coolkey.Select(ctx, d); err != nil {
		return err
	}
	life, err := coolkey.ReadLifeCycle(ctx, d)
	if err != nil || life != coolkey.Personalized {
		return fmt.Errorf("life cycle %v (%w)", life, err)
	}
	certs, err := onCard(ctx, d)
	if err != nil {
		return err
	}
	if got := slices.Sorted(maps.Keys(certs)); !slices.Equal(got, recorded) {
		return fmt.Errorf("the card carries %v, recorded are %v", got, recorded)
	}
	p, err := secret.NewPIN([]byte(pin))
	if err != nil {
		return err
	}
	nonce, err := coolkey.VerifyPIN(ctx, d, 0, p)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("message"))
	for serial, c := range certs {
		k := coolkey.Key{Number: c.PrivateKey(), Public: c.PublicKey}
		sig, err := k.SignDigest(ctx, d, coolkey.Login(nonce), crypto.SHA256, digest[:])
		if err != nil {
			return fmt.Errorf("signing with %s: %w", serial, err)
		}
		if !ecdsa.VerifyASN1(c.PublicKey.(*ecdsa.PublicKey), digest[:], sig) {
			return fmt.Errorf("the key of certificate %s is not on the card", serial)
		}
	}
	return nil
}

// onCard reads the certificates of the combined object, by serial.
func onCard(ctx context.Context, d apdu.Doer) (map[string]coolkey.Certificate, error) {
	objects, err := coolkey.ListObjects(ctx, d)
	if err != nil {
		return nil, err
	}
	out := map[string]coolkey.Certificate{}
	for _, o := range objects {
		if o.ID != coolkey.IDCombined {
			return nil, fmt.Errorf("object %v is left over", o.ID)
		}
		b, err := coolkey.ReadObject(ctx, d, coolkey.Anonymous(), o.ID, 0, o.Size)
		if err != nil {
			return nil, err
		}
		z, err := coolkey.Decode(b)
		if err != nil {
			return nil, err
		}
		for _, c := range z.Certificates() {
			cert, err := x509.ParseCertificate(c.DER)
			if err != nil {
				return nil, err
			}
			c.PublicKey = cert.PublicKey
			out[fmt.Sprintf("%X", cert.SerialNumber)] = c
		}
	}
	return out, nil
}
