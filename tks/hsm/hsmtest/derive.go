package hsmtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

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
