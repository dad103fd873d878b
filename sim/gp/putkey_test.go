package gp_test

import (
	"errors"
	"fmt"
	"testing"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/keyset"
	"inkan/securechannel/scp03"
	"inkan/sim/gp"
)

// keySetOf makes a set of three equal keys.
func keySetOf(version agp.KeyVersion, k []byte) gp.KeySet {
	return gp.KeySet{Version: version, Type: gp.AES, ENC: k, MAC: k, DEK: k}
}

// cardWith is an authenticated SCP03 card with key sets; the first opened it.
func cardWith(t testing.TB, sets ...gp.KeySet) *gp.Manager {
	t.Helper()
	p := profile(t, securechannel.SCP03, 0x70)
	p.Keys = sets
	m := newManager(t, p, gp.Config{})
	openWith(t, m, sets[0].ENC, 0)
	return m
}

// payload is PUT KEY data for three new keys under a static DEK.
func payload(t testing.TB, version agp.KeyVersion, dek, k []byte) []byte {
	t.Helper()
	s := func() secret.Secret { return secret.New(append([]byte(nil), k...)) }
	b, _, err := keyset.Build(version, keyset.Set{Type: keyset.AES, ENC: s(), MAC: s(), DEK: s()},
		func(plain []byte) ([]byte, error) { return scp03.EncryptDEK(dek, plain) })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func putKey(m *gp.Manager, p1 agp.KeyVersion, data []byte) apdu.Response {
	return m.Do(apdu.Command{CLA: 0x80, INS: 0xD8, P1: byte(p1), P2: 0x81, Data: data, Ne: 256})
}

func TestPutKeyRules(t *testing.T) {
	long := unhex(t, testKey+"505152535455565758595A5B5C5D5E5F")
	old, k := long[:16], long[16:]
	for _, c := range []struct {
		name        string
		there       []agp.KeyVersion
		p1, version agp.KeyVersion
		key         []byte
		want        apdu.StatusWord
		left        string
	}{
		{"add", []agp.KeyVersion{1}, 0, 2, k, 0x9000, "[01 02]"},
		{"add what is there", []agp.KeyVersion{1}, 0, 1, k, 0x6A80, "[01]"},
		{"add another length", []agp.KeyVersion{1}, 0, 2, long, 0x9000, "[01 02]"},
		{"first real set", []agp.KeyVersion{0xFF}, 0, 2, k, 0x9000, "[02]"},
		{"first real set of another length", []agp.KeyVersion{0xFF}, 0, 2, long, 0x9000, "[02]"},
		{"first real set, P1 FF", []agp.KeyVersion{0xFF}, 0xFF, 2, k, 0x9000, "[02]"},
		{"first real set, P1 is the new version", []agp.KeyVersion{0xFF}, 1, 1, k, 0x9000, "[01]"},
		{"replace", []agp.KeyVersion{1, 2}, 1, 1, k, 0x9000, "[01 02]"},
		{"replace by another length", []agp.KeyVersion{1}, 1, 1, long, 0x6A80, "[01]"},
		{"renumber", []agp.KeyVersion{1, 3}, 1, 2, k, 0x9000, "[02 03]"},
		{"renumber to what is there", []agp.KeyVersion{1, 2}, 1, 2, k, 0x6A80, "[01 02]"},
		{"renumber by another length", []agp.KeyVersion{1}, 1, 2, long, 0x6A80, "[01]"},
		{"replace what is not there", []agp.KeyVersion{1}, 5, 6, k, 0x6A88, "[01]"},
		{"replace itself where it is not", []agp.KeyVersion{1}, 5, 5, k, 0x6A88, "[01]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sets []gp.KeySet
			for _, v := range c.there {
				sets = append(sets, keySetOf(v, old))
			}
			m := cardWith(t, sets...)
			m.Changed()
			r := putKey(m, c.p1, payload(t, c.version, old, c.key))
			if r.SW != c.want {
				t.Fatalf("%04X, want %04X", uint16(r.SW), uint16(c.want))
			}
			if m.Changed() != (c.want == apdu.SWSuccess) {
				t.Error("state changed without success, or the other way round")
			}
			infos, err := agp.ReadKeyInfo(t.Context(), doer{m})
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(agp.KeyVersions(infos)); got != c.left {
				t.Errorf("key versions %s, want %s", got, c.left)
			}
			if c.want != apdu.SWSuccess {
				return
			}
			if len(r.Data) != 10 || r.Data[0] != byte(c.version) {
				t.Errorf("answer %X", r.Data)
			}
			m = reborn(t, m, gp.Config{})
			req := securechannel.Request{KeyVersion: c.version, HostChallenge: []byte("hostchal"), Level: 0x01}
			s, err := securechannel.Open(t.Context(), doer{m}, req, keySource(c.key))
			if err != nil {
				t.Fatalf("new keys: %v", err)
			}
			if n := s.Info().Counter; n[2] != 1 {
				t.Errorf("counter of new keys %X", n)
			}
		})
	}
}

func TestPutKeyRefusals(t *testing.T) {
	k := unhex(t, testKey)
	good := payload(t, 2, k, k)
	wrongKCV := append([]byte(nil), good...)
	wrongKCV[len(wrongKCV)-1] ^= 1
	for name, c := range map[string]struct {
		data []byte
		p2   byte
		want apdu.StatusWord
	}{
		"wrong KCV":          {wrongKCV, 0x81, 0x9485},
		"cut":                {good[:len(good)-1], 0x81, 0x6A80},
		"empty":              {nil, 0x81, 0x6A80},
		"version only":       {good[:1], 0x81, 0x6A80},
		"version 00":         {append([]byte{0}, good[1:]...), 0x81, 0x6A80},
		"version 80":         {append([]byte{0x80}, good[1:]...), 0x81, 0x6A80},
		"several, not told":  {good, 0x01, 0x6A80},
		"key id too large":   {good, 0xFE, 0x6A80},
		"keys nobody uses":   {unhex(t, "02 8010"+testKey+"00 8010"+testKey+"00 8010"+testKey+"00"), 0x81, 0x9484},
		"unknown type":       {unhex(t, "02 9010"+testKey+"00"), 0x81, 0x6A80},
		"odd length of DES3": {unhex(t, "02 8018"+testKey+testKey[:16]+"00"), 0x01, 0x6A80},
	} {
		t.Run(name, func(t *testing.T) {
			m := cardWith(t, keySetOf(1, k))
			m.Changed()
			r := m.Do(apdu.Command{CLA: 0x80, INS: 0xD8, P2: c.p2, Data: c.data, Ne: 256})
			if r.SW != c.want {
				t.Errorf("%04X, want %04X", uint16(r.SW), uint16(c.want))
			}
			if m.Changed() {
				t.Error("state changed")
			}
		})
	}
}

// TestPutKeyPublic stores a token verification key beside the set FF, which stays.
func TestPutKeyPublic(t *testing.T) {
	m := cardWith(t, keySetOf(0xFF, unhex(t, testKey)))
	runSteps(t, m, []step{
		{"80D80001#70 A10B 0102030405060708090A0B A003010001 00", "70", 0x9000},
		{"80D80001#73 B003 040102 F00100 00", "73", 0x9000},
		{"80CA00E000", "E022 C00401FF8810 C00402FF8810 C00403FF8810 C0060170A10BA003 C0060173B003F001", 0x9000},
		{"80E40000#D20170", "00", 0x9000},
		{"80E40000#D00101 D20173", "00", 0x9000},
		{"80CA00E000", "E012 C00401FF8810 C00402FF8810 C00403FF8810", 0x9000},
	})
}

// TestDeleteOldSet is a change from one length to another: add, authenticate,
// delete.
func TestDeleteOldSet(t *testing.T) {
	long := unhex(t, testKey+testKey)
	m := cardWith(t, keySetOf(1, long[:16]))
	if r := putKey(m, 0, payload(t, 2, long[:16], long)); r.SW != apdu.SWSuccess {
		t.Fatal(r.SW)
	}
	runSteps(t, m, []step{{"80E40000#D20101", "", 0x6985}})
	req := securechannel.Request{KeyVersion: 2, HostChallenge: []byte("hostchal")}
	if _, err := securechannel.Open(t.Context(), doer{m}, req, keySource(long)); err != nil {
		t.Fatal(err)
	}
	runSteps(t, m, []step{{"80E40000#D20101", "00", 0x9000}, {"80E40000#D20102", "", 0x6985}})
	req.KeyVersion = 1
	if _, err := securechannel.Open(t.Context(), doer{m}, req, keySource(long[:16])); !errors.Is(err, apdu.SWReferencedNotFound) {
		t.Errorf("deleted keys: %v", err)
	}
}
