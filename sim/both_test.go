package sim_test

import (
	"errors"
	"path/filepath"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/apdu/gp/loadfile"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/sim"
)

// TestTwoApplets: one card carries CoolKey and PIV, over a power cycle, and deleting
// one leaves the other as it was.
func TestTwoApplets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "card.img")
	card := newCard(t, sim.Config{Model: "piv", Serial: 7, Path: path})
	ctx, conn := t.Context(), apdu.NewConn(card)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := piv.Select(ctx, conn); !errors.Is(err, apdu.SWFileNotFound) {
		t.Fatalf("a blank card has PIV: %v", err)
	}
	h := mustOpen(t, conn, factoryKeys(t), request(0, 0x33))
	_, err := apdu.RunAll(ctx, h, loadEntries(t, h.dialect(), 200))
	must(err)
	file := loadfile.SyntheticPIV()
	es, err := gp.LoadEntries(h.dialect(), gp.LoadRequest{LoadFile: loadfile.PIVPackage, Domain: isd, CodeSize: len(file)}, file, 200)
	must(err)
	_, err = apdu.RunAll(ctx, h, es)
	must(err)
	q := gp.InstallRequest{LoadFile: loadfile.PIVPackage, Module: loadfile.PIVApplet, Instance: apdu.MustAID("A0000003080000100002")}
	cmd, err := q.Command(h.dialect())
	must(err)
	if _, err := apdu.Run(ctx, h, cmd); !errors.Is(err, apdu.SWWrongData) {
		t.Errorf("PivApplet under another AID than its own: %v", err)
	}
	q.Instance = loadfile.PIVApplet
	cmd, err = q.Command(h.dialect())
	must(err)
	_, err = apdu.Run(ctx, h, cmd)
	must(err)

	app, err := piv.Select(ctx, conn)
	must(err)
	if app.Label == "" || len(card.Info().Attestation) == 0 {
		t.Errorf("%+v", app)
	}
	key := secret.New(piv.DefaultManagementKey())
	must(piv.Authenticate(ctx, conn, piv.TripleDES, key))
	must(piv.PutData(ctx, conn, piv.CHUIDObject, []byte{1, 2, 3}))
	must(ck.Select(ctx, conn))
	must(card.Close())

	card = newCard(t, sim.Config{Path: path})
	conn = apdu.NewConn(card)
	must(ck.Select(ctx, conn))
	if v, err := ck.ReadVersion(ctx, conn); err != nil || v.String() != "1.6.66000001" {
		t.Errorf("CoolKey %v, %v", v, err)
	}
	_, err = piv.Select(ctx, conn)
	must(err)
	if b, err := piv.GetData(ctx, conn, piv.CHUIDObject); err != nil || len(b) != 3 {
		t.Errorf("object %X, %v", b, err)
	}
	_, err = gp.Select(ctx, conn, isd)
	must(err)
	h = mustOpen(t, conn, factoryKeys(t), request(0, 0x33))
	for _, aid := range []apdu.AID{loadfile.PIVApplet, loadfile.PIVPackage} {
		_, err := apdu.Run(ctx, h, gp.DeleteCommand(h.dialect(), aid, gp.WithRelated))
		must(err)
	}
	if _, err := piv.Select(ctx, conn); !errors.Is(err, apdu.SWFileNotFound) {
		t.Errorf("PIV after it was deleted: %v", err)
	}
	must(ck.Select(ctx, conn))
	if card.Info().Attestation != nil {
		t.Error("the attestation outlived the applet")
	}
}
