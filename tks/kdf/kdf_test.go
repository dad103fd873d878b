package kdf_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks/kdf"
)

type vector struct {
	Name, Kind, Scheme string
	Master             string                     `json:"master_key"`
	KDD                string                     `json:"kdd"`
	Data               map[string]string          `json:"derivation_data"`
	Blocks             map[string]string          `json:"blocks_first_iteration"`
	RawKeys            map[string]json.RawMessage `json:"keys"`
	Parity             map[string]string          `json:"keys_odd_parity"`
	RawKCV             json.RawMessage            `json:"kcv"`
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("../../fixtures/vectors/kdf.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Vectors []json.RawMessage }
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	var out []vector
	for _, r := range f.Vectors {
		var v vector
		if json.Unmarshal(r, &v) == nil && (v.Kind == "kdf3" || v.Kind == "des_diversification") {
			out = append(out, v)
		}
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors: the published VISA2 and KDF3 vectors, blocks, keys and check values.
func TestVectors(t *testing.T) {
	t.Parallel()
	done := map[kdf.Code]int{}
	for _, v := range loadVectors(t) {
		code, cipher := kdf.KDF3, kdf.AES
		if v.Kind == "des_diversification" {
			code, cipher = kdf.VISA2, kdf.DES
			if v.Scheme != "visa2" {
				continue
			}
		}
		done[code]++
		t.Run("vector="+v.Name, func(t *testing.T) { checkVector(t, v, code, cipher) })
	}
	if done[kdf.VISA2] < 4 || done[kdf.KDF3] < 4 {
		t.Fatalf("vectors run: %v", done)
	}
}

func checkVector(t *testing.T, v vector, code kdf.Code, cipher kdf.Cipher) {
	master := unhex(t, v.Master)
	before := bytes.Clone(master)
	var kcvs map[string]string
	if err := json.Unmarshal(v.RawKCV, &kcvs); err != nil {
		t.Fatal(err)
	}
	for _, slot := range kdf.Slots() {
		id := kdf.Identity{KDD: gp.KDD(unhex(t, v.KDD))}
		d, err := kdf.Card(code, slot, id, kdf.Master{Cipher: cipher, Size: len(master)})
		if err != nil {
			t.Fatal(err)
		}
		block := v.Data[slot.String()] + v.Blocks[slot.String()]
		if got := fmt.Sprintf("%X", d.Input[:16]); got != block {
			t.Errorf("%v: block %s, want %s", slot, got, block)
		}
		key, err := d.Apply(cipher, master)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Trim(string(v.RawKeys[slot.String()]), `"`)
		if cipher == kdf.DES {
			want = v.Parity[slot.String()]
		}
		if got := fmt.Sprintf("%X", key); got != want {
			t.Errorf("%v: key %s, want %s", slot, got, want)
		}
		kcv, err := kdf.KCV(cipher, key)
		if err != nil {
			t.Fatal(err)
		}
		if kcv.String() != kcvs[slot.String()] {
			t.Errorf("%v: KCV %v, want %s", slot, kcv, kcvs[slot.String()])
		}
	}
	if !bytes.Equal(master, before) {
		t.Error("the master key was altered")
	}
}

func TestCardRefuses(t *testing.T) {
	t.Parallel()
	des, aes := kdf.Master{Cipher: kdf.DES, Size: 16}, kdf.Master{Cipher: kdf.AES, Size: 16}
	for _, c := range []struct {
		name        string
		code        kdf.Code
		slot        kdf.Slot
		master      kdf.Master
		unsupported bool
	}{
		{"visa2 of AES", kdf.VISA2, kdf.ENC, aes, false},
		{"kdf3 of DES", kdf.KDF3, kdf.ENC, des, false},
		{"slot 0", kdf.KDF3, 0, aes, false},
		{"slot 4", kdf.KDF3, 4, aes, false},
		{"emv", kdf.EMV, kdf.ENC, des, true},
		{"piv", kdf.PIV, kdf.ENC, aes, true},
		{"unknown", 0x55, kdf.ENC, aes, true},
		{"no code", kdf.NotKeyed, kdf.ENC, aes, true},
	} {
		_, err := kdf.Card(c.code, c.slot, kdf.Identity{}, c.master)
		if err == nil || errors.Is(err, apdu.ErrUnsupported) != c.unsupported {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestCUID: with the CUID bit the CUID takes the KDD's place, and only then.
func TestCUID(t *testing.T) {
	t.Parallel()
	id := kdf.Identity{KDD: gp.KDD{1, 2, 3}, CUID: apdu.CUID{9, 8, 7}}
	m := kdf.Master{Cipher: kdf.AES, Size: 16}
	plain, err := kdf.Card(kdf.KDF3, kdf.ENC, id, m)
	if err != nil {
		t.Fatal(err)
	}
	cuid, err := kdf.Card(kdf.KDF3|kdf.UseCUID, kdf.ENC, id, m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain.Input[6:16], id.KDD[:]) || !bytes.Equal(cuid.Input[6:16], id.CUID[:]) {
		t.Errorf("blocks % X and % X", plain.Input, cuid.Input)
	}
}

func TestNoneIsTheMaster(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0x42}, 16)
	for _, cipher := range []kdf.Cipher{kdf.DES, kdf.AES} {
		d, err := kdf.Card(kdf.None, kdf.DEK, kdf.Identity{}, kdf.Master{Cipher: cipher, Size: len(key)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Apply(cipher, key)
		if err != nil || !bytes.Equal(got, key) {
			t.Errorf("%v: % X, %v", cipher, got, err)
		}
		got[0] = 0
		if key[0] != 0x42 {
			t.Error("the copy aliases the master key")
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	in := make([]byte, 16)
	for _, c := range []struct {
		name string
		d    kdf.Derivation
		from kdf.Cipher
		key  int
	}{
		{"CMAC of DES", kdf.Derivation{Method: kdf.CMAC, Input: in, Cipher: kdf.AES, Length: 16}, kdf.DES, 16},
		{"too long", kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.AES, Length: 17}, kdf.AES, 16},
		{"no length", kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.AES}, kdf.AES, 16},
		{"no method", kdf.Derivation{Input: in, Cipher: kdf.AES, Length: 16}, kdf.AES, 16},
		{"half a block", kdf.Derivation{Method: kdf.CBC, Input: in[:9], Cipher: kdf.DES, Length: 8}, kdf.DES, 16},
		{"no input", kdf.Derivation{Method: kdf.CMAC, Cipher: kdf.AES, Length: 16}, kdf.AES, 16},
		{"key length", kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.AES, Length: 16}, kdf.AES, 17},
		{"cipher", kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.AES, Length: 16}, 9, 16},
	} {
		if key, err := c.d.Apply(c.from, make([]byte, c.key)); err == nil {
			t.Errorf("%s: got % X", c.name, key)
		}
	}
}

// TestKnownAnswers are the derivation rows of the HSM reference vectors.
func TestKnownAnswers(t *testing.T) {
	t.Parallel()
	k := unhex(t, "404142434445464748494A4B4C4D4E4F")
	in := unhex(t, "0A0B4747464700F0010A0B4747F00F01")
	for _, c := range []struct {
		name string
		d    kdf.Derivation
		from kdf.Cipher
		want string
	}{
		{"ECB into DES2", kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.DES, Length: 16}, kdf.DES, "A857D3DCF251549886B9A2BF513792C1"},
		{"CBC into DES2", kdf.Derivation{Method: kdf.CBC, Input: in, Cipher: kdf.DES, Length: 16}, kdf.DES, "A857D3DCF2515498C80DB5B6B38620AE"},
		{"ECB of AES", kdf.Derivation{Method: kdf.ECB, Input: in, Cipher: kdf.AES, Length: 16}, kdf.AES, "ABF448A09EA74C88FD68BF3EE88DC327"},
		{"CMAC", kdf.Derivation{Method: kdf.CMAC, Input: in, Cipher: kdf.AES, Length: 16}, kdf.AES, "F1854CA1D89ADD077F9CBB3A61091679"},
	} {
		got, err := c.d.Apply(c.from, k)
		if err != nil || fmt.Sprintf("%X", got) != c.want {
			t.Errorf("%s: %X, %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]fmt.Stringer{
		"kdf3": kdf.KDF3, "visa2+cuid": kdf.VISA2 | kdf.UseCUID, "kdf-55": kdf.Code(0x55), "none": kdf.None,
		"DES": kdf.DES, "AES": kdf.AES, "enc": kdf.ENC, "mac": kdf.MAC, "dek": kdf.DEK,
		"CMAC": kdf.CMAC, "ECB": kdf.ECB, "CBC": kdf.CBC, "same key": kdf.Same,
		"cipher(9)": kdf.Cipher(9), "slot(9)": kdf.Slot(9), "method(9)": kdf.Method(9),
	} {
		if got.String() != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if kdf.None.Diversified() || !kdf.KDF3.Diversified() || (kdf.None | kdf.UseCUID).Diversified() {
		t.Error("Diversified is wrong")
	}
	if kdf.Default(kdf.DES) != kdf.VISA2 || kdf.Default(kdf.AES) != kdf.KDF3 {
		t.Error("Default is wrong")
	}
}

// Example derives the encryption key of one card from an AES master key.
func Example() {
	master := []byte("0123456789abcdef") // in real life inside an HSM
	kdd, _ := gp.ParseKDD("00010203040506070809")
	d, err := kdf.Card(kdf.KDF3, kdf.ENC, kdf.Identity{KDD: kdd}, kdf.Master{Cipher: kdf.AES, Size: len(master)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v over %X, %d bytes\n", d.Method, d.Input[:16], d.Length)
	// Output: CMAC over 01000000010000010203040506070809, 16 bytes
}
