package scp03_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"inkan/apdu"
	"inkan/securechannel/internal/vectors"
	"inkan/securechannel/primitive"
	"inkan/securechannel/scp03"
)

func channel(i, level vectors.Hex, k vectors.SessionKeys) scp03.Channel {
	return scp03.Channel{
		ENC: k.SEnc, MAC: k.SMAC, RMAC: k.SRMAC,
		Option: scp03.Option(i.Byte()), Level: scp03.Level(level.Byte()),
	}
}

func command(t testing.TB, b []byte) apdu.Command {
	t.Helper()
	c, err := apdu.ParseCommand(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func response(t testing.TB, b []byte) apdu.Response {
	t.Helper()
	r, err := apdu.ParseResponse(b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func encode(t testing.TB, c apdu.Command) []byte {
	t.Helper()
	b, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkKeys(t *testing.T, name string, enc, mac, host, card []byte, want vectors.SessionKeys) {
	t.Helper()
	context := scp03.Context(host, card)
	for _, d := range []struct {
		d           scp03.Derivation
		static, key []byte
	}{{scp03.SENC, enc, want.SEnc}, {scp03.SMAC, mac, want.SMAC}, {scp03.SRMAC, mac, want.SRMAC}} {
		got, err := scp03.SessionKey(d.static, d.d, context)
		if err != nil || !bytes.Equal(got, d.key) {
			t.Errorf("%s: key %02X = %x, %v, want %x", name, d.d, got, err, d.key)
		}
	}
}

func checkCryptograms(t *testing.T, name string, smac, host, card, wantCard, wantHost []byte) {
	t.Helper()
	if got, err := scp03.CardCryptogram(smac, host, card); err != nil || !bytes.Equal(got, wantCard) {
		t.Errorf("%s: card cryptogram %x, %v, want %x", name, got, err, wantCard)
	}
	if got, err := scp03.HostCryptogram(smac, host, card); err != nil || !bytes.Equal(got, wantHost) {
		t.Errorf("%s: host cryptogram %x, %v, want %x", name, got, err, wantHost)
	}
}

func TestSessionVectors(t *testing.T) {
	t.Parallel()
	recomputed := 0
	for _, v := range vectors.LoadKind[vectors.Session](t, "scp03.json", "session") {
		checkKeys(t, v.Name, v.StaticKeys.Enc, v.StaticKeys.Mac, v.HostChallenge, v.Fields.CardChallenge, v.SessionKeys)
		checkCryptograms(t, v.Name, v.SessionKeys.SMAC, v.HostChallenge, v.Fields.CardChallenge, v.CardCryptogram, v.HostCryptogram)
		if v.ChallengeRecomputed {
			aid, err := apdu.NewAID(v.AID)
			if err != nil {
				t.Fatal(err)
			}
			got, err := scp03.CardChallenge(v.StaticKeys.Enc, [3]byte(v.Fields.SequenceCounter), aid, len(v.HostChallenge))
			if err != nil || !bytes.Equal(got, v.Fields.CardChallenge) {
				t.Errorf("%s: card challenge %x, %v, want %s", v.Name, got, err, v.Fields.CardChallenge)
			}
			recomputed++
		}
		ch := channel(v.I, v.Level, v.SessionKeys)
		ea, first, err := ch.Authenticate(v.HostCryptogram)
		if err != nil || !bytes.Equal(encode(t, ea), v.ExternalAuthenticate.Command) || !bytes.Equal(first.MAC[:], v.ChainAfterEA) {
			t.Errorf("%s: EXTERNAL AUTHENTICATE %+v, %v", v.Name, ea, err)
		}
		hc, cardFirst, err := ch.VerifyAuthenticate(command(t, v.ExternalAuthenticate.Command))
		if err != nil || !bytes.Equal(hc, v.HostCryptogram) || cardFirst != first {
			t.Errorf("%s: card refuses EXTERNAL AUTHENTICATE: %x, %v", v.Name, hc, err)
		}
		replay(t, v.Name, ch, first, v.Commands)
	}
	if recomputed != 36 {
		t.Errorf("%d card challenges recomputed, want 36", recomputed)
	}
}

// replay runs commands and responses through both ends.
func replay(t *testing.T, name string, ch scp03.Channel, first scp03.Chain, cmds []vectors.Command) {
	t.Helper()
	host, card := first, first
	for i, c := range cmds {
		plain := command(t, c.Plain)
		wrapped, next, err := ch.Wrap(host, plain)
		if err != nil || !bytes.Equal(encode(t, wrapped), c.Wrapped) {
			t.Errorf("%s: command %d wrapped %x, %v, want %s", name, i, encode(t, wrapped), err, c.Wrapped)
		}
		if c.Chain != nil && ch.Level != 0 && !bytes.Equal(next.MAC[:], c.Chain) {
			t.Errorf("%s: command %d chain %x, want %s", name, i, next.MAC, c.Chain)
		}
		if c.Counter != 0 && next.Counter != c.Counter {
			t.Errorf("%s: command %d counter %d, want %d", name, i, next.Counter, c.Counter)
		}
		host = next
		got, next, err := ch.Unwrap(card, command(t, c.Wrapped))
		if err != nil || !same(got, plain) || next != host {
			t.Errorf("%s: command %d unwrapped %+v, %v, want %+v", name, i, got, err, plain)
		}
		card = next
		if c.ResponsePlain != nil {
			replayResponse(t, name, ch, card, c)
		}
	}
}

func replayResponse(t *testing.T, name string, ch scp03.Channel, chain scp03.Chain, c vectors.Command) {
	t.Helper()
	got, err := ch.UnwrapResponse(chain, response(t, c.Response))
	if err != nil || !bytes.Equal(got.Encode(), c.ResponsePlain) {
		t.Errorf("%s: response unwrapped %x, %v, want %s", name, got.Encode(), err, c.ResponsePlain)
	}
	if c.ResponsePadding != "" {
		return // a card that pads more than it must
	}
	got, err = ch.WrapResponse(chain, response(t, c.ResponsePlain))
	if err != nil || !bytes.Equal(got.Encode(), c.Response) {
		t.Errorf("%s: response wrapped %x, %v, want %s", name, got.Encode(), err, c.Response)
	}
}

// same compares commands but for the secure messaging bit of the class: at
// levels without C-MAC it is not touched.
func same(a, b apdu.Command) bool {
	return a.CLA == b.CLA&^4 && a.INS == b.INS && a.P1 == b.P1 && a.P2 == b.P2 && bytes.Equal(a.Data, b.Data) && a.Ne == b.Ne
}

func TestSessionKeyVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name           string
		StaticKeys     struct{ Enc, Mac vectors.Hex } `json:"static_keys"`
		HostChallenge  vectors.Hex                    `json:"host_challenge"`
		CardChallenge  vectors.Hex                    `json:"card_challenge"`
		CardCryptogram vectors.Hex                    `json:"card_cryptogram"`
		HostCryptogram vectors.Hex                    `json:"host_cryptogram"`
		SessionKeys    vectors.SessionKeys            `json:"session_keys"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp03.json", "session_keys") {
		checkKeys(t, v.Name, v.StaticKeys.Enc, v.StaticKeys.Mac, v.HostChallenge, v.CardChallenge, v.SessionKeys)
		checkCryptograms(t, v.Name, v.SessionKeys.SMAC, v.HostChallenge, v.CardChallenge, v.CardCryptogram, v.HostCryptogram)
	}
}

func TestCardChallengeVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name      string
		Key       vectors.Hex `json:"key_enc"`
		Counter   vectors.Hex `json:"sequence_counter"`
		AID       vectors.Hex
		Challenge vectors.Hex `json:"card_challenge"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp03.json", "card_challenge") {
		aid, err := apdu.NewAID(v.AID)
		if err != nil {
			t.Fatal(err)
		}
		got, err := scp03.CardChallenge(v.Key, [3]byte(v.Counter), aid, len(v.Challenge))
		if err != nil || !bytes.Equal(got, v.Challenge) {
			t.Errorf("%s: %x, %v, want %s", v.Name, got, err, v.Challenge)
		}
	}
}

func TestKDFVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name                 string
		StaticKey            vectors.Hex `json:"static_key"`
		Context              vectors.Hex
		Constants, Keys, KCV []vectors.Hex
	}
	for _, v := range vectors.LoadKind[vector](t, "scp03.json", "kdf_kcv") {
		for i, c := range v.Constants {
			k, err := scp03.SessionKey(v.StaticKey, scp03.Derivation(c.Byte()), v.Context)
			if err != nil || !bytes.Equal(k, v.Keys[i]) {
				t.Errorf("%s: key %x, %v, want %s", v.Name, k, err, v.Keys[i])
			}
			if kcv, err := primitive.KCVAES(k); err != nil || !bytes.Equal(kcv[:], v.KCV[i]) {
				t.Errorf("%s: KCV %s, %v, want %s", v.Name, kcv, err, v.KCV[i])
			}
		}
	}
}

func TestDEKVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name               string
		DEK, Plain, Cipher vectors.Hex
	}
	for _, v := range vectors.LoadKind[vector](t, "scp03.json", "dek_encrypt") {
		if got, err := scp03.EncryptDEK(v.DEK, v.Plain); err != nil || !bytes.Equal(got, v.Cipher) {
			t.Errorf("%s: encrypted %x, %v", v.Name, got, err)
		}
		if got, err := scp03.DecryptDEK(v.DEK, v.Cipher); err != nil || !bytes.Equal(got, v.Plain) {
			t.Errorf("%s: decrypted %x, %v", v.Name, got, err)
		}
	}
}

func TestWrapVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[vectors.Wrap](t, "scp03.json", "wrap") {
		ch := channel(v.I, v.Level, v.SessionKeys)
		chain := scp03.Chain{}
		if v.ExternalAuthenticate != nil {
			var err error
			if _, chain, err = ch.VerifyAuthenticate(command(t, v.ExternalAuthenticate)); err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
		}
		replay(t, v.Name, ch, chain, v.Commands)
	}
}

func TestUnwrapResponseVector(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name          string
		Level         vectors.Hex
		SessionKeys   vectors.SessionKeys `json:"session_keys"`
		Chain         vectors.Hex         `json:"mac_chaining_value"`
		Counter       uint64              `json:"encryption_counter"`
		Response      vectors.Hex
		ResponsePlain vectors.Hex `json:"response_plain"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp03.json", "unwrap_response") {
		ch := channel(vectors.Hex{0x60}, v.Level, v.SessionKeys)
		chain := scp03.Chain{MAC: [16]byte(v.Chain), Counter: v.Counter}
		replayResponse(t, v.Name, ch, chain, vectors.Command{Response: v.Response, ResponsePlain: v.ResponsePlain})
	}
}

// TestPayloadMACVector takes the ciphertext through Wrap; the vector's MAC is
// over the ciphertext alone, which no command of the protocol has.
func TestPayloadMACVector(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name             string
		SessionKeys      vectors.SessionKeys `json:"session_keys"`
		Counter          uint64              `json:"encryption_counter"`
		Plain, Encrypted vectors.Hex
		CMAC             vectors.Hex `json:"c_mac"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp03.json", "payload_mac") {
		ch := channel(vectors.Hex{0}, vectors.Hex{3}, v.SessionKeys)
		got, _, err := ch.Wrap(scp03.Chain{Counter: v.Counter - 1}, apdu.Command{CLA: 0x80, Data: v.Plain})
		if err != nil || !bytes.HasPrefix(got.Data, v.Encrypted) {
			t.Errorf("%s: %x, %v, want %s", v.Name, got.Data, err, v.Encrypted)
		}
		mac, err := primitive.CMAC(v.SessionKeys.SMAC, make([]byte, 16), v.Encrypted)
		if err != nil || !bytes.Equal(mac[:8], v.CMAC) {
			t.Errorf("%s: MAC %x, %v, want %s", v.Name, mac, err, v.CMAC)
		}
	}
}

func TestChainedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[vectors.Chained](t, "scp03.json", "chained") {
		ch := channel(v.I, v.Level, v.SessionKeys)
		_, chain, err := ch.VerifyAuthenticate(command(t, v.ExternalAuthenticate))
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		h := v.PlainHeader
		plain := apdu.Command{CLA: h[0], INS: h[1], P1: h[2], P2: h[3], Data: v.PlainData}
		wrapped, next, err := ch.Wrap(chain, plain)
		if err != nil || !bytes.Equal(wrapped.Data, v.WrappedData) {
			t.Errorf("%s: wrapped %x, %v, want %s", v.Name, wrapped.Data, err, v.WrappedData)
		}
		var joined apdu.Command
		for _, s := range v.Segments {
			c := command(t, s)
			c.Data = append(joined.Data, c.Data...)
			joined = c
		}
		joined.Ne = 0 // the last segment asks for the answer
		got, cardNext, err := ch.Unwrap(chain, joined)
		if err != nil || !same(got, plain) || next != cardNext {
			t.Errorf("%s: unwrapped %+v, %v", v.Name, got, err)
		}
	}
}

func TestOptionCheck(t *testing.T) {
	t.Parallel()
	good := map[scp03.Option]bool{}
	for _, o := range []scp03.Option{0x00, 0x10, 0x20, 0x30, 0x60, 0x70} {
		good[o], good[o|1] = true, true
	}
	for i := range 256 {
		o := scp03.Option(i)
		err := o.Check()
		if good[o] != (err == nil) || err != nil && !errors.Is(err, apdu.ErrUnsupported) {
			t.Errorf("i=%02X: %v", i, err)
		}
	}
}

func TestBadInputsAreErrors(t *testing.T) {
	t.Parallel()
	k := make([]byte, 16)
	ch := scp03.Channel{ENC: k, MAC: k, RMAC: k, Option: 0x70, Level: 0x33}
	var zero scp03.Chain
	for name, err := range map[string]error{
		"key":            second(scp03.SessionKey(k[:8], scp03.SENC, nil)),
		"challenges":     second(scp03.CardCryptogram(k, k[:8], k)),
		"challenge":      second(scp03.CardCryptogram(k, k[:7], k[:7])),
		"cryptogram key": second(scp03.CardCryptogram(nil, k, k)),
		"challenge key":  second(scp03.CardChallenge(nil, [3]byte{}, apdu.AID{}, 8)),
		"DEK length":     second(scp03.EncryptDEK(k, k[:8])),
		"DEK empty":      second(scp03.DecryptDEK(k, nil)),
		"DEK key":        second(scp03.DecryptDEK(nil, k)),
		"class":          third(ch.Wrap(zero, apdu.Command{CLA: 0xB0})),
		"no keys":        third(scp03.Channel{Level: 1}.Wrap(zero, apdu.Command{CLA: 0x80})),
		"no ENC":         third(scp03.Channel{Level: 3, MAC: k}.Wrap(zero, apdu.Command{CLA: 0x80, Data: k})),
		"no RMAC":        second(scp03.Channel{Level: 0x11, MAC: k}.WrapResponse(zero, apdu.Response{SW: 0x9000})),
		"no R-ENC key":   second(scp03.Channel{Level: 0x33, RMAC: k}.WrapResponse(zero, apdu.Response{Data: k, SW: 0x9000})),
		"short command":  third(ch.Unwrap(zero, apdu.Command{CLA: 0x84, Data: k[:7]})),
		"plain command":  third(ch.Unwrap(zero, apdu.Command{CLA: 0x80, Data: k})),
		"wrong MAC":      third(ch.Unwrap(zero, apdu.Command{CLA: 0x84, Data: k})),
		"bare response":  second(ch.UnwrapResponse(zero, apdu.Response{SW: 0x9000})),
		"wrong R-MAC":    second(ch.UnwrapResponse(zero, apdu.Response{SW: 0x9000, Data: k})),
		"error data":     second(ch.UnwrapResponse(zero, apdu.Response{SW: 0x6A80, Data: k})),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

// TestCiphertextOfWrongForm builds commands and responses whose MAC is right and
// whose ciphertext is not.
func TestCiphertextOfWrongForm(t *testing.T) {
	t.Parallel()
	k := bytes.Repeat([]byte{9}, 16)
	full := scp03.Channel{ENC: k, MAC: k, RMAC: k, Option: 0x70, Level: 0x33}
	macOnly := full
	macOnly.Level = 0x11
	for _, n := range []int{1, 15, 16, 17, 32} {
		cmd, _, err := macOnly.Wrap(scp03.Chain{}, apdu.Command{CLA: 0x80, Data: make([]byte, n)})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := full.Unwrap(scp03.Chain{}, cmd); err == nil {
			t.Errorf("command with ciphertext of %d bytes accepted", n)
		}
		r, err := macOnly.WrapResponse(scp03.Chain{}, apdu.Response{Data: make([]byte, n), SW: 0x9000})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := full.UnwrapResponse(scp03.Chain{}, r); err == nil {
			t.Errorf("response with ciphertext of %d bytes accepted", n)
		}
	}
}

func Example() {
	key := []byte("@ABCDEFGHIJKLMNO") // 40…4F
	host, card := []byte("hostchal"), []byte("cardchal")
	context := scp03.Context(host, card)
	senc, _ := scp03.SessionKey(key, scp03.SENC, context)
	smac, _ := scp03.SessionKey(key, scp03.SMAC, context)
	cryptogram, _ := scp03.HostCryptogram(smac, host, card)

	ch := scp03.Channel{ENC: senc, MAC: smac, Option: 0x00, Level: 0x03}
	_, chain, _ := ch.Authenticate(cryptogram)
	wrapped, chain, _ := ch.Wrap(chain, apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x80, Data: []byte{0x4F, 0x00}})
	fmt.Printf("%02X, %d bytes, counter %d\n", wrapped.CLA, len(wrapped.Data), chain.Counter)
	// Output: 84, 24 bytes, counter 1
}
