// Package hsmtest is the conformance suite of hsm.Vault, hsm.Signers, hsm.Wrappers
// and hsm.Counters. [TestVault] runs on the key file and on a real PKCS#11 module;
// [SoftHSM] makes a token of SoftHSM for it and for others' tests.
package hsmtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"inkan/apdu/gp"
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

func work(t *testing.T, v Token) hsm.Work {
	t.Helper()
	w, err := v.Work(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// card is the derivation of a key of a card with random KDD under m.
func card(t *testing.T, m hsm.Key, slot kdf.Slot) kdf.Derivation {
	t.Helper()
	var ident kdf.Identity
	rand.Read(ident.KDD[:])
	d, err := kdf.Card(kdf.Default(m.Type().Cipher()), slot, ident, kdf.Master{Cipher: m.Type().Cipher(), Size: m.Type().Size()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// learn gets the value of a key out of a vault by wrapping it under a known key.
func learn(t *testing.T, w hsm.Work, k hsm.Key) []byte {
	t.Helper()
	value, err := tryLearn(t.Context(), w, k)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func tryLearn(ctx context.Context, w hsm.Work, k hsm.Key) ([]byte, error) {
	kt := hsm.AES256
	if k.Type().Cipher() == kdf.DES {
		kt = hsm.DES2
	}
	known := secret.Random(kt.Size())
	kek, err := w.Import(ctx, kt, known)
	if err != nil {
		return nil, err
	}
	ct, err := w.Wrap(ctx, kek, k)
	if err != nil {
		return nil, err
	}
	return unwrap(kt, known.Bytes(), ct, k.Type().Size())
}

// unwrap decrypts what Wrap made, and cuts it to size.
func unwrap(kek hsm.KeyType, key, ct []byte, size int) ([]byte, error) {
	b, err := kdf.NewBlock(kek.Cipher(), key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(ct))
	n := b.BlockSize()
	if len(ct)%n != 0 || len(ct) < size {
		return nil, errors.New("wrapped key has " + hex.EncodeToString([]byte{byte(len(ct))}) + " bytes")
	}
	chain := make([]byte, n)
	for i := 0; i < len(ct); i += n {
		b.Decrypt(out[i:], ct[i:])
		if kek.Cipher() == kdf.AES {
			for j := range n {
				out[i+j] ^= chain[j]
			}
			copy(chain, ct[i:])
		}
	}
	return out[:size], nil
}

// testDerive: what the token makes of a known base key is what memory makes of it.
func testDerive(t *testing.T, v Token) {
	for _, kt := range append(hsm.KeyTypes(), hsm.HMACKey) {
		t.Run("type="+kt.String(), func(t *testing.T) {
			w := work(t, v)
			value := secret.Random(kt.Size())
			base, err := w.Import(t.Context(), kt, value)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range derivations(t, kt, value) {
				checkDerived(t, w, base, value, d)
			}
		})
	}
}

// derivations are all that a base key of type kt is good for: every diversification,
// by KDD and by CUID, and what SCP02 needs.
func derivations(t *testing.T, kt hsm.KeyType, value secret.Secret) (out []kdf.Derivation) {
	t.Helper()
	var ident kdf.Identity
	rand.Read(ident.KDD[:])
	rand.Read(ident.CUID[:])
	for _, code := range kdf.Codes() {
		for i, slot := range kdf.Slots() {
			d, err := kdf.Card(code|kdf.UseCUID*kdf.Code(i&1), slot, ident, kdf.Master{Cipher: kt.Cipher(), Size: kt.Size()})
			if err == nil && d.Method != kdf.Same {
				out = append(out, d)
			}
		}
	}
	if kt.Cipher() == kdf.DES {
		out = append(out, kdf.Derivation{Method: kdf.CBC, Input: value.Bytes()[:16], Cipher: kdf.DES, Length: 16})
	}
	if len(out) == 0 {
		t.Errorf("nothing is derived from %v", kt)
	}
	return out
}

func checkDerived(t *testing.T, w hsm.Work, base hsm.Key, value secret.Secret, d kdf.Derivation) {
	t.Helper()
	want, err := d.Apply(base.Type().Cipher(), value.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.Derive(t.Context(), base, d)
	if err != nil {
		t.Fatal(err)
	}
	if got := learn(t, w, k); !slices.Equal(got, want) {
		t.Errorf("%v: derived another key than memory does", d.Method)
	}
	kcv, err := hsm.CheckValue(t.Context(), w, k)
	if err != nil {
		t.Fatal(err)
	}
	if wantKCV, _ := kdf.KCV(d.Cipher, want); kcv != wantKCV {
		t.Errorf("%v: KCV %v, want %v", d.Method, kcv, wantKCV)
	}
	if d.Cipher == kdf.AES {
		a, aerr := w.CMAC(t.Context(), k, []byte("message"))
		known, err := w.Import(t.Context(), k.Type(), secret.New(want))
		b, berr := w.CMAC(t.Context(), known, []byte("message"))
		if err := errors.Join(aerr, err, berr); err != nil || !slices.Equal(a, b) || len(a) != 16 {
			t.Errorf("CMAC % X, want % X, %v", a, b, err)
		}
	}
}

// testWrap: keys of every length under every kind of key-encryption key that PUT
// KEY knows, from the token's own masters.
func testWrap(t *testing.T, v Token) {
	for _, m := range masters(t, v) {
		t.Run("type="+m.Kind.String(), func(t *testing.T) { wrapOne(t, work(t, v), m) })
	}
}

func wrapOne(t *testing.T, w hsm.Work, m hsm.Master) {
	k, err := w.Derive(t.Context(), m, card(t, m, kdf.MAC))
	if err != nil {
		t.Fatal(err)
	}
	value := learn(t, w, k)
	kcv, err := hsm.CheckValue(t.Context(), w, k)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := kdf.KCV(k.Type().Cipher(), value); kcv != want {
		t.Errorf("wrapped value has KCV %v, the key %v", want, kcv)
	}
	if again := learn(t, w, k); !slices.Equal(again, value) {
		t.Error("another value the second time")
	}
	kek, err := w.Derive(t.Context(), m, card(t, m, kdf.DEK))
	if err != nil {
		t.Fatal(err)
	}
	ct, err := w.Wrap(t.Context(), kek, k)
	if err != nil {
		t.Fatal(err)
	}
	got, err := unwrap(kek.Type(), learn(t, w, kek), ct, k.Type().Size())
	if err != nil || !slices.Equal(got, value) {
		t.Errorf("under its sister key: %v", err)
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

func testWorkEnds(t *testing.T, v Token) {
	w := work(t, v)
	k, err := w.Import(t.Context(), hsm.AES128, secret.Random(16))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Encrypt(t.Context(), k, make([]byte, 16)); err == nil {
		t.Error("a closed work computes")
	}
	if err := w.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
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

func deriveOnce(ctx context.Context, v Token, m hsm.Master, d kdf.Derivation) ([]byte, error) {
	w, err := v.Work(ctx)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	k, err := w.Derive(ctx, m, d)
	if err != nil {
		return nil, err
	}
	return tryLearn(ctx, w, k)
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
