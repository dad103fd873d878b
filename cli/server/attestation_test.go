//go:build unix

package server_test

import (
	"encoding/pem"
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
		if n.Attest != nil {
			t.Error("without any root there is a verifier")
		}
		return
	}
	for firmware, c := range map[string]struct {
		e attest.Evidence
		d attest.Demands
	}{"5.4.3": {newer, d5}, "4.3.7": {older, d4}} {
		for range 2 {
			s, err := n.Attest(t.Context(), c.e, c.d)
			if err != nil || s.Firmware.String() != firmware || s.Policy.PIN != piv.PINOnce || s.Serial != c.d.Serial {
				t.Errorf("firmware %s: %+v, %v", firmware, s, err)
			}
		}
	}
	if _, err := n.Attest(t.Context(), mixed, d5); err == nil {
		t.Error("two cards' certificates pass")
	}
	d5.Slot = piv.Signature
	if _, err := n.Attest(t.Context(), newer, d5); err == nil || !strings.Contains(err.Error(), "slot 9A, not of slot 9C") {
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
	write := func(lab, simulator bool, roots string) {
		c, err := config.Load(filepath.Join(folder, sealing.ConfigFile))
		must(t, err)
		c.Node.Lab, c.TPS.AllowSimulator, c.Attestation = lab, simulator, config.Attestation{Roots: []string{roots}}
		b, err := c.Encode()
		must(t, err)
		must(t, os.WriteFile(filepath.Join(folder, sealing.ConfigFile), b, 0o600))
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: card.Info().Attestation})
	must(t, os.WriteFile(filepath.Join(folder, "card.pem"), root, 0o600))

	write(true, true, "card.pem")
	n, err := server.Open(t.Context(), folder, server.Options{})
	must(t, err)
	s, err := n.Attest(t.Context(), e, d)
	must(t, err)
	if s.Serial != 0xF0000001 {
		t.Errorf("%+v", s)
	}
	must(t, n.Close())
	for name, c := range map[string]struct {
		lab, simulator bool
		roots, want    string
	}{
		"production":    {false, true, "card.pem", "card.pem: \"CN=Inkan Software Card"},
		"no simulators": {true, false, "card.pem", "root of a software card"},
		"no file":       {true, true, "none.pem", "none.pem"},
		"no PEM":        {true, true, "inkan.toml", "inkan.toml: no PEM certificate"},
	} {
		write(c.lab, c.simulator, c.roots)
		n, err := server.Open(t.Context(), folder, server.Options{})
		if err == nil {
			must(t, n.Close())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "[attestation] roots") {
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
	return e, attest.Demands{Public: pub, Slot: piv.Authentication}
}
