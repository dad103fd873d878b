//go:build unix

package cli_test

import (
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"inkan/fixtures"
)

// checkKeys looks for the card keys on the card and in its record.
func (p *holder) checkKeys(t *testing.T, version int) {
	t.Helper()
	hex := fmt.Sprintf("%02X", version)
	if i := p.info(t); len(i.Keys) != 1 || !strings.HasPrefix(i.Keys[0], hex+":") {
		t.Errorf("card keys %v, want version %s alone", i.Keys, hex)
	}
	if v := p.token(t); v.Token.KeySet != p.set || !strings.HasPrefix(v.Token.KeyInfo, hex) {
		t.Errorf("record: key set %s, key info %s; want %s %s", v.Token.KeySet, v.Token.KeyInfo, p.set, hex)
	}
}

// view is what inkan token show --json prints.
type view struct {
	Token struct {
		TokenID, UserID, Type, AppletID, KeySet, KeyInfo string
		Status                                           struct{ Name struct{ Name string } }
	}
	Certificates []certificate
	Unfinished   *struct{ Operation, Card string }
	Activities   []activity
}

type certificate struct{ SerialNumber, Status, KeyType, UserID, TokenID, Reason string }

// serial is the number as cards and arguments have it.
func (c certificate) serial() string {
	return strings.ToUpper(strings.TrimPrefix(c.SerialNumber, "0x"))
}

type activity struct{ Operation, Result, UserID, TokenID, Message string }

func (p *holder) token(t *testing.T) view {
	t.Helper()
	var v view
	p.query(t, &v, "token", "show", p.cuid)
	return v
}

// certificates are the recorded ones of the card.
func (p *holder) certificates(t *testing.T) []certificate {
	t.Helper()
	var l struct{ Entries []certificate }
	p.query(t, &l, "cert", "list", "--token", p.cuid, "--size", "100")
	return l.Entries
}

// checkCertificates compares records and card: what is on the card is active, and
// nothing else is.
func (p *holder) checkCertificates(t *testing.T) {
	t.Helper()
	var active, onCard []string
	for _, c := range p.certificates(t) {
		switch c.Status {
		case "active":
			active = append(active, c.serial())
		case "revoked":
		default:
			t.Errorf("certificate %+v", c)
		}
	}
	if a := p.info(t).Applet; a != nil {
		for _, c := range a.Certificates {
			onCard = append(onCard, c.Serial)
		}
	}
	slices.Sort(active)
	slices.Sort(onCard)
	if len(onCard) != 2 || !slices.Equal(active, onCard) {
		t.Errorf("active certificates %v, on the card %v", active, onCard)
	}
}

// records compares what the socket's commands say of the card with each other.
func (p *holder) records(t *testing.T) {
	v := p.token(t)
	if v.Token.TokenID != p.cuid || v.Token.UserID != p.user || v.Token.Status.Name.Name != "ACTIVE" ||
		v.Token.Type != p.next() || v.Token.AppletID != fixtures.DefaultApplet || v.Unfinished != nil {
		t.Errorf("token show: %+v, unfinished %v", v.Token, v.Unfinished)
	}
	p.checkCertificates(t)
	if certs := p.certificates(t); !slices.Equal(certs, v.Certificates) {
		t.Errorf("cert list %v\ntoken show %v", certs, v.Certificates)
	}
	var l struct{ Entries []activity }
	p.query(t, &l, "activity", "list", "--token", p.cuid, "--size", "100")
	for _, want := range []activity{
		{"format", "failure", p.user, p.cuid, ""},
		{"add", "success", p.admin.id, p.cuid, ""},
		{"format", "success", p.admin.id, p.cuid, ""},
		{"enrollment", "success", p.user, p.cuid, ""},
		{"pin_reset", "success", p.user, p.cuid, ""},
		{"key_changeover", "success", p.user, p.cuid, ""},
	} {
		if !slices.ContainsFunc(l.Entries, func(a activity) bool {
			a.Message = ""
			return a == want
		}) {
			t.Errorf("activity list has no %+v:\n%+v", want, l.Entries)
		}
	}
}

// revoke puts a certificate on hold, takes it off, and revokes it for good. The
// revocation list says so each time.
func (p *holder) revoke(t *testing.T) {
	serial := p.info(t).Applet.Certificates[0].Serial
	p.run(t, "cert", "hold", serial)
	if reason, listed := p.revoked(t, serial); !listed || reason != 6 {
		t.Errorf("held certificate: listed %v, reason %d", listed, reason)
	}
	p.run(t, "cert", "unhold", serial)
	if _, listed := p.revoked(t, serial); listed {
		t.Error("a certificate that is off hold stands in the list")
	}
	p.run(t, "cert", "revoke", serial, "--reason", "keyCompromise")
	if reason, listed := p.revoked(t, serial); !listed || reason != 1 {
		t.Errorf("revoked certificate: listed %v, reason %d", listed, reason)
	}
	i := slices.IndexFunc(p.certificates(t), func(c certificate) bool { return c.serial() == serial })
	if c := p.certificates(t)[i]; c.Status != "revoked" || c.Reason != "keyCompromise" {
		t.Errorf("cert list: %+v", c)
	}
	token := p.openToken(t, 2)
	token.signRSA(t, 2048) // the card cannot know
	if out, err := p.opensslVerify(t, token.certificateFile(t, 1)); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("openssl takes the revoked certificate: %s", out)
	}
}

// crl fetches the revocation list; it is signed by the authority.
func (s *site) crl(t *testing.T) *x509.RevocationList {
	t.Helper()
	l, err := x509.ParseRevocationList(s.get(t, "/ca/crl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSignatureFrom(s.authority(t)); err != nil {
		t.Error(err)
	}
	return l
}

// revoked asks the revocation list and the OCSP responder, which agree.
func (s *site) revoked(t *testing.T, serial string) (reason int, listed bool) {
	t.Helper()
	for _, e := range s.crl(t).RevokedCertificateEntries {
		if fmt.Sprintf("%X", e.SerialNumber) == serial {
			reason, listed = e.ReasonCode, true
		}
	}
	want := ocsp.Good
	if listed {
		want = ocsp.Revoked
	}
	if a := s.ocsp(t, serial); a.Status != want || a.RevocationReason != reason {
		t.Errorf("OCSP: status %d, reason %d; revocation list: %v, %d", a.Status, a.RevocationReason, listed, reason)
	}
	return reason, listed
}

// ocsp asks the responder for a certificate's status, by GET.
func (s *site) ocsp(t *testing.T, serial string) *ocsp.Response {
	t.Helper()
	n, ok := new(big.Int).SetString(serial, 16)
	if !ok {
		t.Fatalf("serial number %q", serial)
	}
	issuer, cert := s.authority(t), &x509.Certificate{SerialNumber: n}
	req, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ocsp.ParseResponseForCert(s.get(t, "/ca/ocsp/"+base64.StdEncoding.EncodeToString(req)), cert, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// authority is the certificate of the node's authority.
func (s *site) authority(t *testing.T) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// checkIssued compares, once the node has ended, what the authority issued with
// the records: nothing is valid and unrecorded, the two agree on what is revoked, and
// there are at least so many.
func (s *site) checkIssued(t *testing.T, least int) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.data, "inkan.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT i.serial, i.revoked_at <> '', COALESCE(c.state, 'unrecorded')
		FROM issued i LEFT JOIN certificates c ON c.serial = i.serial WHERE i.profile IN ('signing', 'encryption') AND LENGTH(i.der) > 0`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var serial, state string
		var revoked bool
		if err := rows.Scan(&serial, &revoked, &state); err != nil {
			t.Fatal(err)
		}
		if revoked != (state == "revoked") || !revoked && state != "active" {
			t.Errorf("certificate %s: revoked %v, recorded as %s", serial, revoked, state)
		}
	}
	if err := rows.Err(); err != nil || n < least {
		t.Errorf("%d certificates issued, %v", n, err)
	}
}
