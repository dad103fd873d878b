package hsmtest

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// imports is the set of the suite's imported keys. It sorts behind the others.
const imports = "the-imports"

// masterType is the type of a suite's master key for a diversification.
func masterType(c kdf.Code) hsm.KeyType {
	switch c {
	case kdf.KDF3, kdf.GPKMC, kdf.None:
		return hsm.AES128
	case kdf.DogtagSP800:
		return hsm.HMACKey
	}
	return hsm.DES3
}

// testImport: what is imported derives as memory does, under every diversification.
func testImport(t *testing.T, v Token) {
	for n, code := range kdf.Codes() {
		t.Run("kdf="+code.String(), func(t *testing.T) {
			kt := masterType(code)
			value := secret.Random(kt.Size())
			before := value.Clone()
			at := hsm.MasterID{Set: imports, Version: gp.KeyVersion(1 + n), KDF: code}
			got, err := v.ImportMasters(t.Context(), []hsm.MasterValue{{ID: at, Type: kt, Value: value}})
			if err != nil {
				t.Fatal(err)
			}
			m := got[0]
			if want, _ := kdf.KCV(kt.Cipher(), value.Bytes()); len(got) != 1 || m.MasterID != at || m.Kind != kt || m.KCV != want ||
				m.Origin != hsm.Imported || !m.Level.Reaches(hsm.LevelD) {
				t.Errorf("imported %+v, want KCV %v", got, want)
			}
			if !value.Equal(before) {
				t.Error("the caller's value was altered")
			}
			if !slices.ContainsFunc(masters(t, v), func(o hsm.Master) bool { return sameMaster(o, m) }) {
				t.Errorf("%+v is not listed", m)
			}
			checkImported(t, v, m, value)
		})
	}
}

// checkImported uses a master key like a card's three keys.
func checkImported(t *testing.T, v Token, m hsm.Master, value secret.Secret) {
	w := work(t, v)
	var ident kdf.Identity
	rand.Read(ident.KDD[:])
	rand.Read(ident.CUID[:])
	for _, slot := range kdf.Slots() {
		d, err := kdf.Card(m.KDF, slot, ident, kdf.Master{Cipher: m.Kind.Cipher(), Size: m.Kind.Size()})
		if err != nil {
			t.Fatal(err)
		}
		if m.KDF == kdf.None {
			checkAsCardKey(t, w, m, hsm.MasterValue{Type: m.Kind, Value: value})
			continue
		}
		checkDerived(t, w, m, value, d)
	}
}

// checkAsCardKey: a master that is not diversified computes, wraps and derives.
func checkAsCardKey(t *testing.T, w hsm.Work, m hsm.Master, v hsm.MasterValue) {
	t.Helper()
	ctx := t.Context()
	k, err := w.Derive(ctx, m, kdf.Derivation{Method: kdf.Same, Cipher: m.Kind.Cipher(), Length: m.Kind.Size()})
	if err != nil {
		t.Fatal(err)
	}
	known, err := w.Import(ctx, v.Type, v.Value)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.Import(ctx, v.Type, secret.Random(v.Type.Size()))
	if err != nil {
		t.Fatal(err)
	}
	block := []byte("sixteen bytes...")
	for name, use := range map[string]func(hsm.Key) ([]byte, error){
		"encrypt": func(k hsm.Key) ([]byte, error) { return w.Encrypt(ctx, k, block) },
		"cmac": func(k hsm.Key) ([]byte, error) {
			if k.Type().Cipher() != kdf.AES {
				return nil, nil
			}
			return w.CMAC(ctx, k, block)
		},
		"wrap": func(k hsm.Key) ([]byte, error) { return w.Wrap(ctx, k, other) },
		"derive for SCP02": func(k hsm.Key) ([]byte, error) {
			if k.Type().Cipher() != kdf.DES {
				return nil, nil
			}
			s, err := w.Derive(ctx, k, kdf.Derivation{Method: kdf.CBC, Input: block, Cipher: kdf.DES, Length: 16})
			if err != nil {
				return nil, err
			}
			return w.Encrypt(ctx, s, block)
		},
	} {
		got, gotErr := use(k)
		want, wantErr := use(known)
		if err := errors.Join(gotErr, wantErr); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: % X, want % X, %v", name, got, want, err)
		}
	}
}

func testImportErrors(t *testing.T, v Token) {
	at := func(version gp.KeyVersion, slot kdf.Slot) hsm.MasterID {
		return hsm.MasterID{Set: imports, Version: version, Slot: slot, KDF: kdf.None}
	}
	value := func(version gp.KeyVersion, slot kdf.Slot, t hsm.KeyType) hsm.MasterValue {
		return hsm.MasterValue{ID: at(version, slot), Type: t, Value: secret.Random(t.Size())}
	}
	short := value(0x40, 0, hsm.AES128)
	short.Value = secret.Random(15)
	builtIn := value(0x40, 0, hsm.AES128)
	builtIn.ID.Set = "factory"
	before := masters(t, v)
	for name, keys := range map[string][]hsm.MasterValue{
		"nothing":      nil,
		"short":        {short},
		"no type":      {{ID: at(0x40, 0)}},
		"factory":      {builtIn},
		"twice":        {value(0x40, kdf.ENC, hsm.AES128), value(0x40, kdf.ENC, hsm.AES128)},
		"one is there": {value(0x40, 0, hsm.AES128), value(1, 0, hsm.AES128)},
	} {
		if got, err := v.ImportMasters(t.Context(), keys); err == nil {
			t.Errorf("%s: imported %+v", name, got)
		}
	}
	if _, err := v.ImportMasters(t.Context(), []hsm.MasterValue{value(1, 0, hsm.AES128)}); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("a key that is there: %v, want ErrExists", err)
	}
	if after := masters(t, v); !slices.EqualFunc(before, after, sameMaster) {
		t.Errorf("refused imports left %+v, want %+v", after, before)
	}
	// Three keys of one version, each of its own.
	three := []hsm.MasterValue{value(0x40, kdf.ENC, hsm.DES2), value(0x40, kdf.MAC, hsm.DES2), value(0x40, kdf.DEK, hsm.DES2)}
	got, err := v.ImportMasters(t.Context(), three)
	if err != nil || len(got) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	w := work(t, v) // one session for all: a machine with one core has two
	for i, m := range got {
		checkAsCardKey(t, w, m, three[i])
	}
}
