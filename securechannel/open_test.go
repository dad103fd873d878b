package securechannel_test

import (
	"context"
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
)

var (
	scp01Full = variant{securechannel.SCP01, 0x15, 0x03, 16}
	scp02Full = variant{securechannel.SCP02, 0x75, 0x13, 16}
	scp03Full = variant{securechannel.SCP03, 0x70, 0x33, 16}
)

// TestDEF09CardThatDoesNotProveItself never sees EXTERNAL AUTHENTICATE.
func TestDEF09CardThatDoesNotProveItself(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp01Full, scp02Full, scp03Full, {securechannel.SCP03, 0x01, 0x01, 32}} {
		for i := range 45 {
			card := newTestCard(v)
			card.tamper = func(_ int, a []byte) []byte {
				if i < len(a)-2 {
					a[i] ^= 1
				}
				return a
			}
			s, err := securechannel.Open(t.Context(), apdu.NewConn(card), v.request(newRand(1)), testKeys(v.keyLen).source)
			begin, end := 11, 28 // KDD and KVN are not under the cryptogram, nor is the counter of SCP03 after it
			if v.p == securechannel.SCP03 {
				end = 13 + 2*len(v.request(newRand(1)).HostChallenge)
			}
			if v.p == securechannel.SCP01 {
				begin = 12 // with the recognition data known, byte 11 is a key index
			}
			switch {
			case err == nil && i >= begin && i < end, err != nil && len(card.sent) != 1:
				t.Errorf("%+v byte %d: session %t, %d commands, %v", v, i, s != nil, len(card.sent), err)
			case i == 20 && !errors.Is(err, securechannel.ErrCryptogram):
				t.Errorf("%+v byte %d: %v", v, i, err)
			}
		}
		card := newTestCard(v)
		_, err := securechannel.Open(t.Context(), apdu.NewConn(card), v.request(newRand(1)), staticKeys{testKeys(v.keyLen).mac, testKeys(v.keyLen).enc, nil}.source)
		if !errors.Is(err, securechannel.ErrCryptogram) || len(card.sent) != 1 {
			t.Errorf("%+v: wrong keys: %d commands, %v", v, len(card.sent), err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	good := scp03Full.request(newRand(1))
	broken := errors.New("key service gone")
	keys := testKeys(16).source
	for _, tc := range []struct {
		name   string
		v      variant
		change func(*securechannel.Request)
		keys   securechannel.KeySource
		want   error
		sent   int
	}{
		{"SCP04", scp03Full, func(r *securechannel.Request) { r.HintProtocol = 4 }, keys, apdu.ErrUnsupported, 0},
		{"option of SCP01", scp01Full, func(r *securechannel.Request) { r.HintOption = 0x55 }, keys, apdu.ErrUnsupported, 0},
		{"key index", scp01Full, func(r *securechannel.Request) { r.KeyIndex = 2 }, keys, apdu.SWReferencedNotFound, 1},
		{"R-MAC under SCP01", scp01Full, func(r *securechannel.Request) { r.Level = 0x11 }, keys, apdu.ErrUnsupported, 1},
		{"implicit SCP02", scp02Full, func(r *securechannel.Request) { r.HintOption = 0x1A }, keys, apdu.ErrUnsupported, 0},
		{"no host challenge", scp03Full, func(r *securechannel.Request) { r.HostChallenge = nil }, keys, nil, 0},
		{"unknown version", scp03Full, func(r *securechannel.Request) { r.KeyVersion = 0x33 }, keys, apdu.SWReferencedNotFound, 1},
		{"S8 challenge to S16 card", variant{securechannel.SCP03, 0x71, 0x33, 16}, nil, keys, apdu.SWWrongLength, 1},
		{"level", variant{securechannel.SCP03, 0x00, 0x33, 16}, func(r *securechannel.Request) { r.HintOption = 0 }, keys, apdu.ErrUnsupported, 1},
		{"chosen level", scp03Full, func(r *securechannel.Request) {
			r.Choose = func(securechannel.InitUpdate) securechannel.Level { return 0x20 }
		}, keys, apdu.ErrUnsupported, 1},
		{"key service", scp03Full, nil, func(context.Context, securechannel.InitUpdate) (securechannel.SessionKeys, error) {
			return securechannel.SessionKeys{}, broken
		}, broken, 1},
		{"no keys", scp03Full, nil, func(context.Context, securechannel.InitUpdate) (securechannel.SessionKeys, error) {
			return securechannel.SessionKeys{}, nil
		}, nil, 1},
		{"no R-MAC key", scp03Full, nil, func(ctx context.Context, iu securechannel.InitUpdate) (securechannel.SessionKeys, error) {
			k, err := keys(ctx, iu)
			k.RMAC = secret.Secret{}
			return k, err
		}, nil, 1},
	} {
		card := newTestCard(tc.v)
		req := good
		req.HintProtocol, req.HintOption, req.Level = tc.v.p, tc.v.o, tc.v.l
		if tc.change != nil {
			tc.change(&req)
		}
		s, err := securechannel.Open(ctx, apdu.NewConn(card), req, tc.keys)
		if s != nil || err == nil || tc.want != nil && !errors.Is(err, tc.want) || len(card.sent) != tc.sent {
			t.Errorf("%s: session %t, %d commands, %v", tc.name, s != nil, len(card.sent), err)
		}
	}
}

func TestOpenRefusedByTheCard(t *testing.T) {
	t.Parallel()
	card := newTestCard(scp03Full)
	card.cfg.Accepts = func(l securechannel.Level) bool { return l != 0x33 }
	card.CardSession = securechannel.NewCard(card.cfg)
	_, err := securechannel.Open(t.Context(), apdu.NewConn(card), scp03Full.request(newRand(1)), testKeys(16).source)
	if !errors.Is(err, apdu.SWIncorrectP1P2) {
		t.Error(err)
	}
	req := scp03Full.request(newRand(1))
	req.Choose = func(iu securechannel.InitUpdate) securechannel.Level {
		if iu.Option != 0x70 || iu.KeyVersion != 0x21 {
			t.Errorf("chosen from %+v", iu)
		}
		return securechannel.LevelCENC
	}
	s, err := securechannel.Open(t.Context(), apdu.NewConn(card), req, testKeys(16).source)
	if err != nil || s.Level() != securechannel.LevelCENC || s.MaxData() != 239 {
		t.Errorf("%v", err)
	}
}

func TestInitializeProbesOnly(t *testing.T) {
	t.Parallel()
	card := newTestCard(scp02Full)
	req := scp02Full.request(newRand(1))
	req.KeyVersion = 0x21
	iu, err := securechannel.Initialize(t.Context(), apdu.NewConn(card), req)
	if err != nil || iu.KeyVersion != 0x21 || iu.KDD != (gp.KDD{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) || iu.Protocol != securechannel.SCP02 || iu.Option != 0x75 {
		t.Errorf("%+v, %v", iu, err)
	}
	k, err := testKeys(16).source(t.Context(), iu)
	if err != nil {
		t.Fatal(err)
	}
	if err := securechannel.VerifyCard(iu, k); err != nil {
		t.Error(err)
	}
	iu.CardCryptogram[7] ^= 0x80
	if err := securechannel.VerifyCard(iu, k); !errors.Is(err, securechannel.ErrCryptogram) {
		t.Error(err)
	}
	if n := len(card.sent); n != 1 || card.sent[0][len(card.sent[0])-1] != 0 {
		t.Errorf("%d commands, last byte not Le 00", n)
	}
	card.cfg.KDD = gp.KDD{}
	req.HintProtocol, req.HintOption = 0, 0 // recognition data absent
	if iu, err = securechannel.Initialize(t.Context(), apdu.NewConn(card), req); err != nil || iu.Option != 0x15 {
		t.Errorf("default option %v, %v", iu.Option, err)
	}
}

// TestProtocolOfTheAnswer: byte 11 names the protocol, or it is the key index of
// an Open Platform 2.0.1 card where the recognition data say SCP01.
func TestProtocolOfTheAnswer(t *testing.T) {
	t.Parallel()
	type hint = securechannel.Request
	for _, tc := range []struct {
		name   string
		byte11 byte
		length int
		hint   hint
		p      securechannel.Protocol // 0: refused
		o      securechannel.Option
		index  uint8
	}{
		{"SCP01, nothing known", 0x01, 28, hint{}, 1, 0x05, 1},
		{"SCP01, option known", 0x01, 28, hint{HintProtocol: 1, HintOption: 0x15}, 1, 0x15, 1},
		{"SCP01 beside SCP03", 0x01, 28, hint{HintProtocol: 3, HintOption: 0x70}, 1, 0x05, 1},
		{"key index 00", 0x00, 28, hint{HintProtocol: 1, HintOption: 0x05}, 1, 0x05, 0},
		{"key index 7F", 0x7F, 28, hint{HintProtocol: 1, HintOption: 0x15}, 1, 0x15, 0x7F},
		{"key index 00, nothing known", 0x00, 28, hint{}, 0, 0, 0},
		{"key index 07, SCP02 known", 0x07, 28, hint{HintProtocol: 2, HintOption: 0x15}, 0, 0, 0},
		{"SCP02 where SCP01 is known", 0x02, 28, hint{HintProtocol: 1, HintOption: 0x05}, 2, 0x15, 0},
		{"SCP03 where SCP01 is known", 0x03, 29, hint{HintProtocol: 1, HintOption: 0x05}, 3, 0x00, 0},
		{"SCP01 too long", 0x01, 29, hint{}, 0, 0, 0},
		{"SCP01 too short", 0x01, 27, hint{}, 0, 0, 0},
	} {
		data := make([]byte, tc.length)
		data[11] = tc.byte11
		tc.hint.HostChallenge = make([]byte, 8)
		iu, err := securechannel.ParseInitializeUpdate(data, tc.hint)
		if tc.p == 0 {
			if err == nil {
				t.Errorf("%s: taken for %+v", tc.name, iu)
			}
			continue
		}
		if err != nil || iu.Protocol != tc.p || iu.Option != tc.o || iu.KeyIndex != tc.index {
			t.Errorf("%s: %v i=%v index %d, %v", tc.name, iu.Protocol, iu.Option, iu.KeyIndex, err)
		}
	}
}

// TestKeyIndex: a card of SCP01 takes the first key by 00 and by 01, and says 01.
func TestKeyIndex(t *testing.T) {
	t.Parallel()
	for index := range uint8(2) {
		req := scp01Full.request(newRand(1))
		req.KeyIndex = index
		s, err := securechannel.Open(t.Context(), apdu.NewConn(newTestCard(scp01Full)), req, testKeys(16).source)
		if err != nil || s.Info().KeyIndex != 1 || s.MaxData() != 239 {
			t.Errorf("index %d: %v", index, err)
		}
	}
}

func TestMaxData(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		p            securechannel.Protocol
		o            securechannel.Option
		l            securechannel.Level
		command, rsp int
	}{
		{securechannel.SCP01, 0x05, 0x00, 255, 256}, {securechannel.SCP01, 0x15, 0x01, 247, 256}, {securechannel.SCP01, 0x05, 0x03, 239, 256},
		{securechannel.SCP02, 0x15, 0x00, 255, 256}, {securechannel.SCP02, 0x15, 0x01, 247, 256}, {securechannel.SCP02, 0x15, 0x03, 239, 256},
		{securechannel.SCP02, 0x35, 0x10, 255, 248}, {securechannel.SCP02, 0x35, 0x11, 247, 248}, {securechannel.SCP02, 0x35, 0x13, 239, 248},
		{securechannel.SCP03, 0x70, 0x01, 247, 256}, {securechannel.SCP03, 0x70, 0x13, 239, 248}, {securechannel.SCP03, 0x70, 0x33, 239, 239},
		{securechannel.SCP03, 0x71, 0x01, 239, 256}, {securechannel.SCP03, 0x71, 0x13, 223, 240}, {securechannel.SCP03, 0x71, 0x33, 223, 239},
	} {
		c, r := securechannel.MaxCommandData(tc.p, tc.o, tc.l), securechannel.MaxResponseData(tc.p, tc.o, tc.l)
		if c != tc.command || r != tc.rsp {
			t.Errorf("%v i=%v level=%v: %d and %d, want %d and %d", tc.p, tc.o, tc.l, c, r, tc.command, tc.rsp)
		}
	}
}
