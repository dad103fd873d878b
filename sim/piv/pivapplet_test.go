package piv_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/sim"
)

// fixedPivApplet is a card with nothing but a PivApplet, as PIVKEYs and the like are.
func fixedPivApplet(t testing.TB) *card {
	t.Helper()
	b, err := os.ReadFile("../models/yubikey-5.4.toml")
	check(t, err)
	model := strings.NewReplacer(`"yubikey"`, `"pivapplet"`, `"5.4.3"`, `"5.4.0"`).Replace(string(b))
	file := filepath.Join(t.TempDir(), "pivapplet.toml")
	check(t, os.WriteFile(file, []byte(model), 0o600))
	return insert(t, sim.Config{Model: file, Serial: serial})
}

// TestPivApplet: where the loadable applet differs (piv-applet.md §10).
func TestPivApplet(t *testing.T) {
	t.Parallel()
	c := fixedPivApplet(t)
	app, err := piv.Select(t.Context(), c)
	if err != nil || !strings.HasPrefix(app.Label, "PivApplet v0.9.0/") || app.URI == "" {
		t.Errorf("%+v, %v", app, err)
	}
	c.want("00FD000000", "050400 9000")
	c.want("0020008000", "63C5")
	c.want("00F700F900", "6A86")
	c.want("00F99A0000", "6A80")
	c.want("00F9F90000", "6A86")
	c.want("0087119A047C028200", "6A86")                  // empty slot
	c.want("0087119F047C028200", "6A86")                  // no slot
	c.want("0087039B0C7C0A8008 0000000000000000", "6A80") // wrong management key
	c.want("00FB000000", "6982")
	c.want("00F6FF9A00", "6D00")
	c.want("0024008010 313233343536FFFF 6162636465660000", "6A80") // no digits
	c.want("0024008008 313233343536FFFF", "6A80")
	c.manage()
	_, err = piv.Generate(t.Context(), c, piv.Retired(12), piv.P256, piv.Policy{})
	refused(t, "the 12th retired slot", err, apdu.SWIncorrectP1P2)
	refused(t, "an object out of its range", piv.PutData(t.Context(), c, 0x5FC118, []byte{1}), apdu.SWFileNotFound)
	pub := c.generate(piv.Authentication, piv.P256, piv.Policy{})
	m, err := piv.ReadMetadata(t.Context(), c, piv.Authentication)
	if err != nil || m.Origin != 0 {
		t.Errorf("origin of a generated key %v, %v", m.Origin, err)
	}
	c.login()
	c.works(piv.Authentication, pub)
	leaf, err := piv.Attest(t.Context(), c, piv.Authentication)
	check(t, err)
	check(t, c.chain(leaf, c.root()))
	if leaf.Issuer.CommonName != "PIVApplet Attestation" {
		t.Errorf("issuer %v", leaf.Issuer)
	}
	c.block(true, true)
	c.want("00F7009A00", "6A86") // the keys are gone with the last try
	check(t, piv.Reset(t.Context(), c))
	c.want("0020008000", "63C5")
}

// TestImage: what a command changed is there when the image is opened again,
// whichever side of the exchange the power failed on.
func TestImage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "card.img")
	c := insert(t, sim.Config{Model: "yubikey-5.7", Serial: serial, Path: path})
	root := c.root()
	c.manage()
	pub := c.generate(piv.Authentication, piv.Ed25519, piv.Policy{})
	check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1, 2, 3}))
	check(t, c.sim.Close())

	c = insert(t, sim.Config{Path: path})
	c.want("00F8000000", "F0000001 9000")
	if !c.root().Equal(root) {
		t.Error("the card has another attestation root")
	}
	got, err := piv.GetData(t.Context(), c, piv.CHUIDObject)
	check(t, err)
	same(t, "object", got, []byte{1, 2, 3})
	c.login()
	c.works(piv.Authentication, pub)
	leaf, err := piv.Attest(t.Context(), c, piv.Authentication)
	check(t, err)
	check(t, c.chain(leaf, root))
	refused(t, "the login of before", piv.PutData(t.Context(), c, piv.CHUIDObject, nil), apdu.SWSecurityStatus)
}

// TestTryIsSpentBeforeTheAnswer: pulling the card before its answer gives no free
// try, and costs none where the card never saw the command.
func TestTryIsSpentBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for when, left := range map[sim.When]int{sim.Before: 3, sim.After: 2} {
		path := filepath.Join(t.TempDir(), "card.img")
		c := insert(t, sim.Config{Model: "yubikey-5.4", Serial: serial, Path: path})
		c.sim.Cut(1, when)
		if err := piv.VerifyPIN(t.Context(), c, pinOf(t, "000000")); !errors.Is(err, apdu.ErrCardRemoved) {
			t.Fatal(err)
		}
		check(t, c.sim.Close())
		c = insert(t, sim.Config{Path: path})
		if s, err := piv.ReadPINStatus(t.Context(), c); err != nil || s.Tries != left {
			t.Errorf("cut %v: %+v, %v", when, s, err)
		}
	}
}

// TestCuts cuts the power at every exchange of a personalization: each time the card
// has what it acknowledged, and going through it again ends at the same card.
func TestCuts(t *testing.T) {
	t.Parallel()
	content := make([]byte, 600)
	content[0] = 0x70
	steps := func(c *card) error {
		if _, err := piv.Select(t.Context(), c); err != nil {
			return err
		}
		if err := piv.Authenticate(t.Context(), c, piv.TripleDES, factoryKey()); err != nil {
			return err
		}
		if _, err := piv.Generate(t.Context(), c, piv.Authentication, piv.P256, piv.Policy{}); err != nil {
			return err
		}
		return piv.PutData(t.Context(), c, piv.Authentication.Certificate(), content)
	}
	whole := insert(t, sim.Config{Model: "yubikey-5.4"})
	before := whole.sim.Exchanges()
	check(t, steps(whole))
	total := whole.sim.Exchanges() - before
	for n := 1; n <= total; n++ {
		for _, when := range []sim.When{sim.Before, sim.After} {
			c := insert(t, sim.Config{Model: "yubikey-5.4", Path: filepath.Join(t.TempDir(), "card.img")})
			c.sim.Cut(n, when)
			if err := steps(c); !errors.Is(err, apdu.ErrCardRemoved) {
				t.Fatalf("cut %d %v: %v", n, when, err)
			}
			c.sim.Insert()
			check(t, steps(c))
			got, err := piv.GetData(t.Context(), c, piv.Authentication.Certificate())
			check(t, err)
			same(t, "certificate", got, content)
			c.login()
			m, err := piv.ReadMetadata(t.Context(), c, piv.Authentication)
			check(t, err)
			c.works(piv.Authentication, m.Public)
		}
	}
}

// TestSerials: cards without a card manager have serial numbers that no real card has.
func TestSerials(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 0xEFFFFFFF, 0x100000000} {
		if _, err := sim.New(sim.Config{Model: "yubikey-5.4", Serial: n}); err == nil {
			t.Errorf("serial number %d is taken", n)
		}
	}
	a, b := insert(t, sim.Config{Model: "yubikey-5.4"}), insert(t, sim.Config{Model: "yubikey-5.4"})
	if a.sim.Info().CUID == b.sim.Info().CUID {
		t.Error("two cards drew the same serial number")
	}
	n, err := piv.ReadSerial(t.Context(), a)
	if err != nil || n < 0xF0000000 || a.sim.Info().CUID != piv.SerialCUID(n) {
		t.Errorf("serial number %X, CUID %v, %v", n, a.sim.Info().CUID, err)
	}
}
