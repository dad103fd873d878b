//go:build unix

package server_test

import (
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/cli/config"
	"inkan/cli/sealing"
	"inkan/cli/server"
	"inkan/sim"
	"inkan/tps/piv/attest"
)

// evidenceOf reads evidence of a real card.
func evidenceOf(t *testing.T, name string) (attest.Evidence, attest.Demands) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	must(t, err)
	e, err := attest.ParsePEM(b)
	must(t, err)
	s, err := e.Statement()
	must(t, err)
	return e, attest.Demands{Public: s.Public, Slot: piv.Authentication, Serial: s.Serial}
}

// TestMakers verifies what YubiKeys attested by the roots that are built in. A build
// without cgo has none.
func TestMakers(t *testing.T) {
	t.Parallel()
	n, _ := opened(t)
	newer, d5 := evidenceOf(t, "yubikey-5.4.3.pem")
	older, d4 := evidenceOf(t, "yubikey-4.3.7.pem") // its card's certificate lacks the basic constraints
	mixed := attest.Evidence{Leaf: newer.Leaf, Card: older.Card}
	if !server.HasMakers {
		_, err := n.Attest.Verify(t.Context(), newer, d5)
		if !errors.Is(err, attest.ErrNoMakers) || !errors.Is(n.Attest.Has(nil), attest.ErrNoMakers) || !errors.Is(n.Attest.Has([]string{"yubico"}), attest.ErrNoMakers) {
			t.Errorf("without any root: %v", err)
		}
		return
	}
	for firmware, c := range map[string]struct {
		e attest.Evidence
		d attest.Demands
	}{"5.4.3": {newer, d5}, "4.3.7": {older, d4}} {
		for range 2 {
			s, err := n.Attest.Verify(t.Context(), c.e, c.d)
			if err != nil || s.Firmware.String() != firmware || s.Policy.PIN != piv.PINOnce || s.Serial != c.d.Serial {
				t.Errorf("firmware %s: %+v, %v", firmware, s, err)
			}
		}
		by, err := c.e.Signer()
		must(t, err)
		if err := n.Attest.VerifyCard(by, []string{"yubico"}); err != nil {
			t.Errorf("firmware %s: %v", firmware, err)
		}
	}
	if _, err := n.Attest.Verify(t.Context(), mixed, d5); err == nil {
		t.Error("two cards' certificates pass")
	}
	d5.Slot = piv.Signature
	if _, err := n.Attest.Verify(t.Context(), newer, d5); err == nil || !strings.Contains(err.Error(), "slot 9A, not of slot 9C") {
		t.Error(err)
	}
}

// TestOwnAttestationRoots: a node reads the roots that its configuration names. That
// of a software card is taken in a trial only.
func TestOwnAttestationRoots(t *testing.T) {
	t.Parallel()
	card, err := sim.New(sim.Config{Model: "yubikey-5.4", Serial: 0xF0000001})
	must(t, err)
	defer card.Close()
	e, d := made(t, card)
	folder := prepared(t, t.TempDir())
	write := func(lab, simulator bool, a config.Attestation) {
		c, err := config.Load(filepath.Join(folder, sealing.ConfigFile))
		must(t, err)
		c.Node.Lab, c.TPS.AllowSimulator, c.Attestation = lab, simulator, a
		b, err := c.Encode()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(folder, sealing.ConfigFile), b, 0o600))
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: card.Info().Attestation})
	must(t, os.WriteFile(filepath.Join(folder, "card.pem"), root, 0o600))
	site := func(file string) config.Attestation { return config.Attestation{Roots: []string{file}} }
	named := func(s config.AttestationSet) config.Attestation {
		return config.Attestation{Set: []config.AttestationSet{s}}
	}

	for name, a := range map[string]config.Attestation{
		"site": site("card.pem"), "acme": named(config.AttestationSet{Name: "acme", Roots: []string{"card.pem"}}),
	} {
		write(true, true, a)
		n, err := server.Open(t.Context(), folder, server.Options{})
		must(t, err)
		for of, want := range map[string]string{"": "", name: "", "yubico": "by the roots yubico", "other": "only yubico, " + name} {
			d := d
			if of != "" {
				d.Roots = []string{of}
			}
			if of == "yubico" && !server.HasMakers {
				want = attest.ErrNoMakers.Error()
			}
			s, err := n.Attest.Verify(t.Context(), e, d)
			if want == "" && (err != nil || s.Serial != 0xF0000001) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, roots %q: %+v, %v", name, of, s, err)
			}
		}
		must(t, n.Close())
	}
	for name, c := range map[string]struct {
		lab, simulator bool
		config         config.Attestation
		want           string
	}{
		"production":    {false, true, site("card.pem"), "[attestation] roots: card.pem: \"CN=Inkan Software Card"},
		"no simulators": {true, false, site("card.pem"), "root of a software card"},
		"no file":       {true, true, site("none.pem"), "none.pem"},
		"no PEM":        {true, true, site("inkan.toml"), "[attestation] roots: inkan.toml: no PEM certificate"},
		"named": {false, true, named(config.AttestationSet{Name: "acme", Roots: []string{"card.pem"}}),
			"[[attestation.set]] acme: roots: card.pem: \"CN=Inkan Software Card"},
		"between": {true, true, named(config.AttestationSet{Name: "acme", Roots: []string{"card.pem"}, Intermediates: []string{"none.pem"}}),
			"[[attestation.set]] acme: intermediates: "},
	} {
		write(c.lab, c.simulator, c.config)
		n, err := server.Open(t.Context(), folder, server.Options{})
		if err == nil {
			must(t, n.Close())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// made is a key that a card made and attested.
func made(t *testing.T, card apdu.Card) (attest.Evidence, attest.Demands) {
	t.Helper()
	ctx, doer := t.Context(), apdu.NewConn(card)
	_, err := piv.Select(ctx, doer)
	must(t, err)
	must(t, piv.Authenticate(ctx, doer, piv.TripleDES, secret.New(piv.DefaultManagementKey())))
	pub, err := piv.Generate(ctx, doer, piv.Authentication, piv.P256, piv.Policy{})
	must(t, err)
	e, err := attest.Read(ctx, doer, piv.Authentication)
	must(t, err)
	return e, attest.Demands{Public: pub, Slot: piv.Authentication, Serial: 0xF0000001}
}
