package hsmtest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"inkan/apdu/gp"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// id is a master key of the suite.
func id(version gp.KeyVersion, t hsm.KeyType) hsm.MasterID {
	return hsm.MasterID{Set: "suite", Version: version, KDF: kdf.Default(t.Cipher())}
}

func testMasters(t *testing.T, v Token) {
	made := 0
	for i, kt := range hsm.KeyTypes() {
		m, err := v.GenerateMaster(t.Context(), id(gp.KeyVersion(1+i), kt), kt)
		if lacks(v, err) {
			t.Log(err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		made++
		if _, mayForget := v.(stranger); mayForget { // NSS does not keep CKA_LOCAL
			m.Origin = hsm.Generated
		}
		if m.Kind != kt || m.Origin != hsm.Generated || !m.Level.Reaches(hsm.LevelD) || m.Protection != v.Protection(m.KDF, kt) || (m.Why == "") != (m.Level == hsm.LevelA) {
			t.Errorf("generated %+v, protection should be %+v", m, v.Protection(m.KDF, kt))
		}
		if !m.Created.IsZero() && time.Since(m.Created) > 48*time.Hour || time.Until(m.Created) > time.Hour {
			t.Errorf("created %v", m.Created)
		}
		if _, err := v.GenerateMaster(t.Context(), id(gp.KeyVersion(1+i), kt), kt); !errors.Is(err, hsm.ErrExists) {
			t.Errorf("the same key again: %v, want ErrExists", err)
		}
	}
	for name, bad := range map[string]hsm.MasterID{
		"factory":     {Set: "factory", Version: 1, KDF: kdf.KDF3},
		"version 00":  {Set: "suite", Version: 0, KDF: kdf.KDF3},
		"version 80":  {Set: "suite", Version: 0x80, KDF: kdf.KDF3},
		"name":        {Set: "Suite", Version: 0x20, KDF: kdf.KDF3},
		"no KDF":      {Set: "suite", Version: 0x20},
		"no such key": {Set: "suite", Version: 0x20, KDF: kdf.KDF3, Slot: 4},
	} {
		if _, err := v.GenerateMaster(t.Context(), bad, hsm.AES128); err == nil {
			t.Errorf("%s was generated", name)
		}
	}
	if _, err := v.GenerateMaster(t.Context(), id(0x21, hsm.AES128), 0); err == nil {
		t.Error("a key of no type was generated")
	}
	if got := masters(t, v); len(got) != made || !slices.IsSortedFunc(got, hsm.CompareMasters) {
		t.Errorf("listed %+v", got)
	}
}

func masters(t *testing.T, v Token) []hsm.Master {
	t.Helper()
	got, err := v.Masters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// testReopen: keys are there again, and are the same keys.
func testReopen(t *testing.T, v Token, open Opener) {
	before := masters(t, v)
	if len(before) == 0 {
		t.Fatal("no master keys")
	}
	d := card(t, before[0], kdf.ENC)
	key, err := deriveOnce(t.Context(), v, before[0], d)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := v.Signer(t.Context(), suiteCA)
	if err != nil {
		t.Fatal(err)
	}
	wrapper, err := v.Wrapper(t.Context(), suiteWrapper)
	if _, may := v.(stranger); err != nil && !may {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Masters(t.Context()); err == nil {
		t.Error("a closed token lists keys")
	}
	if _, err := v.Work(t.Context()); err == nil {
		t.Error("a closed token works")
	}
	if err := sign(signer, 0); err == nil {
		t.Error("a closed token signs")
	}
	v = open(t)
	defer v.Close()
	if after := masters(t, v); !slices.EqualFunc(before, after, sameMaster) {
		t.Errorf("before %+v, after %+v", before, after)
	}
	again, err := deriveOnce(t.Context(), v, before[0], d)
	if err != nil || !slices.Equal(again, key) {
		t.Errorf("other key after reopening, %v", err)
	}
	found, err := v.Signer(t.Context(), suiteCA)
	if err != nil || !samePublic(found, signer) {
		t.Errorf("other signer after reopening, %v", err)
	}
	reopenWrapper(t, v, wrapper)
}

func sameMaster(a, b hsm.Master) bool {
	return a.MasterID == b.MasterID && a.Kind == b.Kind && a.KCV == b.KCV && a.Level == b.Level && a.Origin == b.Origin && a.Created.Equal(b.Created)
}
