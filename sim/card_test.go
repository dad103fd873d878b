package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/apdu/apdutest"
	ck "inkan/apdu/coolkey"
	"inkan/apdu/gp"
	"inkan/securechannel"
	"inkan/securechannel/keyset"
	"inkan/sim"
)

var models = []struct {
	name   string
	keys   func(*testing.T) staticKeys
	levels []securechannel.Level
}{
	{"gp-scp01", factoryKeys, []securechannel.Level{0x00, 0x01, 0x03}},
	{"gp-scp02", factoryKeys, []securechannel.Level{0x00, 0x01, 0x03}},
	{"gp-scp02-rmac", factoryKeys, []securechannel.Level{0x00, 0x01, 0x03, 0x10, 0x11, 0x13}},
	{"gp-scp03", factoryKeys, []securechannel.Level{0x00, 0x01, 0x03, 0x11, 0x13, 0x33}},
	{"gp-scp03-plain", factoryKeys, []securechannel.Level{0x01, 0x03}},
	{"gp-scp03-aes256", aes256Keys, []securechannel.Level{0x01, 0x33}},
	{"gp-scp03-s16", factoryKeys, []securechannel.Level{0x01, 0x13, 0x33}},
	{"gp-t0", factoryKeys, []securechannel.Level{0x01, 0x03}},
}

func aes256Keys(t *testing.T) staticKeys {
	k := unhex(t, "404142434445464748494A4B4C4D4E4F505152535455565758595A5B5C5D5E5F")
	return staticKeys{k, k, k}
}

// challenge is a request with a host challenge of the length that the model wants.
func challenge(model string, version gp.KeyVersion, level securechannel.Level) securechannel.Request {
	r := request(version, level)
	switch model {
	case "gp-scp03-s16":
		r.HostChallenge = []byte("sixteen-bytes-ch")
	case "gp-scp02-rmac":
		r.HintProtocol, r.HintOption = securechannel.SCP02, 0x75
	}
	return r
}

func TestConformance(t *testing.T) {
	for _, name := range sim.Models() {
		if slices.ContainsFunc(oddities(t, name), func(o sim.Oddity) bool { return beyond[o.Name] }) {
			continue
		}
		if newCard(t, sim.Config{Model: name}).Info().ISD.Len() == 0 {
			continue // the suite is for card managers; package sim/piv tests these
		}
		t.Run("model="+name, func(t *testing.T) {
			apdutest.TestCard(t, func(t *testing.T) apdu.Card { return newCard(t, sim.Config{Model: name}) })
		})
	}
}

// beyond are the deviations in what the conformance suite asks of every card: a
// default application, and what it shows of itself.
var beyond = map[string]bool{"empty_select": true, "absent": true, "get_data_class_00": true}

func oddities(t *testing.T, model string) []sim.Oddity {
	t.Helper()
	m, err := sim.LoadModel(model)
	if err != nil {
		t.Fatal(err)
	}
	return m.Oddities()
}

// TestModelsDescribed: every model says what it is.
func TestModelsDescribed(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range sim.Models() {
		m, err := sim.LoadModel(name)
		if err != nil || m.Title == "" || seen[m.Title] {
			t.Errorf("model %s: title %q, %v", name, m.Title, err)
		}
		seen[m.Title] = true
		for _, o := range oddities(t, name) {
			seen[o.Name] = true
		}
	}
	for _, quirk := range []string{
		"mac_error", "t0", "response_61", "scp03_counter_with_data_only", "error_rmac", "long_padding", "empty_select",
		"absent", "get_data_class_00", "untagged_status", "no_receipt", "put_key_answer", "des_key_type", "keep_factory_keys",
	} {
		if !seen[quirk] {
			t.Errorf("no model has the quirk %s", quirk)
		}
	}
}

// TestLifeOfACard formats a card of every model at every level: load, install,
// select, list, change keys, delete.
func TestLifeOfACard(t *testing.T) {
	for _, m := range models {
		for _, level := range m.levels {
			t.Run(fmt.Sprintf("model=%s/level=%02X", m.name, level), func(t *testing.T) {
				t.Parallel()
				live(t, newCard(t, sim.Config{Model: m.name, Serial: 7}), m.name, m.keys(t), level)
			})
		}
	}
}

func live(t *testing.T, card *sim.Card, model string, keys staticKeys, level securechannel.Level) {
	ctx, conn := t.Context(), apdu.NewConn(card)
	if _, err := gp.Select(ctx, conn, isd); err != nil {
		t.Fatal(err)
	}
	h := mustOpen(t, conn, keys, challenge(model, 0, level))
	if _, err := apdu.RunAll(ctx, h, loadEntries(t, h.dialect(), 200)); err != nil {
		t.Fatal(err)
	}
	apps, err := gp.GetStatus(ctx, h, gp.ScopeApplications, apdu.AID{})
	if err != nil || len(apps) != 1 || apps[0].AID != ckApplet || apps[0].LoadFile != ckPackage {
		t.Fatalf("applications %+v, %v", apps, err)
	}
	files, err := gp.GetStatus(ctx, h, gp.ScopeModules, apdu.AID{})
	if err != nil || len(files) != 1 || files[0].AID != ckPackage || len(files[0].Modules) != 1 {
		t.Fatalf("load files %+v, %v", files, err)
	}
	if _, err := gp.Select(ctx, conn, ckApplet); err != nil {
		t.Fatal(err)
	}
	if v, err := ck.ReadVersion(ctx, conn); err != nil || v.String() != "1.6.66000001" {
		t.Fatalf("applet version %v, %v", v, err)
	}
	if _, err := gp.Select(ctx, conn, isd); err != nil {
		t.Fatal(err)
	}
	h = mustOpen(t, conn, keys, challenge(model, 0, level))
	// The instance first: Open Platform 2.0.1 does not delete it with its package.
	for _, aid := range []apdu.AID{ckApplet, ckPackage} {
		if _, err := apdu.Run(ctx, h, gp.DeleteCommand(h.dialect(), aid, gp.WithRelated)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := gp.Select(ctx, conn, ckApplet); !errors.Is(err, apdu.SWFileNotFound) {
		t.Fatalf("select after delete: %v", err)
	}
}

func TestKeyChangeover(t *testing.T) {
	newKeys := func(t *testing.T, n int) staticKeys {
		k := unhex(t, "101112131415161718191A1B1C1D1E1F202122232425262728292A2B2C2D2E2F303132333435363738393A3B3C3D3E3F")
		return staticKeys{k[:n], k[8 : 8+n], k[16 : 16+n]}
	}
	t.Run("scp=01", func(t *testing.T) {
		ctx, conn := t.Context(), apdu.NewConn(newCard(t, sim.Config{Model: "gp-scp01"}))
		next := newKeys(t, 16)
		h := mustOpen(t, conn, factoryKeys(t), request(0, 0x03))
		if err := h.putKey(ctx, 0x01, 0x02, keyset.DESLegacy, next); err != nil {
			t.Fatal(err)
		}
		if _, err := open(ctx, conn, factoryKeys(t), request(0x01, 0x03)); !errors.Is(err, apdu.SWReferencedNotFound) {
			t.Fatalf("old version after renumbering: %v", err)
		}
		mustOpen(t, conn, next, request(0x02, 0x03))
		if infos, err := gp.ReadKeyInfo(ctx, conn); err != nil || len(infos) != 3 || infos[0].KVN != 0x02 || infos[0].Type != 0x80 {
			t.Fatalf("key information %+v, %v", infos, err)
		}
	})
	t.Run("scp=02", func(t *testing.T) {
		ctx, conn := t.Context(), apdu.NewConn(newCard(t, sim.Config{Model: "gp-scp02"}))
		h := mustOpen(t, conn, factoryKeys(t), request(0, 0x03))
		next := newKeys(t, 16)
		if err := h.putKey(ctx, 0x01, 0x02, keyset.DES, next); err != nil {
			t.Fatal(err)
		}
		if _, err := open(ctx, conn, factoryKeys(t), request(0x01, 0x03)); !errors.Is(err, apdu.SWReferencedNotFound) {
			t.Fatalf("old version after renumbering: %v", err)
		}
		if h := mustOpen(t, conn, next, request(0x02, 0x03)); h.Info().Counter[1] != 0 {
			t.Fatalf("counter of new keys %X", h.Info().Counter)
		}
	})
	t.Run("scp=03", func(t *testing.T) {
		ctx, conn := t.Context(), apdu.NewConn(newCard(t, sim.Config{Model: "gp-scp03"}))
		first, second := newKeys(t, 16), newKeys(t, 32)
		h := mustOpen(t, conn, factoryKeys(t), request(0, 0x33))
		if err := h.putKey(ctx, gp.FactoryKeyVersion, 0x02, keyset.AES, first); err != nil {
			t.Fatal(err)
		}
		if _, err := open(ctx, conn, factoryKeys(t), request(0xFF, 0x01)); !errors.Is(err, apdu.SWReferencedNotFound) {
			t.Fatalf("factory keys after the first set: %v", err)
		}
		h = mustOpen(t, conn, first, request(0x02, 0x33))
		if err := h.putKey(ctx, 0x02, 0x03, keyset.AES, second); !errors.Is(err, apdu.SWWrongData) {
			t.Fatalf("replacing 128 by 256 bit: %v", err)
		}
		if err := h.putKey(ctx, 0x00, 0x03, keyset.AES, second); err != nil {
			t.Fatal(err)
		}
		del, _ := gp.DeleteKeySetCommand(gp.GP211, 0x02)
		if _, err := apdu.Run(ctx, h, del); !errors.Is(err, apdu.SWConditionsOfUse) {
			t.Fatalf("deleting the keys in use: %v", err)
		}
		h = mustOpen(t, conn, second, request(0x03, 0x33))
		if _, err := apdu.Run(ctx, h, del); err != nil {
			t.Fatal(err)
		}
		infos, err := gp.ReadKeyInfo(ctx, conn)
		if err != nil || len(infos) != 3 || gp.KeyBits(infos) != 256 {
			t.Fatalf("key information %+v, %v", infos, err)
		}
	})
}

func TestWrongMACAborts(t *testing.T) {
	for model, want := range map[string]apdu.StatusWord{"gp-scp03": apdu.SWSecurityStatus, "gp-t0": apdu.SWSMIncorrect} {
		t.Run("model="+model, func(t *testing.T) {
			ctx, conn := t.Context(), apdu.NewConn(newCard(t, sim.Config{Model: model}))
			h := mustOpen(t, conn, factoryKeys(t), request(0, 0x01))
			if _, err := gp.GetStatus(ctx, h, gp.ScopeIssuerDomain, apdu.AID{}); err != nil {
				t.Fatal(err)
			}
			bad := apdu.Command{CLA: 0x84, INS: 0xF2, P1: 0x80, P2: 0x02, Data: []byte{0x4F, 0x00, 1, 2, 3, 4, 5, 6, 7, 8}, Ne: 256}
			if r, err := conn.Do(ctx, bad); err != nil || r.SW != want {
				t.Fatalf("wrong MAC: %v, %v", r.SW, err)
			}
			if _, err := gp.GetStatus(ctx, h, gp.ScopeIssuerDomain, apdu.AID{}); err == nil {
				t.Fatal("the session lives on after a wrong MAC")
			}
			if r, err := conn.Do(ctx, bad); err != nil || r.SW == apdu.SWSuccess {
				t.Fatalf("wrapped command after the abort: %v, %v", r.SW, err)
			}
			mustOpen(t, conn, factoryKeys(t), request(0, 0x01))
		})
	}
}

func TestCancelledBeforeActing(t *testing.T) {
	card := newCard(t, sim.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := card.Transmit(ctx, []byte{0x00, 0xA4, 0x04, 0x00, 0x00}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Transmit: %v", err)
	}
	if n := card.Exchanges(); n != 0 {
		t.Errorf("%d exchanges", n)
	}
}
