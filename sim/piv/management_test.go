package piv_test

import (
	"bytes"
	"context"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/secret"
	"inkan/apdu/tlv"
)

func secretOf(n int) secret.Secret {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(0x40 + i)
	}
	return secret.New(b)
}

func TestManagementKey(t *testing.T) {
	t.Parallel()
	for alg, n := range map[piv.Algorithm]int{piv.TripleDES: 24, piv.AES128: 16, piv.AES192: 24, piv.AES256: 32} {
		t.Run(alg.String(), func(t *testing.T) {
			t.Parallel()
			c := newCard(t, "yubikey-5.4")
			key := secretOf(n)
			refused(t, "setting it without the old one", piv.SetManagementKey(t.Context(), c, alg, key, false), apdu.SWSecurityStatus)
			c.manage()
			check(t, piv.SetManagementKey(t.Context(), c, alg, key, true))
			c.selected()
			refused(t, "writing after SELECT", piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}), apdu.SWSecurityStatus)
			refused(t, "a wrong key", piv.Authenticate(t.Context(), c, alg, secret.New(bytes.Repeat([]byte{9}, n))), apdu.SWSecurityStatus)
			check(t, piv.Authenticate(t.Context(), c, alg, key))
			check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}))
			c.selected()
			check(t, piv.AuthenticateHost(t.Context(), c, alg, key))
			check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}))
			refused(t, "a wrong key", piv.AuthenticateHost(t.Context(), c, alg, secret.New(bytes.Repeat([]byte{9}, n))), apdu.SWSecurityStatus)
			refused(t, "writing after it", piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}), apdu.SWSecurityStatus)
			m, err := piv.ReadMetadata(t.Context(), c, piv.Management)
			if err != nil || m.Algorithm != alg || m.Default || m.Policy.Touch != piv.TouchAlways {
				t.Errorf("%+v, %v", m, err)
			}
			if r, err := piv.Random(t.Context(), c, alg); err != nil || len(r) != alg.Block() {
				t.Errorf("random %X, %v", r, err)
			}
		})
	}
}

// TestManagementWire checks the bytes of §4: P1 00 is 3DES, another P1 6A86.
func TestManagementWire(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	c.want("0087039B047C028000", "7C0A8008…9000")
	c.want("0087009B047C028100", "7C0A8108…9000")
	c.want("0087089B047C028000", "6A86")
	c.want("0087039B047C028200", "6A80")
	c.want("0087039B00", "6A80")
	c.want("0087039B0C7C0A8008 0000000000000000", "6982") // no witness was given
	c.want("00FFFFFF1B039B18"+hex.EncodeToString(make([]byte, 24)), "6982")
	c.manage()
	c.want("00FFFFFF1A039B17"+hex.EncodeToString(make([]byte, 23)), "6A80")
	c.want("00FFFFFD1B039B18"+hex.EncodeToString(make([]byte, 24)), "6A86")
	c.want("00FFFFFF1B119B18"+hex.EncodeToString(make([]byte, 24)), "6A80")
}

// exchange runs GENERAL AUTHENTICATE on the 3DES management key.
func (c *card) exchange(fields []byte) (apdu.Response, []byte) {
	c.t.Helper()
	r, err := c.Do(c.ctx(), apdu.Command{INS: 0x87, P1: 0x03, P2: 0x9B, Data: tlv.Encode(0x7C, fields), Ne: 256})
	check(c.t, err)
	for _, tag := range []tlv.Tag{0x80, 0x81, 0x82} {
		if v, ok := tlv.Find(r.Data, 0x7C, tag); ok {
			return r, v
		}
	}
	return r, nil
}

// TestCardIsNoOracle: the card must not compute the answer to its own challenge.
func TestCardIsNoOracle(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	_, challenge := c.exchange(tlv.Encode(0x81))
	r, answer := c.exchange(tlv.Append(tlv.Encode(0x82), 0x81, challenge))
	if r.SW != apdu.SWSuccess || len(answer) != 8 {
		t.Fatalf("internal authentication: %v", r.SW)
	}
	if r, _ := c.exchange(tlv.Encode(0x82, answer)); r.SW != apdu.SWSecurityStatus {
		t.Errorf("the card answered its own challenge: %v", r.SW)
	}
}

// TestWitnessIsConsumed: a witness serves once, right or wrong.
func TestWitnessIsConsumed(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	block, err := piv.ManagementCipher(piv.TripleDES, piv.DefaultManagementKey())
	check(t, err)
	_, sealed := c.exchange(tlv.Encode(0x80))
	witness := decrypt(block, sealed)
	fields := func(w []byte) []byte { return tlv.Append(tlv.Encode(0x81, make([]byte, 8)), 0x80, w) } // any order
	if r, _ := c.exchange(fields(make([]byte, 8))); r.SW != apdu.SWSecurityStatus {
		t.Errorf("wrong witness: %v", r.SW)
	}
	if r, _ := c.exchange(fields(witness)); r.SW != apdu.SWSecurityStatus {
		t.Errorf("right witness after a wrong one: %v", r.SW)
	}
	_, sealed = c.exchange(tlv.Encode(0x80))
	witness = decrypt(block, sealed)
	r, answer := c.exchange(fields(witness))
	if r.SW != apdu.SWSuccess {
		t.Fatal(r.SW)
	}
	want := make([]byte, 8)
	block.Encrypt(want, make([]byte, 8))
	same(t, "the card's proof", answer, want)
	if r, _ := c.exchange(fields(witness)); r.SW != apdu.SWSecurityStatus {
		t.Errorf("a witness twice: %v", r.SW)
	}
}

func decrypt(b cipher.Block, in []byte) []byte {
	out := make([]byte, len(in))
	b.Decrypt(out, in)
	return out
}

// liar is a card that does not have the key it says it has.
type liar struct{ *card }

func (l liar) Do(ctx context.Context, cmd apdu.Command) (apdu.Response, error) {
	r, err := l.card.Do(ctx, cmd)
	if v, ok := tlv.Find(r.Data, 0x7C, 0x82); ok {
		v[0] ^= 1
	}
	return r, err
}

func TestCardMustProveItself(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	err := piv.Authenticate(t.Context(), doer(liar{c}.Do), piv.TripleDES, factoryKey())
	if !errors.Is(err, piv.ErrCardNotProved) {
		t.Errorf("%v", err)
	}
}
