package storetest

import "testing"

func testSealGenerations(t *testing.T, s Stores) {
	ctx, get := t.Context(), must[uint64](t)
	a, ok := s.Records.(SealGenerations)
	if !ok {
		t.Fatal("the records keep no generations of sealed files")
	}
	same(t, "none", get(a.SealGeneration(ctx, "one", "inkan.toml")), 0)
	is(t, "set", a.SetSealGeneration(ctx, "one", "inkan.toml", 3), nil)
	is(t, "another role", a.SetSealGeneration(ctx, "one", "passphrase", 1), nil)
	is(t, "another instance", a.SetSealGeneration(ctx, "two", "inkan.toml", 9), nil)
	is(t, "set again", a.SetSealGeneration(ctx, "one", "inkan.toml", 4), nil)
	same(t, "read", get(a.SealGeneration(ctx, "one", "inkan.toml")), 4)
	is(t, "forget", a.ForgetSealGeneration(ctx, "one", "inkan.toml"), nil)
	is(t, "forget again", a.ForgetSealGeneration(ctx, "one", "inkan.toml"), nil)
	same(t, "forgotten", get(a.SealGeneration(ctx, "one", "inkan.toml")), 0)
	same(t, "left alone", get(a.SealGeneration(ctx, "two", "inkan.toml")), 9)
}
