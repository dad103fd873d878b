//go:build cgo && unix

package tps_test

import (
	"fmt"
	"testing"

	pivgo "github.com/go-piv/piv-go/v2/piv"

	"inkan/apdu/secret"
	"inkan/sim/vpcd/vpcdtest"
	"inkan/tps"
)

// TestRealPIVGoTakeover: cards that piv-go's client set up through the real pcscd, as
// yubikey-agent has it do, are enrolled with the PIN that they have.
func TestRealPIVGoTakeover(t *testing.T) {
	vpcdtest.Need(t)
	d := vpcdtest.Start(t, 1)
	d.Setenv(t)
	for _, c := range []struct {
		model string
		key   int // bytes: piv-go stores others than 24 in a way of its own
	}{{"yubikey-5.4", 24}, {"yubikey-5.7", 32}} {
		t.Run(fmt.Sprintf("model=%s/key=%d", c.model, c.key), func(t *testing.T) {
			s := newSite(t)
			s.put(pivProfile("test", taking))
			card := newCard(t, c.model)
			unplug := d.Plug(t, 0, card)
			setUpByPIVGo(t, d.Readers[0], s.cards, secret.Random(c.key).Bytes())
			unplug()
			person, err := s.run(tps.OpEnroll, card)
			must(t, err)
			if len(person.asks) != 1 {
				t.Errorf("asked %+v", person.asks)
			}
			s.wantPIV(card, "7351924")
			must(t, forgotten(t.Context(), pivCard(t, card), "7351924"))
		})
	}
}

// setUpByPIVGo does what yubikey-agent does to a new card: the PIN is the PUK too, and the
// management key is in the card's metadata.
func setUpByPIVGo(t *testing.T, reader, pin string, key []byte) {
	t.Helper()
	yk := vpcdtest.OpenWithPIVGo(t, reader)
	defer yk.Close()
	must(t, yk.SetManagementKey(pivgo.DefaultManagementKey, key))
	must(t, yk.SetMetadata(key, &pivgo.Metadata{ManagementKey: &key}))
	must(t, yk.SetPIN(pivgo.DefaultPIN, pin))
	must(t, yk.SetPUK(pivgo.DefaultPUK, pin))
	_, err := yk.GenerateKey(key, pivgo.SlotAuthentication, pivgo.Key{Algorithm: pivgo.AlgorithmEC256, PINPolicy: pivgo.PINPolicyOnce, TouchPolicy: pivgo.TouchPolicyAlways})
	must(t, err)
}
