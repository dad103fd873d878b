package coolkey_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"testing"

	"inkan/apdu/coolkey"
)

func TestKeyResultVector(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	r, err := coolkey.ParseKeyResult(v.KeyResult.IOBuffer)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Signing.public().Equal(r.Public) {
		t.Error("public key differs")
	}
	if err := coolkey.VerifyProof(r, v.KeyResult.Challenge); err != nil {
		t.Error(err)
	}
	if b, err := coolkey.EncodeKeyBlob(r.Public); err != nil || !bytes.Equal(b, r.Blob) {
		t.Errorf("blob %x, %v", b, err)
	}
	wrong := bytes.Clone(v.KeyResult.Challenge)
	wrong[0] ^= 1
	if err := coolkey.VerifyProof(r, wrong); !errors.Is(err, coolkey.ErrProof) {
		t.Errorf("wrong challenge: %v", err)
	}
	if err := coolkey.VerifyProof(r, wrong[:15]); !errors.Is(err, coolkey.ErrProof) {
		t.Errorf("short challenge: %v", err)
	}
	other := r
	other.Public = v.Encryption.public() // not the key in the blob
	if err := coolkey.VerifyProof(other, v.KeyResult.Challenge); !errors.Is(err, coolkey.ErrProof) {
		t.Errorf("other key: %v", err)
	}
	for i := range r.Blob {
		bad := r
		bad.Blob = bytes.Clone(r.Blob)
		bad.Blob[i] ^= 1
		if err := coolkey.VerifyProof(bad, v.KeyResult.Challenge); !errors.Is(err, coolkey.ErrProof) {
			t.Fatalf("blob changed at %d: %v", i, err)
		}
	}
}

func TestKeyResultEC(t *testing.T) {
	t.Parallel()
	challenge := make([]byte, coolkey.ChallengeLen)
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := coolkey.EncodeKeyBlob(&k.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		digest := sha1.Sum(append(bytes.Clone(blob), challenge...))
		proof, err := ecdsa.SignASN1(rand.Reader, k, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		r, err := coolkey.ParseKeyResult(counted(blob, proof))
		if err != nil {
			t.Fatal(err)
		}
		if err := coolkey.VerifyProof(r, challenge); err != nil || !k.PublicKey.Equal(r.Public) {
			t.Errorf("curve=%s: %v", curve.Params().Name, err)
		}
		r.Proof[len(r.Proof)-1] ^= 1
		if err := coolkey.VerifyProof(r, challenge); !errors.Is(err, coolkey.ErrProof) {
			t.Errorf("curve=%s: changed proof: %v", curve.Params().Name, err)
		}
	}
}

func counted(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(f))), f...)
	}
	return b
}

func TestKeyResultRefusals(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	n := v.Signing.public().N.Bytes()
	e := []byte{1, 0, 1}
	rsaBlob := func(bits uint16, n, e []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0, 1}, bits), counted(n, e)...)
	}
	even := bytes.Clone(n)
	even[len(even)-1] &^= 1
	point := append([]byte{4}, make([]byte, 64)...) // not on the curve
	for name, b := range map[string][]byte{
		"empty":         {},
		"one byte":      {0},
		"cut":           v.KeyResult.IOBuffer[:len(v.KeyResult.IOBuffer)-1],
		"behind":        append(bytes.Clone(v.KeyResult.IOBuffer), 0),
		"no proof":      counted(rsaBlob(1024, n, e), nil),
		"encrypted":     counted([]byte{1, 1, 4, 0}, []byte{1}),
		"private":       counted([]byte{0, 3, 4, 0}, []byte{1}),
		"bits":          counted(rsaBlob(2048, n, e), []byte{1}),
		"short modulus": counted(rsaBlob(512, n[:64], e), []byte{1}),
		"even modulus":  counted(rsaBlob(1024, even, e), []byte{1}),
		"exponent 1":    counted(rsaBlob(1024, n, []byte{1}), []byte{1}),
		"exponent even": counted(rsaBlob(1024, n, []byte{4}), []byte{1}),
		"exponent long": counted(rsaBlob(1024, n, []byte{1, 0, 0, 0, 1}), []byte{1}),
		"no exponent":   counted(rsaBlob(1024, n, nil), []byte{1}),
		"curve":         counted(append([]byte{0, 0x0A, 0, 224}, counted(point)...), []byte{1}),
		"off the curve": counted(append([]byte{0, 0x0A, 1, 0}, counted(point)...), []byte{1}),
		"huge":          make([]byte, 5000),
	} {
		if r, err := coolkey.ParseKeyResult(b); err == nil {
			t.Errorf("case=%s: read as %+v", name, r)
		}
	}
	if _, err := coolkey.EncodeKeyBlob("key"); err == nil {
		t.Error("a string is encoded as key")
	}
}

func FuzzKeyResultNoPanic(f *testing.F) {
	v := getVectors(f)
	f.Add([]byte(v.KeyResult.IOBuffer))
	f.Add(counted([]byte{0, 0x0A, 1, 0}, []byte{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := coolkey.ParseKeyResult(b)
		if err != nil {
			return
		}
		if k, ok := r.Public.(*rsa.PublicKey); ok && k.Size() > 512 {
			t.Errorf("modulus of %d bytes", k.Size())
		}
		coolkey.VerifyProof(r, make([]byte, coolkey.ChallengeLen))
	})
}
