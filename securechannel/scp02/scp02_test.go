package scp02_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"inkan/apdu"
	"inkan/securechannel/internal/vectors"
	"inkan/securechannel/primitive"
	"inkan/securechannel/scp02"
)

func channel(i, level vectors.Hex, k vectors.SessionKeys) scp02.Channel {
	return scp02.Channel{
		ENC: k.SEnc, MAC: k.CMAC, RMAC: k.RMAC,
		Option: scp02.Option(i.Byte()), Level: scp02.Level(level.Byte()),
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

// checkKeys derives the session keys of a counter.
func checkKeys(t *testing.T, name string, static struct{ Enc, Mac, Dek vectors.Hex }, counter vectors.Hex, want vectors.SessionKeys) {
	t.Helper()
	for _, d := range []struct {
		c           scp02.Constant
		static, key vectors.Hex
	}{{scp02.SENC, static.Enc, want.SEnc}, {scp02.SMAC, static.Mac, want.CMAC}, {scp02.SRMAC, static.Mac, want.RMAC}, {scp02.SDEK, static.Dek, want.DEK}} {
		got, err := scp02.SessionKey(d.static, d.c, [2]byte(counter))
		if err != nil || !bytes.Equal(got, d.key) {
			t.Errorf("%s: key %04X = %x, %v, want %s", name, d.c, got, err, d.key)
		}
	}
}

func TestSessionVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[vectors.Session](t, "scp02.json", "session") {
		checkKeys(t, v.Name, v.StaticKeys, v.Fields.SequenceCounter, v.SessionKeys)
		card := append(bytes.Clone(v.Fields.SequenceCounter), v.Fields.CardChallenge...)
		cc, err := scp02.CardCryptogram(v.SessionKeys.SEnc, v.HostChallenge, card)
		if err != nil || !bytes.Equal(cc, v.CardCryptogram) {
			t.Errorf("%s: card cryptogram %x, %v, want %s", v.Name, cc, err, v.CardCryptogram)
		}
		hc, err := scp02.HostCryptogram(v.SessionKeys.SEnc, v.HostChallenge, card)
		if err != nil || !bytes.Equal(hc, v.HostCryptogram) {
			t.Errorf("%s: host cryptogram %x, %v, want %s", v.Name, hc, err, v.HostCryptogram)
		}
		if v.AID != nil && scp02.Option(v.I.Byte())&scp02.PseudoRandom != 0 && !bytes.Equal(v.Fields.CardChallenge, []byte{0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6}) {
			aid, err := apdu.NewAID(v.AID)
			if err != nil {
				t.Fatal(err)
			}
			ch, err := scp02.CardChallenge(v.SessionKeys.CMAC, aid)
			if err != nil || !bytes.Equal(ch, v.Fields.CardChallenge) {
				t.Errorf("%s: card challenge %x, %v, want %s", v.Name, ch, err, v.Fields.CardChallenge)
			}
		}
		ch := channel(v.I, v.Level, v.SessionKeys)
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

// replay runs commands and responses through both ends.
func replay(t *testing.T, name string, ch scp02.Channel, first scp02.Chain, cmds []vectors.Command) {
	t.Helper()
	host, card, hostR, cardR := first, first, first, first
	for i, c := range cmds {
		plain := command(t, c.Plain)
		wrapped, next, err := ch.Wrap(host, plain)
		if err == nil && len(wrapped.Data) > 0 && !bytes.Equal(encode(t, wrapped), c.Wrapped) {
			// The other dialect of a command without data.
			ch.Empty = scp02.EmptyPadded
			wrapped, next, err = ch.Wrap(host, plain)
			ch.Empty = scp02.EmptyBare
		}
		if err != nil || !bytes.Equal(encode(t, wrapped), c.Wrapped) {
			t.Errorf("%s: command %d wrapped %x, %v, want %s", name, i, encode(t, wrapped), err, c.Wrapped)
		}
		host = next
		got, next, err := ch.Unwrap(card, command(t, c.Wrapped))
		if err != nil || !same(got, plain) || next != host {
			t.Errorf("%s: command %d unwrapped %+v, %v, want %+v", name, i, got, err, plain)
		}
		card = next
		if c.ResponsePlain == nil {
			continue
		}
		rp, r := response(t, c.ResponsePlain), response(t, c.Response)
		gotR, nextR, err := ch.UnwrapResponse(hostR, plain, r)
		if err != nil || !bytes.Equal(gotR.Encode(), c.ResponsePlain) {
			t.Errorf("%s: response %d unwrapped %x, %v, want %s", name, i, gotR.Encode(), err, c.ResponsePlain)
		}
		hostR = nextR
		gotR, cardR, err = ch.WrapResponse(cardR, got, rp)
		if err != nil || !bytes.Equal(gotR.Encode(), c.Response) || cardR != hostR {
			t.Errorf("%s: response %d wrapped %x, %v, want %s", name, i, gotR.Encode(), err, c.Response)
		}
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
		StaticKeys     struct{ Enc, Mac, Dek vectors.Hex } `json:"static_keys"`
		Counter        vectors.Hex                         `json:"sequence_counter"`
		DerivationData struct {
			SEnc vectors.Hex `json:"s_enc"`
			CMAC vectors.Hex `json:"c_mac"`
			RMAC vectors.Hex `json:"r_mac"`
			DEK  vectors.Hex
		} `json:"derivation_data"`
		SessionKeys vectors.SessionKeys `json:"session_keys"`
		KCV         vectors.SessionKeys `json:"session_key_kcv"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp02.json", "session_keys") {
		checkKeys(t, v.Name, v.StaticKeys, v.Counter, v.SessionKeys)
		for c, want := range map[scp02.Constant]vectors.Hex{
			scp02.SENC: v.DerivationData.SEnc, scp02.SMAC: v.DerivationData.CMAC,
			scp02.SRMAC: v.DerivationData.RMAC, scp02.SDEK: v.DerivationData.DEK,
		} {
			if got := scp02.DerivationData(c, [2]byte(v.Counter)); !bytes.Equal(got[:], want) {
				t.Errorf("%s: derivation data %x, want %s", v.Name, got, want)
			}
		}
		if v.KCV.SEnc == nil {
			continue
		}
		for _, k := range [][2]vectors.Hex{
			{v.SessionKeys.SEnc, v.KCV.SEnc}, {v.SessionKeys.CMAC, v.KCV.CMAC},
			{v.SessionKeys.RMAC, v.KCV.RMAC}, {v.SessionKeys.DEK, v.KCV.DEK},
		} {
			if kcv, err := primitive.KCVDES(k[0]); err != nil || !bytes.Equal(kcv[:], k[1]) {
				t.Errorf("%s: KCV %s, %v, want %s", v.Name, kcv, err, k[1])
			}
		}
	}
}

func TestWrapVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[vectors.Wrap](t, "scp02.json", "wrap") {
		ch := channel(v.I, v.Level, v.SessionKeys)
		replay(t, v.Name, ch, scp02.Chain{}, v.Commands)
		chain := scp02.Chain{}
		for i, c := range v.Commands {
			var err error
			_, chain, err = ch.Wrap(chain, command(t, c.Plain))
			if mac := chain.MAC(); err != nil || !bytes.Equal(mac[:], c.CMAC) {
				t.Errorf("%s: command %d C-MAC %x, %v, want %s", v.Name, i, mac, err, c.CMAC)
			}
		}
	}
}

func TestEmptyDataVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		vectors.Wrap
		ICV, Plain, CMAC vectors.Hex
		Bare             vectors.Hex `json:"wrapped_no_encryption"`
		Padded           vectors.Hex `json:"wrapped_padding_block"`
		MAC              vectors.Hex `json:"c_mac"`
	}
	for _, v := range vectors.LoadKind[vector](t, "scp02.json", "wrap_empty_data") {
		ch := channel(v.I, v.Level, v.SessionKeys)
		// The vector names the value after ICV encryption: chain from it as it is.
		ch.Option &^= scp02.EncryptedICV
		chain := scp02.NewChain([8]byte(v.ICV))
		for dialect, want := range map[scp02.EmptyField]vectors.Hex{scp02.EmptyBare: v.Bare, scp02.EmptyPadded: v.Padded} {
			ch.Empty = dialect
			got, next, err := ch.Wrap(chain, command(t, v.Plain))
			if mac := next.MAC(); err != nil || !bytes.Equal(encode(t, got), want) || !bytes.Equal(mac[:], v.MAC) {
				t.Errorf("%s: dialect %d wrapped %x, %v, want %s", v.Name, dialect, encode(t, got), err, want)
			}
			plain, _, err := ch.Unwrap(chain, command(t, want))
			if err != nil || !same(plain, command(t, v.Plain)) {
				t.Errorf("%s: dialect %d unwrapped %+v, %v", v.Name, dialect, plain, err)
			}
		}
	}
}

func TestChainedVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors.LoadKind[vectors.Chained](t, "scp02.json", "chained") {
		ch := channel(v.I, v.Level, v.SessionKeys)
		hc, chain, err := ch.VerifyAuthenticate(command(t, v.ExternalAuthenticate))
		if err != nil || len(hc) != 8 {
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

func TestDEKVectors(t *testing.T) {
	t.Parallel()
	type vector struct {
		Name          string
		SessionDEK    vectors.Hex `json:"session_dek"`
		StaticDEK     vectors.Hex `json:"static_dek"`
		Counter       vectors.Hex `json:"sequence_counter"`
		Plain, Cipher vectors.Hex
	}
	for _, v := range vectors.LoadKind[vector](t, "scp02.json", "dek_encrypt") {
		if v.StaticDEK != nil {
			if k, err := scp02.SessionKey(v.StaticDEK, scp02.SDEK, [2]byte(v.Counter)); err != nil || !bytes.Equal(k, v.SessionDEK) {
				t.Errorf("%s: session DEK %x, %v", v.Name, k, err)
			}
		}
		if got, err := scp02.EncryptDEK(v.SessionDEK, v.Plain); err != nil || !bytes.Equal(got, v.Cipher) {
			t.Errorf("%s: encrypted %x, %v", v.Name, got, err)
		}
		if got, err := scp02.DecryptDEK(v.SessionDEK, v.Cipher); err != nil || !bytes.Equal(got, v.Plain) {
			t.Errorf("%s: decrypted %x, %v", v.Name, got, err)
		}
	}
}

func TestOptionCheck(t *testing.T) {
	t.Parallel()
	good := map[scp02.Option]bool{0x05: true, 0x15: true, 0x45: true, 0x55: true, 0x25: true, 0x35: true, 0x65: true, 0x75: true}
	for i := range 256 {
		o := scp02.Option(i)
		err := o.Check()
		if good[o] != (err == nil) || err != nil && !errors.Is(err, apdu.ErrUnsupported) {
			t.Errorf("i=%02X: %v", i, err)
		}
	}
}

func TestBadInputsAreErrors(t *testing.T) {
	t.Parallel()
	k := make([]byte, 16)
	ch := scp02.Channel{ENC: k, MAC: k, RMAC: k, Option: 0x55, Level: 0x13}
	for name, err := range map[string]error{
		"key":            second(scp02.SessionKey(k[:8], scp02.SENC, [2]byte{})),
		"challenge":      second(scp02.CardCryptogram(k, k[:8], k[:6])),
		"cryptogram key": second(scp02.CardCryptogram(nil, k[:8], k[:8])),
		"challenge key":  second(scp02.CardChallenge(nil, apdu.AID{})),
		"DEK length":     second(scp02.EncryptDEK(k, k[:7])),
		"DEK empty":      second(scp02.DecryptDEK(k, nil)),
		"DEK key":        second(scp02.DecryptDEK(nil, k)),
		"class":          third(ch.Wrap(scp02.Chain{}, apdu.Command{CLA: 0xB0})),
		"no keys":        third(scp02.Channel{Level: 3}.Wrap(scp02.Chain{}, apdu.Command{CLA: 0x80})),
		"no ENC":         third(scp02.Channel{Level: 3, MAC: k}.Wrap(scp02.Chain{}, apdu.Command{CLA: 0x80, Data: k})),
		"no RMAC":        third(scp02.Channel{Level: 0x11, MAC: k}.WrapResponse(scp02.Chain{}, apdu.Command{}, apdu.Response{})),
		"short command":  third(ch.Unwrap(scp02.Chain{}, apdu.Command{CLA: 0x84, Data: k[:7]})),
		"plain command":  third(ch.Unwrap(scp02.Chain{}, apdu.Command{CLA: 0x80, Data: k})),
		"odd ciphertext": third(ch.Unwrap(scp02.Chain{}, apdu.Command{CLA: 0x84, Data: k[:12]})),
		"bare response":  third(ch.UnwrapResponse(scp02.Chain{}, apdu.Command{}, apdu.Response{SW: 0x9000})),
		"error data":     third(ch.UnwrapResponse(scp02.Chain{}, apdu.Command{}, apdu.Response{SW: 0x6A80, Data: k})),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

func TestErrorStatusWithoutMACKeepsTheChain(t *testing.T) {
	t.Parallel()
	k := bytes.Repeat([]byte{5}, 16)
	ch := scp02.Channel{ENC: k, MAC: k, RMAC: k, Option: 0x75, Level: 0x11}
	cmd := apdu.Command{CLA: 0x80, INS: 0xE4}
	withMAC, next, err := ch.WrapResponse(scp02.Chain{}, cmd, apdu.Response{SW: 0x6A88, Data: k})
	if err != nil || len(withMAC.Data) != scp02.MACLength {
		t.Fatalf("%x, %v", withMAC.Data, err)
	}
	for _, r := range []apdu.Response{withMAC, {SW: 0x6A88}} {
		got, n, err := ch.UnwrapResponse(scp02.Chain{}, cmd, r)
		if err != nil || n != next || len(got.Data) != 0 || got.SW != 0x6A88 {
			t.Errorf("%d bytes: %+v, %v", len(r.Data), got, err)
		}
	}
}

func Example() {
	key := []byte("@ABCDEFGHIJKLMNO") // 40…4F
	senc, _ := scp02.SessionKey(key, scp02.SENC, [2]byte{0, 1})
	smac, _ := scp02.SessionKey(key, scp02.SMAC, [2]byte{0, 1})
	host, card := []byte("hostchal"), []byte("\x00\x01chalng")
	cryptogram, _ := scp02.HostCryptogram(senc, host, card)

	ch := scp02.Channel{ENC: senc, MAC: smac, Option: 0x15, Level: 0x03}
	_, chain, _ := ch.Authenticate(cryptogram)
	wrapped, chain, _ := ch.Wrap(chain, apdu.Command{CLA: 0x80, INS: 0xF2, P1: 0x80, Data: []byte{0x4F, 0x00}})
	fmt.Printf("%02X, %d bytes\n", wrapped.CLA, len(wrapped.Data))
	// Output: 84, 16 bytes
}
