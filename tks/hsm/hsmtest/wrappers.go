package hsmtest

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
)

// suiteWrapper is a wrapping key that the suite makes and finds again, with what it
// wrapped.
var suiteWrapper = hsm.WrapperID{Instance: [4]byte{0, 0x11, 0x22, 0x33}, Version: 1}

func testWrappers(t *testing.T, v Token) {
	w, err := v.GenerateWrapper(t.Context(), suiteWrapper)
	if lacks(v, err) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if i := w.Info(); i.ID != suiteWrapper || i.KCV != nil && len(i.KCV) != 3 {
		t.Errorf("made %+v", i)
	}
	if _, err := v.GenerateWrapper(t.Context(), suiteWrapper); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("the same key again: %v, want ErrExists", err)
	}
	if _, err := v.GenerateWrapper(t.Context(), hsm.WrapperID{}); err == nil {
		t.Error("a key of version 0 was made")
	}
	found, err := v.Wrapper(t.Context(), suiteWrapper)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(found.Info().KCV, w.Info().KCV) {
		t.Error("found another key")
	}
	key, aad := secret.Random(hsm.WrapperKeySize), []byte("binding")
	one, err := w.Wrap(t.Context(), key, aad)
	if err != nil {
		t.Fatal(err)
	}
	two, err := found.Wrap(t.Context(), key, aad)
	if err != nil {
		t.Fatal(err)
	}
	if one.Mechanism == hsm.WrapGCM && (bytes.Equal(one.Nonce, two.Nonce) || bytes.Equal(one.Data, two.Data)) {
		t.Error("a nonce was used twice")
	}
	for _, x := range []hsm.WrappedKey{one, two} {
		back, err := found.Unwrap(t.Context(), x, aad)
		if err != nil || !back.Equal(key) {
			t.Errorf("unwrapped %d bytes, %v", back.Len(), err)
		}
	}
	testWrapperRefusals(t, w, one, aad)
	testOtherWrapper(t, v, one, aad)
}

func testWrapperRefusals(t *testing.T, w hsm.Wrapper, good hsm.WrappedKey, aad []byte) {
	for n := range good.Data {
		bad := good
		bad.Data = bytes.Clone(good.Data)
		bad.Data[n] ^= 0x10
		if _, err := w.Unwrap(t.Context(), bad, aad); err == nil {
			t.Errorf("byte %d altered: unwrapped", n)
		}
	}
	for _, n := range []int{0, 7, 8, len(good.Data) - 1} {
		if _, err := w.Unwrap(t.Context(), hsm.WrappedKey{Mechanism: good.Mechanism, Nonce: good.Nonce, Data: good.Data[:n]}, aad); err == nil {
			t.Errorf("%d bytes were unwrapped", n)
		}
	}
	if _, err := w.Unwrap(t.Context(), hsm.WrappedKey{Mechanism: 0x80020001, Nonce: good.Nonce, Data: good.Data}, aad); err == nil {
		t.Error("unwrapped with a mechanism that no token has")
	}
	if good.Mechanism == hsm.WrapGCM {
		if _, err := w.Unwrap(t.Context(), good, []byte("another binding")); err == nil {
			t.Error("unwrapped under another binding")
		}
		if _, err := w.Unwrap(t.Context(), hsm.WrappedKey{Mechanism: good.Mechanism, Data: good.Data}, aad); err == nil {
			t.Error("unwrapped without a nonce")
		}
	}
	for _, n := range []int{0, 16, 33} {
		if _, err := w.Wrap(t.Context(), secret.New(make([]byte, n)), aad); err == nil {
			t.Errorf("a key of %d bytes was wrapped", n)
		}
	}
	if back, err := w.Unwrap(t.Context(), good, aad); err != nil || back.Len() != hsm.WrapperKeySize {
		t.Errorf("after the refusals: %v", err)
	}
}

// testOtherWrapper makes a second key, which opens nothing of the first, and
// destroys it.
func testOtherWrapper(t *testing.T, v Token, of hsm.WrappedKey, aad []byte) {
	id := hsm.WrapperID{Instance: suiteWrapper.Instance, Version: 2}
	if _, err := v.Wrapper(t.Context(), id); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a key that is not there: %v, want ErrNotFound", err)
	}
	w, err := v.GenerateWrapper(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Unwrap(t.Context(), of, aad); err == nil {
		t.Error("another key unwrapped")
	}
	if got, err := v.Wrappers(t.Context()); err != nil || !slices.Equal(got, []hsm.WrapperID{suiteWrapper, id}) {
		t.Errorf("listed %v, %v", got, err)
	}
	if err := v.DestroyWrapper(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := v.DestroyWrapper(t.Context(), id); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("destroyed twice: %v", err)
	}
	if _, err := w.Wrap(t.Context(), secret.Random(hsm.WrapperKeySize), aad); !errors.Is(err, hsm.ErrNotFound) {
		t.Errorf("a destroyed key: %v, want ErrNotFound", err)
	}
}

// suiteCounter is a counter that the suite leaves at 9.
const suiteCounter hsm.CounterLabel = "tms:sealgen:00112233:inkan.toml"

func testCounters(t *testing.T, v Token) {
	other := hsm.CounterLabel("tms:sealgen:00112233:passphrase")
	for _, want := range []uint64{0, 1, 2, 1 << 40, 9} {
		if want > 0 {
			err := v.SetCounter(t.Context(), suiteCounter, want)
			if lacks(v, err) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got, err := v.Counter(t.Context(), suiteCounter); err != nil || got != want {
			t.Errorf("counter is %d, %v, want %d", got, err, want)
		}
	}
	if got, err := v.Counter(t.Context(), other); err != nil || got != 0 {
		t.Errorf("the other counter is %d, %v", got, err)
	}
	if err := v.SetCounter(t.Context(), "x", 1); err == nil {
		t.Error("a counter of any name was set")
	}
	if err := v.SetCounter(t.Context(), other, 3); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.DeleteCounter(t.Context(), other); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := v.Counter(t.Context(), other); err != nil || got != 0 {
		t.Errorf("the deleted counter is %d, %v", got, err)
	}
}

// reopenWrapper finds key, if there is one, and counter after the token was opened
// again.
func reopenWrapper(t *testing.T, v Token, before hsm.Wrapper) {
	if before != nil {
		w, err := v.Wrapper(t.Context(), suiteWrapper)
		if err != nil {
			t.Fatal(err)
		}
		if was := before.Info(); !bytes.Equal(w.Info().KCV, was.KCV) || w.Info().Serial != was.Serial {
			t.Errorf("found %+v, was %+v", w.Info(), was)
		}
		if _, err := before.Wrap(t.Context(), secret.Random(hsm.WrapperKeySize), nil); err == nil {
			t.Error("a closed token wraps")
		}
	}
	got, err := v.Counter(t.Context(), suiteCounter)
	if _, may := v.(stranger); err != nil || got != 9 && !(may && got == 0) {
		t.Errorf("counter is %d, %v", got, err)
	}
}
