package local_test

import (
	"context"
	"testing"

	"inkan/apdu/gp"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
	"inkan/tks/local"
	"inkan/tks/tkstest"
)

// fixture is a service over v with the key sets of the suite.
func fixture(t *testing.T, v hsm.Vault) tkstest.Fixture {
	s := newService(t, local.Config{Vault: v, KeySets: &tkstest.Retirements{}})
	for _, k := range tkstest.Versions() {
		if _, err := s.CreateKeySet(t.Context(), k.Set, k.Version, k.Type); err != nil {
			t.Fatal(err)
		}
	}
	secrets := tkstest.Version{Set: "piv", Version: 0x01, Type: hsm.AES256}
	if _, err := s.Create(t.Context(), local.NewKeySet{Name: secrets.Set, Version: secrets.Version, Type: secrets.Type, KDF: kdf.PIV}); err != nil {
		t.Fatal(err)
	}
	return tkstest.Fixture{
		Service: s, Secrets: secrets,
		Release: func(ctx context.Context, kdd gp.KDD) error { return s.Release(ctx, kdd, "agent") },
		Retire: func(ctx context.Context, set tks.KeySetName, v gp.KeyVersion) error {
			return s.Retire(ctx, set, v, "admin")
		},
	}
}

func TestServiceOnKeyFile(t *testing.T) {
	t.Parallel()
	tkstest.TestService(t, func(t *testing.T) tkstest.Fixture { return fixture(t, newStore(t)) })
}
