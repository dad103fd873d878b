package storetest

import (
	"fmt"
	"testing"
	"time"

	"inkan/tps/token"
)

func testCertificates(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[token.Certificate](t)
	_, err := s.Records.Certificate(ctx, "none")
	is(t, "unknown certificate", err, token.ErrNotFound)
	full := token.Certificate{ID: "id1", CUID: cuid(1), UserID: "alice", KeyType: "signing", Number: 1, Profile: "userKey",
		State: token.CertUninitialized, Serial: "0ABC", Subject: "CN=Ä", Issuer: []byte{0x30, 0}, AKI: []byte{1, 2}, DER: []byte{0x30, 0x80, 0xFF},
		CA: "embedded", Origin: cuid(2), Operation: "journal", NotBefore: at(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		Reason: 4, Pending: "revoke", Evidence: "-----BEGIN CERTIFICATE-----", Created: at(2)}
	created := get(s.Records.CreateCertificate(ctx, full))
	recent(t, "modified", created.Modified)
	full.NotBefore, full.Created, full.Modified, full.Revision = at(1).UTC(), at(2).UTC(), created.Modified, 1
	same(t, "read", get(s.Records.Certificate(ctx, "id1")), full)
	_, err = s.Records.CreateCertificate(ctx, full)
	is(t, "same id", err, token.ErrConflict)

	next := full
	next.State, next.Pending, next.CUID, next.DER, next.Number, next.Evidence = token.CertRevoked, "", cuid(3), nil, 7, ""
	replaced := get(s.Records.ReplaceCertificate(ctx, next))
	next.Modified, next.Revision, next.DER = replaced.Modified, 2, []byte{}
	same(t, "replaced", get(s.Records.Certificate(ctx, "id1")), next)
	_, err = s.Records.ReplaceCertificate(ctx, full)
	is(t, "old revision", err, token.ErrConflict)
	full.ID = "id2"
	_, err = s.Records.ReplaceCertificate(ctx, full)
	is(t, "replacing nothing", err, token.ErrConflict)

	if c := get(s.Records.CreateCertificate(ctx, token.Certificate{CUID: cuid(1)})); c.ID == "" || c.Created.IsZero() {
		t.Errorf("bare certificate: %+v", c)
	}
}

func testCertificateList(t *testing.T, s Stores) {
	ctx := t.Context()
	for n := range 6 {
		c := token.Certificate{ID: fmt.Sprint("id", n), CUID: cuid(byte(n % 2)), UserID: token.UserID(fmt.Sprint("user", n%3)),
			Serial: fmt.Sprintf("0%X", 10+n), Created: at(10 - n)}
		must[token.Certificate](t)(s.Records.CreateCertificate(ctx, c))
	}
	one := cuid(1)
	for _, tt := range []struct {
		name, want string
		f          token.Filter
	}{
		{"all", "id0 id1 id2 id3 id4 id5 ", token.Filter{}},
		{"page", "id2 id3 ", token.Filter{After: "id1", Limit: 2}},
		{"card", "id1 id3 id5 ", token.Filter{CUID: &one}},
		{"user", "id2 id5 ", token.Filter{UserID: "user2"}},
		{"serial", "id3 ", token.Filter{Serial: "0d"}},
		{"serial is not a substring", "", token.Filter{Serial: "0"}},
		{"text", "id4 ", token.Filter{Text: "ID4"}},
	} {
		same(t, tt.name, certificateIDs(must[[]token.Certificate](t)(s.Records.Certificates(ctx, tt.f))), tt.want)
	}
	same(t, "of the card, oldest first", certificateIDs(must[[]token.Certificate](t)(s.Records.CertificatesOf(ctx, one))), "id5 id3 id1 ")
	same(t, "of no card", certificateIDs(must[[]token.Certificate](t)(s.Records.CertificatesOf(ctx, cuid(9)))), "")
}

func certificateIDs(all []token.Certificate) string {
	ids := ""
	for _, c := range all {
		ids += c.ID + " "
	}
	return ids
}

func testUnsettled(t *testing.T, s Stores) {
	for _, c := range []token.Certificate{
		{ID: "old", State: token.CertUninitialized, Created: at(1)},
		{ID: "new", State: token.CertUninitialized, Created: at(5)},
		{ID: "confirmed", State: token.CertActive, Created: at(1)},
		{ID: "pending", State: token.CertActive, Pending: "revoke", Created: at(9)},
		{ID: "revoked", State: token.CertRevoked, Created: at(1)},
	} {
		must[token.Certificate](t)(s.Records.CreateCertificate(t.Context(), c))
	}
	for want, limit := range map[string]time.Time{"pending ": at(1), "old pending ": at(5), "old new pending ": at(6)} {
		same(t, "unsettled", certificateIDs(must[[]token.Certificate](t)(s.Records.Unsettled(t.Context(), limit))), want)
	}
}
