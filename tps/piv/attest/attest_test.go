package attest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
	"inkan/tps/piv/attest"
)

var _ attest.Func = (*attest.Verifier)(nil).Verify

// demanded is what the tests' card says, and what is demanded of it.
func demanded(t testing.TB) (piv.Statement, attest.Demands) {
	t.Helper()
	pub := &newKey(t).PublicKey
	firmware := piv.Version{Major: 5, Minor: 4, Patch: 3}
	policy := piv.Policy{PIN: piv.PINAlways, Touch: piv.TouchCached}
	return piv.Statement{Slot: piv.Signature, Public: pub, Firmware: firmware, Serial: 4711, Policy: policy, FormFactor: 1},
		attest.Demands{Slot: piv.Signature, Public: pub, Firmware: firmware, Serial: 4711, Policy: policy}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	chain, card := maker(t)
	s, d := demanded(t)
	v := &attest.Verifier{Makers: chain}
	got, err := v.Verify(t.Context(), card.evidence(t, s), d)
	must(t, err)
	if got.Slot != s.Slot || got.Serial != s.Serial || got.Firmware != s.Firmware || got.Policy != s.Policy || !got.SameKey(s.Public) {
		t.Errorf("%+v", got)
	}
	older := d
	older.Firmware, older.Serial = piv.Version{Major: 5, Minor: 2}, 0
	_, err = v.Verify(t.Context(), card.evidence(t, s), older)
	must(t, err)

	s.Policy, d.Policy = piv.Policy{PIN: piv.PINAlways, Touch: piv.TouchNever}, piv.Policy{} // what the defaults are in 9C
	_, err = v.Verify(t.Context(), card.evidence(t, s), d)
	must(t, err)
}

// TestRefused: one thing is wrong each time, and the reason says which.
func TestRefused(t *testing.T) {
	t.Parallel()
	chain, card := maker(t)
	_, foreign := maker(t)
	v := &attest.Verifier{Makers: chain}
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
	leaf, err := x509.ParseCertificate(good.Leaf)
	must(t, err)
	flipped := bytes.Clone(good.Leaf)
	flipped[len(flipped)-1] ^= 1
	for name, c := range map[string]struct {
		e    attest.Evidence
		want string
	}{
		"foreign maker":              {foreign.evidence(t, s), "signed by unknown authority"},
		"forged signature":           {attest.Evidence{Leaf: flipped, Card: good.Card}, "signed by unknown authority"},
		"foreign card's certificate": {attest.Evidence{Leaf: good.Leaf, Card: foreign.cert.Raw}, "signed by unknown authority"},
		"signed in a slot":           {attest.Evidence{Leaf: good.Leaf, Card: leaf.Raw}, "not with a card's attestation key"},
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
	_, err = v.Verify(t.Context(), good, attest.Demands{Slot: piv.Signature})
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
	_, err := (&attest.Verifier{Makers: chain}).Verify(t.Context(), slot.evidence(t, s), d)
	wants(t, err, "not with a card's attestation key")
}

// TestOwnRoots: the site's roots with their intermediates stand beside the maker's, and
// are all that a build without cgo has.
func TestOwnRoots(t *testing.T) {
	t.Parallel()
	chain, _ := maker(t)
	root := (*signer)(nil).authority(t, "Other Root")
	between := root.authority(t, "Other Intermediate")
	card := between.authority(t, "Other Attestation")
	s, d := demanded(t)
	e := card.evidence(t, s)
	certs := func(cs ...*signer) (out []*x509.Certificate) {
		for _, c := range cs {
			out = append(out, c.cert)
		}
		return out
	}
	for _, c := range map[string]struct {
		v    attest.Verifier
		want string
	}{
		"roots":                  {attest.Verifier{Makers: chain, Roots: certs(root), Intermediates: certs(between)}, ""},
		"roots without cgo":      {attest.Verifier{Roots: certs(root), Intermediates: certs(between)}, ""},
		"no intermediate":        {attest.Verifier{Makers: chain, Roots: certs(root)}, "neither the maker"},
		"intermediate is a root": {attest.Verifier{Roots: certs(between)}, ""},
		"only an intermediate":   {attest.Verifier{Makers: chain, Intermediates: certs(between)}, "unknown authority"},
		"nothing without cgo":    {attest.Verifier{Intermediates: certs(between)}, "built without cgo"},
	} {
		_, err := c.v.Verify(t.Context(), e, d)
		if c.want == "" {
			must(t, err)
			continue
		}
		wants(t, err, c.want)
	}
	if _, err := (&attest.Verifier{}).Verify(t.Context(), e, d); !errors.Is(err, attest.ErrNoMakers) {
		t.Error(err)
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
		believe := func(c *x509.Certificate) error { return c.CheckSignatureFrom(root) }
		for name, c := range map[string]struct {
			v    attest.Verifier
			want string
		}{
			"allowed":              {attest.Verifier{Simulated: true, Roots: []*x509.Certificate{root}}, ""},
			"allowed without root": {attest.Verifier{Simulated: true, Makers: func(_, card *x509.Certificate) error { return errors.New("unknown") }}, "unknown"},
			"not allowed":          {attest.Verifier{Roots: []*x509.Certificate{root}}, "that of a software card"},
			"whoever believes it":  {attest.Verifier{Makers: func(_, card *x509.Certificate) error { return believe(card) }}, "that of a software card"},
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
	v := &attest.Verifier{Makers: chain, Roots: []*x509.Certificate{foreign.cert}}
	f.Fuzz(func(t *testing.T, leaf, card, file []byte) {
		if s, err := v.Verify(context.Background(), attest.Evidence{Leaf: leaf, Card: card}, d); err == nil {
			t.Errorf("passes: %+v", s)
		}
		e, err := attest.ParsePEM(file)
		if err != nil {
			return
		}
		e.Statement()
		if back, err := attest.ParsePEM(e.PEM()); err != nil || !bytes.Equal(back.Leaf, e.Leaf) || !bytes.Equal(back.Card, e.Card) {
			t.Errorf("what was read is not what is written: %v", err)
		}
	})
}
