package tps_test

import (
	"errors"
	"time"

	"inkan/tps"
	"inkan/tps/token"
)

// today is the day of the situations of a renewal.
var today = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// certified has the card and the records carry the certificates of an enrollment that
// end in a month.
func certified(f *tps.Facts) {
	f.Now, f.Record.Profile = today, f.Profile.Name
	for _, k := range f.Profile.Key {
		c := token.Certificate{ID: "id of " + k.Type, KeyType: k.Type, Number: k.Cert, UserID: "ada", CA: k.CA, State: token.CertActive,
			DER: []byte(k.Type), NotAfter: today.AddDate(0, 0, 31)}
		f.Certs = append(f.Certs, c)
		f.Contents.Certificates = append(f.Contents.Certificates, tps.CardCertificate{Key: k, DER: c.DER})
	}
}

// renewCase is a situation of a renewal.
type renewCase struct {
	name   string
	edits  map[string]string
	change []func(*tps.Facts)
}

// renewals are the situations of an active card that is to be renewed.
func renewals() []renewCase {
	record := func(change func(*token.Token)) func(*tps.Facts) { return func(f *tps.Facts) { change(f.Record) } }
	first := func(change func(*token.Certificate)) func(*tps.Facts) {
		return func(f *tps.Facts) { change(&f.Certs[0]) }
	}
	rules := func(lines string) map[string]string {
		return map[string]string{"[renewal]\nenabled = true\n": "[renewal]\nenabled = true\n" + lines + "\n"}
	}
	on := func(days int) func(*tps.Facts) { return func(f *tps.Facts) { f.Now = today.AddDate(0, 0, days) } }
	begun := func(entries ...token.Entry) func(*tps.Facts) {
		return func(f *tps.Facts) {
			f.Open = &token.Journal{ID: "j", CUID: f.Card.CUID, Operation: string(tps.OpRenew), UserID: "ada", Entries: entries}
		}
	}
	asked := token.Entry{Step: "issue-certificate signing", Data: map[string]string{"replaces": "id of signing"}}
	writing := token.Entry{Step: "write-contents", Data: map[string]string{"stays encryption": "id of encryption"}}
	torn := func(f *tps.Facts) { f.Contents.Certificates = nil }
	with := func(name string, edits map[string]string, change ...func(*tps.Facts)) renewCase {
		return renewCase{name, edits, change}
	}
	return []renewCase{
		with("active", nil),
		with("one key only", rules(`keys = ["encryption"]`)),
		with("too early", rules("before = 30")),
		with("in time", rules("before = 30"), on(1)),
		with("too late", rules("after = 7"), on(39)),
		with("late, but in time", rules("after = 7"), on(38)),
		with("long expired", nil, on(4000)),
		with("one too early", rules("before = 30"), first(func(c *token.Certificate) { c.NotAfter = today })),
		with("one on hold", nil, first(func(c *token.Certificate) { c.State = token.CertOnHold })),
		with("one revoked", nil, first(func(c *token.Certificate) { c.State, c.Reason = token.CertRevoked, 4 })),
		with("one to be revoked", nil, first(func(c *token.Certificate) { c.Pending = "revoke" })),
		with("one of somebody else", nil, first(func(c *token.Certificate) { c.UserID = "bob" })),
		with("all on hold", nil, func(f *tps.Facts) { f.Certs[0].State, f.Certs[1].State = token.CertOnHold, token.CertOnHold }),
		with("a certificate is gone from the card", nil, func(f *tps.Facts) { f.Contents.Certificates = f.Contents.Certificates[1:] }),
		with("a certificate of others", nil, func(f *tps.Facts) { f.Contents.Certificates[0].DER = []byte("strange") }),
		with("never had one", nil, func(f *tps.Facts) { f.Certs, f.Contents.Certificates = f.Certs[1:], f.Contents.Certificates[1:] }),
		with("a key is gone", nil, func(f *tps.Facts) { f.Contents.Slots = f.Contents.Slots[:1] }),
		with("a key of another size", nil, func(f *tps.Facts) { f.Contents.Slots[0].Bits = 384 }),
		with("applet gone", nil, func(f *tps.Facts) { f.Contents = tps.Contents{} }),
		with("other applet", nil, applet(otherApplet)),
		with("another issuer", nil, func(f *tps.Facts) { f.Contents.IssuerURL = "https://old.example.org" }),
		with("formatted", nil, record(func(t *token.Token) { t.State, t.UserID = token.Formatted, "" })),
		with("suspended", nil, record(func(t *token.Token) { t.State = token.Suspended })),
		with("unknown", nil, func(f *tps.Facts) { f.Record = nil }),
		with("nobody's", nil, record(func(t *token.Token) { t.UserID = "" })),
		with("of another profile", nil, record(func(t *token.Token) { t.Profile = "soKey" })),
		with("format forced", nil, record(func(t *token.Token) { t.Policy = "FORCE_FORMAT=YES;RENEW=YES" })),
		with("profile without renewal", map[string]string{"[renewal]\nenabled = true\n": ""}),
		with("authority does not answer", nil, func(f *tps.Facts) { f.Ready.CA = errNoAnswer }),
		with("with new keys", map[string]string{`change_on = ["key-changeover"]`: `change_on = ["renew"]`}),
		with("outside a lab, factory keys", nil, func(f *tps.Facts) { f.Lab = false }),
		with("resumed, a certificate asked for", rules("after = 1"), on(400), begun(asked)),
		with("resumed, the card torn", rules("after = 1"), on(400), begun(asked, writing), torn),
		with("resumed, the card torn and a key gone", nil, begun(asked, writing), torn, func(f *tps.Facts) { f.Contents.Slots = f.Contents.Slots[1:] }),
	}
}

var errNoAnswer = errors.New("the authority does not answer")
