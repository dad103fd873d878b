package cli_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"inkan/fixtures"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// holder is a person with a card in a reader.
type holder struct {
	*site
	story
	slot int
	who  person // "" = the card's owner
	cuid string
	pin  string
}

// as is the same card with somebody else logging in.
func (p *holder) as(who person) *holder {
	other := *p
	other.who = who
	return &other
}

// outcome is what inkan card OPERATION --json prints.
type outcome struct {
	Operation, Result string
	Status            int
	Seconds           float64
	APDUs             int
	Error, Card, Next string
}

// cardInfo is what inkan card info --json prints.
type cardInfo struct {
	ATR, CUID string
	Simulated bool
	Protocols []string
	Keys      []string `json:"key_versions"`
	Applet    *struct {
		Version, State, PIN string
		Certificates        []struct {
			Number               int
			Subject, Serial, Key string
		}
	}
}

func (p *holder) reader() string { return p.pcsc.Readers[p.slot] }

// plug puts a new software card into the reader, until the story ends, and waits
// until card list shows it.
func (p *holder) plug(t *testing.T) {
	t.Helper()
	cmd := p.command("sim", "run", "--vpcd", p.pcsc.Addr(p.slot), "--image", filepath.Join(p.dir, p.name+".img"), "--model", p.model)
	sim := startProcess(t, cmd, &p.said, &p.said)
	p.top.Cleanup(func() {
		if err := sim.end(p.top, syscall.SIGINT); err != nil {
			p.top.Errorf("inkan sim run ended with %v", err)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var readers []struct{ Reader, State, ATR string }
		p.query(t, &readers, "card", "list")
		if len(readers) < len(p.pcsc.Readers) {
			t.Fatalf("card list shows %v", readers)
		}
		for _, r := range readers {
			if r.Reader == p.reader() && r.State == "card present" && r.ATR != "" {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("no card in reader %q: %v", p.reader(), readers)
		}
	}
}

func (p *holder) info(t *testing.T) cardInfo {
	t.Helper()
	var i cardInfo
	p.query(t, &i, "card", "info", "--reader", p.reader())
	if p.cuid != "" && i.CUID != p.cuid {
		t.Fatalf("another card is in the reader: %+v", i)
	}
	return i
}

// arguments are those of an operation with the server.
func (p *holder) arguments(t *testing.T, op, profile string) []string {
	t.Helper()
	who := p.who
	if who.id == "" {
		who = person{p.user, p.password(p.user)}
	}
	args := []string{
		"--json", "card", op, "--reader", p.reader(), "--server", p.url(), "--fingerprint", p.fingerprint,
		"--user", who.id, "--password-file", p.secretFile(t, who.password),
	}
	if profile != "" {
		args = append(args, "--profile", profile)
	}
	if op == "enroll" || op == "reset-pin" {
		if p.pin == "" {
			p.pin = p.secret("First-" + p.name + "!")
		}
		args = append(args, "--pin-file", p.secretFile(t, p.pin))
	}
	return args
}

// start begins an operation. The function it returns waits for its end.
func (p *holder) start(t *testing.T, op, profile string) (end func(*testing.T) outcome) {
	t.Helper()
	cmd := p.command(p.arguments(t, op, profile)...)
	var out bytes.Buffer
	run := startProcess(t, cmd, &out, &p.said)
	return func(t *testing.T) outcome {
		t.Helper()
		<-run.done
		p.said.Write(out.Bytes())
		return decodeOutcome(t, out.String())
	}
}

func decodeOutcome(t *testing.T, text string) outcome {
	t.Helper()
	var o outcome
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("the outcome is no JSON: %v\n%s", err, text)
	}
	return o
}

// done runs an operation that has to succeed.
func (p *holder) done(t *testing.T, op, profile string) {
	t.Helper()
	r := p.call(t, p.arguments(t, op, profile)...)
	if r.code != 0 {
		t.Fatalf("card %s: exit %d\n%s%s", op, r.code, r.out, r.err)
	}
	if o := decodeOutcome(t, r.out); o.Result != "done" || o.Status != 0 || o.APDUs == 0 || o.Seconds == 0 {
		t.Errorf("card %s: %+v", op, o)
	}
}

// refused runs an operation that must not succeed.
func (p *holder) refused(t *testing.T, op, profile string) outcome {
	t.Helper()
	r := p.call(t, p.arguments(t, op, profile)...)
	o := decodeOutcome(t, r.out)
	if r.code != 1 || o.Result != "failed" || o.Error == "" {
		t.Fatalf("card %s: exit %d\n%s%s", op, r.code, r.out, r.err)
	}
	return o
}

// test has inkan itself use every key on the card.
func (p *holder) test(t *testing.T) {
	t.Helper()
	var used []struct {
		Label, Did string
		Trusted    bool
	}
	p.query(t, &used, "card", "test", "--reader", p.reader(), "--pin-file", p.secretFile(t, p.pin), "--trust", p.ca())
	if len(used) != 2 || !used[0].Trusted || !used[1].Trusted || !strings.HasPrefix(used[0].Did, "signed") {
		t.Errorf("card test: %+v", used)
	}
}

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
	Unfinished   *struct{ Operation string }
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
		{"add", "success", p.site.admin.id, p.cuid, ""},
		{"format", "success", p.site.admin.id, p.cuid, ""},
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
	b, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
	return l
}

func (s *site) revoked(t *testing.T, serial string) (reason int, listed bool) {
	t.Helper()
	for _, e := range s.crl(t).RevokedCertificateEntries {
		if fmt.Sprintf("%X", e.SerialNumber) == serial {
			return e.ReasonCode, true
		}
	}
	return 0, false
}

// Names of the profiles of a story.
func (st story) rsa2048() string { return st.name + "-rsa2048" }
func (st story) next() string    { return st.name + "-next" }
func (st story) rsa3072() string { return st.name + "-rsa3072" }
func (st story) p256() string    { return st.name + "-p256" }

// profiles are those a story uses: the same card with other keys and key versions.
func (st story) profiles() []profile.Record {
	var all []profile.Record
	for _, v := range []struct {
		name, alg string
		version   int
	}{
		{st.rsa2048(), "rsa-2048", st.first}, {st.next(), "rsa-2048", st.second},
		{st.rsa3072(), "rsa-3072", st.second}, {st.p256(), "p256", st.second},
	} {
		decrypt := `"decrypt", "unwrap"`
		if v.alg == "p256" {
			decrypt = `"derive"`
		}
		all = append(all, profile.Record{
			Name: token.ProfileName(v.name), State: profile.Enabled,
			Document: strings.NewReplacer("NAME", v.name, "SET", st.set, "KEYVERSION", fmt.Sprint(v.version), "ALG", v.alg,
				"APPLET", fixtures.DefaultApplet, "DECRYPT", decrypt).Replace(profileDocument),
		})
	}
	return all
}

const profileDocument = `name = "NAME"
operations = ["format", "enroll", "pin-reset", "key-changeover"]

[keys]
set = "SET"
version = KEYVERSION

[applet]
version = "APPLET"

[pin]
max = 16
tries = 3

[[key]]
type = "signing"
cert = 1
alg = "ALG"
ca_profile = "signing"
label = "signing key for $userid$"
private = ["sign", "signRecover", "sensitive", "private", "token"]
public = ["verify", "verifyRecover", "token"]

[[key]]
type = "encryption"
cert = 2
alg = "ALG"
ca_profile = "encryption"
label = "encryption key for $userid$"
private = [DECRYPT, "sensitive", "private", "token"]
public = ["encrypt", "wrap", "token"]
`
