package coolkey_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"

	"inkan/apdu/coolkey"
)

// TestBufferedForm is the RSA-2048 exchange through the I/O buffer: lengths,
// offsets and the bare compute command of coolkey-applet.md §6.
func TestBufferedForm(t *testing.T) {
	t.Parallel()
	answer := strings.Repeat("5A", 256)
	s := &script{answers: []string{"9000", "9000", "9000", "9000", "0100" + answer[:2*206] + "9000", answer[2*206:] + "9000"}}
	nonce := coolkey.NewNonce([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	block := make([]byte, 256)
	got, err := coolkey.ComputeRSA(t.Context(), s, coolkey.Login(nonce), 2, coolkey.Sign, block)
	if err != nil || hex.EncodeToString(got) != strings.ToLower(answer) {
		t.Fatalf("%x, %v", got, err)
	}
	const n = "0102030405060708"
	want := []string{
		"B054000013FFFFFFFF00000000020100" + n,
		"B0540000E1FFFFFFFF00000002D0" + strings.Repeat("00", 208) + n,
		"B054000041FFFFFFFF000000D230" + strings.Repeat("00", 48) + n,
		"B03602040D0003020000" + n,
		"B056000011FFFFFFFF00000000D0" + n + "D0",
		"B056000011FFFFFFFF000000D032" + n + "32",
	}
	if !slices.Equal(s.sent, want) {
		t.Errorf("sent\n%s\nwant\n%s", strings.Join(s.sent, "\n"), strings.Join(want, "\n"))
	}
}

func TestSignDigest(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	digest := sha256.Sum256(v.Signature.Message)
	key := coolkey.Key{Number: 2, Public: v.Signing.public()}
	s := &script{answers: []string{"0080" + hex.EncodeToString(v.Signature.Value) + "9000"}}
	sig, err := key.SignDigest(t.Context(), s, coolkey.Anonymous(), crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := rsa.VerifyPKCS1v15(v.Signing.public(), crypto.SHA256, digest[:], sig); err != nil {
		t.Error(err)
	}
	// what was sent is the padded block that the signature recovers to
	block := new(big.Int).Exp(new(big.Int).SetBytes(v.Signature.Value), big.NewInt(65537), v.Signing.public().N).FillBytes(make([]byte, 128))
	want := "B03602048D0003010080" + strings.ToUpper(hex.EncodeToString(block)) + strings.Repeat("00", 8) + "82"
	if s.sent[0] != want {
		t.Errorf("sent %s, want %s", s.sent[0], want)
	}
	small := coolkey.Key{Public: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 511), E: 3}}
	for name, run := range map[string]func() error{
		"digest": func() error {
			return second(key.SignDigest(t.Context(), s, coolkey.Anonymous(), crypto.SHA256, digest[:31]))
		},
		"hash": func() error {
			return second(key.SignDigest(t.Context(), s, coolkey.Anonymous(), crypto.MD5, digest[:16]))
		},
		"key": func() error {
			return second(coolkey.Key{}.SignDigest(t.Context(), s, coolkey.Anonymous(), crypto.SHA256, digest[:]))
		},
		"size": func() error {
			return second(small.SignDigest(t.Context(), s, coolkey.Anonymous(), crypto.SHA512, make([]byte, 64)))
		},
	} {
		if err := run(); err == nil {
			t.Errorf("case=%s: signed", name)
		}
	}
	if len(s.sent) != 1 {
		t.Errorf("sent %v", s.sent[1:])
	}
}

func TestDecryptPKCS1(t *testing.T) {
	t.Parallel()
	pad := strings.Repeat("AA", 8)
	for name, tt := range map[string]struct{ block, want string }{
		"good":       {"0002" + pad + "00" + strings.Repeat("41", 117), strings.Repeat("A", 117)},
		"empty":      {"0002" + strings.Repeat("AA", 125) + "00", ""},
		"first byte": {"0102" + pad + "00" + strings.Repeat("41", 117), "-"},
		"type":       {"0001" + pad + "00" + strings.Repeat("41", 117), "-"},
		"short pad":  {"0002" + pad[2:] + "00" + strings.Repeat("41", 118), "-"},
		"no end":     {"0002" + strings.Repeat("AA", 126), "-"},
	} {
		s := &script{answers: []string{"0080" + tt.block + "9000"}}
		got, err := coolkey.Key{Number: 4}.DecryptPKCS1(t.Context(), s, coolkey.Anonymous(), make([]byte, 128))
		if (err != nil) != (tt.want == "-") || err == nil && string(got) != tt.want {
			t.Errorf("case=%s: %q, %v", name, got, err)
		}
	}
}
