package tps_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/profile"
	"inkan/tps/token"
)

// keeping is the test profile whose encryption key stays.
var keeping = map[string]string{"cert = 2\n": "cert = 2\nkeep = true\n"}

// serials are those of a card's records by key type, those in a state.
func serials(t *testing.T, s *site, cuid apdu.CUID, state token.CertState) map[string][]string {
	t.Helper()
	certs, err := s.db.CertificatesOf(t.Context(), cuid)
	must(t, err)
	out := map[string][]string{}
	for _, c := range certs {
		if c.State == state {
			out[c.KeyType] = append(out[c.KeyType], c.Serial)
		}
	}
	return out
}

// TestKeepKey: a key that the profile keeps survives another enrollment with its
// certificate; the others are made anew and their old certificates revoked.
func TestKeepKey(t *testing.T) {
	t.Parallel()
	for _, overwrite := range []string{"true", "false"} { // what stays is not overwritten
		s := newSite(t)
		s.put(ecProfile("test", map[string]string{"cert = 2\n": "cert = 2\nkeep = true\noverwrite = " + overwrite + "\n"}))
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		cuid := cuidOf(t, card)
		before := serials(t, s, cuid, token.CertActive)
		_, err = s.run(tps.OpEnroll, card)
		must(t, err)
		after, revoked := serials(t, s, cuid, token.CertActive), serials(t, s, cuid, token.CertRevoked)
		if !slices.Equal(after["encryption"], before["encryption"]) || len(after["encryption"]) != 1 || len(revoked["encryption"]) != 0 {
			t.Errorf("encryption: %v, then %v, revoked %v", before, after, revoked)
		}
		if len(after["signing"]) != 1 || !slices.Equal(revoked["signing"], before["signing"]) {
			t.Errorf("signing: %v, then %v, revoked %v", before, after, revoked)
		}
		unharmed(t, s, card, cuid)
		// Another format ends it: the next enrollment makes both anew.
		_, err = s.run(tps.OpFormat, card)
		must(t, err)
		_, err = s.run(tps.OpEnroll, card)
		must(t, err)
		if last := serials(t, s, cuid, token.CertActive); slices.Equal(last["encryption"], before["encryption"]) {
			t.Errorf("after a format: %v", last)
		}
	}
}

// TestKeepWhat: a key stays only with a good certificate of the same person, and
// where it is not needed anew.
func TestKeepWhat(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := token.Certificate{KeyType: "encryption", Number: 2, CA: "embedded", UserID: "ada", State: token.CertActive, NotAfter: now.Add(time.Hour)}
	with := func(change func(*token.Certificate)) func(*tps.Facts) {
		return func(f *tps.Facts) {
			c := good
			if change != nil {
				change(&c)
			}
			f.Certs, f.Now = []token.Certificate{c}, now
		}
	}
	for name, c := range map[string]struct {
		kept   bool
		edits  map[string]string
		change []func(*tps.Facts)
	}{
		"good":              {true, keeping, []func(*tps.Facts){active, with(nil)}},
		"not asked for":     {false, nil, []func(*tps.Facts){active, with(nil)}},
		"no certificate":    {false, keeping, []func(*tps.Facts){active}},
		"expired":           {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.NotAfter = now })}},
		"on hold":           {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.State = token.CertOnHold })}},
		"to be revoked":     {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.Pending = "revoke" })}},
		"another authority": {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.CA = "old" })}},
		"another number":    {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.Number = 3 })}},
		"another key":       {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.KeyType = "old" })}},
		"another person":    {false, keeping, []func(*tps.Facts){active, with(func(c *token.Certificate) { c.UserID = "bob" })}},
		"formatted":         {false, keeping, []func(*tps.Facts){active, with(nil), func(f *tps.Facts) { f.Record.State, f.Record.UserID = token.Formatted, "" }}},
		"slot is empty":     {false, keeping, []func(*tps.Facts){active, with(nil), func(f *tps.Facts) { f.Contents.Slots = f.Contents.Slots[:1] }}},
		"another applet":    {false, keeping, []func(*tps.Facts){active, with(nil), applet(otherApplet)}},
		"being made already": {false, keeping, []func(*tps.Facts){active, with(nil), func(f *tps.Facts) {
			f.Open = &token.Journal{ID: "j", Operation: "enroll", UserID: "ada", Entries: []token.Entry{{Step: "generate-key encryption"}}}
		}}},
	} {
		got := planned(facts(t, tps.OpEnroll, c.edits, c.change...))
		if strings.Contains(got, "keep-certificate encryption") != c.kept || strings.Contains(got, "generate-key encryption") == c.kept ||
			strings.Contains(got, "issue-certificate encryption") == c.kept || !strings.Contains(got, "generate-key signing") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestKeepCut: an enrollment that keeps a key and is cut anywhere is finished with
// the key still there.
func TestKeepCut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(ecProfile("test", keeping))
	for n := 4; ; n += 7 {
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		cuid := cuidOf(t, card)
		before := serials(t, s, cuid, token.CertActive)["encryption"]
		card.Cut(n, sim.After)
		_, err = s.run(tps.OpEnroll, card)
		if err == nil { // not as many exchanges as that
			break
		}
		card.Insert()
		_, err = s.run(tps.OpEnroll, card)
		must(t, err)
		if after := serials(t, s, cuid, token.CertActive)["encryption"]; !slices.Equal(before, after) {
			t.Errorf("cut %d: %v, then %v", n, before, after)
		}
		unharmed(t, s, card, cuid)
		_, err = s.run(tps.OpFormat, card) // one active card per person
		must(t, err)
	}
}

// TestOldCertsPerKey: what becomes of the certificate of a key that is replaced is
// the key's own rule, else the profile's.
func TestOldCertsPerKey(t *testing.T) {
	t.Parallel()
	for rule, want := range map[string]token.CertState{"revoke": token.CertRevoked, "hold": token.CertOnHold, "keep": token.CertActive, "": token.CertRevoked} {
		s := newSite(t)
		edits := map[string]string{"cert = 2\n": fmt.Sprintf("cert = 2\nold_certs = %q\n", rule)}
		if rule != "" { // the profile's rule is another one
			edits["[applet]"] = "[enroll]\nold_certs = \"" + map[string]string{"revoke": "keep", "hold": "revoke", "keep": "revoke"}[rule] + "\"\n[applet]"
		}
		s.put(ecProfile("test", edits))
		card := newCard(t, "gp-scp03")
		_, err := s.run(tps.OpEnroll, card)
		must(t, err)
		cuid := cuidOf(t, card)
		old := serials(t, s, cuid, token.CertActive)
		_, err = s.run(tps.OpEnroll, card)
		must(t, err)
		if got := serials(t, s, cuid, want)["encryption"]; !slices.Contains(got, old["encryption"][0]) {
			t.Errorf("rule %q: %v are %s", rule, got, want)
		}
		signing := token.CertRevoked
		if rule == "revoke" {
			signing = token.CertActive
		}
		if got := serials(t, s, cuid, signing)["signing"]; !slices.Contains(got, old["signing"][0]) {
			t.Errorf("rule %q: signing %v are %s", rule, got, signing)
		}
	}
}

// eight is a profile with all keys there can be, on three curves.
func eight() string {
	doc, _, _ := strings.Cut(ecProfile("eight", map[string]string{"[applet]": "[applet]\nheap = 24576\ninstance_size = 40000"}), "[[key]]")
	for n, alg := range []string{"p256", "p384", "p521", "p256", "p384", "p521", "p256", "p256"} {
		ca, use := "signing", `private = ["sign", "token"]`
		if n%2 == 1 {
			ca, use = "encryption", `private = ["derive", "token"]`
		}
		doc += fmt.Sprintf("[[key]]\ntype = \"k%d\"\ncert = %d\nalg = %q\nca_profile = %q\nlabel = \"%s %d of $userid$\"\n%s\npublic = [\"token\"]\n", n, 7-n, alg, ca, ca, n, use)
	}
	return doc
}

// TestDEF45: with eight certificates of different kinds every record is about the
// certificate that the card holds under its number, with its key; also when some
// stay and some are replaced.
func TestDEF45(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(eight())
	card := newCard(t, "gp-scp03")
	for round := range 2 {
		_, err := s.run(tps.OpEnroll, card, with("eight"))
		must(t, err)
		p, err := profile.Decode([]byte(eight()))
		must(t, err)
		checkRecords(t, s, card, p)
		if round == 0 {
			s.put(strings.ReplaceAll(eight(), "ca_profile = \"encryption\"", "keep = true\nca_profile = \"encryption\""))
		}
	}
	if kept := serials(t, s, cuidOf(t, card), token.CertRevoked); len(kept) != 4 {
		t.Errorf("revoked %v, want those of four keys", kept)
	}
}

// checkRecords compares the active records of a card with what it holds.
func checkRecords(t *testing.T, s *site, card *sim.Card, p profile.Profile) {
	t.Helper()
	records, err := s.db.CertificatesOf(t.Context(), cuidOf(t, card))
	must(t, err)
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	certs, err := onCard(t.Context(), conn)
	must(t, err)
	active := 0
	for _, r := range records {
		if r.State != token.CertActive {
			continue
		}
		active++
		i := slices.IndexFunc(p.Key, func(k profile.Key) bool { return k.Type == r.KeyType })
		c, there := certs[r.Serial]
		if i < 0 || !there || c.Number != r.Number || p.Key[i].Cert != r.Number || string(c.DER) != string(r.DER) {
			t.Errorf("record %s %s number %d: on the card %t, number %d", r.KeyType, r.Serial, r.Number, there, c.Number)
			continue
		}
		x, err := x509.ParseCertificate(r.DER)
		must(t, err)
		if bits := x.PublicKey.(*ecdsa.PublicKey).Params().BitSize; bits != p.Key[i].Bits() || !strings.HasPrefix(c.Label, p.Key[i].CAProfile) {
			t.Errorf("%s: %d bits, label %q", r.KeyType, bits, c.Label)
		}
	}
	if active != len(p.Key) || len(certs) != len(p.Key) {
		t.Errorf("%d active records, %d certificates on the card, want %d", active, len(certs), len(p.Key))
	}
}
