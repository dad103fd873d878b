package kdf_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks/kdf"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
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
		{"emv of AES", kdf.EMV, kdf.ENC, aes, false},
		{"gpkmc of DES", kdf.GPKMC, kdf.ENC, des, false},
		{"SP 800-108 of DES", kdf.DogtagSP800, kdf.ENC, des, false},
		{"prot3 of AES", kdf.DogtagVISA2, kdf.ENC, aes, false},
		{"none of HMAC", kdf.None, kdf.ENC, kdf.Master{Cipher: kdf.HMAC, Size: 32}, false},
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
		{"HMAC of DES", kdf.Derivation{Method: kdf.HMACSHA256, Input: in, Cipher: kdf.DES, Length: 16}, kdf.DES, 16},
		{"HMAC of nothing", kdf.Derivation{Method: kdf.HMACSHA256, Cipher: kdf.DES, Length: 16}, kdf.HMAC, 16},
		{"skip past the end", kdf.Derivation{Method: kdf.HMACSHA256, Input: in, Skip: 17, Cipher: kdf.DES, Length: 16}, kdf.HMAC, 16},
		{"negative skip", kdf.Derivation{Method: kdf.HMACSHA256, Input: in, Skip: -1, Cipher: kdf.DES, Length: 16}, kdf.HMAC, 16},
		{"skip of blocks", kdf.Derivation{Method: kdf.CMAC, Input: make([]byte, 32), Skip: 16, Cipher: kdf.AES, Length: 16}, kdf.AES, 16},
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
		{"HMAC", kdf.Derivation{Method: kdf.HMACSHA256, Input: in, Cipher: kdf.AES, Length: 32}, kdf.HMAC, "C5E94FE7C73EA6A3D4D51ECFE42F5ECFF9696ABABBB454AE369A62184C8F7740"},
		{"CMAC", kdf.Derivation{Method: kdf.CMAC, Input: in, Cipher: kdf.AES, Length: 16}, kdf.AES, "F1854CA1D89ADD077F9CBB3A61091679"},
	} {
		got, err := c.d.Apply(c.from, k)
		if err != nil || fmt.Sprintf("%X", got) != c.want {
			t.Errorf("%s: %X, %v, want %s", c.name, got, err, c.want)
		}
	}
}

// TestParseCode: every code that can be had is read back from its name.
func TestParseCode(t *testing.T) {
	t.Parallel()
	for _, c := range kdf.Codes() {
		got, err := kdf.ParseCode(c.String())
		if err != nil || got != c {
			t.Errorf("%v: %v, %v", c, got, err)
		}
		got, err = kdf.ParseCode((c | kdf.UseCUID).String())
		if (err == nil) != (c != kdf.None) || err == nil && got != c|kdf.UseCUID {
			t.Errorf("%v+cuid: %v, %v", c, got, err)
		}
	}
	for _, bad := range []string{"", "-", "piv+cuid", "KDF3", "+cuid", "kdf3+cuid+cuid", "kdf-55"} {
		if c, err := kdf.ParseCode(bad); err == nil {
			t.Errorf("%q is read as %v", bad, c)
		}
	}
	if !kdf.GPKMC.ByCUID() || kdf.EMV.ByCUID() || !(kdf.EMV | kdf.UseCUID).ByCUID() {
		t.Error("ByCUID is wrong")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]fmt.Stringer{
		"kdf3": kdf.KDF3, "visa2+cuid": kdf.VISA2 | kdf.UseCUID, "kdf-55": kdf.Code(0x55), "none": kdf.None,
		"HMAC": kdf.HMAC, "HMAC-SHA-256": kdf.HMACSHA256, "DES": kdf.DES, "AES": kdf.AES, "enc": kdf.ENC, "mac": kdf.MAC, "dek": kdf.DEK,
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
