//go:build unix

package cli_test

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"inkan/sim/vpcd/vpcdtest"
)

// story is one card of TestRealStack: its model and the key set it moves to.
type story struct {
	name     string
	model    string
	protocol string // as card info shows it
	factory  string // key version of a blank card
	set      string // key set of the profiles
	first    int    // key version that format gives
	second   int    // key version that rekey gives
	user     string
	fullName string
}

// stories are SCP01 and SCP02 cards with DES keys and an SCP03 card with AES keys. A
// person has one active card, so each has a person of its own.
var stories = []story{
	{
		name: "scp01", model: "gp-scp01", protocol: "SCP01", factory: "01", set: "triple", first: 2, second: 3,
		user: "edsger", fullName: "Edsger Dijkstra",
	},
	{
		name: "scp02", model: "gp-scp02", protocol: "SCP02", factory: "01", set: "triple", first: 2, second: 3,
		user: "grace", fullName: "Grace Hopper",
	},
	{
		name: "scp03", model: "gp-scp03", protocol: "SCP03", factory: "FF", set: "site", first: 2, second: 3,
		user: "alan", fullName: "Alan Turing",
	},
}

// TestRealStack runs the product as people do: inkan as processes, keys in
// SoftHSM, software cards in a real pcscd, OpenSC and openssl at the far end. It
// needs INKAN_REAL=1; then a missing part fails it.
func TestRealStack(t *testing.T) {
	vpcdtest.Need(t, "go", "softhsm2-util", "openssl", "opensc-tool", "pkcs11-tool", "pcsc_scan")
	s := newSite(t, len(stories))
	s.serve(t)
	for slot, st := range stories {
		t.Run(st.name, func(t *testing.T) { s.tell(t, st, slot) })
	}
	s.stop(t)
	s.checkIssued(t, 10*len(stories))
	s.checkSecrets(t)
}

// tell is the life of one card. Each part builds on the one before.
func (s *site) tell(t *testing.T, st story, slot int) {
	p := &holder{site: s, story: st, slot: slot}
	defer func() {
		if p.sim != nil {
			p.sim.end(t, os.Kill)
		}
	}()
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"insert", p.insert},
		{"format", p.format},
		{"refusals", p.refusals},
		{"enroll", p.enroll},
		{"use", p.useRSA2048},
		{"foreign", p.foreign},
		{"block", p.block},
		{"rekey", p.rekey},
		{"records", p.records},
		{"revoke", p.revoke},
		{"ec", p.enrollEC},
		{"kill", p.kill},
		{"pull", p.pullOut},
		{"remove", p.takeOut},
	} {
		if !t.Run(part.name, part.run) {
			t.Fatalf("part %s failed", part.name)
		}
	}
}

// insert puts a blank card into the reader and looks at it with every program.
func (p *holder) insert(t *testing.T) {
	p.plug(t)
	i := p.info(t)
	if !i.Simulated || i.CUID == "" || i.Applet != nil {
		t.Errorf("blank card shows %+v", i)
	}
	if !strings.HasPrefix(strings.Join(i.Protocols, " "), p.protocol) || len(i.Keys) != 1 || !strings.HasPrefix(i.Keys[0], p.factory+":") {
		t.Errorf("blank card: protocols %v, keys %v", i.Protocols, i.Keys)
	}
	p.cuid = i.CUID
	p.seenByTools(t, i.ATR)
}

// format gives the card an applet and the site's keys. Somebody without a role
// may not: the card is new here.
func (p *holder) format(t *testing.T) {
	out := p.refused(t, "format", p.rsa2048())
	if out.Status != 16 || out.Card == "" || out.Next == "" {
		t.Errorf("format by %s: %+v", p.user, out)
	}
	if i := p.info(t); i.Applet != nil {
		t.Errorf("a refused format changed the card: %+v", i)
	}
	p.as(p.admin).done(t, "format", p.rsa2048())
	i := p.info(t)
	if i.Applet == nil || i.Applet.PIN != "none" || len(i.Applet.Certificates) != 0 {
		t.Errorf("formatted card shows applet %+v", i.Applet)
	}
	p.checkKeys(t, p.first)
}

func (p *holder) enroll(t *testing.T) {
	p.done(t, "enroll", p.rsa2048())
	i := p.info(t)
	if i.Applet == nil || len(i.Applet.Certificates) != 2 || i.Applet.PIN != "set, 3 tries left" {
		t.Fatalf("enrolled card shows applet %+v", i.Applet)
	}
	for n, c := range i.Applet.Certificates {
		if c.Number != n+1 || c.Key != "RSA 2048" || !strings.Contains(c.Subject, p.fullName) {
			t.Errorf("certificate %+v", c)
		}
	}
	p.test(t)
}

func (p *holder) useRSA2048(t *testing.T) {
	token := p.openToken(t, 2)
	token.signRSA(t, 2048)
	token.decryptRSA(t)
	p.verifyChain(t, token)
}

// block uses up the PIN's tries; a PIN reset gives a new PIN.
func (p *holder) block(t *testing.T) {
	token := p.openToken(t, 2)
	for range 3 {
		token.refuse(t, p.secret("Wrong-0815"))
	}
	if i := p.info(t); i.Applet == nil || i.Applet.PIN != "blocked" {
		t.Errorf("card after 3 wrong PINs: %+v", i.Applet)
	}
	token.refuse(t, p.pin)
	before := p.pin
	p.pin = p.secret("Second-" + p.name + "?")
	p.done(t, "reset-pin", p.rsa2048())
	token.refuse(t, before)
	token = p.openToken(t, 2)
	token.signRSA(t, 2048)
	if i := p.info(t); i.Applet == nil || i.Applet.PIN != "set, 3 tries left" {
		t.Errorf("card after a PIN reset: %+v", i.Applet)
	}
}

// rekey moves the card from one version of the site's keys to the next. The
// person's keys stay, also when their certificates are renewed, and another enrollment
// works on the new card keys.
func (p *holder) rekey(t *testing.T) {
	p.done(t, "rekey", p.next())
	p.checkKeys(t, p.second)
	p.openToken(t, 2).signRSA(t, 2048)
	p.done(t, "renew", p.rsa2048())
	token := p.openRenewed(t, 3, 2) // the former encryption certificate stays
	token.signRSA(t, 2048)
	token.decryptRSA(t)
	p.done(t, "enroll", p.next())
	p.openToken(t, 2).signRSA(t, 2048)
}

// enrollEC replaces the RSA keys by keys on an elliptic curve.
func (p *holder) enrollEC(t *testing.T) {
	p.done(t, "enroll", p.p256())
	p.test(t)
	token := p.openToken(t, 2)
	token.signEC(t)
	token.deriveEC(t)
	p.verifyChain(t, token)
}

// kill ends the node with SIGKILL while the second key is made, starts it again
// and finishes the enrollment: of RSA keys with 3072 bits.
func (p *holder) kill(t *testing.T) {
	end := p.start(t, "enroll", p.rsa3072())
	p.awaitStep(t, p.cuid, "generate-key encryption")
	p.node.end(t, syscall.SIGKILL)
	if out := end(t); out.Result != "failed" || out.Status != 28 || !strings.Contains(out.Card, "not lost") {
		t.Errorf("enroll whose server was killed: %+v", out)
	}
	p.serve(t)
	p.finish(t)
}

// finish shows the unfinished enrollment and finishes it.
func (p *holder) finish(t *testing.T) {
	t.Helper()
	if v := p.token(t); v.Unfinished == nil || v.Unfinished.Operation != "enroll" || v.Unfinished.Card != "cut" {
		t.Errorf("after the cut: unfinished %+v", v.Unfinished)
	}
	p.done(t, "enroll", p.rsa3072())
	if v := p.token(t); v.Unfinished != nil {
		t.Errorf("after the second enroll: unfinished %+v", v.Unfinished)
	}
	p.test(t)
	token := p.openToken(t, 2)
	token.signRSA(t, 3072)
	token.decryptRSA(t)
	p.verifyChain(t, token)
	p.checkCertificates(t)
}

// pullOut takes the card out while its second key is made, puts it in again and
// finishes the enrollment. Before that, nobody else gets at the card.
func (p *holder) pullOut(t *testing.T) {
	end := p.start(t, "enroll", p.rsa3072())
	p.awaitStep(t, p.cuid, "generate-key signing")
	p.node.signal(t, syscall.SIGSTOP) // so that the enrollment lasts
	if r := p.readerState(t); r.State != "card in use" {
		t.Errorf("reader during an enrollment: %+v", r)
	}
	if r := p.call(t, "card", "info", "--reader", p.reader()); r.code != 1 || !strings.Contains(r.err, "in use") {
		t.Errorf("card info during an enrollment: exit %d\n%s%s", r.code, r.out, r.err)
	}
	p.node.signal(t, syscall.SIGCONT)
	p.awaitStep(t, p.cuid, "generate-key encryption")
	p.pull(t)
	if out := end(t); out.Result != "failed" || !strings.Contains(out.Error, "removed") || !strings.Contains(out.Card, "not lost") {
		t.Errorf("enroll whose card was pulled: %+v", out)
	}
	p.plug(t)
	p.finish(t)
}

// refusals: what people and programs do wrong leaves the card as it was.
func (p *holder) refusals(t *testing.T) {
	before := p.info(t)
	wrong := person{p.user, p.secret("Wrong-Password-" + p.name)}
	if out := p.as(wrong).refused(t, "enroll", p.rsa2048()); out.Status != 14 {
		t.Errorf("wrong password: %+v", out)
	}
	if out := p.refused(t, "enroll", "no-such-profile"); out.Status != 22 {
		t.Errorf("unknown profile: %+v", out)
	}
	if out := p.refused(t, "reset-pin", p.rsa2048()); out.Status != 27 {
		t.Errorf("PIN reset of a card without owner: %+v", out)
	}
	simple := *p
	simple.pin = p.secret("aaaaaaaaaaa")
	if out := simple.refused(t, "enroll", p.rsa2048()); out.Status != 4 {
		t.Errorf("simple PIN: %+v", out)
	}
	args := p.arguments(t, "enroll", p.rsa2048())
	args[slices.Index(args, "--fingerprint")+1] = strings.Repeat("0A", 32)
	if r := p.call(t, args...); r.code != 1 || !strings.Contains(r.err, "not trusted") {
		t.Errorf("another server's fingerprint: exit %d\n%s%s", r.code, r.out, r.err)
	}
	if after := p.info(t); !reflect.DeepEqual(after, before) {
		t.Errorf("refused operations changed the card from %+v to %+v", before, after)
	}
}

// foreign: nobody else may do anything with the card of a person.
func (p *holder) foreign(t *testing.T) {
	for _, op := range []string{"enroll", "reset-pin"} {
		out := p.as(p.stranger).refused(t, op, p.rsa2048())
		if out.Status != 43 || out.Card == "" || out.Next == "" {
			t.Errorf("%s of somebody else's card: %+v", op, out)
		}
	}
	p.openToken(t, 2).signRSA(t, 2048)
}
