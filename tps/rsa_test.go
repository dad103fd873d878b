package tps_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// rsaKeys are two keys of each size, made once: making one takes long.
var rsaKeys = sync.OnceValues(func() (*sim.KeyPool, error) {
	var keys []*rsa.PrivateKey
	for _, bits := range []int{2048, 2048, 3072, 3072} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return sim.NewKeyPool(keys...), nil
})

// four is a profile of four RSA keys with labels of all variables.
func four(bits int, compress bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, `
name = "four"
title = "Four keys"
operations = ["format", "enroll", "pin-reset", "key-changeover"]
[card]
allow_unknown = "anyone"
[keys]
version = 0
[pin]
tries = 3
[applet]
version = "1.4.66000001"
heap = 12288
instance_size = 18000
issuer_url = "https://tps.example.org:8443/tps/phoneHome"
[enroll]
label = "$auth.cn$ ($userid$), $auth.department$"
compress = %v
`, compress)
	for i, k := range []struct{ kind, label, caProfile, private string }{
		{"signing", "$auth.cn$'s signing key", "signing", "sign"},
		{"encryption", "encryption key for $auth.mail$", "encryption", `decrypt", "unwrap`},
		{"login", "$USERID$ on $pretty_cuid$ $msn$", "authentication", "sign"},
		{"spare", "costs $$5, $profileId$ $cuid$", "signing", "sign"},
	} {
		fmt.Fprintf(&b, `[[key]]
type = %q
cert = %d
alg = "rsa-%d"
ca_profile = %q
label = %q
private = ["%s", "sensitive", "private", "token"]
public = ["verify", "encrypt", "token"]
`, k.kind, i, bits, k.caProfile, k.label, k.private)
	}
	return b.String()
}

// TestRSA gives a card four RSA keys, one of them made by the server for one card, uses each of them, blocks the PIN and resets it.
func TestRSA(t *testing.T) {
	t.Parallel()
	sizes := map[bool]int{}
	for _, c := range []struct {
		model, set string
		bits       int
		compress   bool
		made       string // who makes the encryption key
	}{{"gp-scp03", "site", 2048, true, "card"}, {"gp-scp02", "des", 3072, true, "card"}, {"gp-scp03", "site", 3072, false, "card"}, {"gp-t0", "site", 2048, false, "server"}} {
		t.Run(fmt.Sprintf("model=%s/bits=%d/compress=%v", c.model, c.bits, c.compress), func(t *testing.T) {
			pool, err := rsaKeys()
			must(t, err)
			card, err := sim.New(sim.Config{Model: c.model, Keys: pool})
			must(t, err)
			defer card.Close()
			s := newSite(t)
			s.put(strings.Replace(four(c.bits, c.compress), `type = "encryption"`, fmt.Sprintf("type = \"encryption\"\nmade = %q", c.made), 1))
			s.people.all["ada"] = auth.Person{ID: "ada", Name: "Ada Lovelace", Mail: "ada@example.org", UPN: "ada@corp.example.org",
				Attributes: map[string]string{"department": "Mills & $engines$"}}
			_, err = s.run(tps.OpEnroll, card, with("four"))
			must(t, err)
			checkFour(t, s, card, c.bits)
			if c.bits == 2048 {
				sizes[c.compress] = z0Size(t, card, c.compress)
			}
			blockAndReset(t, s, card)
		})
	}
	if sizes[true] >= sizes[false] || sizes[true] == 0 {
		t.Errorf("combined object of %d bytes compressed, %d not", sizes[true], sizes[false])
	}
}

// checkFour compares the card with the records and uses the four keys.
func checkFour(t *testing.T, s *site, card *sim.Card, bits int) {
	t.Helper()
	cuid := cuidOf(t, card)
	rec, err := s.db.Token(t.Context(), cuid)
	must(t, err)
	if rec.State != token.Active || rec.Profile != "four" || rec.AppletID != "1.4.66000001" {
		t.Errorf("record %+v", rec)
	}
	z := combinedOn(t, card)
	if want := "Ada Lovelace (ada), Mills & $engines$"; z.Label != want {
		t.Errorf("the card is called %q, want %q", z.Label, want)
	}
	labels := []string{
		"Ada Lovelace's signing key", "encryption key for ada@example.org",
		"ada on " + cuid.Pretty() + " 00000000", "costs $5, four " + cuid.String(),
	}
	certs := z.Certificates()
	if len(certs) != len(labels) {
		t.Fatalf("%d certificates on the card", len(certs))
	}
	for i, c := range certs {
		if c.Number != i || c.Label != labels[i] {
			t.Errorf("certificate %d: number %d, label %q, want %q", i, c.Number, c.Label, labels[i])
		}
	}
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	url, err := coolkey.ReadIssuerInfo(t.Context(), conn)
	if err != nil || url != "https://tps.example.org:8443/tps/phoneHome" {
		t.Errorf("issuer info %q (%v)", url, err)
	}
	useFour(t, conn, s, cuid, bits)
}

// useFour signs with three keys and decrypts with one, each against its recorded
// certificate.
func useFour(t *testing.T, conn *apdu.Conn, s *site, cuid apdu.CUID, bits int) {
	t.Helper()
	recs, err := s.db.CertificatesOf(t.Context(), cuid)
	must(t, err)
	onIt, err := onCard(t.Context(), conn)
	must(t, err)
	pin, err := secret.NewPIN([]byte("7351924"))
	must(t, err)
	nonce, err := coolkey.VerifyPIN(t.Context(), conn, 0, pin)
	must(t, err)
	digest := sha256.Sum256([]byte("message"))
	for _, r := range recs {
		c, ok := onIt[r.Serial]
		if !ok || r.State != token.CertActive || !bytes.Equal(c.DER, r.DER) {
			t.Fatalf("certificate %s (%s) is not on the card as it is recorded", r.Serial, r.State)
		}
		pub := c.PublicKey.(*rsa.PublicKey)
		if pub.N.BitLen() != bits {
			t.Errorf("key of %d bits", pub.N.BitLen())
		}
		k := coolkey.Key{Number: c.PrivateKey(), Public: pub}
		if r.KeyType == "encryption" {
			//lint:ignore SA1019 what mail programs send to a card
			sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, []byte("for ada"))
			must(t, err)
			plain, err := k.DecryptPKCS1(t.Context(), conn, coolkey.Login(nonce), sealed)
			if err != nil || string(plain) != "for ada" {
				t.Errorf("decrypted %q (%v)", plain, err)
			}
			continue
		}
		sig, err := k.SignDigest(t.Context(), conn, coolkey.Login(nonce), crypto.SHA256, digest[:])
		if err != nil || rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig) != nil {
			t.Errorf("the %s key does not sign (%v)", r.KeyType, err)
		}
	}
}

// z0Size is the size of the combined object; its header says whether it is compressed.
func z0Size(t *testing.T, card *sim.Card, compressed bool) int {
	t.Helper()
	conn := apdu.NewConn(card)
	must(t, conn.Reset(t.Context()))
	must(t, coolkey.Select(t.Context(), conn))
	objects, err := coolkey.ListObjects(t.Context(), conn)
	must(t, err)
	if len(objects) != 1 || objects[0].ID != coolkey.IDCombined {
		t.Fatalf("objects %+v", objects)
	}
	b, err := coolkey.ReadObject(t.Context(), conn, coolkey.Anonymous(), coolkey.IDCombined, 0, objects[0].Size)
	must(t, err)
	if method := binary.BigEndian.Uint16(b[14:]); (method == 1) != compressed {
		t.Errorf("compression %d, want it: %v", method, compressed)
	}
	return len(b)
}

// blockAndReset types wrong PINs until the card takes none, and resets the PIN.
func blockAndReset(t *testing.T, s *site, card *sim.Card) {
	t.Helper()
	verify := func(text string) error {
		conn := apdu.NewConn(card)
		must(t, conn.Reset(t.Context()))
		must(t, coolkey.Select(t.Context(), conn))
		pin, err := secret.NewPIN([]byte(text))
		must(t, err)
		_, err = coolkey.VerifyPIN(t.Context(), conn, 0, pin)
		return err
	}
	for try := 1; try <= 3; try++ {
		var wrong *coolkey.PINError
		if err := verify("0000"); !errors.As(err, &wrong) || wrong.Blocked() != (try == 3) {
			t.Errorf("wrong PIN %d: %v", try, err)
		}
	}
	if err := verify("7351924"); err == nil {
		t.Error("the right PIN opens a blocked card")
	}
	_, err := s.run(tps.OpPINReset, card, with("four"), func(c *client, _ *tps.Request) { c.pins = []string{"2846091"} })
	must(t, err)
	if err := verify("7351924"); err == nil {
		t.Error("the old PIN still works")
	}
	must(t, verify("2846091"))
	cert, err := s.db.CertificatesOf(t.Context(), cuidOf(t, card))
	must(t, err)
	for _, c := range cert {
		if c.State != token.CertActive {
			t.Errorf("after a PIN reset certificate %s is %s", c.Serial, c.State)
		}
	}
}

// TestHeapTooSmall: what would not fit is refused while the card is as it was.
func TestHeapTooSmall(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.put(strings.NewReplacer("heap = 12288", "heap = 4096", ", $auth.department$", "").Replace(four(3072, false)))
	card := newCard(t, "gp-scp03")
	before := card.Exchanges()
	_, err := s.run(tps.OpEnroll, card, with("four"))
	wantStatus(t, err, tps.StatusMisconfiguration)
	if n := card.Exchanges() - before; n > 12 {
		t.Errorf("%d exchanges before the refusal", n)
	}
}
