package kdf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/tks/kdf"
)

// vector is a vector of any diversification; which fields it has depends on Kind.
type vector struct {
	Name, Kind, Scheme string
	Master             string            `json:"master_key"`
	KDD                string            `json:"kdd"`
	CUID               string            `json:"cuid"`
	Context            string            `json:"context"`
	Data               map[string]string `json:"derivation_data"`
	Blocks             map[string]string `json:"blocks_first_iteration"`
	CMACInput          map[string]string `json:"cmac_input_first_iteration"`
	HMACInput          []string          `json:"hmac_input"`
	Keys               map[string]string `json:"keys"`
	AESKeys            map[string]string `json:"aes_keys"`
	Parity             map[string]string `json:"keys_odd_parity"`
	KCV                map[string]string `json:"kcv"`
	AESKCV             map[string]string `json:"kcv_aes"`
}

// scheme is what a vector is for: the code, and the cipher of its master key.
func (v vector) scheme() (code kdf.Code, master kdf.Cipher) {
	switch v.Kind {
	case "des_diversification":
		return map[string]kdf.Code{"visa2": kdf.VISA2, "emv": kdf.EMV, "visa": kdf.VISA}[v.Scheme], kdf.DES
	case "kdf3":
		return kdf.KDF3, kdf.AES
	case "gpkmc":
		return kdf.GPKMC, kdf.AES
	case "dogtag_nist_kdf":
		return kdf.DogtagSP800, kdf.HMAC
	case "dogtag_prot3_des3":
		if strings.HasSuffix(v.Name, "=visa2") {
			return kdf.DogtagVISA2, kdf.DES
		}
		return kdf.DogtagEMV, kdf.DES
	}
	return 0, 0
}

// block is the first derivation block that the vector wants for a slot.
func (v vector) block(slot kdf.Slot) string {
	if v.HMACInput != nil {
		return v.HMACInput[(slot-1)/2]
	}
	return v.Data[slot.String()] + v.Blocks[slot.String()] + v.CMACInput[slot.String()]
}

// keys are the card keys as this package gives them, and their check values.
func (v vector) keys() (keys, kcvs map[string]string) {
	switch {
	case v.AESKeys != nil:
		return v.AESKeys, v.AESKCV
	case v.Parity != nil:
		return v.Parity, v.KCV
	}
	return v.Keys, v.KCV
}

func (v vector) identity(t testing.TB) (kdf.Identity, kdf.Code) {
	switch {
	case v.CUID != "":
		return kdf.Identity{CUID: apdu.CUID(unhex(t, v.CUID))}, 0
	case v.Kind == "dogtag_nist_kdf" && strings.Contains(v.Name, "CUID"):
		return kdf.Identity{CUID: apdu.CUID(unhex(t, v.Context))}, kdf.UseCUID
	case v.Kind == "dogtag_nist_kdf":
		return kdf.Identity{KDD: gp.KDD(unhex(t, v.Context))}, 0
	}
	return kdf.Identity{KDD: gp.KDD(unhex(t, v.KDD))}, 0
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
		var head struct{ Kind string }
		if err := json.Unmarshal(r, &head); err != nil {
			t.Fatal(err)
		}
		if _, cipher := (vector{Kind: head.Kind}).scheme(); cipher == 0 {
			continue // of another kind
		}
		var v vector
		if err := json.Unmarshal(r, &v); err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

// TestVectors: every published diversification: blocks, keys and check values.
func TestVectors(t *testing.T) {
	t.Parallel()
	done := map[kdf.Code]int{}
	for _, v := range loadVectors(t) {
		code, cipher := v.scheme()
		done[code]++
		t.Run("vector="+v.Name, func(t *testing.T) { checkVector(t, v, code, cipher) })
	}
	for code, want := range map[kdf.Code]int{
		kdf.VISA2: 4, kdf.EMV: 3, kdf.VISA: 1, kdf.KDF3: 4, kdf.GPKMC: 2, kdf.DogtagSP800: 3, kdf.DogtagEMV: 1, kdf.DogtagVISA2: 1,
	} {
		if done[code] < want {
			t.Errorf("%v: %d vectors run, want %d", code, done[code], want)
		}
	}
}

func checkVector(t *testing.T, v vector, code kdf.Code, cipher kdf.Cipher) {
	master := unhex(t, v.Master)
	before := bytes.Clone(master)
	id, bit := v.identity(t)
	keys, kcvs := v.keys()
	for _, slot := range kdf.Slots() {
		d, err := kdf.Card(code|bit, slot, id, kdf.Master{Cipher: cipher, Size: len(master)})
		if err != nil {
			t.Fatal(err)
		}
		want := v.block(slot)
		if got := fmt.Sprintf("%X", d.Input[:len(want)/2]); want == "" || got != want {
			t.Errorf("%v: block %s, want %s", slot, got, want)
		}
		key, err := d.Apply(cipher, master)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%X", key); got != keys[slot.String()] {
			t.Errorf("%v: key %s, want %s", slot, got, keys[slot.String()])
		}
		kcv, err := kdf.KCV(d.Cipher, key)
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

// TestHMACKeyPadding: a master behind zeros to 32 bytes, as tokens hold it, gives
// the same keys.
func TestHMACKeyPadding(t *testing.T) {
	t.Parallel()
	for _, v := range loadVectors(t) {
		code, cipher := v.scheme()
		if code != kdf.DogtagSP800 {
			continue
		}
		master := append(unhex(t, v.Master), make([]byte, 16)...)[:32]
		id, bit := v.identity(t)
		d, err := kdf.Card(code|bit, kdf.MAC, id, kdf.Master{Cipher: cipher, Size: 32})
		if err != nil {
			t.Fatal(err)
		}
		key, err := d.Apply(cipher, master)
		if err != nil || fmt.Sprintf("%X", key) != v.Parity["mac"] {
			t.Errorf("%s: %X, %v, want %s", v.Name, key, err, v.Parity["mac"])
		}
	}
}
