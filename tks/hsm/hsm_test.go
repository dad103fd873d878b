package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

func TestMasterID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id    hsm.MasterID
		label string
		tail  [3]byte
	}{
		{hsm.MasterID{Set: "corp", Version: 1, KDF: kdf.KDF3}, "tms:master:corp:v01", [3]byte{1, 0, 5}},
		{hsm.MasterID{Set: "site-2", Version: 0x7F, KDF: kdf.VISA2 | kdf.UseCUID}, "tms:master:site-2:v7f", [3]byte{0x7F, 0, 0x82}},
		{hsm.MasterID{Set: "corp", Version: 0x1A, Slot: kdf.DEK, KDF: kdf.None}, "tms:master:corp:v1a:dek", [3]byte{0x1A, 3, 1}},
	} {
		id := c.id.ID()
		if c.id.Label() != c.label || id[0] != 'M' || [3]byte(id[5:]) != c.tail {
			t.Errorf("%+v: %s % X", c.id, c.id.Label(), id)
		}
		if got, err := hsm.ParseMasterID(c.label, id[:]); err != nil || got != c.id {
			t.Errorf("%s: %+v, %v", c.label, got, err)
		}
		if !hsm.IsMasterLabel(c.label) {
			t.Errorf("%s is no label of a master key", c.label)
		}
	}
	if a, b := (hsm.MasterID{Set: "corp"}).ID(), (hsm.MasterID{Set: "site"}).ID(); bytes.Equal(a[:], b[:]) {
		t.Error("two sets have one identifier")
	}
}

func TestParseMasterIDRefuses(t *testing.T) {
	t.Parallel()
	good := hsm.MasterID{Set: "corp", Version: 1, KDF: kdf.KDF3}
	id := good.ID()
	change := func(at int, b byte) []byte {
		out := bytes.Clone(id[:])
		out[at] = b
		return out
	}
	for name, c := range map[string]struct {
		label string
		id    []byte
	}{
		"other role":       {good.Label(), change(0, 'S')},
		"other set":        {good.Label(), change(1, ^id[1])},
		"other version":    {good.Label(), change(5, 2)},
		"slot in ID only":  {good.Label(), change(6, 1)},
		"no slot":          {good.Label(), change(6, 9)},
		"no KDF":           {good.Label(), change(7, 0)},
		"short ID":         {good.Label(), id[:7]},
		"no ID":            {good.Label(), nil},
		"other label":      {"tms:ca:corp:v01", id[:]},
		"no version":       {"tms:master:corp", id[:]},
		"wrong version":    {"tms:master:corp:vxx", id[:]},
		"upper case":       {"tms:master:corp:V01", id[:]},
		"trailing":         {"tms:master:corp:v01:x", id[:]},
		"factory":          {"tms:master:factory:v01", id[:]},
		"empty name":       {"tms:master::v01", id[:]},
		"version 00":       {"tms:master:corp:v00", id[:]},
		"version over 7F":  {"tms:master:corp:v80", id[:]},
		"signed version":   {"tms:master:corp:v+1", id[:]},
		"label of nothing": {"", nil},
	} {
		if got, err := hsm.ParseMasterID(c.label, c.id); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzMasterIDRoundTrip: what parses prints as it was.
func FuzzMasterIDRoundTrip(f *testing.F) {
	for _, id := range []hsm.MasterID{{Set: "corp", Version: 1, KDF: kdf.KDF3}, {Set: "a", Version: 0x7F, Slot: kdf.MAC, KDF: kdf.VISA2}} {
		b := id.ID()
		f.Add(id.Label(), b[:])
	}
	f.Fuzz(func(t *testing.T, label string, id []byte) {
		m, err := hsm.ParseMasterID(label, id)
		if err != nil {
			return
		}
		if b := m.ID(); m.Label() != label || !bytes.Equal(b[:], id) {
			t.Errorf("%q % X became %q % X", label, id, m.Label(), b)
		}
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, kt := range hsm.KeyTypes() {
		text, err := kt.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back hsm.KeyType
		if err := back.UnmarshalText(text); err != nil || back != kt {
			t.Errorf("%s: %v, %v", text, back, err)
		}
		if of, err := hsm.KeyTypeOf(kt.Cipher(), kt.Size()); err != nil || of != kt {
			t.Errorf("%v of %d bytes: %v, %v", kt.Cipher(), kt.Size(), of, err)
		}
	}
	for _, s := range []string{"", "aes", "AES-128", "des"} {
		if kt, err := hsm.ParseKeyType(s); err == nil {
			t.Errorf("%q: %v", s, kt)
		}
	}
	if _, err := hsm.KeyType(0).MarshalText(); err == nil {
		t.Error("no type has a name")
	}
	if _, err := hsm.KeyTypeOf(kdf.AES, 17); err == nil {
		t.Error("an AES key of 17 bytes has a type")
	}
	for _, s := range []string{"A", "B", "C", "D"} {
		if l, err := hsm.ParseLevel(s); err != nil || l.String() != s {
			t.Errorf("%s: %v, %v", s, l, err)
		}
	}
	for _, s := range []string{"", "E", "a", "AB"} {
		if l, err := hsm.ParseLevel(s); err == nil {
			t.Errorf("%q: %v", s, l)
		}
	}
	for _, a := range hsm.Algorithms() {
		if got, err := hsm.ParseAlgorithm(string(a)); err != nil || got != a {
			t.Errorf("%s: %v, %v", a, got, err)
		}
	}
	if _, err := hsm.ParseAlgorithm("dsa"); err == nil {
		t.Error("dsa is an algorithm")
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	if !hsm.LevelA.Reaches(hsm.LevelB) || !hsm.LevelB.Reaches(hsm.LevelB) || hsm.LevelC.Reaches(hsm.LevelB) || hsm.Level(0).Reaches(hsm.LevelD) {
		t.Error("Reaches is wrong")
	}
}

func TestErrUnavailable(t *testing.T) {
	t.Parallel()
	if !errors.Is(hsm.ErrUnavailable, tks.ErrUnavailable) {
		t.Error("an HSM that is away is no unavailable key service")
	}
}

func TestMechanismError(t *testing.T) {
	t.Parallel()
	err := &hsm.MechanismError{
		Token: `"prod" (Luna)`, Operation: "wrap a 3DES card key",
		Candidates: []hsm.Candidate{{"CKM_DES3_ECB", 0x132, "CKR_MECHANISM_INVALID(0x70)"}, {"CKM_DES3_CBC", 0x133, "not in the mechanism list"}},
		Remedy:     "Use AES.",
	}
	for _, want := range []string{`"prod" (Luna)`, "wrap a 3DES card key", "CKM_DES3_ECB(0x132)", "CKR_MECHANISM_INVALID(0x70)", "CKM_DES3_CBC(0x133)", "Use AES."} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestCheckDigest(t *testing.T) {
	t.Parallel()
	for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		if err := hsm.CheckDigest(&ecdsa.PublicKey{}, make([]byte, h.Size()), h); err != nil {
			t.Error(err)
		}
		if err := hsm.CheckDigest(&ecdsa.PublicKey{}, make([]byte, h.Size()-1), h); err == nil {
			t.Errorf("%v of a byte less passed", h)
		}
	}
	for _, h := range []crypto.Hash{0, crypto.SHA1, crypto.MD5} {
		if err := hsm.CheckDigest(&ecdsa.PublicKey{}, make([]byte, 20), h); err == nil {
			t.Errorf("%v passed", h)
		}
	}
}

func TestPublicKeyID(t *testing.T) {
	t.Parallel()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := hsm.PublicKeyID(k.Public())
	if err != nil || len(id) != 20 {
		t.Errorf("% X, %v", id, err)
	}
	if _, err := hsm.PublicKeyID("no key"); err == nil {
		t.Error("a string has an identifier")
	}
}

// Example names a master key: the two attributes say what it is for.
func Example() {
	m := hsm.MasterID{Set: "corp", Version: 0x02, KDF: kdf.KDF3}
	fmt.Printf("%s %X\n", m.Label(), m.ID())
	// Output: tms:master:corp:v02 4D19F4C684020005
}
