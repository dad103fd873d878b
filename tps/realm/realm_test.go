package realm_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"inkan/apdu/secret"
	"inkan/tps/realm"
	"inkan/tps/token"
)

// TestAlgorithms: a token of every algorithm verifies, by ours and by its JWKS entry,
// and not under another algorithm, type or issuer.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, a := range realm.Algorithms() {
		k := realm.NewKey{Provider: realm.Generated, Algorithm: a}
		if a[0] == 'R' || a[0] == 'P' {
			k.Bits = 2048
		}
		if a == realm.RS384 || a == realm.RS512 || a == realm.PS384 || a == realm.PS512 {
			continue // RSA keys are slow to make, and the hash is all that differs
		}
		if _, err := n.Add(t.Context(), k, "test"); err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		text := n.sign(t, a)
		if err := n.verify(t, text, realm.RS256, a); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		refused(t, "not in the list", n.verify(t, text, realm.RS512), realm.ErrToken)
		var c realm.Claims
		refused(t, "another type", n.Verify(t.Context(), text, realm.Type{Name: "at+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{a}}, &c), realm.ErrToken)
		other := n.another(t, func(c *realm.Config) { c.Issuer = "https://other.example" })
		refused(t, "another issuer", other.Verify(t.Context(), text, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{a}}, &c), realm.ErrToken)
		checkJWKS(t, n, text, a)
	}
}

func checkJWKS(t *testing.T, n *node, text string, a realm.Algorithm) {
	t.Helper()
	b, err := n.JWKS(t.Context())
	must(t, err)
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(b, &set))
	obj, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(a)})
	must(t, err)
	found := set.Key(obj.Signatures[0].Header.KeyID)
	if len(found) != 1 {
		t.Fatalf("%s: %d keys for the kid", a, len(found))
	}
	if _, err := obj.Verify(found[0].Key); err != nil {
		t.Errorf("%s by JWKS: %v", a, err)
	}
	k := found[0]
	spki, err := x509.MarshalPKIXPublicKey(k.Key)
	must(t, err)
	sum := sha256.Sum256(spki)
	if k.KeyID != base64.RawURLEncoding.EncodeToString(sum[:]) || k.Use != "sig" || k.Algorithm != string(a) || !k.IsPublic() {
		t.Errorf("%s: %+v", a, k)
	}
	leaf := sha256.Sum256(k.Certificates[0].Raw)
	if string(leaf[:]) != string(k.CertificateThumbprintSHA256) || strings.Contains(string(b), `"x5t":`) {
		t.Errorf("%s: thumbprints of the certificate", a)
	}
	if c := k.Certificates[0]; c.Version != 3 || c.Subject.CommonName != "Inkan test" || c.KeyUsage != x509.KeyUsageDigitalSignature || c.VerifyHostname("tps.example.org") != nil {
		t.Errorf("%s: certificate %+v", a, c.Subject)
	}
	if !strings.Contains(string(b), `"tp":"`) || strings.Contains(string(b), `"d":`) {
		t.Errorf("%s: %s", a, b)
	}
}

// TestRefusedTokens: expired, of the future, without signature, with HMAC, torn.
func TestRefusedTokens(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	text := n.sign(t, realm.ES256)
	must(t, n.verify(t, text, realm.ES256))
	head, rest, _ := strings.Cut(text, ".")
	body, _, _ := strings.Cut(rest, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"test+jwt"}`))
	hmac := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"test+jwt","kid":"` + n.only(t, realm.Active).KID + `"}`))
	for name, bad := range map[string]string{
		"empty": "", "none": none + "." + body + ".", "hmac": hmac + "." + body + ".AAAA", "torn": text[:len(text)-4], "no signature": head + "." + body,
		"long": strings.Repeat("a", 17<<10),
	} {
		refused(t, name, n.verify(t, bad, realm.ES256), realm.ErrToken)
	}
	n.clock.add(-time.Minute)
	refused(t, "of the future", n.verify(t, text, realm.ES256), realm.ErrToken)
	n.clock.add(2 * time.Hour)
	refused(t, "expired", n.verify(t, text, realm.ES256), realm.ErrToken)
}

// TestSelection: the active key of highest priority signs, the older of two that are
// alike; a change is seen by another node at once.
func TestSelection(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	other := n.another(t)
	kid := func() string {
		text, err := other.Sign(ctx, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, time.Hour, &realm.Claims{Subject: "ada"})
		must(t, err)
		obj, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
		must(t, err)
		return obj.Signatures[0].Header.KeyID
	}
	first := n.only(t, realm.Active)
	add := func(k realm.NewKey) realm.Key {
		k.Provider = realm.Generated
		made, err := n.Add(ctx, k, "test")
		must(t, err)
		return made
	}
	same := add(realm.NewKey{Priority: 100, Name: "same"})
	passive := add(realm.NewKey{Priority: 900, Passive: true, Name: "high"})
	add(realm.NewKey{Priority: 950, Algorithm: realm.ES384})
	if kid() != first.KID {
		t.Error("the first of two alike does not sign")
	}
	_, err := n.SetPriority(ctx, "same", 101, "test")
	must(t, err)
	if kid() != same.KID {
		t.Error("the higher priority does not sign")
	}
	old := n.sign(t, realm.ES256)
	_, err = n.SetState(ctx, passive.KID, realm.Active, "test")
	must(t, err)
	if kid() != passive.KID {
		t.Error("the activated key does not sign")
	}
	_, err = n.SetState(ctx, "same", realm.Passive, "test")
	must(t, err)
	must(t, n.verify(t, old, realm.ES256))
	_, err = n.SetState(ctx, string(same.ID), realm.Disabled, "test")
	must(t, err)
	refused(t, "by a disabled key", n.verify(t, old, realm.ES256), realm.ErrToken)
	b, err := n.JWKS(ctx)
	must(t, err)
	if strings.Contains(string(b), same.KID) || strings.Index(string(b), passive.KID) > strings.Index(string(b), first.KID) {
		t.Errorf("published: %s", b)
	}
}

// TestLastKeyStays: the only key that signs cannot be taken away.
func TestLastKeyStays(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	k := n.only(t, realm.Active)
	for _, s := range []realm.State{realm.Passive, realm.Disabled} {
		_, err := n.SetState(ctx, k.KID, s, "test")
		refused(t, string(s), err, realm.ErrRefused)
	}
	_, err := n.Delete(ctx, k.Name, "test")
	refused(t, "deleting", err, realm.ErrRefused)
	_, err = n.Find(ctx, "nobody")
	refused(t, "another", err, token.ErrNotFound)
	_, err = n.SetState(ctx, k.KID, realm.Deleted, "test")
	refused(t, "a state that is none", err, realm.ErrInput)

	made, before, err := n.Rotate(ctx, realm.ForSessions, realm.ES256, "test")
	must(t, err)
	if before.ID != k.ID || made.Predecessor != k.ID || made.Priority != 101 {
		t.Errorf("made %+v", made)
	}
	gone, err := n.Delete(ctx, k.KID, "test")
	must(t, err)
	if gone.Material != "" || n.vault.Size() != 1 || gone.State != realm.Deleted || len(gone.Chain) != 1 {
		t.Errorf("deleted %+v, %d keys in the vault", gone, n.vault.Size())
	}
	_, err = n.SetState(ctx, string(k.ID), realm.Active, "test")
	refused(t, "a deleted key", err, realm.ErrRefused)
	_, err = n.Sign(ctx, realm.Type{Name: "x", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.EdDSA}}, time.Minute, &realm.Claims{})
	refused(t, "no key", err, realm.ErrNoKey)
}

// pemKey is a private key and a certificate of it.
func pemKey(t testing.TB) (key *ecdsa.PrivateKey, private, certificate []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), certificateOf(t, key, time.Now().Add(time.Hour))
}

// TestUploadedKey: PEM with and without certificate, and what is wrong with others.
func TestUploadedKey(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	key, private, certificate := pemKey(t)
	_, _, foreign := pemKey(t)
	expired := certificateOf(t, key, time.Now().Add(-time.Minute))
	add := func(k realm.NewKey, material []byte) (realm.Key, error) {
		k.Provider, k.Material = realm.PEM, secret.New([]byte(string(material)))
		return n.Add(ctx, k, "test")
	}
	for name, k := range map[string]realm.NewKey{
		"certificate of another key": {Certificates: foreign},
		"expired certificate":        {Certificates: expired},
		"no certificate":             {Certificates: []byte("text")},
		"wrong order":                {Certificates: append(append([]byte{}, certificate...), foreign...)},
		"another algorithm":          {Algorithm: realm.ES256},
	} {
		_, err := add(k, private)
		refused(t, name, err, realm.ErrInput)
	}
	for name, b := range map[string]string{"nothing": "", "text": "text", "torn": strings.Replace(string(private), "MI", "AA", 1),
		"encrypted": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"} {
		_, err := add(realm.NewKey{}, []byte(b))
		refused(t, name, err, realm.ErrInput)
	}
	if n.vault.Size() != 1 {
		t.Errorf("%d keys in the vault: what was refused stayed", n.vault.Size())
	}
	k, err := add(realm.NewKey{Certificates: certificate, Name: "mine"}, private)
	must(t, err)
	if k.Algorithm != realm.ES384 || len(k.Chain) != 1 {
		t.Errorf("added %+v", k)
	}
	must(t, n.verify(t, n.sign(t, realm.ES384), realm.ES384))
	_, err = add(realm.NewKey{}, private)
	refused(t, "twice", err, realm.ErrRefused)
	_, err = n.SetCertificates(ctx, "mine", foreign, "test")
	refused(t, "certificate of another key", err, realm.ErrInput)
	if k, err = n.SetCertificates(ctx, "mine", certificateOf(t, key, time.Now().Add(24*time.Hour)), "test"); err != nil || len(k.Chain) != 1 {
		t.Errorf("replaced: %v", err)
	}
}

// TestExistingKey: one of the HSM is used and never destroyed by deleting.
func TestExistingKey(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	must(t, n.vault.Import(t.Context(), "token signing", rsaKey()))
	_, err := n.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11}, "test")
	refused(t, "no label", err, realm.ErrInput)
	if _, err := n.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11, Label: "nobody"}, "test"); err == nil {
		t.Error("added a key that is not there")
	}
	k, err := n.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11, Label: "token signing", Algorithm: realm.PS256}, "test")
	must(t, err)
	must(t, n.verify(t, n.sign(t, realm.PS256), realm.PS256))
	_, err = n.SetState(t.Context(), k.KID, realm.Disabled, "test")
	refused(t, "the only one", err, realm.ErrRefused)
	must(t, n.vault.Import(t.Context(), "other", rsa3(t)))
	_, err = n.Add(t.Context(), realm.NewKey{Provider: realm.PKCS11, Label: "other", Algorithm: realm.PS256}, "test")
	must(t, err)
	if _, err = n.Delete(t.Context(), k.KID, "test"); err != nil || n.vault.Size() != 3 {
		t.Errorf("%v, %d keys in the vault", err, n.vault.Size())
	}
}

// TestAudit: every change is there with the key and who made it.
func TestAudit(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	_, _, err := n.Rotate(t.Context(), realm.ForSessions, realm.ES256, "ada")
	must(t, err)
	_, err = n.Add(t.Context(), realm.NewKey{Provider: "paper"}, "ada")
	refused(t, "provider", err, realm.ErrInput)
	var ops []string
	for _, e := range n.audit.all {
		ops = append(ops, e.Fields["op"]+" "+string(e.Outcome)+" "+e.Subject)
	}
	if got := strings.Join(ops, ", "); got != "add attempt policy, add success policy, rotate attempt ada, rotate success ada, add attempt ada, add failure ada" {
		t.Error(got)
	}
}

// TestAuditFull: what cannot be audited is not done.
func TestAuditFull(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	ctx := t.Context()
	k := n.only(t, realm.Active)
	second, err := n.Add(ctx, realm.NewKey{Provider: realm.Generated}, "ada")
	must(t, err)
	n.clock.add(89*day + time.Minute)
	n.audit.fail = errors.New("no space")
	for what, do := range map[string]func() error{
		"add":         func() error { _, err := n.Add(ctx, realm.NewKey{Provider: realm.Generated}, "ada"); return err },
		"rotate":      func() error { _, _, err := n.Rotate(ctx, realm.ForSessions, realm.ES256, "ada"); return err },
		"state":       func() error { _, err := n.SetState(ctx, second.KID, realm.Disabled, "ada"); return err },
		"delete":      func() error { _, err := n.Delete(ctx, second.KID, "ada"); return err },
		"compromised": func() error { _, err := n.Compromised(ctx, k.KID, "ada"); return err },
		"policy":      func() error { return n.Tend(ctx) },
	} {
		refused(t, what, do(), n.audit.fail)
	}
	rec, err := n.State(ctx)
	all, notBefore := rec.Keys, rec.NotBefore[realm.ForSessions]
	if err != nil || len(all) != 2 || n.vault.Size() != 2 || !notBefore.IsZero() || all[0].State != realm.Active || all[1].State != realm.Active {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestNewChecks(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for name, edit := range map[string]func(*realm.Config){
		"no issuer": func(c *realm.Config) { c.Issuer = "" }, "no store": func(c *realm.Config) { c.Store = nil },
		"short period": func(c *realm.Config) { c.Policy.Every = time.Hour }, "too far ahead": func(c *realm.Config) { c.Policy.Ahead = 91 * 24 * time.Hour },
		"short passive": func(c *realm.Config) { c.Policy.PassiveFor = time.Hour },
	} {
		cfg := realm.Config{Store: n.db, Vault: n.vault, Audit: n.audit, Issuer: issuer}
		edit(&cfg)
		if _, err := realm.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestStoreDown: nothing is signed or verified by guess.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	text := n.sign(t, realm.ES256)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := n.Sign(ctx, realm.Type{Name: "x", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, time.Minute, &realm.Claims{})
	if err == nil || errors.Is(err, realm.ErrNoKey) {
		t.Errorf("signing: %v", err)
	}
	var c realm.Claims
	refused(t, "verifying", n.Verify(ctx, text, realm.Type{Name: "test+jwt", Use: realm.ForSessions, Algorithms: []realm.Algorithm{realm.ES256}}, &c), token.ErrUnavailable)
}
