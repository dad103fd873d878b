package securechannel_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

// staticKeys are the keys of a card.
type staticKeys struct{ enc, mac, dek []byte }

// testKeys are three different keys of n bytes.
func testKeys(n int) staticKeys {
	return staticKeys{bytes.Repeat([]byte{0x41}, n), bytes.Repeat([]byte{0x52}, n), bytes.Repeat([]byte{0x63}, n)}
}

// source is the KeySource of who knows the card's keys.
func (k staticKeys) source(_ context.Context, iu securechannel.InitUpdate) (securechannel.SessionKeys, error) {
	var enc, mac, rmac []byte
	var errs [3]error
	switch iu.Protocol {
	case securechannel.SCP01:
		enc, errs[0] = scp01.SessionKey(k.enc, iu.HostChallenge, iu.CardChallenge)
		mac, errs[1] = scp01.SessionKey(k.mac, iu.HostChallenge, iu.CardChallenge)
	case securechannel.SCP02:
		c := [2]byte(iu.Counter)
		enc, errs[0] = scp02.SessionKey(k.enc, scp02.SENC, c)
		mac, errs[1] = scp02.SessionKey(k.mac, scp02.SMAC, c)
		rmac, errs[2] = scp02.SessionKey(k.mac, scp02.SRMAC, c)
	default:
		c := scp03.Context(iu.HostChallenge, iu.CardChallenge)
		enc, errs[0] = scp03.SessionKey(k.enc, scp03.SENC, c)
		mac, errs[1] = scp03.SessionKey(k.mac, scp03.SMAC, c)
		rmac, errs[2] = scp03.SessionKey(k.mac, scp03.SRMAC, c)
	}
	for _, err := range errs {
		if err != nil {
			return securechannel.SessionKeys{}, err
		}
	}
	return securechannel.SessionKeys{ENC: secret.New(enc), MAC: secret.New(mac), RMAC: secret.New(rmac)}, nil
}

// variant is a protocol with everything that can differ.
type variant struct {
	p      securechannel.Protocol
	o      securechannel.Option
	l      securechannel.Level
	keyLen int
}

// variants are all combinations that the package offers.
func variants() []variant {
	var vs []variant
	levels := []securechannel.Level{0x00, 0x01, 0x03, 0x10, 0x11, 0x13, 0x33}
	add := func(p securechannel.Protocol, keyLens []int) {
		for o := range 256 {
			for _, l := range levels {
				if securechannel.CheckLevel(p, securechannel.Option(o), l) != nil {
					continue
				}
				for _, n := range keyLens {
					vs = append(vs, variant{p, securechannel.Option(o), l, n})
				}
			}
		}
	}
	add(securechannel.SCP01, []int{16})
	add(securechannel.SCP02, []int{16})
	add(securechannel.SCP03, []int{16, 24, 32})
	return vs
}

func (v variant) request(rnd *rand.Rand) securechannel.Request {
	n := 8
	if v.p == securechannel.SCP03 && v.o&1 != 0 {
		n = 16
	}
	return securechannel.Request{
		KeyVersion: 0, HostChallenge: randomBytes(rnd, n), Level: v.l,
		HintProtocol: v.p, HintOption: v.o,
	}
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// newRand is a deterministic random source.
func newRand(seed byte) *rand.Rand { return rand.New(rand.NewChaCha8([32]byte{seed})) }

// testCard is a software card with one application: it answers the data it got,
// backwards, with the status word P1 P2. Class B0 is plain in any channel.
type testCard struct {
	*securechannel.CardSession
	keys    securechannel.CardKeySet
	cfg     securechannel.CardConfig
	sent    [][]byte       // commands as they came
	plain   []apdu.Command // commands that reached the application
	tamper  func(n int, answer []byte) []byte
	wrongLe int // answers so many commands with 6C10 once they are unwrapped
}

var testAID = apdu.MustAID("A000000151000000")

func newTestCard(v variant) *testCard {
	k := testKeys(v.keyLen)
	c := &testCard{}
	c.keys = securechannel.CardKeySet{
		Version: 0x21, Protocol: v.p, Option: v.o, Counter: 6,
		ENC: secret.New(k.enc), MAC: secret.New(k.mac), DEK: secret.New(k.dek),
		SetCounter: func(n uint32) error { c.keys.Counter = n; return nil },
	}
	c.cfg = securechannel.CardConfig{
		KDD: gp.KDD{1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
		KeySet: func(kvn gp.KeyVersion) (securechannel.CardKeySet, bool) {
			return c.keys, kvn == 0 || kvn == c.keys.Version
		},
		AID:  func() apdu.AID { return testAID },
		Rand: rand.NewChaCha8([32]byte{9}),
	}
	c.CardSession = securechannel.NewCard(c.cfg)
	return c
}

// Transmit implements apdu.Card.
func (c *testCard) Transmit(_ context.Context, raw []byte) ([]byte, error) {
	c.sent = append(c.sent, bytes.Clone(raw))
	cmd, err := apdu.ParseCommand(bytes.Clone(raw))
	if err != nil {
		return apdu.Response{SW: apdu.SWWrongLength}.Encode(), nil
	}
	answer := c.process(cmd).Encode()
	if c.tamper != nil {
		answer = c.tamper(len(c.sent)-1, answer)
	}
	return answer, nil
}

func (c *testCard) process(cmd apdu.Command) apdu.Response {
	switch {
	case cmd.INS == 0x50:
		return c.InitializeUpdate(cmd)
	case cmd.INS == 0x82:
		return c.ExternalAuthenticate(cmd)
	case cmd.CLA == 0xB0:
		c.plain = append(c.plain, cmd)
		return apdu.Response{Data: []byte("plain"), SW: apdu.SWSuccess}
	}
	plain, sw := c.Unwrap(cmd)
	if sw != apdu.SWSuccess {
		return apdu.Response{SW: sw}
	}
	if c.wrongLe > 0 {
		c.wrongLe--
		return c.WrapResponse(apdu.Response{SW: 0x6C10})
	}
	c.plain = append(c.plain, plain)
	return c.WrapResponse(echo(plain, c.MaxResponse()))
}

// echo is the application's answer.
func echo(cmd apdu.Command, limit int) apdu.Response {
	r := apdu.Response{SW: apdu.StatusWord(cmd.P1)<<8 | apdu.StatusWord(cmd.P2)}
	if r.SW != apdu.SWSuccess && !r.SW.IsWarning() {
		return r
	}
	if cmd.Ne > apdu.MaxShortNe {
		limit = len(cmd.Data)
	}
	for i := len(cmd.Data) - 1; i >= 0 && len(r.Data) < limit; i-- {
		r.Data = append(r.Data, cmd.Data[i])
	}
	return r
}

// batchCard is a testCard that runs lists as a whole.
type batchCard struct {
	*testCard
	lists int
}

// TransmitAll implements apdu.FrameTransmitter.
func (c *batchCard) TransmitAll(ctx context.Context, frames []apdu.Frame) ([][]byte, error) {
	c.lists++
	var out [][]byte
	for _, f := range frames {
		a, err := c.Transmit(ctx, f.Cmd)
		if err != nil {
			return out, err
		}
		out = append(out, a)
		if sw := a[len(a)-2:]; !bytes.Equal(sw, []byte{0x90, 0}) && !f.Anyway {
			break
		}
	}
	return out, nil
}

// open opens a channel of variant v to card.
func open(t testing.TB, v variant, card apdu.Card) *securechannel.Session {
	t.Helper()
	s, err := securechannel.Open(t.Context(), apdu.NewConn(card), v.request(newRand(1)), testKeys(v.keyLen).source)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	return s
}

// echoCommand makes a command that the test card answers with status sw.
func echoCommand(sw apdu.StatusWord, data []byte) apdu.Command {
	return apdu.Command{CLA: 0x80, INS: 0xE2, P1: sw.SW1(), P2: sw.SW2(), Data: data, Ne: apdu.MaxShortNe}
}
