package ceremony_test

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu/secret"
	"inkan/tks/ceremony"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

const (
	k  = "404142434445464748494A4B4C4D4E4F"
	kk = k + k
)

func key(t testing.TB, digits string) secret.Secret {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(b)
}

func text(s string) secret.Secret { return secret.New([]byte(s)) }

// TestComponents: check values of hsm.md §21, in every form that people write.
func TestComponents(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		kt         hsm.KeyType
		fails      error // nil: read; errAny: any
	}{
		{"DES", k + " 8BAF47", hsm.DES2, nil},
		{"groups", "4041 4243 4445 4647 4849 4a4b 4c4d 4e4f\r\n8baf 47\n", hsm.DES2, nil},
		{"AES by 01s", k + "504A77", hsm.AES128, nil},
		{"AES by 00s", k + "189956", hsm.AES128, nil},
		{"AES value for a DES key", k + "504A77", hsm.DES2, ceremony.ErrCheckValue},
		{"digit mistyped", "504142434445464748494A4B4C4D4E4F 8BAF47", hsm.DES2, ceremony.ErrCheckValue},
		{"check value mistyped", k + "8BAF48", hsm.DES2, ceremony.ErrCheckValue},
		{"no check value", k, hsm.DES2, errAny},
		{"check value of two bytes", k + "8BAF", hsm.DES2, errAny},
		{"no digit", k + "8BAF4g", hsm.DES2, errAny},
		{"odd", k + "8BAF4", hsm.DES2, errAny},
		{"empty", "", hsm.DES2, errAny},
		{"no type", "8BAF47", 0, errAny},
	} {
		got, err := ceremony.ParseComponent(text(c.text), c.kt)
		if (err == nil) != (c.fails == nil) || c.fails != errAny && !errors.Is(err, c.fails) {
			t.Errorf("%s: %v, want %v", c.name, err, c.fails)
		}
		if err == nil && !got.Equal(key(t, k)) {
			t.Errorf("%s: another component", c.name)
		}
		if err != nil && strings.Contains(err.Error(), "4142") {
			t.Errorf("%s: the error tells the component: %v", c.name, err)
		}
	}
}

var errAny = errors.New("any")

func TestCombine(t *testing.T) {
	t.Parallel()
	a, b, c := key(t, "0123456789ABCDEF0123456789ABCDEF"), key(t, "FEDCBA9876543210FEDCBA9876543210"), key(t, "BFBEBDBCBBBAB9B8B7B6B5B4B3B2B1B0")
	got, err := ceremony.Combine(hsm.DES2, a, b, c)
	if err != nil || !got.Equal(key(t, k)) { // a ⊕ b is all ones
		t.Errorf("combined wrongly: %v", err)
	}
	if kcv, err := ceremony.CheckValue(hsm.DES2, got); err != nil || kcv != "8BAF47" {
		t.Errorf("check value %s, %v", kcv, err)
	}
	if err := ceremony.Check(hsm.DES2, got, "8baf 47"); err != nil {
		t.Error(err)
	}
	for name, parts := range map[string][]secret.Secret{
		"one": {a}, "none": nil, "the same twice": {a, b, a}, "lengths": {a, key(t, kk)}, "zero": {a, b, key(t, strings.Repeat("F", 32))},
	} {
		if _, err := ceremony.Combine(hsm.DES2, parts...); err == nil {
			t.Errorf("%s: combined", name)
		}
	}
}

// TestUnwrapKWP: the vector of hsm.md §21; every changed byte of it is noticed.
func TestUnwrapKWP(t *testing.T) {
	t.Parallel()
	const wrapped = "481F85798EBDE3C7039B9EF39210DCF16C306534F17B48E5"
	got, err := ceremony.Unwrap(hsm.AES256, key(t, kk), hsm.AES128, []byte(wrapped+"\n"))
	if err != nil || !got.Equal(key(t, k)) {
		t.Fatalf("unwrapped wrongly: %v", err)
	}
	raw := key(t, wrapped).Bytes()
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := ceremony.Unwrap(hsm.AES256, key(t, kk), hsm.AES128, []byte(hex.EncodeToString(bad))); !errors.Is(err, ceremony.ErrWrapped) {
			t.Errorf("byte %d changed: %v, want ErrWrapped", i, err)
		}
	}
	for name, f := range map[string]func() (secret.Secret, error){
		"other transport key": func() (secret.Secret, error) {
			return ceremony.Unwrap(hsm.AES128, key(t, k), hsm.AES128, []byte(wrapped))
		},
		"key of another length": func() (secret.Secret, error) {
			return ceremony.Unwrap(hsm.AES256, key(t, kk), hsm.DES3, []byte(wrapped))
		},
		"transport key too short": func() (secret.Secret, error) {
			return ceremony.Unwrap(hsm.AES256, key(t, k), hsm.AES128, []byte(wrapped))
		},
		"HMAC transport key": func() (secret.Secret, error) {
			return ceremony.Unwrap(hsm.HMACKey, key(t, kk), hsm.AES128, []byte(wrapped))
		},
		"cut": func() (secret.Secret, error) {
			return ceremony.Unwrap(hsm.AES256, key(t, kk), hsm.AES128, []byte(wrapped[:30]))
		},
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s: unwrapped", name)
		}
	}
}

// TestUnwrapKWPLengths: keys of every type, wrapped by the RFC's own steps.
func TestUnwrapKWPLengths(t *testing.T) {
	t.Parallel()
	for _, kt := range append(hsm.KeyTypes(), hsm.HMACKey) {
		value := secret.Random(kt.Size())
		got, err := ceremony.Unwrap(hsm.AES256, key(t, kk), kt, []byte(hex.EncodeToString(wrapKWP(t, kk, value.Bytes()))))
		if err != nil || !got.Equal(value) {
			t.Errorf("%v: %v", kt, err)
		}
	}
}

// wrapKWP is RFC 5649 §4.1 for keys of at least 9 bytes in whole blocks of 8.
func wrapKWP(t *testing.T, kek string, value []byte) []byte {
	t.Helper()
	b, err := aes.NewCipher(key(t, kek).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	a := append([]byte{0xA6, 0x59, 0x59, 0xA6, 0, 0, 0}, byte(len(value)))
	r := bytes.Clone(value)
	n := len(r) / 8
	for j := range 6 {
		for i := range n {
			x := append(bytes.Clone(a), r[8*i:8*i+8]...)
			b.Encrypt(x, x)
			x[7] ^= byte(n*j + i + 1)
			a = x[:8]
			copy(r[8*i:], x[8:])
		}
	}
	return append(bytes.Clone(a), r...)
}

// TestUnwrapTKSTool: what tkstool -W writes, with its text around it.
func TestUnwrapTKSTool(t *testing.T) {
	t.Parallel()
	// K under K is B4BAA89A8CD0292B45210E1BC84B1C31 (hsm.md §21); K's check value begins 8BAF47.
	d := kdf.Derivation{Method: kdf.ECB, Input: make([]byte, 8), Cipher: kdf.AES, Length: 4}
	kcv, err := d.Apply(kdf.DES, key(t, k).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	file := fmt.Sprintf("B4BA A89A 8CD0 292B 4521 0E1B C84B 1C31\n\n%X %X\n", kcv[:2], kcv[2:])
	got, err := ceremony.Unwrap(hsm.DES2, key(t, k), hsm.DES2, []byte(file))
	if err != nil || !got.Equal(key(t, k)) {
		t.Errorf("unwrapped wrongly: %v", err)
	}
	if _, err := ceremony.Unwrap(hsm.DES2, key(t, "0123456789ABCDEFFEDCBA9876543210"), hsm.DES2, []byte(file)); !errors.Is(err, ceremony.ErrWrapped) {
		t.Errorf("other transport key: %v, want ErrWrapped", err)
	}
	for _, kt := range []hsm.KeyType{hsm.AES128, hsm.DES3} {
		if _, err := ceremony.Unwrap(hsm.DES2, key(t, k), kt, []byte(file)); err == nil {
			t.Errorf("unwrapped as %v", kt)
		}
	}
	if _, err := ceremony.Unwrap(hsm.DES2, key(t, k), hsm.DES2, []byte(file[:30])); err == nil {
		t.Error("unwrapped half a file")
	}
}

// FuzzUnwrapNeverAcceptsAnother: whatever the file says, a key that comes out of it
// has the length of its type and the check that the format has.
func FuzzUnwrapNeverAcceptsAnother(f *testing.F) {
	f.Add([]byte("481F85798EBDE3C7039B9EF39210DCF16C306534F17B48E5"))
	f.Add([]byte("B4BA A89A 8CD0 292B 4521 0E1B C84B 1C31 8BAF 4700"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if v, err := ceremony.Unwrap(hsm.AES256, key(t, kk), hsm.AES128, file); err == nil {
			if got := wrapKWP(t, kk, v.Bytes()); !strings.EqualFold(strings.Join(strings.Fields(string(file)), ""), hex.EncodeToString(got)) {
				t.Error("accepted what wrapping does not make")
			}
		}
		if v, err := ceremony.Unwrap(hsm.DES2, key(t, k), hsm.DES2, file); err == nil && v.Len() != 16 {
			t.Errorf("key of %d bytes", v.Len())
		}
	})
}

// Example puts a key together out of two people's components.
func Example() {
	var parts []secret.Secret
	for _, typed := range []string{
		"0123456789ABCDEF 0123456789ABCDEF  D5D44F", // with its check value
		"1F2F3F4F5F6F7F8F 9FAFBFCFDFEFFF0F  1D42F3",
	} {
		part, err := ceremony.ParseComponent(text(typed), hsm.DES2)
		if err != nil {
			fmt.Println(err)
			return
		}
		parts = append(parts, part)
	}
	master, err := ceremony.Combine(hsm.DES2, parts...)
	if err != nil {
		fmt.Println(err)
		return
	}
	kcv, err := ceremony.CheckValue(hsm.DES2, master)
	fmt.Println(kcv, err)
	// Output: E3E2B5 <nil>
}
