package tps_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/tks"
	"inkan/tps"
	"inkan/tps/token"
)

// pivCuts looks at PIV cards.
var pivCuts = cutFamily{name: "piv", model: "yubikey-5.7", profile: pivProfile, applet: checkPIV, empty: checkPIVEmpty,
	usable: func(ctx context.Context, d apdu.Doer, pin string, recorded []string) error {
		_, err := piv.Select(ctx, d)
		if err != nil {
			return err
		}
		got, err := usePIV(ctx, d, pin)
		if err == nil && !slices.Equal(got, recorded) {
			err = fmt.Errorf("the card carries %v, recorded are %v", got, recorded)
		}
		return err
	}}

// TestPIVCuts is TestCuts for PIV cards: those with a card manager and those without.
// Of yubikey-5.4, which differs in nothing that matters here, the places are a sample.
// Unless INKAN_REAL is set they are of all, and yubikey-5.4 is left out.
func TestPIVCuts(t *testing.T) {
	t.Parallel()
	for _, c := range cutCases {
		for turn, model := range pivModels {
			for _, batch := range []bool{false, true} {
				if !everything() && (batch != (model == "piv") || model == "yubikey-5.4" || c.op == tps.OpRenew && model != "piv") {
					continue
				}
				t.Run(fmt.Sprintf("operation=%s/model=%s/batch=%v", c.name, model, batch), func(t *testing.T) {
					t.Parallel()
					x := &cutter{site: newSite(t), cutCase: c, family: pivCuts, model: model, before: "before", turn: 2 * turn % 6}
					x.sample = !everything() || model == "yubikey-5.4" || c.op == tps.OpRenew && batch != (model == "piv")
					several := map[string]string{"[card]": "[enroll]\nseveral_active = true\n[card]"}
					x.put(pivProfile("before", several))
					several["[piv]\n"] = "[piv]\nmanagement = \"aes-128\"\n"
					x.put(pivProfile("test", several))
					x.report(t, batch, "model="+model)
				})
			}
		}
	}
}

// checkPIV has the card prove the keys that its record names.
func checkPIV(ctx context.Context, x *cutter, d apdu.Doer, rec token.Token) error {
	if x.model == "piv" {
		if err := x.checkKeys(ctx, d, rec); err != nil {
			return err
		}
	}
	if _, err := piv.Select(ctx, d); err != nil {
		return err
	}
	own := rec.AppletKeys
	if x.op == tps.OpFormat != (own.Set == tks.Factory) {
		return fmt.Errorf("the record names the keys %q", own)
	}
	key, puk := secret.New(piv.DefaultManagementKey()), secret.New([]byte(piv.DefaultPUK))
	alg := piv.Algorithm(own.Algorithm)
	if own.Set != tks.Factory {
		req := tks.SecretRequest{KeySet: own.Set, KeyVersion: own.Version, CUID: rec.CUID, Use: tks.ManagementKey, Algorithm: own.Algorithm}
		rep, err := x.local.CardSecret(ctx, req)
		if err != nil {
			return err
		}
		key, req.Use = rep.Secret, tks.PUK
		if rep, err = x.local.CardSecret(ctx, req); err != nil {
			return err
		}
		puk = rep.Secret
	} else if m, err := piv.ReadMetadata(ctx, d, piv.Management); err != nil {
		return err
	} else {
		alg = m.Algorithm
	}
	if err := piv.Authenticate(ctx, d, alg, key); err != nil {
		return fmt.Errorf("the recorded keys %q: %w", own, err)
	}
	pin, err := secret.NewPIN(puk.Bytes())
	if err != nil {
		return err
	}
	if err := piv.ChangePUK(ctx, d, pin, pin); err != nil {
		return fmt.Errorf("the PUK of the recorded keys %q: %w", own, err)
	}
	return nil
}

// checkPIVEmpty finds a card as it left the factory.
func checkPIVEmpty(ctx context.Context, d apdu.Doer) error {
	for _, slot := range piv.Slots() {
		if _, err := piv.ReadMetadata(ctx, d, slot); err == nil {
			return fmt.Errorf("a key in slot %v", slot)
		}
		if _, err := piv.ReadCertificate(ctx, d, slot); err == nil {
			return fmt.Errorf("a certificate in slot %v", slot)
		}
	}
	if m, err := piv.ReadMetadata(ctx, d, piv.PIN); err != nil || !m.Default || m.Left != m.Tries {
		return errors.Join(errors.New("a PIN"), err)
	}
	return nil
}
