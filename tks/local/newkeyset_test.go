package local_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
	"inkan/tks/local"
	"inkan/tks/tkstest"
)

// imported is a key as custodians agree on it.
func imported(t testing.TB, kt hsm.KeyType, slot kdf.Slot, value secret.Secret) local.Imported {
	t.Helper()
	kcv, err := kdf.KCV(kt.Cipher(), value.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return local.Imported{Slot: slot, Value: value, KCV: kcv}
}

// TestImportEveryDiversification: under each diversification a card gets the keys
// that memory derives from the imported master, and proves itself with them.
func TestImportEveryDiversification(t *testing.T) {
	t.Parallel()
	importEveryDiversification(t, newService(t, local.Config{}))
}

func importEveryDiversification(t *testing.T, s *local.Service) {
	for v, kt := range map[gp.KeyVersion]hsm.KeyType{2: hsm.DES3, 3: hsm.AES128} { // where cards are keyed first
		if _, err := s.CreateKeySet(t.Context(), "first", v, kt); err != nil {
			t.Fatal(err)
		}
	}
	for n, c := range []struct {
		code kdf.Code
		kt   hsm.KeyType
		scp  securechannel.Protocol
	}{
		{kdf.VISA2, hsm.DES2, securechannel.SCP02}, {kdf.VISA2 | kdf.UseCUID, hsm.DES3, securechannel.SCP02},
		{kdf.EMV, hsm.DES3, securechannel.SCP02}, {kdf.VISA, hsm.DES2, securechannel.SCP02},
		{kdf.DogtagSP800, hsm.DES3, securechannel.SCP02}, {kdf.DogtagSP800 | kdf.UseCUID, hsm.DES2, securechannel.SCP02},
		{kdf.KDF3, hsm.AES256, securechannel.SCP03}, {kdf.GPKMC, hsm.AES128, securechannel.SCP03}, {kdf.GPKMC, hsm.AES192, securechannel.SCP03},
		{kdf.DogtagEMV, hsm.DES3, securechannel.SCP03}, {kdf.DogtagVISA2, hsm.DES3, securechannel.SCP03},
	} {
		t.Run("kdf="+c.code.String()+",type="+c.kt.String(), func(t *testing.T) {
			value := secret.Random(c.kt.Size())
			if c.kt.Cipher() == kdf.DES {
				kdf.OddParity(value.Bytes()) // as a token keeps it
			}
			k := local.NewKeySet{Name: "maker", Version: gp.KeyVersion(n + 1), Type: c.kt, KDF: c.code}
			got, err := s.Import(t.Context(), k, imported(t, c.kt, 0, value))
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Origin != hsm.Imported || got[0].KDF != c.code.String() {
				t.Errorf("imported %+v", got)
			}
			if err := s.TestKeySet(t.Context(), "maker", k.Version); err != nil {
				t.Error(err)
			}
			checkKeyed(t, s, k, value, c.scp)
		})
	}
}

// checkKeyed gives a new card the keys of a set.
func checkKeyed(t *testing.T, s *local.Service, k local.NewKeySet, value secret.Secret, p securechannel.Protocol) {
	t.Helper()
	card, first := tkstest.NewCard(p, 0x15), gp.KeyVersion(2)
	if p == securechannel.SCP03 {
		card, first = tkstest.NewCard(p, 0x70), 3
	}
	card.Changeover(t, s, "first", first)
	reply, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: card.Proof(t), NewKeySet: k.Name, NewKeyVersion: k.Version})
	if err != nil {
		t.Fatal(err)
	}
	base := k.Type.Cipher()
	if k.KDF&^kdf.UseCUID == kdf.DogtagSP800 {
		base = kdf.HMAC
	}
	for i, slot := range kdf.Slots() {
		d, err := kdf.Card(k.KDF, slot, kdf.Identity{KDD: card.KDD, CUID: card.CUID}, kdf.Master{Cipher: base, Size: k.Type.Size()})
		if err != nil {
			t.Fatal(err)
		}
		key, err := d.Apply(base, value.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := kdf.KCV(d.Cipher, key); reply.KCVs[i] != want {
			t.Errorf("%v: KCV %v, want %v", slot, reply.KCVs[i], want)
		}
	}
	card.Changeover(t, s, k.Name, k.Version)
	card.Check(t, s)
}

// TestImportThreeKeys: a maker's three keys, the same for all cards: cards that have
// them are served, none is given them, and they say nothing about which card it is.
func TestImportThreeKeys(t *testing.T) {
	t.Parallel()
	importThreeKeys(t, newService(t, local.Config{}))
}

func importThreeKeys(t *testing.T, s *local.Service) {
	k := local.NewKeySet{Name: "maker", Version: 0x20, Type: hsm.DES2, KDF: kdf.None}
	var keys []local.Imported
	for _, slot := range kdf.Slots() {
		keys = append(keys, imported(t, hsm.DES2, slot, secret.Random(16)))
	}
	got, err := s.Import(t.Context(), k, keys...)
	if err != nil || len(got) != 3 || got[0].Slot != "enc" || got[2].Slot != "dek" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.TestKeySet(t.Context(), "maker", 0x20); err != nil {
		t.Error(err)
	}
	c := tkstest.NewCard(securechannel.SCP02, 0x15)
	_, err = s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: c.Proof(t), NewKeySet: "maker", NewKeyVersion: 0x20})
	if !errors.Is(err, tks.ErrDenied) {
		t.Errorf("wrapping keys that all cards have: %v, want ErrDenied", err)
	}
	if _, err := s.Import(t.Context(), k, keys...); !errors.Is(err, hsm.ErrExists) {
		t.Errorf("again: %v, want ErrExists", err)
	}
	k = local.NewKeySet{Name: "maker", Version: 0x21, Type: hsm.AES128, KDF: kdf.None}
	if _, err := s.Import(t.Context(), k, imported(t, k.Type, 0, secret.Random(16))); err != nil {
		t.Fatal(err)
	}
	if err := s.TestKeySet(t.Context(), "maker", 0x21); err != nil {
		t.Error(err)
	}
}

// TestKeyedOnceFromSharedKeys: a card of a batch with shared keys gets keys of its
// own once; who claims its KDD later gets nothing until an agent releases it.
func TestKeyedOnceFromSharedKeys(t *testing.T) {
	t.Parallel()
	s := newService(t, local.Config{})
	batch := secret.Random(16)
	if _, err := s.Import(t.Context(), local.NewKeySet{Name: "batch", Version: 1, Type: hsm.AES128, KDF: kdf.None}, imported(t, hsm.AES128, 0, batch)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateKeySet(t.Context(), "site", 2, hsm.AES128); err != nil {
		t.Fatal(err)
	}
	card := tkstest.NewCardWith(securechannel.SCP03, 0x70, "batch", 1, batch)
	thief := tkstest.NewCardWith(securechannel.SCP03, 0x70, "batch", 1, batch)
	thief.KDD, thief.CUID = card.KDD, card.CUID
	card.Check(t, s)
	card.Changeover(t, s, "site", 2)
	card.Check(t, s)
	_, err := s.WrapKeySet(t.Context(), tks.KeySetRequest{CardProof: thief.Proof(t), NewKeySet: "site", NewKeyVersion: 2})
	if !errors.Is(err, tks.ErrDenied) {
		t.Errorf("keyed again: %v, want ErrDenied", err)
	}
	if err := s.Release(t.Context(), card.KDD, "agent"); err != nil {
		t.Fatal(err)
	}
	thief.Changeover(t, s, "site", 2)
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	var events []local.Event
	s := newService(t, local.Config{Audit: func(_ context.Context, e local.Event) error {
		events = append(events, e)
		return nil
	}})
	good := func(slot kdf.Slot) local.Imported { return imported(t, hsm.AES128, slot, secret.Random(16)) }
	wrong := good(0)
	wrong.KCV[0] ^= 1
	known := secret.New([]byte("@ABCDEFGHIJKLMNO"))
	parity := known.Clone()
	kdf.OddParity(parity.Bytes())
	at := func(kt hsm.KeyType, c kdf.Code) local.NewKeySet {
		return local.NewKeySet{Name: "maker", Version: 1, Type: kt, KDF: c}
	}
	tests := []struct {
		name string
		k    local.NewKeySet
		keys []local.Imported
	}{
		{"no key", at(hsm.AES128, kdf.KDF3), nil},
		{"two keys", at(hsm.AES128, kdf.KDF3), []local.Imported{good(1), good(2)}},
		{"wrong order", at(hsm.AES128, kdf.KDF3), []local.Imported{good(1), good(3), good(2)}},
		{"one with a slot", at(hsm.AES128, kdf.KDF3), []local.Imported{good(1)}},
		{"check value", at(hsm.AES128, kdf.KDF3), []local.Imported{wrong}},
		{"length", at(hsm.AES256, kdf.KDF3), []local.Imported{good(0)}},
		{"kdf3 of DES", at(hsm.DES2, kdf.KDF3), []local.Imported{imported(t, hsm.DES2, 0, secret.Random(16))}},
		{"EMV of AES", at(hsm.AES128, kdf.EMV), []local.Imported{good(0)}},
		{"PIV", at(hsm.DES2, kdf.PIV), []local.Imported{good(0)}},
		{"no type", at(0, kdf.KDF3), []local.Imported{good(0)}},
		{"published", at(hsm.AES128, kdf.KDF3), []local.Imported{imported(t, hsm.AES128, 0, known)}},
		{"published, with parity", at(hsm.DES2, kdf.VISA2), []local.Imported{imported(t, hsm.DES2, 0, parity)}},
		{"zero", at(hsm.DES2, kdf.VISA2), []local.Imported{imported(t, hsm.DES2, 0, secret.New(make([]byte, 16)))}},
	}
	for _, c := range tests {
		if _, err := s.Import(t.Context(), c.k, c.keys...); !errors.Is(err, local.ErrKeySet) {
			t.Errorf("%s: %v, want ErrKeySet", c.name, err)
		}
	}
	if _, err := s.Create(t.Context(), at(hsm.AES128, kdf.None)); !errors.Is(err, local.ErrKeySet) {
		t.Errorf("creating what no card gets: %v, want ErrKeySet", err)
	}
	if sets, err := s.KeySets(t.Context()); err != nil || len(sets) != 0 {
		t.Errorf("left %+v, %v", sets, err)
	}
	if len(events) != len(tests)+1 || slices.ContainsFunc(events, func(e local.Event) bool { return e.Err == nil }) {
		t.Errorf("%d events, want %d, each with its error", len(events), len(tests)+1)
	}
}

// TestCreateWithKDF: a new master key with another diversification than the usual.
func TestCreateWithKDF(t *testing.T) {
	t.Parallel()
	s := newService(t, local.Config{})
	for n, c := range []struct {
		kt   hsm.KeyType
		code kdf.Code
		want string
	}{
		{hsm.DES3, kdf.EMV, "emv"}, {hsm.AES256, kdf.GPKMC, "gpkmc"}, {hsm.DES3, kdf.DogtagSP800, "dogtag-sp800-108"},
		{hsm.DES3, kdf.DogtagEMV | kdf.UseCUID, "dogtag-prot3-emv+cuid"}, {hsm.AES128, 0, "kdf3"},
	} {
		info, err := s.Create(t.Context(), local.NewKeySet{Name: "site", Version: gp.KeyVersion(n + 1), Type: c.kt, KDF: c.code})
		if err != nil || info.KDF != c.want || info.Origin != hsm.Generated {
			t.Errorf("%v: %+v, %v", c.code, info, err)
		}
		if err := s.TestKeySet(t.Context(), "site", gp.KeyVersion(n+1)); err != nil {
			t.Error(err)
		}
	}
}
