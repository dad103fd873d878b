package primitive_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"inkan/securechannel/internal/vectors"
	"inkan/securechannel/primitive"
)

type macVector struct {
	Name, Kind, Algorithm, Padding string
	Key, Message, MAC, ICV, Padded vectors.Hex
	MACLength                      int `json:"mac_length"`
}

func TestCMACVectors(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, v := range vectors.Load[macVector](t, "cmac.json") {
		if v.Kind == "subkeys" {
			continue // internal values, covered by the MACs of the same key
		}
		for _, cut := range []int{0, 1, 15, 16, 17} {
			cut = min(cut, len(v.Message))
			got, err := primitive.CMAC(v.Key, v.Message[:cut], nil, v.Message[cut:])
			if err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
			if !bytes.Equal(got[:len(v.MAC)], v.MAC) {
				t.Errorf("%s cut=%d: got %x, want %s", v.Name, cut, got, v.MAC)
			}
		}
		ran++
	}
	if ran < 100 {
		t.Errorf("only %d vectors ran", ran)
	}
}

func TestMACVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.Load[macVector](t, "retail_mac.json") {
		mac := primitive.RetailMAC
		switch {
		case strings.Contains(v.Algorithm, "algorithm 3"):
		case strings.Contains(v.Algorithm, "algorithm 1 with 3DES"):
			mac = primitive.FullMAC
		default:
			t.Fatalf("%s: unknown algorithm %q", v.Name, v.Algorithm)
		}
		msg := v.Message
		if !strings.Contains(v.Padding, "method 2") {
			mac = func(key, icv []byte, _ ...[]byte) ([]byte, error) {
				return primitive.RetailMACUnpadded(key, icv, v.Padded)
			}
		}
		half := len(msg) / 2
		got, err := mac(v.Key, v.ICV, msg[:half], msg[half:])
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if !bytes.Equal(got, v.MAC) {
			t.Errorf("%s: got %x, want %s", v.Name, got, v.MAC)
		}
	}
}

func TestCounterKDFVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name, PRF  string
		Key        vectors.Hex
		Before     vectors.Hex `json:"before_counter"`
		After      vectors.Hex `json:"after_counter"`
		Output     vectors.Hex
		LengthBits int `json:"length_bits"`
	}
	for _, v := range vectors.Load[vector](t, "sp800_108.json") {
		prf := func(parts ...[]byte) ([]byte, error) { return primitive.CMAC(v.Key, parts...) }
		if strings.HasPrefix(v.PRF, "HMAC") {
			prf = func(parts ...[]byte) ([]byte, error) {
				h := hmac.New(sha256.New, v.Key)
				for _, p := range parts {
					h.Write(p)
				}
				return h.Sum(nil), nil
			}
		}
		got, err := primitive.CounterKDF(prf, v.Before, v.After, v.LengthBits/8)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if !bytes.Equal(got, v.Output) {
			t.Errorf("%s: got %x, want %s", v.Name, got, v.Output)
		}
	}
}

func TestKDF03Vectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name                           string
		Key, Constant, Context, Output vectors.Hex
		LengthBits                     int `json:"length_bits"`
	}
	for _, v := range vectors.LoadKind[vector](t, "kdf.json", "scp03_kdf") {
		got, err := primitive.KDF03(v.Key, v.Constant.Byte(), v.Context, v.LengthBits/8)
		if err != nil || !bytes.Equal(got, v.Output) {
			t.Errorf("%s: got %x, %v, want %s", v.Name, got, err, v.Output)
		}
	}
	type raw struct {
		Name                                string
		Key, Before, Counter, After, Output vectors.Hex
	}
	for _, v := range vectors.LoadKind[raw](t, "kdf.json", "counter_kdf_raw") {
		prf := func(parts ...[]byte) ([]byte, error) { return primitive.CMAC(v.Key, parts...) }
		got, err := primitive.CounterKDF(prf, v.Before, v.After, len(v.Output))
		if err != nil || !bytes.Equal(got, v.Output) {
			t.Errorf("%s: got %x, %v, want %s", v.Name, got, err, v.Output)
		}
	}
}

func TestKCVVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name, Algorithm string
		Key, KCV        vectors.Hex
	}
	for _, v := range vectors.LoadKind[vector](t, "put_key.json", "kcv") {
		kcv := primitive.KCVDES
		if strings.HasPrefix(v.Algorithm, "aes") {
			kcv = primitive.KCVAES
		}
		got, err := kcv(v.Key)
		if err != nil || !bytes.Equal(got[:], v.KCV) {
			t.Errorf("%s: got %s, %v, want %s", v.Name, got, err, v.KCV)
		}
	}
}

func TestPadding(t *testing.T) {
	t.Parallel()
	for _, block := range []int{8, 16} {
		for n := range 70 {
			data := bytes.Repeat([]byte{0x80}, n)
			p := primitive.Pad80(data, block)
			if len(p)%block != 0 || len(p) <= n || len(p) > n+block {
				t.Fatalf("block=%d n=%d: padded to %d bytes", block, n, len(p))
			}
			got, err := primitive.Unpad80(append(p, make([]byte, 2*block)...))
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("block=%d n=%d: got %x, %v", block, n, got, err)
			}
		}
	}
	for _, bad := range [][]byte{nil, {0}, make([]byte, 16), {0x81}, {0x80, 1}} {
		if got, err := primitive.Unpad80(bad); err == nil {
			t.Errorf("Unpad80(%x) = %x", bad, got)
		}
	}
}

func TestBadKeysAreErrors(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 8, 15, 17, 33} {
		k := make([]byte, n)
		calls := map[string]func() error{
			"CMAC":      func() error { _, err := primitive.CMAC(k); return err },
			"FullMAC":   func() error { _, err := primitive.FullMAC(k, nil); return err },
			"RetailMAC": func() error { _, err := primitive.RetailMAC(k, nil); return err },
			"KCVDES":    func() error { _, err := primitive.KCVDES(k); return err },
			"KCVAES":    func() error { _, err := primitive.KCVAES(k); return err },
			"KDF03":     func() error { _, err := primitive.KDF03(k, 0, nil, 8); return err },
		}
		for name, call := range calls {
			if call() == nil {
				t.Errorf("%s accepts a key of %d bytes", name, n)
			}
		}
	}
	k := make([]byte, 16)
	if _, err := primitive.RetailMAC(k, make([]byte, 7)); err == nil {
		t.Error("RetailMAC accepts a chaining value of 7 bytes")
	}
	for _, n := range []int{-1, 0, 8192, 1 << 20} {
		if _, err := primitive.KDF03(k, 0, nil, n); err == nil {
			t.Errorf("KDF03 derives %d bytes", n)
		}
	}
}

func Example() {
	key := []byte("@ABCDEFGHIJKLMNO") // 40…4F
	des, _ := primitive.KCVDES(key)
	aes, _ := primitive.KCVAES(key)
	fmt.Println(des, aes)
	// Output: 8BAF47 504A77
}
