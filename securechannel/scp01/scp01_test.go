package scp01_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"inkan/apdu"
	"inkan/securechannel/internal/vectors"
	"inkan/securechannel/primitive"
	"inkan/securechannel/scp01"
)

func command(t testing.TB, b []byte) apdu.Command {
	t.Helper()
	c, err := apdu.ParseCommand(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encode(t testing.TB, c apdu.Command) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSessionVectors runs every session through both ends.
func TestSessionVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[vectors.Session](t, "scp01.json", "session") {
		host, card := []byte(v.HostChallenge), []byte(v.Fields.CardChallenge)
		for name, k := range map[string][2]vectors.Hex{"S-ENC": {v.StaticKeys.Enc, v.SessionKeys.SEnc}, "S-MAC": {v.StaticKeys.Mac, v.SessionKeys.SMAC}} {
			if got, err := scp01.SessionKey(k[0], host, card); err != nil || !bytes.Equal(got, k[1]) {
				t.Errorf("%s: %s %x, %v, want %s", v.Name, name, got, err, k[1])
			}
		}
		if got, err := scp01.CardCryptogram(v.SessionKeys.SEnc, host, card); err != nil || !bytes.Equal(got, v.CardCryptogram) {
			t.Errorf("%s: card cryptogram %x, %v, want %s", v.Name, got, err, v.CardCryptogram)
		}
		hc, err := scp01.HostCryptogram(v.SessionKeys.SEnc, host, card)
		if err != nil || !bytes.Equal(hc, v.HostCryptogram) {
			t.Errorf("%s: host cryptogram %x, %v, want %s", v.Name, hc, err, v.HostCryptogram)
		}
		ch := scp01.Channel{
			ENC: v.SessionKeys.SEnc, MAC: v.SessionKeys.SMAC,
			Option: scp01.Option(v.I.Byte()), Level: scp01.Level(v.Level.Byte()),
		}
		ea, first, err := ch.Authenticate(hc)
		if err != nil || !bytes.Equal(encode(t, ea), v.ExternalAuthenticate.Command) {
			t.Errorf("%s: EXTERNAL AUTHENTICATE %+v, %v", v.Name, ea, err)
		}
		got, cardFirst, err := ch.VerifyAuthenticate(command(t, v.ExternalAuthenticate.Command))
		if err != nil || !bytes.Equal(got, hc) || cardFirst != first {
			t.Errorf("%s: card refuses EXTERNAL AUTHENTICATE: %x, %v", v.Name, got, err)
		}
		replay(t, v.Name, ch, first, v.Commands)
	}
}

func replay(t *testing.T, name string, ch scp01.Channel, chain scp01.Chain, cmds []vectors.Command) {
	t.Helper()
	for i, c := range cmds {
		plain := command(t, c.Plain)
		wrapped, next, err := ch.Wrap(chain, plain)
		if err != nil || !bytes.Equal(encode(t, wrapped), c.Wrapped) {
			t.Errorf("%s: command %d wrapped %+v, %v, want %s", name, i, wrapped, err, c.Wrapped)
		}
		got, cardNext, err := ch.Unwrap(chain, command(t, c.Wrapped))
		if err != nil || cardNext != next || !same(got, plain) {
			t.Errorf("%s: command %d unwrapped %+v, %v, want %+v", name, i, got, err, plain)
		}
		chain = next
	}
}

// same compares commands but for the secure messaging bit of the class: at level
// 00 it is not touched.
func same(a, b apdu.Command) bool {
	return a.CLA&^4 == b.CLA&^4 && a.INS == b.INS && a.P1 == b.P1 && a.P2 == b.P2 && bytes.Equal(a.Data, b.Data) && a.Ne == b.Ne
}

func TestSessionKeyVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name          string
		StaticKey     vectors.Hex `json:"static_key"`
		HostChallenge vectors.Hex `json:"host_challenge"`
		CardChallenge vectors.Hex `json:"card_challenge"`
		Data          vectors.Hex `json:"session_derivation_data"`
		Key           vectors.Hex `json:"session_key"`
		KCV           vectors.Hex `json:"session_key_kcv"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp01.json", "session_key") {
		if d, err := scp01.DerivationData(v.HostChallenge, v.CardChallenge); err != nil || !bytes.Equal(d, v.Data) {
			t.Errorf("%s: derivation data %x, %v, want %s", v.Name, d, err, v.Data)
		}
		k, err := scp01.SessionKey(v.StaticKey, v.HostChallenge, v.CardChallenge)
		if err != nil || !bytes.Equal(k, v.Key) {
			t.Errorf("%s: %x, %v, want %s", v.Name, k, err, v.Key)
		}
		if kcv, err := primitive.KCVDES(k); err != nil || !bytes.Equal(kcv[:], v.KCV) {
			t.Errorf("%s: KCV %s, %v, want %s", v.Name, kcv, err, v.KCV)
		}
	}
}

func TestDEKVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name               string
		DEK, Plain, Cipher vectors.Hex
	}
	for _, v := range vectors.LoadKind[vector](t, "scp01.json", "dek_encrypt") {
		if got, err := scp01.EncryptDEK(v.DEK, v.Plain); err != nil || !bytes.Equal(got, v.Cipher) {
			t.Errorf("%s: encrypted %x, %v", v.Name, got, err)
		}
		if got, err := scp01.DecryptDEK(v.DEK, v.Cipher); err != nil || !bytes.Equal(got, v.Plain) {
			t.Errorf("%s: decrypted %x, %v", v.Name, got, err)
		}
	}
}

// TestEmptyField: a command without data in both dialects. The MAC is the same,
// the card takes either, and the block is Dogtag's 00 80 00 00 00 00 00 00.
func TestEmptyField(t *testing.T) {
	t.Parallel()
	k := bytes.Repeat([]byte{0x37}, 16)
	plain := apdu.Command{CLA: 0x80, INS: 0xCA, P2: 0x66, Ne: apdu.MaxShortNe}
	chain := scp01.NewChain([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	block, err := scp01.EncryptDEK(k, []byte{0x00, 0x80, 0, 0, 0, 0, 0, 0}) // one block of CBC is ECB
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []scp01.Option{scp01.PlainICV, scp01.EncryptedICV} {
		ch := scp01.Channel{ENC: k, MAC: k, Option: o, Level: 3}
		bare, next, err := ch.Wrap(chain, plain)
		if err != nil || len(bare.Data) != scp01.MACLength {
			t.Fatalf("i=%02X: %+v, %v", o, bare, err)
		}
		ch.Empty = scp01.EmptyPadded
		padded, same8, err := ch.Wrap(chain, plain)
		if err != nil || same8 != next || !bytes.Equal(padded.Data, append(bytes.Clone(block), bare.Data...)) {
			t.Errorf("i=%02X: padded %x, %v, want %x and the MAC %x", o, padded.Data, err, block, bare.Data)
		}
		for _, cmd := range []apdu.Command{bare, padded} {
			if got, after, err := ch.Unwrap(chain, cmd); err != nil || after != next || !same(got, plain) {
				t.Errorf("i=%02X: %x unwrapped %+v, %v", o, cmd.Data, got, err)
			}
		}
	}
}

func TestOptionCheck(t *testing.T) {
	t.Parallel()
	for i := range 256 {
		err := scp01.Option(i).Check()
		if good := i == 0x05 || i == 0x15; good != (err == nil) || err != nil && !errors.Is(err, apdu.ErrUnsupported) {
			t.Errorf("i=%02X: %v", i, err)
		}
	}
}

// TestLengths: the largest commands, and what does not fit.
func TestLengths(t *testing.T) {
	t.Parallel()
	k := bytes.Repeat([]byte{0x37}, 16)
	for level, most := range map[scp01.Level]int{1: 247, 3: 239} {
		ch := scp01.Channel{ENC: k, MAC: k, Option: 0x15, Level: level}
		cmd := apdu.Command{CLA: 0x80, INS: 0xE8, Data: make([]byte, most)}
		wrapped, _, err := ch.Wrap(scp01.Chain{}, cmd)
		if err != nil || len(wrapped.Data) > apdu.MaxShortData {
			t.Errorf("level %02X, %d bytes: %d wrapped, %v", level, most, len(wrapped.Data), err)
		}
		for _, n := range []int{most + 1, 255, 256, 1000} {
			cmd.Data = make([]byte, n)
			if _, _, err := ch.Wrap(scp01.Chain{}, cmd); !errors.Is(err, apdu.ErrUnsupported) {
				t.Errorf("level %02X, %d bytes: %v", level, n, err)
			}
		}
		cmd.Data, cmd.Ne = nil, apdu.MaxExtendedNe
		if _, _, err := ch.Wrap(scp01.Chain{}, cmd); !errors.Is(err, apdu.ErrUnsupported) {
			t.Errorf("level %02X, extended Le: %v", level, err)
		}
	}
}

func TestBadInputsAreErrors(t *testing.T) {
	t.Parallel()
	k := make([]byte, 16)
	ch := scp01.Channel{ENC: k, MAC: k, Option: 0x15, Level: 0x03}
	long, err := scp01.EncryptDEK(k, []byte{8, 0, 0, 0, 0, 0, 0, 0}) // eight bytes where seven are
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"key":             second(scp01.SessionKey(k[:8], k[:8], k[:8])),
		"host challenge":  second(scp01.SessionKey(k, k[:7], k[:8])),
		"card challenge":  second(scp01.CardCryptogram(k, k[:8], k[:6])),
		"cryptogram key":  second(scp01.HostCryptogram(nil, k[:8], k[:8])),
		"DEK length":      second(scp01.EncryptDEK(k, k[:7])),
		"DEK empty":       second(scp01.DecryptDEK(k, nil)),
		"DEK key":         second(scp01.DecryptDEK(nil, k)),
		"class":           third(ch.Wrap(scp01.Chain{}, apdu.Command{CLA: 0xB0})),
		"no keys":         third(scp01.Channel{Level: 3}.Wrap(scp01.Chain{}, apdu.Command{CLA: 0x80})),
		"no chaining key": third(scp01.Channel{Level: 1, Option: 0x15}.Wrap(scp01.NewChain([8]byte{}), apdu.Command{CLA: 0x80})),
		"no ENC":          third(scp01.Channel{Level: 3, MAC: k}.Wrap(scp01.Chain{}, apdu.Command{CLA: 0x80, Data: k})),
		"short command":   third(ch.Unwrap(scp01.Chain{}, apdu.Command{CLA: 0x84, Data: k[:7]})),
		"long command":    third(ch.Unwrap(scp01.Chain{}, apdu.Command{CLA: 0x84, Data: make([]byte, 256)})),
		"plain command":   third(ch.Unwrap(scp01.Chain{}, apdu.Command{CLA: 0x80, Data: k})),
		"odd ciphertext":  third(ch.Unwrap(scp01.Chain{}, apdu.Command{CLA: 0x84, Data: k[:12]})),
		"length byte":     third(ch.Unwrap(scp01.Chain{}, apdu.Command{CLA: 0x84, Data: append(long, k[:8]...)})),
		"wrong MAC":       third(ch.Unwrap(scp01.Chain{}, apdu.Command{CLA: 0x84, Data: k[:8]})),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

func Example() {
	key := []byte("@ABCDEFGHIJKLMNO") // 40…4F
	host, card := []byte("hostchal"), []byte("cardchal")
	senc, _ := scp01.SessionKey(key, host, card)
	smac, _ := scp01.SessionKey(key, host, card)
	cryptogram, _ := scp01.HostCryptogram(senc, host, card)

	ch := scp01.Channel{ENC: senc, MAC: smac, Option: 0x05, Level: 0x03}
	_, chain, _ := ch.Authenticate(cryptogram)
	wrapped, _, _ := ch.Wrap(chain, apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x80, Data: []byte{0x4F, 0x00}})
	fmt.Printf("%02X, %d bytes\n", wrapped.CLA, len(wrapped.Data))
	// Output: 84, 16 bytes
}
