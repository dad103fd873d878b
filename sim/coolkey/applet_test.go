package coolkey_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/fixtures"
	"inkan/securechannel"
	"inkan/sim/coolkey"
)

var challenge = []byte{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F}

// exampleCard is the token of coolkey-applet.md §11, made with the host's functions.
func exampleCard(t testing.TB, variant coolkey.Variant) *fakeCard {
	t.Helper()
	v := getVectors(t)
	f := newCard(t, coolkey.Config{Variant: variant}, "00021388")
	f.keys.next = append(f.keys.next, v.Signing.key(), v.Encryption.key())
	ctx := t.Context()
	check(t, ck.CreatePIN(ctx, f, ck.Channel(), ck.UserPIN, 127, pinOf(t, "password")))
	check(t, ck.SetPIN(ctx, f, ck.UserPIN, pinOf(t, "1234")))
	for _, s := range []ck.Slots{{Private: 2, Public: 3}, {Private: 4, Public: 5}} {
		n := must(ck.GenerateRSA(ctx, f, s, 1024, f.wrap(challenge)))(t)
		check(t, ck.VerifyProof(must(ck.ReadKeyResult(ctx, f, n))(t), challenge))
	}
	es := ck.ReplaceObjectEntries(ck.Channel(), ck.IDCombined, ck.TokenObjectACL, v.Z0)
	must(apdu.RunAll(ctx, f, es))(t)
	check(t, ck.SetLifeCycle(ctx, f, ck.Personalized))
	check(t, ck.ClearKeySlots(ctx, f, []ck.Slots{{Private: 2, Public: 3}, {Private: 4, Public: 5}}))
	return f
}

// TestDialogue is coolkey-applet.md §11.4, byte for byte.
func TestDialogue(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	f := exampleCard(t, coolkey.Applet14)
	zero := strings.Repeat("00", 8)
	f.want("00A4040007 627601FF000000", "9000")
	f.want("B0F2000004", "0F010101 9000")
	f.want("B0F2000001", "0F 9000")
	f.want("B03C000010", "01010104 00001388 0000101E 01 04 0000 9000")
	f.want("B03C010000", "6D00")
	f.want("B070000004", "58768072 9000")
	f.want("B05800000E", "7A300000 00000358 FFFF 4000 4000 9000")
	f.want("B05801000E", "9C12")
	f.want("B03A00000B", "02 03 03 0400 0000 4000 0001 9000")
	f.want("B03A01000B", "03 01 02 0400 FFFF 4000 FFFF 9000")
	f.want("B03A01000B", "04 03 05 0400 0000 4000 0001 9000")
	f.want("B03A01000B", "05 01 04 0400 FFFF 4000 FFFF 9000")
	f.want("B03A01000B", "9000")
	f.want("B048000002", "0001 9000")
	f.want("B04A000001", "7F 9000")
	f.want("B056000011 7A300000 00000000 F0"+zero, hex.EncodeToString(v.Z0[:240])+"9000")
	f.want("B056000011 7A300000 0000035A 01"+zero, "9C0F")

	nonce := f.send("B042000004 31323334")
	if len(nonce) != 20 || nonce[16:] != "9000" {
		t.Fatalf("VERIFY PIN answers %s", nonce)
	}
	nonce = nonce[:16]
	if again := f.send("B042000004 31323334"); again != nonce+"9000" {
		t.Error("a second login gets another nonce")
	}
	f.want("B03C000010", "01010104 00001388 0000101E 01 04 0001 9000")
	block := "0001" + strings.Repeat("FF", 74) + "00" + "3031300d060960864801650304020105000420" +
		fmt.Sprintf("%x", sha256.Sum256(v.Signature.Message))
	f.want("B03602048D 00 03 01 0080"+block+nonce, "0080"+hex.EncodeToString(v.Signature.Value)+"9000")
	f.want("B03602048D 00 03 01 0080"+block+zero, "9C06")
	f.want("B03602048D 00 03 01 0080"+block+"0102030405060708", "9C06")
	// INIT and FINAL
	f.want("B03602010D 00 03 01 0000"+nonce, "9000")
	f.want("B03602038B 01 0080"+block+nonce, "0080"+hex.EncodeToString(v.Signature.Value)+"9000")
	f.want("B03602038B 01 0080"+block+nonce, "6985")

	f.want("B061000008"+nonce, "9000")
	f.want("B03C000010", "01010104 00001388 0000101E 01 04 0001 9000") // one login is left
	f.want("B061000008"+nonce, "9000")
	f.want("B03602048D 00 03 01 0080"+block+nonce, "9C06")
	f.want("B061070000", "9C10")

	for range 126 {
		f.want("B042000004 39393939", "9C02")
	}
	f.want("B04A000001", "01 9000")
	f.want("B042000003 393939", "9C02") // too short: no try lost
	f.want("B04A000001", "01 9000")
	f.want("B042000004 39393939", "9C02")
	f.want("B042000004 39393939", "9C0C")
	f.want("B042000004 31323334", "9C0C")
	f.want("B04400000A 04 31323334 04 35363738", "9C0C")
	f.want("8404000004 31323334", "9000")
	if got := f.send("B042000004 31323334"); !strings.HasSuffix(got, "9000") {
		t.Errorf("SET PIN does not unblock: %s", got)
	}
}

// TestKeyResultVector is the vector of coolkey-applet.md §8.1.
func TestKeyResultVector(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	for _, variant := range []coolkey.Variant{coolkey.Applet13, coolkey.Applet14, coolkey.Applet15, coolkey.Extended} {
		for _, aes := range []bool{false, true} {
			f := newCard(t, coolkey.Config{Variant: variant}, "")
			f.aes = aes
			f.keys.next = append(f.keys.next, v.Signing.key())
			f.want("840C020317 80 0400 00 00 10"+hex.EncodeToString(f.wrap(v.KeyResult.Challenge))+"00 00", "010F 9000")
			got := must(ck.ReadObject(t.Context(), f, ck.Channel(), ck.IDIOBuffer, 0, 0x10F))(t)
			if !bytes.Equal(got, v.KeyResult.IOBuffer) {
				t.Errorf("variant=%s aes=%t: %x", variant, aes, got)
			}
			f.want("8456000009 FFFFFFFF 00000000 D0 00", hex.EncodeToString(v.KeyResult.IOBuffer[:0xD0])+"9000")
			f.want("8456000009 FFFFFFFF 000000D0 40 00", "9C0F")
			f.want("00A4040007 627601FF000000", "9000")
			f.want("8456000009 FFFFFFFE 00000000 01 00", "9C0F") // cleared by deselection
		}
	}
}

func TestClasses(t *testing.T) {
	t.Parallel()
	f := newCard(t, coolkey.Config{}, "")
	f.want("00CA9F7F2D", "9000")
	f.want("A400000000", "9000")
	f.want("80CA9F7F2D", "6D00")
	f.want("9010000000", "6E00")
	f.want("B046000000", "6D00")
	f.want("B00C000000", "6D00")
	f.want("8402000004 31323334", "6D00")
	f.want("84F6000000", "6D00")
	f.open = false
	f.want("84F00F0000", "6982")
	f.open = true
	f.want("84F00F0000", "9000")
	f.want("84F00F0001 00", "6700")
	f.want("84F00E0000", "9C0F")
	f.want("84F08F0000", "9C0F")
	f.want("84F00F0100", "9C11")
}

func TestLevels(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		variant coolkey.Variant
		level   securechannel.Level
		want    bool
	}{
		{coolkey.Applet14, securechannel.LevelCMAC, true},
		{coolkey.Applet14, securechannel.LevelCENC, true},
		{coolkey.Applet14, securechannel.LevelCMACRMAC, false},
		{coolkey.Applet14, securechannel.LevelAuthenticated, false},
		{coolkey.Extended, securechannel.LevelAuthenticated, false},
		{coolkey.Extended, securechannel.LevelCMACRMAC, true},
		{coolkey.Extended, securechannel.LevelFull, true},
	} {
		f := newCard(t, coolkey.Config{Variant: tt.variant}, "")
		if got := f.applet.AcceptsLevel(tt.level); got != tt.want {
			t.Errorf("variant=%s level=%02X: %t", tt.variant, byte(tt.level), got)
		}
	}
}

// TestVariants pins the feature matrix of coolkey-applet.md §14.3.
func TestVariants(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		variant                     coolkey.Variant
		version                     string
		tries, clear, ec, biggerRSA string
		slots                       byte
		buffer                      int
	}{
		{coolkey.Applet13, "1.3.44724dde", "6D00", "6D00", "6D00", "9C1A", 8, 554},
		{coolkey.Applet14, "1.4.58768072", "9C10", "9C0F", "6D00", "9C1A", 24, 900},
		{coolkey.Applet15, "1.5.65cbf5a6", "9C10", "9C0F", "6D00", "9000", 24, 1200},
		{coolkey.Extended, "1.6.66000001", "9C10", "9C0F", "9000", "9000", 24, 1200},
	} {
		t.Run("variant="+string(tt.variant), func(t *testing.T) {
			f := newCard(t, coolkey.Config{Variant: tt.variant}, "")
			if v := must(ck.ReadVersion(t.Context(), f))(t); v.String() != tt.version {
				t.Errorf("version %v", v)
			}
			f.want("B04A000001", tt.tries)
			f.want("8455000000", tt.clear)
			if sw := f.send("840D020317 05 0100 00 00 10" + strings.Repeat("00", 16) + "00 00"); !strings.HasSuffix(sw, tt.ec) {
				t.Errorf("generating EC: %s", sw)
			}
			if sw := f.send("840C040517 80 0C00 00 00 10" + strings.Repeat("00", 16) + "00 00"); !strings.HasSuffix(sw, tt.biggerRSA) {
				t.Errorf("generating RSA-3072: %s", sw)
			}
			key := hex.EncodeToString([]byte{tt.slots, 0})
			f.want("8436"+key+"00", "9C10")
			last := fmt.Sprintf("%08X", tt.buffer-1)
			f.want("845400000A FFFFFFFF"+last+"01 AA", "9000")
			f.want("845400000B FFFFFFFF"+last+"02 AABB", "9C0F")
			f.want("8456000009 FFFFFFFF"+last+"01", "AA 9000")
		})
	}
}

func TestVersionOfLoadFile(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	factory := coolkey.Factory(coolkey.Config{Variant: coolkey.Extended})
	a := must(factory(ck.InstanceAID(), nil, v.LoadFile.Bytes))(t)
	f := &fakeCard{t: t, applet: a, again: nil}
	if got := must(ck.ReadVersion(t.Context(), f))(t); got != v.LoadFile.Version {
		t.Errorf("version %v, want %v", got, v.LoadFile.Version)
	}
	for _, name := range []string{"1.4.66000001", "1.5.66000002", "1.6.66000003"} { // 6 has no short constant
		f.applet = must(factory(ck.InstanceAID(), nil, must(fixtures.Applet(name))(t)))(t)
		if got := must(ck.ReadVersion(t.Context(), f))(t); got.String() != name {
			t.Errorf("version %v of the load file %s", got, name)
		}
	}
	twice := append(bytes.Clone(v.LoadFile.Bytes), v.LoadFile.Bytes...) // ambiguous
	f.applet = must(factory(ck.InstanceAID(), nil, twice))(t)
	if got := must(ck.ReadVersion(t.Context(), f))(t); got.String() != "1.6.66000001" {
		t.Errorf("version of an ambiguous load file: %v", got)
	}
	fixed := ck.Version{Major: 1, Minor: 4, Build: 0x12345678}
	f.applet = must(coolkey.Factory(coolkey.Config{Version: fixed})(ck.InstanceAID(), nil, nil))(t)
	if got := must(ck.ReadVersion(t.Context(), f))(t); got != fixed {
		t.Errorf("configured version: %v", got)
	}
	if _, err := coolkey.Factory(coolkey.Config{Variant: "2.0"})(ck.InstanceAID(), nil, nil); err == nil {
		t.Error("an unknown variant is taken")
	}
}

func TestInstallParameters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		params string
		heap   uint32
		issuer string
		change bool
	}{
		{"", 5000, "", false},
		{"00", 5000, "", false},
		{"00021400", 5120, "", false},
		{"0002140001 01", 5120, "", true},
		{"0002140001 02", 5120, "", false},
		{"00028000", 5000, "", false}, // negative
		{"00020000", 5000, "", false},
		{"000114", 5000, "", false},
		{"0461626364 02 0400", 1024, "abcd", false},
		{"E0" + strings.Repeat("61", 224) + "020400", 5000, "", false},
		{"0561626364", 5000, "", false},
	} {
		f := newCard(t, coolkey.Config{}, strings.ReplaceAll(tt.params, " ", ""))
		ctx := t.Context()
		s := must(ck.ReadStatus(ctx, f))(t)
		if s.HeapTotal != tt.heap || s.HeapFree != tt.heap-2 {
			t.Errorf("params=%s: heap %d, free %d", tt.params, s.HeapTotal, s.HeapFree)
		}
		if got := must(ck.ReadIssuerInfo(ctx, f))(t); got != tt.issuer {
			t.Errorf("params=%s: issuer info %q", tt.params, got)
		}
		a := must(ck.ReadCreationACL(ctx, f))(t)
		if a != (ck.CreationACL{Object: 0x4000, Key: 0x4000, PIN: 0x4000, Changeable: tt.change}) {
			t.Errorf("params=%s: creation rules %+v", tt.params, a)
		}
	}
}

func TestSignatureThroughHost(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	f := exampleCard(t, coolkey.Extended)
	ctx := t.Context()
	login := ck.Login(must(ck.VerifyPIN(ctx, f, ck.UserPIN, pinOf(t, "1234")))(t))
	digest := sha256.Sum256(v.Signature.Message)
	key := ck.Key{Number: 2, Public: &v.Signing.key().PublicKey}
	sig := must(key.SignDigest(ctx, f, login, crypto.SHA256, digest[:]))(t)
	if !bytes.Equal(sig, v.Signature.Value) {
		t.Errorf("signature %x", sig)
	}
}
