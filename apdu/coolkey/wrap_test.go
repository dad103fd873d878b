package coolkey_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"strings"
	"testing"

	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
)

func TestKeyWrapVectors(t *testing.T) {
	t.Parallel()
	for _, v := range getVectors(t).KWP {
		if got, err := coolkey.KeyWrapPadded(v.KEK, v.Key); err != nil || !bytes.Equal(got, v.Wrapped) {
			t.Errorf("wrapped %x, %v", got, err)
		}
	}
}

func pkcs8(t testing.TB, key any) secret.Secret {
	t.Helper()
	b, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return secret.New(b)
}

func TestWrapPrivateKey(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	key := pkcs8(t, v.Encryption.private())
	for _, tt := range []struct {
		alg           coolkey.ImportAlgorithm
		transport     int
		blob, iv, kcv int // lengths; blob 0 = refused
	}{
		{coolkey.ImportDES, 16, 4 + 640, 8, 3},
		{coolkey.ImportDES, 24, 0, 0, 0},
		{coolkey.ImportAESKWP, 16, 4 + 8 + 640, 8, 3},
		{coolkey.ImportAESKWP, 32, 4 + 8 + 640, 8, 3},
		{coolkey.ImportAESCBC, 16, 4 + 640, 16, 3},
		{coolkey.ImportAESCBC, 24, 0, 0, 0},
		{0x80, 16, 0, 0, 0},
	} {
		w, err := coolkey.WrapPrivateKey(tt.alg, secret.Random(tt.transport), key)
		if (err == nil) != (tt.blob > 0) {
			t.Errorf("alg=%v transport=%d: %v", tt.alg, tt.transport, err)
		}
		if err != nil {
			continue
		}
		// the length of a PKCS #8 key varies by a few bytes with its numbers
		if n := len(w.Blob); n < tt.blob-8 || n > tt.blob || len(w.IV) != tt.iv || len(w.KeyCheck) != tt.kcv {
			t.Errorf("alg=%v: blob %d, IV %d, key check %d", tt.alg, n, len(w.IV), len(w.KeyCheck))
		}
		if !bytes.HasPrefix(w.Blob, []byte{1, 9, 4, 0}) {
			t.Errorf("alg=%v: blob begins %x", tt.alg, w.Blob[:4])
		}
		if bytes.Contains(w.Blob, key.Bytes()[64:96]) {
			t.Errorf("alg=%v: the key is in the blob", tt.alg)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := coolkey.WrapPrivateKey(coolkey.ImportAESKWP, secret.Random(16), pkcs8(t, ec)); err != nil || !bytes.HasPrefix(w.Blob, []byte{1, 0x0C, 1, 0}) {
		t.Errorf("EC key: %v", err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := coolkey.WrapPrivateKey(coolkey.ImportAESKWP, secret.Random(16), pkcs8(t, ed)); err == nil {
		t.Error("an Ed25519 key is wrapped")
	}
	garbage := secret.New([]byte("not a key at all"))
	if _, err := coolkey.WrapPrivateKey(coolkey.ImportAESKWP, secret.Random(16), garbage); err == nil || strings.Contains(err.Error(), "not a key at all") {
		t.Errorf("garbage: %v", err)
	}
}
