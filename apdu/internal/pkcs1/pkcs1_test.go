package pkcs1_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"

	"inkan/apdu/internal/pkcs1"
)

// TestAgainstRSA: the standard library takes what is padded here, and the other way
// round.
func TestAgainstRSA(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(b []byte) []byte {
		return new(big.Int).Exp(new(big.Int).SetBytes(b), key.D, key.N).FillBytes(make([]byte, 128))
	}
	digest := sha256.Sum256([]byte("message"))
	block, err := pkcs1.Sign(crypto.SHA256, digest[:], 128)
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], raw(block)); err != nil {
		t.Error(err)
	}
	for _, message := range []string{"", "message", strings.Repeat("x", 117)} {
		//lint:ignore SA1019 the padding is what is tested
		sealed, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, []byte(message))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pkcs1.Decrypted(raw(sealed)); err != nil || string(got) != message {
			t.Errorf("%q, %v, want %q", got, err, message)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	if _, err := pkcs1.Sign(crypto.MD5, make([]byte, 16), 128); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := pkcs1.Sign(crypto.SHA256, make([]byte, 31), 128); err == nil {
		t.Error("a short digest is taken")
	}
	if _, err := pkcs1.Sign(crypto.SHA512, make([]byte, 64), 93); err == nil {
		t.Error("a short modulus is taken")
	}
}

func TestDecryptedRefuses(t *testing.T) {
	t.Parallel()
	for name, block := range map[string][]byte{
		"nothing":       nil,
		"one byte":      {0},
		"a signature's": append([]byte{0, 1}, bytes.Repeat([]byte{0xFF}, 20)...),
		"no end":        append([]byte{0, 2}, bytes.Repeat([]byte{0xFF}, 20)...),
		"short padding": append([]byte{0, 2, 1, 1, 1, 1, 1, 1, 1, 0}, "message"...),
		"no leading 0":  append([]byte{1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 0}, "message"...),
	} {
		if b, err := pkcs1.Decrypted(block); err == nil {
			t.Errorf("%s: %q", name, b)
		}
	}
}
