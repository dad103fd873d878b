package tps_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/coolkey"
	familypiv "inkan/tps/piv"
	"inkan/tps/token"
)

// serverMade are the edits, by family, of a profile whose encryption key the server
// makes and archives.
var serverMade = map[string]map[string]string{
	"coolkey": {"cert = 2\n": "cert = 2\nmade = \"server\"\narchive = true\n"},
	"piv":     {"retire = 20\n": "retire = 20\nmade = \"server\"\narchive = true\n", "[piv]\n": "[piv]\nplain_import = true\n"},
}

// withServerMade adds these edits to others.
func withServerMade(family string, edits map[string]string) map[string]string {
	all := maps.Clone(serverMade[family])
	maps.Copy(all, edits)
	return all
}

// tap notes what is sent to a card.
type tap struct {
	apdu.Card
	sent [][]byte
}

func (c *tap) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	c.sent = append(c.sent, bytes.Clone(cmd))
	return c.Card.Transmit(ctx, cmd)
}

// with are the commands that contain b.
func (c *tap) with(b []byte) (found [][]byte) {
	for _, cmd := range c.sent {
		if bytes.Contains(cmd, b) {
			found = append(found, cmd)
		}
	}
	return found
}

// scalar is what is secret in a private key, or half of it.
func scalar(t *testing.T, k tps.ArchivedKey) []byte {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(k.Private.Bytes())
	must(t, err)
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		b, err := key.Bytes()
		must(t, err)
		return b
	case *ecdh.PrivateKey:
		return key.Bytes()
	}
	return key.(*rsa.PrivateKey).Primes[0].Bytes()
}

// TestDEF31ServerMade: a key made by the server comes to the card under every protocol,
// under a transport key such as channel and applet have, and never in the clear although
// the channel encrypts nothing.
func TestDEF31ServerMade(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		model, set, applet, alg string
		want                    byte // how the key is wrapped
	}{
		{"gp-scp01", "des", oldApplet, "p256", 0x81},
		{"gp-scp02", "des", oldApplet, "p384", 0x81},
		{"gp-scp03", "site", oldApplet, "p521", 0x81},
		{"gp-scp03", "site", midApplet, "p256", 0x88},
	} {
		t.Run(fmt.Sprintf("model=%s/applet=%s", c.model, c.applet), func(t *testing.T) {
			t.Parallel()
			s, card := newSite(t), newCard(t, c.model)
			a, wire := s.archive(), &tap{Card: card}
			doc := ecProfile("test", withServerMade("coolkey", map[string]string{
				`set = "site"`: fmt.Sprintf("set = %q", c.set), oldApplet: c.applet, "[applet]": "[channel]\nlevel = \"mac\"\n[applet]",
			}))
			s.put(strings.Replace(doc, "archive = true\nalg = \"p256\"", "archive = true\nalg = \""+c.alg+"\"", 1))
			_, err := s.run(tps.OpEnroll, wire)
			must(t, err)
			coolkeyCuts.unharmed(t, s, card, cuidOf(t, card))
			cert, err := s.encryption(cuidOf(t, card))
			must(t, err)
			k, err := a.of(cert)
			must(t, err)
			if found := wire.with(scalar(t, k)); len(found) > 0 || len(a.keys) != 1 {
				t.Errorf("%d keys archived, the private one on the wire: %X", len(a.keys), found)
			}
			const head = 5 // CLA INS P1 P2 Lc
			imports := slices.DeleteFunc(wire.sent, func(cmd []byte) bool { return cmd[0]&0x80 == 0 || cmd[1] != 0x0A })
			if len(imports) != 1 || imports[0][head+4] != c.want {
				t.Errorf("imported by %X, want one with algorithm %02X", imports, c.want)
			}
		})
	}
}

// TestPIVServerMade: the same for PIV cards, where IMPORT KEY shows the key: between
// reader and card, and nowhere else.
func TestPIVServerMade(t *testing.T) {
	t.Parallel()
	for model, alg := range map[string]string{"piv": "rsa-2048", "yubikey-5.4": "p384", "yubikey-5.7": "x25519"} {
		t.Run("model="+model+"/"+alg, func(t *testing.T) {
			t.Parallel()
			s, card := newSite(t), newCard(t, model)
			l := &listening{}
			s.log = l.logger()
			a, wire := s.archive(), &tap{Card: card}
			s.put(strings.Replace(pivProfile("test", serverMade["piv"]), "archive = true\n", "archive = true\nalg = \""+alg+"\"\n", 1))
			must(t, l.did(s.run(tps.OpEnroll, apdu.Trace(wire, s.log))))
			s.wantPIV(card, "7351924")
			cert, err := s.encryption(card.Info().CUID)
			must(t, err)
			k, err := a.of(cert)
			must(t, err)
			found := wire.with(scalar(t, k))
			if len(found) != 1 || found[0][1] != piv.InsImport {
				t.Errorf("the private key is in the commands %X", found)
			}
			if got := leaked(l.everything(t, s), map[string]string{string(scalar(t, k)): "private key"}); len(got) > 0 {
				t.Errorf("in the open: %v", got)
			}
			m, err := piv.ReadMetadata(t.Context(), pivCard(t, card), piv.KeyManagement)
			if err != nil || model != "piv" && m.Origin != piv.Imported || !equalKeys(m.Public, k.Public) {
				t.Errorf("metadata %+v (%v)", m, err)
			}
		})
	}
}

// onlyEncryption is a profile with the encryption key alone, which the server makes.
func onlyEncryption(f cutFamily) string {
	doc := f.profile("test", withServerMade(f.name, map[string]string{"[keys]": "[enroll]\nseveral_active = true\n[keys]"}))
	parts := strings.Split(doc, "[[key]]")
	i := slices.IndexFunc(parts, func(p string) bool { return strings.Contains(p, `type = "encryption"`) })
	return parts[0] + "[[key]]" + parts[i]
}

// TestServerMadeCuts cuts enrollments whose encryption key the server makes, as TestCuts
// and TestPIVCuts do: the archive has the key that the card has then, and on the PIV card
// the former key has moved to a retired slot. Unless INKAN_REAL is set the places are a
// sample.
func TestServerMadeCuts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cutFamily
		given []tps.Operation
	}{{coolkeyCuts, nil}, {pivCuts, []tps.Operation{tps.OpEnroll}}} {
		t.Run("family="+c.name, func(t *testing.T) {
			t.Parallel()
			x := &cutter{site: newSite(t), cutCase: cutCase{"import", tps.OpEnroll, c.given}, family: c.cutFamily, model: c.model}
			a := x.archive()
			x.family.usable = func(ctx context.Context, d apdu.Doer, pin string, recorded []string) error {
				if err := c.usable(ctx, d, pin, recorded); err != nil {
					return err
				}
				return x.archivedOne(ctx, d, a)
			}
			x.put(onlyEncryption(c.cutFamily))
			x.sample = !everything()
			x.report(t, false, "made=server")
		})
	}
}

// archivedOne finds the key of the card's certificate in the archive, and has the former
// keys of a PIV card, one at least, prove that they belong to their certificates.
func (x *cutter) archivedOne(ctx context.Context, d apdu.Doer, a *keptKeys) error {
	certs, err := x.db.Certificates(ctx, token.Filter{Limit: 1000})
	if err != nil {
		return err
	}
	last := slices.MaxFunc(certs, func(a, b token.Certificate) int { return a.Modified.Compare(b.Modified) })
	cert, err := x.encryption(last.CUID)
	if err != nil {
		return err
	}
	if _, err := a.of(cert); err != nil || x.family.name != "piv" {
		return err
	}
	for i := 1; ; i++ { // two where what was cut was done
		former, err := piv.ReadCertificate(ctx, d, piv.Retired(i))
		if piv.IsAbsent(err) && i > 1 {
			return nil
		}
		if err == nil {
			err = useSlot(ctx, d, piv.Retired(i), former.PublicKey)
		}
		if err != nil {
			return fmt.Errorf("former key %d: %w", i, err)
		}
	}
}

// importing are the situations of enrollments with a key that the server makes.
func importing(t testing.TB) (cases []planCase) {
	now := time.Now()
	good := token.Certificate{KeyType: "encryption", Number: 2, CA: "embedded", UserID: "ada", State: token.CertActive, NotAfter: now.Add(time.Hour)}
	kept := func(f *tps.Facts) { f.Certs, f.Now = []token.Certificate{good}, now }
	none := func(f *tps.Facts) { f.Ready.Archive = tps.Fail(tps.StatusArchiveOff, errors.New("there is none")) }
	keep := map[string]string{"cert = 2\n": "cert = 2\nkeep = true\nmade = \"server\"\narchive = true\n"}
	stays := withServerMade("coolkey", map[string]string{"[applet]": "[applet]\nupdate = false"})
	begun := func(confirmed bool) func(*tps.Facts) {
		return func(f *tps.Facts) {
			f.Open = &token.Journal{ID: "j", CUID: f.Card.CUID, Operation: string(tps.OpEnroll), UserID: "ada", Entries: []token.Entry{
				{Step: "set-pin", Confirmed: true}, {Step: "generate-key signing", Confirmed: true}, {Step: "import-key encryption", Confirmed: confirmed},
			}}
		}
	}
	add := func(name string, edits map[string]string, change ...func(*tps.Facts)) {
		cases = append(cases, planCase{"enroll, encryption key made by the server: " + name, facts(t, tps.OpEnroll, edits, change...)})
	}
	made := serverMade["coolkey"]
	add("unknown card", made, unknown)
	add("active", made, active)
	add("active, kept", keep, active, kept)
	add("active, no archive", made, active, none)
	add("active, kept, no archive", keep, active, kept, none)
	add("active, applet that takes no keys", stays, active, applet("1.2.4122dfb4"))
	add("applet that takes no keys is replaced", made, applet("1.2.4122dfb4"))
	add("active, family that takes no keys", made, active, func(f *tps.Facts) { f.Family = struct{ tps.Family }{coolkey.Family{}} })
	add("resumed, import begun", made, active, begun(false))
	add("resumed, import begun, kept", keep, active, kept, begun(false))
	add("resumed, import done, no archive", made, active, none, begun(true))
	return cases
}

// TestCanImport: which applets take keys.
func TestCanImport(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		family  tps.Importer
		version string
		takes   bool
	}{
		{coolkey.Family{}, "1.3.42260afa", true},
		{coolkey.Family{}, "1.2.416da155", false},
		{coolkey.Family{}, "0.0.ffffffff", false},
		{coolkey.Family{}, "", false},
		{familypiv.Family{}, "5.4.3", true},
		{familypiv.Family{}, "0.9.0", true},
		{familypiv.Family{}, "", false}, // of another maker
	} {
		if err := c.family.CanImport(c.version); err == nil != c.takes {
			t.Errorf("%T %q: %v", c.family, c.version, err)
		}
	}
}

// TestServerMadeRolledBack: a PIN reset in the middle of an enrollment leaves no
// certificate of a key that the server made, and the card can be enrolled.
func TestServerMadeRolledBack(t *testing.T) {
	t.Parallel()
	x := newCutter(t, "gp-scp03", cutCase{"import", tps.OpEnroll, []tps.Operation{tps.OpEnroll}}, nil)
	x.archive()
	x.put(onlyEncryption(coolkeyCuts))
	card := x.cutCard(t, x.exchanges(t)-3, sim.After) // the certificate is issued
	open := x.openOn(t, card.Info().CUID)
	if open == nil || !slices.ContainsFunc(open.Entries, func(e token.Entry) bool { return e.Step == "issue-certificate encryption" }) {
		t.Fatalf("cut elsewhere: %+v", open)
	}
	_, err := x.run(tps.OpPINReset, card)
	wantStatus(t, err, tps.StatusNotPINResettable)
	if got := x.certificatesOf(card); len(got) != 0 {
		t.Errorf("active certificates %v", got)
	}
	_, err = x.run(tps.OpEnroll, card)
	must(t, err)
	must(t, x.check(t, card))
}
