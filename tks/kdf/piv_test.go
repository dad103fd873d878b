package kdf_test

import (
	"fmt"
	"testing"

	"inkan/apdu"
	"inkan/tks/kdf"
)

// TestPIVSecrets is the vector of secure-channel.md §9.5.
func TestPIVSecrets(t *testing.T) {
	t.Parallel()
	master := unhex(t, "404142434445464748494A4B4C4D4E4F")
	cuid := apdu.CUID(unhex(t, "FFFF594B000000BC614E"))
	for alg, want := range map[byte]string{
		0x03: "E3CB670D1C0857677CE679DF899BBF91C1916BF4B697B9D9",
		0x08: "38C3DF29F5C06A590DFBF346FEA8E38F",
		0x0A: "B7EEDF356C6321C805EE567432AC29F72DA76DF4B7225A7C",
		0x0C: "8B06541857EE825638F6B664073917AEEB3D91F8653C20136274DD40E669941F",
	} {
		d, err := kdf.PIVManagementKey(alg, cuid)
		if err != nil {
			t.Fatal(err)
		}
		key, err := d.Apply(kdf.AES, master)
		if err == nil {
			err = kdf.FinishManagementKey(alg, key)
		}
		if err != nil || fmt.Sprintf("%X", key) != want {
			t.Errorf("management key %02X: %X, %v, want %s", alg, key, err, want)
		}
	}
	raw, err := kdf.PIVPUK(cuid).Apply(kdf.AES, master)
	if err != nil || fmt.Sprintf("%X", raw) != "DCEFBDA85FDD08531B310903046C2CE3" {
		t.Errorf("PUK out of %X, %v", raw, err)
	}
	if got := string(kdf.PUKDigits(raw)); got != "01508579" {
		t.Errorf("PUK %s", got)
	}
	if _, err := kdf.PIVManagementKey(0x11, cuid); err == nil {
		t.Error("a management key for P-256")
	}
}

func TestWeakManagementKey(t *testing.T) {
	t.Parallel()
	const good = "0123456789ABCDEF"
	for _, key := range []string{
		"0000000000000000" + good + "FEDCBA9876543210", good + good + "FEDCBA9876543210",
		good + "FEDCBA9876543210" + good, good + "FEDCBA9876543210" + "E01FE01FF10EF10E",
	} {
		if kdf.FinishManagementKey(0x03, unhex(t, key)) == nil {
			t.Errorf("%s is taken", key)
		}
	}
	if err := kdf.FinishManagementKey(0x08, make([]byte, 16)); err != nil {
		t.Error(err)
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code kdf.Code
		of   kdf.Cipher
		ok   bool
	}{
		{kdf.PIV, kdf.AES, true}, {kdf.PIV, kdf.DES, false}, {kdf.PIV | kdf.UseCUID, kdf.AES, false}, {kdf.KDF3, kdf.AES, true}, {kdf.VISA2, kdf.AES, false},
	} {
		if _, err := kdf.Sample(c.code, kdf.Master{Cipher: c.of, Size: 16}); (err == nil) != c.ok {
			t.Errorf("%v of %v: %v", c.code, c.of, err)
		}
	}
}
