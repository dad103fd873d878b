package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel/keyset"
	"inkan/sim"
)

func TestImageKeepsTheCard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "card.img")
	card, err := sim.Create(path, "gp-scp03", 42)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := format(t.Context(), t, card); err != nil {
		t.Fatal(err)
	}
	want := fingerprint(t, card)
	if err := card.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("image mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	again, err := sim.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got := fingerprint(t, again); got != want {
		t.Errorf("card changed:\n%s\nwas\n%s", got, want)
	}
	if i := again.Info(); i.Model != "gp-scp03" || i.CUID.String() != "494E4B4100000000002A" {
		t.Errorf("info %+v", i)
	}
}

func TestImageRefusals(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "card.img")
	if _, err := sim.Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening nothing: %v", err)
	}
	card, err := sim.Create(path, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() (*sim.Card, error){
		"Open":   func() (*sim.Card, error) { return sim.Open(path) },
		"Create": func() (*sim.Card, error) { return sim.Create(path, "", 1) },
		"New":    func() (*sim.Card, error) { return sim.New(sim.Config{Path: path}) },
	} {
		if _, err := open(); !errors.Is(err, sim.ErrInUse) {
			t.Errorf("%s while open: %v", what, err)
		}
	}
	card.Close()
	if _, err := sim.Create(path, "", 1); err == nil {
		t.Error("Create over a file")
	}
	if _, err := card.Transmit(t.Context(), []byte{0, 0xA4, 4, 0, 0}); err == nil {
		t.Error("a closed card answers")
	}
	if _, err := sim.Create(filepath.Join(dir, "other.img"), "no-such-model", 1); err == nil {
		t.Error("unknown model")
	}
	if _, err := sim.New(sim.Config{Serial: sim.MaxSerial + 1}); err == nil {
		t.Error("serial number too large")
	}
}

func TestDamagedImage(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "card.img")
	card, err := sim.Create(path, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	card.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, b []byte) {
		t.Helper()
		bad := filepath.Join(dir, "bad.img")
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := sim.Open(bad); !errors.Is(err, sim.ErrImage) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				c.Close()
			}
		}
		if after, _ := os.ReadFile(bad); !bytes.Equal(after, b) {
			t.Errorf("%s: the file was changed", what)
		}
	}
	for i := 0; i < len(good); i += 1 + len(good)/97 {
		b := bytes.Clone(good)
		b[i] ^= 0x20
		check(fmt.Sprintf("byte %d", i), b)
	}
	for _, n := range []int{0, 1, 8, 45, len(good) - 1} {
		check(fmt.Sprintf("cut to %d bytes", n), good[:n])
	}
	check("longer", append(bytes.Clone(good), 0))
	check("no image", []byte("this is a text file, not a card at all, and long enough for a header"))
}

// fingerprint is everything persistent that a host can see of a card.
func fingerprint(t *testing.T, card *sim.Card) string {
	t.Helper()
	ctx, conn := t.Context(), apdu.NewConn(card)
	if err := card.Reset(ctx); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	infos, err := gp.ReadKeyInfo(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, infos)
	h, err := openAny(ctx, t, conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []gp.Scope{gp.ScopeIssuerDomain, gp.ScopeApplications, gp.ScopeModules} {
		es, err := gp.GetStatus(ctx, h, s, apdu.AID{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%+v\n", es)
	}
	return b.String()
}

// nextKeys are the keys of version 02.
func nextKeys(t *testing.T) staticKeys {
	k := unhex(t, "101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F")
	return staticKeys{k[:16], k[8:24], k[16:]}
}

// openAny opens a channel with whichever keys are on the card: it must be the old
// or the new ones.
func openAny(ctx context.Context, t *testing.T, conn *apdu.Conn) (host, error) {
	t.Helper()
	h, err := open(ctx, conn, nextKeys(t), request(0x02, 0x03))
	if errors.Is(err, apdu.SWReferencedNotFound) {
		return open(ctx, conn, factoryKeys(t), request(0, 0x03))
	}
	return h, err
}

// format is an operation that can be begun again at any time: applet removed,
// loaded, installed, keys changed. done counts the commands that went through.
func format(ctx context.Context, t *testing.T, card *sim.Card) (done int, err error) {
	t.Helper()
	conn := apdu.NewConn(card)
	if _, err := gp.Select(ctx, conn, isd); err != nil {
		return 0, err
	}
	h, err := openAny(ctx, t, conn)
	if err != nil {
		return 1, err
	}
	gone := apdu.Entry{Command: gp.DeleteCommand(gp.GP211, ckPackage, gp.WithRelated), Mode: apdu.Anyway}
	rs, err := apdu.RunAll(ctx, h, append([]apdu.Entry{gone}, loadEntries(t, gp.GP211, 120)...))
	if err != nil {
		return 2 + len(rs), err
	}
	if h.Info().KeyVersion == 0x02 {
		return 3 + len(rs), nil
	}
	typ, old := keyset.AES, gp.FactoryKeyVersion
	if h.Info().Protocol == 2 {
		typ, old = keyset.DES, 0x01
	}
	return 3 + len(rs), h.putKey(ctx, old, 0x02, typ, nextKeys(t))
}

var errPower = errors.New("power is gone")

// TestPowerFailsWhileWriting lets the power fail at every step of every write of
// the image and starts the program anew: the card is as it was before the command
// or after it, and the operation begun again ends as it should.
func TestPowerFailsWhileWriting(t *testing.T) {
	for _, model := range []string{"gp-scp02", "gp-scp03"} {
		t.Run("model="+model, func(t *testing.T) {
			t.Parallel()
			whole := tearWrite(t, model, 0)
			for n, more := 1, true; more; n++ {
				more = tearWrite(t, model, n) != whole || n < 6
				if n > 1000 {
					t.Fatal("the operation never gets through")
				}
			}
		})
	}
}

// tearWrite formats a card with a power failure at the n-th step of writing, and
// again after it. It returns how many steps there were in the torn run.
func tearWrite(t *testing.T, model string, n int) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "card.img")
	card, err := sim.Create(path, model, 5)
	if err != nil {
		t.Fatal(err)
	}
	blank := fingerprint(t, card)
	steps := 0
	card.OnStep(func(string) error {
		if steps++; steps >= n && n > 0 {
			return errPower // and it stays away
		}
		return nil
	})
	_, torn := format(t.Context(), t, card)
	card.Close()
	if card, err = sim.Open(path); err != nil {
		t.Fatalf("step %d: %v", n, err)
	}
	defer card.Close()
	if torn == nil && n > 0 && steps >= n {
		t.Fatalf("step %d: the host saw success although the card could not save", n)
	}
	if n == 1 && fingerprint(t, card) != blank {
		t.Fatal("a change that was never written is there")
	}
	if _, err := format(t.Context(), t, card); err != nil {
		t.Fatalf("step %d: formatting again: %v", n, err)
	}
	mustOpen(t, apdu.NewConn(card), nextKeys(t), request(0x02, 0x03))
	return steps
}

// TestDiskFull shows that a card whose disk fails answers 6581 and stays what it
// was, and works again when the disk does.
func TestDiskFull(t *testing.T) {
	card, err := sim.Create(filepath.Join(t.TempDir(), "card.img"), "gp-scp03", 5)
	if err != nil {
		t.Fatal(err)
	}
	defer card.Close()
	before := fingerprint(t, card)
	card.OnStep(func(string) error { return errPower })
	if _, err := format(t.Context(), t, card); !errors.Is(err, apdu.SWMemoryFailure) {
		t.Fatalf("format on a full disk: %v", err)
	}
	if !errors.Is(card.Err(), errPower) {
		t.Errorf("Err: %v", card.Err())
	}
	card.OnStep(nil)
	if got := fingerprint(t, card); got != before {
		t.Errorf("card changed:\n%s\nwas\n%s", got, before)
	}
	if _, err := format(t.Context(), t, card); err != nil {
		t.Fatal(err)
	}
}

// TestTryIsDurable copies the image as it is when the try of a PIN has been written,
// which is before the card has compared it: a program that is killed then has not
// given the try back.
func TestTryIsDurable(t *testing.T) {
	const pin, tries = "1234", 3
	dir := t.TempDir()
	card, err := sim.Create(filepath.Join(dir, "card.img"), "gp-scp03", 5)
	if err != nil {
		t.Fatal(err)
	}
	defer card.Close()
	conn := withPIN(t, card, pin, tries)
	for i, guess := range []string{pin, "9999"} {
		died := filepath.Join(dir, guess+".img")
		card.OnStep(func(step string) error {
			if _, err := os.Stat(died); err == nil || step != "written" {
				return nil
			}
			b, err := os.ReadFile(filepath.Join(dir, "card.img"))
			return errors.Join(err, os.WriteFile(died, b, 0o600))
		})
		p, err := secret.NewPIN([]byte(guess))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ck.VerifyPIN(t.Context(), conn, 0, p); (err == nil) != (i == 0) {
			t.Fatalf("PIN %s: %v", guess, err)
		}
		again, err := sim.Open(died)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		d := apdu.NewConn(again)
		if err := ck.Select(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if n, err := ck.PINTries(t.Context(), d, 0); err != nil || n != tries-1 {
			t.Errorf("PIN %s: %d tries left (%v), want %d", guess, n, err, tries-1)
		}
	}
}

// withPIN gives a blank card its applet and a PIN, and selects the applet.
func withPIN(t *testing.T, card *sim.Card, pin string, tries int) *apdu.Conn {
	t.Helper()
	if _, err := format(t.Context(), t, card); err != nil {
		t.Fatal(err)
	}
	conn := apdu.NewConn(card)
	if _, err := gp.Select(t.Context(), conn, ckApplet); err != nil {
		t.Fatal(err)
	}
	h := mustOpen(t, conn, nextKeys(t), request(0x02, 0x03))
	p, err := secret.NewPIN([]byte(pin))
	if err == nil {
		err = ck.CreatePIN(t.Context(), h, ck.Channel(), 0, tries, p)
	}
	if err == nil {
		err = ck.Select(t.Context(), conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
