// Package hsmtest is the conformance suite of hsm.Vault, hsm.Signers, hsm.Wrappers
// and hsm.Counters. [TestVault] runs on the key file and on a real PKCS#11 module;
// [SoftHSM] makes a token of SoftHSM for it and for others' tests.
package hsmtest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Token is what is under test.
type Token interface {
	hsm.Vault
	hsm.Signers
	hsm.Wrappers
	hsm.Counters
	Close() error
}

// Opener opens the same token again each time it is called: what one Token made,
// the next one finds. A Token is closed before the next is opened.
type Opener func(t *testing.T) Token

// TestEngine is TestVault for a token of which is only known that it is a token:
// what it refuses with a [*hsm.MechanismError] is skipped, and it may forget where a
// key comes from.
func TestEngine(t *testing.T, open Opener) {
	TestVault(t, func(t *testing.T) Token { return stranger{open(t)} })
}

// stranger is a Token that may lack mechanisms.
type stranger struct{ Token }

// lacks reports whether err says that the token lacks a mechanism, and may.
func lacks(v any, err error) bool {
	var missing *hsm.MechanismError
	_, may := v.(stranger)
	return may && errors.As(err, &missing)
}

// TestVault runs the suite on a token that has no keys yet.
func TestVault(t *testing.T, open Opener) {
	v := open(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, Token)
	}{
		{"SelfTest", testSelfTest},
		{"Random", testRandom},
		{"Masters", testMasters},
		{"DeriveLikeMemory", testDerive},
		{"Wrap", testWrap},
		{"Misuse", testMisuse},
		{"WorkEnds", testWorkEnds},
		{"Concurrent", testConcurrent},
		{"KeyPairs", func(t *testing.T, v Token) { TestSigners(t, v, suiteLabel) }},
		{"Import", testImport},
		{"ImportErrors", testImportErrors},
		{"Wrappers", testWrappers},
		{"Counters", testCounters},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, v) })
	}
	t.Run("Reopen", func(t *testing.T) { testReopen(t, v, open) })
}

func testSelfTest(t *testing.T, v Token) {
	for _, c := range []kdf.Cipher{kdf.AES, kdf.DES, kdf.HMAC} {
		if err := hsm.SelfTest(t.Context(), v, c); err != nil {
			t.Errorf("%v: %v", c, err)
		}
	}
}

func testRandom(t *testing.T, v Token) {
	for _, n := range []int{1, 32, 1024} {
		b, err := v.Random(t.Context(), n)
		if err != nil || len(b) != n {
			t.Errorf("n=%d: %d bytes, %v", n, len(b), err)
		}
	}
	for _, n := range []int{-1, 0, 1025} {
		if _, err := v.Random(t.Context(), n); err == nil {
			t.Errorf("n=%d was answered", n)
		}
	}
}

func testMisuse(t *testing.T, v Token) {
	w, other := work(t, v), work(t, v)
	ctx := t.Context()
	k, err := w.Import(ctx, hsm.AES128, secret.Random(16))
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.Import(ctx, hsm.DES2, secret.Random(16))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 16)
	for name, f := range map[string]func() error{
		"half a block":        func() error { _, err := w.Encrypt(ctx, k, block[:15]); return err },
		"no data":             func() error { _, err := w.Encrypt(ctx, k, nil); return err },
		"CMAC with DES":       func() error { _, err := w.CMAC(ctx, d, block); return err },
		"key of another work": func() error { _, err := other.Encrypt(ctx, k, block); return err },
		"import short":        func() error { _, err := w.Import(ctx, hsm.AES128, secret.Random(15)); return err },
		"import of no type":   func() error { _, err := w.Import(ctx, 0, secret.Secret{}); return err },
		"derive without input": func() error {
			_, err := w.Derive(ctx, k, kdf.Derivation{Method: kdf.CMAC, Cipher: kdf.AES, Length: 16})
			return err
		},
		"derive too long": func() error {
			_, err := w.Derive(ctx, k, kdf.Derivation{Method: kdf.CMAC, Input: block, Cipher: kdf.AES, Length: 32})
			return err
		},
		"CMAC derivation of DES": func() error {
			_, err := w.Derive(ctx, d, kdf.Derivation{Method: kdf.CMAC, Input: block, Cipher: kdf.AES, Length: 16})
			return err
		},
		"no such master": func() error {
			m := hsm.Master{MasterID: id(0x55, hsm.AES128), Kind: hsm.AES128}
			_, err := w.Derive(ctx, m, card(t, m, kdf.ENC))
			if !errors.Is(err, hsm.ErrNotFound) {
				t.Errorf("deriving from a master that is not there: %v, want ErrNotFound", err)
			}
			return err
		},
	} {
		if err := f(); err == nil {
			t.Errorf("%s was done", name)
		}
	}
	if _, err := w.Encrypt(ctx, k, block); err != nil {
		t.Errorf("the work is spoilt: %v", err)
	}
}

// testConcurrent: many works at once, each with a card of its own.
func testConcurrent(t *testing.T, v Token) {
	all := masters(t, v)
	if len(all) == 0 {
		t.Fatal("no master keys")
	}
	var wg sync.WaitGroup
	for n := range 16 {
		m := all[n%len(all)]
		d := card(t, m, kdf.ENC)
		wg.Go(func() {
			var last []byte
			for range 10 {
				got, err := deriveOnce(t.Context(), v, m, d)
				if err != nil || last != nil && !slices.Equal(got, last) {
					t.Errorf("%v: other key under load, %v", m.Kind, err)
					return
				}
				last = got
			}
		})
	}
	wg.Wait()
}
