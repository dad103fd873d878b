package attest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps/piv/attest"
)

// believes one set of roots.
func believes(name string, c attest.Chain) *attest.Verifier {
	return &attest.Verifier{Sets: []attest.Set{{Name: name, Chain: c}}}
}

// demanded is what the tests' card says, and what is demanded of it.
func demanded(t testing.TB) (piv.Statement, attest.Demands) {
	t.Helper()
	pub := &newKey(t).PublicKey
	firmware := piv.Version{Major: 5, Minor: 4, Patch: 3}
	policy := piv.Policy{PIN: piv.PINAlways, Touch: piv.TouchCached}
	return piv.Statement{Slot: piv.Signature, Public: pub, Firmware: firmware, Serial: 4711, Policy: policy, FormFactor: 1},
		attest.Demands{Slot: piv.Signature, Public: pub, Firmware: firmware, Serial: 4711, Policy: policy, Forms: []piv.FormFactor{2, 1}}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	chain, card := maker(t)
	s, d := demanded(t)
	v := believes("maker", chain)
	got, err := v.Verify(t.Context(), card.evidence(t, s), d)
	must(t, err)
	if got.Slot != s.Slot || got.Serial != s.Serial || got.Firmware != s.Firmware || got.Policy != s.Policy || !got.SameKey(s.Public) {
		t.Errorf("%+v", got)
	}
	older, old := d, s
	older.Firmware, older.Serial, old.Firmware = piv.Version{Major: 4, Minor: 3}, 0, piv.Version{Major: 4, Minor: 3, Patch: 5}
	_, err = v.Verify(t.Context(), card.evidence(t, old), older)
	must(t, err)
	older.Serial = s.Serial
	_, err = v.Verify(t.Context(), card.evidence(t, s), older)
	must(t, err)
	older.Serial = 0 // cards with this firmware do not keep it to themselves
	_, err = v.Verify(t.Context(), card.evidence(t, s), older)
	wants(t, err, "serial number 4711, and this one tells none")

	s.Policy, d.Policy = piv.Policy{PIN: piv.PINAlways, Touch: piv.TouchNever}, piv.Policy{} // what the defaults are in 9C
	_, err = v.Verify(t.Context(), card.evidence(t, s), d)
	must(t, err)
}

// TestRefused: one thing is wrong each time, and the reason says which.
func TestRefused(t *testing.T) {
	t.Parallel()
	chain, card := maker(t)
	_, foreign := maker(t)
	v := believes("maker", chain)
	for name, c := range map[string]struct {
		change func(s *piv.Statement)
		want   string
	}{
		"stale":         {func(s *piv.Statement) { s.Public = &newKey(t).PublicKey }, "attested another key than the one that it made in slot 9C"},
		"wrong slot":    {func(s *piv.Statement) { s.Slot = piv.Authentication }, "the key of slot 9A, not of slot 9C"},
		"another card":  {func(s *piv.Statement) { s.Serial = 4712 }, "serial number 4712, this one has 4711"},
		"no serial":     {func(s *piv.Statement) { s.Serial = 0 }, "serial number 0, this one has 4711"},
		"old firmware":  {func(s *piv.Statement) { s.Firmware.Patch = 2 }, "firmware 5.4.2, at least 5.4.3"},
		"PIN never":     {func(s *piv.Statement) { s.Policy.PIN = piv.PINNever }, "PIN policy never, always is demanded"},
		"PIN unknown":   {func(s *piv.Statement) { s.Policy.PIN = 0x77 }, "PIN policy unknown 77"},
		"form factor":   {func(s *piv.Statement) { s.FormFactor = 3 }, "form factor usb-c, one of [usb-a-nano usb-a] is demanded"},
		"no form":       {func(s *piv.Statement) { s.FormFactor = 0 }, "form factor not told"},
		"without touch": {func(s *piv.Statement) { s.Policy.Touch = piv.TouchNever }, "touch policy never, cached is demanded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d := demanded(t)
			c.change(&s)
			_, err := v.Verify(t.Context(), card.evidence(t, s), d)
			wants(t, err, c.want)
		})
	}
	s, d := demanded(t)
	good := card.evidence(t, s)
	flipped := bytes.Clone(good.Leaf)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		e    attest.Evidence
		want string
	}{
		"foreign maker":              {foreign.evidence(t, s), "by the roots maker: x509: certificate signed by unknown authority"},
		"forged signature":           {attest.Evidence{Leaf: flipped, Card: good.Card}, "not signed with the card's attestation key"},
		"foreign card's certificate": {attest.Evidence{Leaf: good.Leaf, Card: foreign.cert.Raw}, "not signed with the card's attestation key"},
		"the statement twice":        {attest.Evidence{Leaf: good.Leaf, Card: good.Leaf}, "not signed with the card's attestation key"},
		"no statement":               {attest.Evidence{Leaf: card.cert.Raw, Card: card.cert.Raw}, `attestation for the subject "Maker PIV Attestation"`},
		"no certificate":             {attest.Evidence{Leaf: []byte{0x70, 0}, Card: card.cert.Raw}, "the card's answer is no certificate"},
		"no card's certificate":      {attest.Evidence{Leaf: good.Leaf}, "the card's attestation certificate is none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := v.Verify(t.Context(), c.e, d)
			wants(t, err, c.want)
		})
	}
	_, err := v.Verify(t.Context(), good, attest.Demands{Slot: piv.Signature})
	wants(t, err, "no key is named")
}

// TestSlotSigns: a key in a slot signs whatever its owner likes, so what it signed is
// no statement, although the card vouches for that key.
func TestSlotSigns(t *testing.T) {
	t.Parallel()
	chain, card := maker(t)
	s, d := demanded(t)
	slot := &signer{key: newKey(t)}
	slot.cert = card.attests(t, piv.Statement{Slot: piv.Authentication, Public: &slot.key.PublicKey, Serial: 4711})
	v := believes("maker", chain)
	_, err := v.Verify(t.Context(), slot.evidence(t, s), d)
	wants(t, err, "not with a card's attestation key")
	wants(t, v.VerifyCard(slot.cert, nil), "not with a card's attestation key")
	must(t, v.VerifyCard(card.cert, nil))
}

// TestSets: the site's roots with their intermediates stand beside the maker's, and are
// all that a build without cgo has. Who names some has no others counted.
func TestSets(t *testing.T) {
	t.Parallel()
	chain, _ := maker(t)
	root := (*signer)(nil).authority(t, "Other Root")
	between := root.authority(t, "Other Intermediate")
	card := between.authority(t, "Other Attestation")
	s, d := demanded(t)
	e := card.evidence(t, s)
	only := func(c *signer) []*x509.Certificate { return []*x509.Certificate{c.cert} }
	sets := func(maker, site attest.Chain) *attest.Verifier {
		return &attest.Verifier{Sets: []attest.Set{{Name: "maker", Chain: maker}, {Name: "site", Chain: site}}}
	}
	own := attest.Roots(only(root), only(between))
	for name, c := range map[string]struct {
		v    *attest.Verifier
		of   []string
		want string
	}{
		"all":                    {sets(chain, own), nil, ""},
		"named":                  {sets(chain, own), []string{"site"}, ""},
		"both named":             {sets(chain, own), []string{"site", "maker"}, ""},
		"another named":          {sets(chain, own), []string{"maker"}, "by the roots maker: x509: certificate signed by unknown authority"},
		"unknown":                {sets(chain, own), []string{"site", "other"}, `no attestation roots "other" in this node's configuration, only maker, site`},
		"without cgo":            {sets(nil, own), nil, ""},
		"named without cgo":      {sets(nil, own), []string{"maker"}, "built without cgo"},
		"no intermediate":        {sets(chain, attest.Roots(only(root), nil)), nil, "authority; by the roots site: x509: certificate signed by unknown authority"},
		"intermediate is a root": {sets(chain, attest.Roots(only(between), nil)), nil, ""},
		"only an intermediate":   {sets(nil, attest.Roots(nil, only(between))), nil, "built without cgo"},
		"nothing":                {&attest.Verifier{}, nil, "built without cgo"},
		"nil":                    {nil, nil, "built without cgo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := d
			d.Roots = c.of
			_, err := c.v.Verify(t.Context(), e, d)
			early := c.v.VerifyCard(card.cert, c.of)
			if c.want == "" {
				must(t, errors.Join(err, early))
				return
			}
			wants(t, err, c.want)
			wants(t, early, c.want)
			if errors.Is(c.v.Has(c.of), attest.ErrNoMakers) && !errors.Is(err, attest.ErrNoMakers) {
				t.Error(err)
			}
		})
	}
}

// TestExpired: a certificate that has expired vouches for nothing, wherever it stands.
func TestExpired(t *testing.T) {
	t.Parallel()
	s, d := demanded(t)
	for i, name := range []string{"root", "intermediate", "card", "statement"} {
		at := func(n int) time.Duration {
			if n == i {
				return -time.Minute
			}
			return time.Hour
		}
		root := (*signer)(nil).until(t, "Root", at(0))
		between := root.until(t, "Intermediate", at(1))
		card := between.until(t, "Attestation", at(2))
		v := believes("site", attest.Roots([]*x509.Certificate{root.cert}, []*x509.Certificate{between.cert}))
		_, err := v.Verify(t.Context(), attest.Evidence{Leaf: card.attestsUntil(t, s, at(3)).Raw, Card: card.cert.Raw}, d)
		wants(t, err, "expired")
		if err := v.VerifyCard(card.cert, nil); (err == nil) != (name == "statement") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSoftwareCard: a software card's word counts only where that is allowed and its
// own root is named.
func TestSoftwareCard(t *testing.T) {
	t.Parallel()
	for _, alg := range []piv.Algorithm{piv.P256, piv.X25519} {
		card, err := sim.New(sim.Config{Model: "yubikey-5.7", Serial: 0xF0000001})
		must(t, err)
		defer card.Close()
		root, err := x509.ParseCertificate(card.Info().Attestation)
		must(t, err)
		e, d := attested(t, card, alg)
		set := func(c attest.Chain) []attest.Set { return []attest.Set{{Name: "lab", Chain: c}} }
		believe := func(c *x509.Certificate) error { return c.CheckSignatureFrom(root) }
		for name, c := range map[string]struct {
			v    attest.Verifier
			want string
		}{
			"allowed":              {attest.Verifier{Simulated: true, Sets: set(attest.Roots([]*x509.Certificate{root}, nil))}, ""},
			"allowed without root": {attest.Verifier{Simulated: true, Sets: set(func(_, card *x509.Certificate) error { return errors.New("unknown") })}, "unknown"},
			"not allowed":          {attest.Verifier{Sets: set(attest.Roots([]*x509.Certificate{root}, nil))}, "that of a software card"},
			"whoever believes it":  {attest.Verifier{Sets: set(func(_, card *x509.Certificate) error { return believe(card) })}, "that of a software card"},
		} {
			t.Run(alg.String()+" "+name, func(t *testing.T) {
				_, err := c.v.Verify(t.Context(), e, d)
				if c.want == "" {
					must(t, err)
				} else {
					wants(t, err, c.want)
				}
			})
		}
		file := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})
		_, err = attest.ParseRoots(file, false)
		wants(t, err, "root of a software card")
		if cs, err := attest.ParseRoots(file, true); err != nil || len(cs) != 1 || !cs[0].Equal(root) {
			t.Errorf("%v, %v", cs, err)
		}
	}
}

// attested makes a key on a card and has it attested.
func attested(t *testing.T, card *sim.Card, alg piv.Algorithm) (attest.Evidence, attest.Demands) {
	t.Helper()
	ctx, d := t.Context(), apdu.NewConn(card)
	_, err := piv.Select(ctx, d)
	must(t, err)
	must(t, piv.Authenticate(ctx, d, piv.AES192, secret.New(piv.DefaultManagementKey())))
	pub, err := piv.Generate(ctx, d, piv.KeyManagement, alg, piv.Policy{})
	must(t, err)
	e, err := attest.Read(ctx, d, piv.KeyManagement)
	must(t, err)
	return e, attest.Demands{Slot: piv.KeyManagement, Public: pub, Serial: 0xF0000001, Firmware: piv.Version{Major: 5, Minor: 7}}
}

func TestParseRoots(t *testing.T) {
	t.Parallel()
	_, card := maker(t)
	s, _ := demanded(t)
	leaf := card.attests(t, s)
	file := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	two := append(file("CERTIFICATE", card.cert.Raw), file("CERTIFICATE", card.cert.Raw)...)
	if cs, err := attest.ParseRoots(two, false); err != nil || len(cs) != 2 {
		t.Errorf("%v, %v", cs, err)
	}
	for want, b := range map[string][]byte{
		"no PEM certificate":               nil,
		"is not a certificate of an autho": file("CERTIFICATE", leaf.Raw),
		`a PEM block "PRIVATE KEY" among`:  file("PRIVATE KEY", card.cert.Raw),
		"x509: malformed":                  file("CERTIFICATE", []byte{0x30}),
	} {
		_, err := attest.ParseRoots(b, false)
		wants(t, err, want)
	}
}

func TestEvidencePEM(t *testing.T) {
	t.Parallel()
	_, card := maker(t)
	s, _ := demanded(t)
	e := card.evidence(t, s)
	back, err := attest.ParsePEM(e.PEM())
	if err != nil || !bytes.Equal(back.Leaf, e.Leaf) || !bytes.Equal(back.Card, e.Card) {
		t.Errorf("%v", err)
	}
	if got, err := back.Statement(); err != nil || got.Serial != s.Serial {
		t.Errorf("%+v, %v", got, err)
	}
	if by, err := back.Signer(); err != nil || !by.Equal(card.cert) {
		t.Errorf("%v", err)
	}
	_, err = attest.ParsePEM(e.PEM()[:len(e.PEM())/2])
	wants(t, err, "want 2")
	_, err = attest.ParsePEM(bytes.Repeat([]byte{'\n'}, 20<<10))
	wants(t, err, "at most 16384")
}

// FuzzEvidence: whatever a card answers and whatever lies in the database, nothing
// breaks and nothing passes.
func FuzzEvidence(f *testing.F) {
	chain, card := maker(f)
	s, d := demanded(f)
	e := card.evidence(f, s)
	f.Add(e.Leaf, e.Card, []byte{})
	f.Add(e.Card, e.Leaf, e.PEM())
	_, foreign := maker(f)
	e = foreign.evidence(f, s)
	f.Add(e.Leaf, e.Card, e.PEM())
	d.Public = &newKey(f).PublicKey // so that even a good one is refused
	v := &attest.Verifier{Sets: []attest.Set{{Name: "maker", Chain: chain}, {Name: "site", Chain: attest.Roots([]*x509.Certificate{foreign.cert}, nil)}}}
	f.Fuzz(func(t *testing.T, leaf, card, file []byte) {
		if s, err := v.Verify(context.Background(), attest.Evidence{Leaf: leaf, Card: card}, d); err == nil {
			t.Errorf("passes: %+v", s)
		}
		e, err := attest.ParsePEM(file)
		if err != nil {
			return
		}
		e.Statement()
		e.Signer()
		if back, err := attest.ParsePEM(e.PEM()); err != nil || !bytes.Equal(back.Leaf, e.Leaf) || !bytes.Equal(back.Card, e.Card) {
			t.Errorf("what was read is not what is written: %v", err)
		}
	})
}
