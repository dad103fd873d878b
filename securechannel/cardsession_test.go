package securechannel_test

import (
	"bytes"
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

func initUpdate(v variant) apdu.Command {
	return apdu.Command{CLA: 0x80, INS: 0x50, Data: v.request(newRand(1)).HostChallenge, Ne: 256}
}

// authCommand computes EXTERNAL AUTHENTICATE for the card's answer r, with host
// cryptogram and C-MAC altered by the two masks.
func authCommand(t *testing.T, v variant, r apdu.Response, badCryptogram, badMAC byte) apdu.Command {
	t.Helper()
	req := v.request(newRand(1))
	iu, err := securechannel.ParseInitializeUpdate(r.Data, req)
	if err != nil {
		t.Fatal(err)
	}
	k, err := testKeys(v.keyLen).source(t.Context(), iu)
	if err != nil {
		t.Fatal(err)
	}
	var cmd apdu.Command
	switch v.p {
	case securechannel.SCP01:
		hc, _ := scp01.HostCryptogram(k.ENC.Bytes(), iu.HostChallenge, iu.CardChallenge)
		hc[0] ^= badCryptogram
		cmd, _, err = scp01.Channel{MAC: k.MAC.Bytes(), Option: scp01.Option(v.o), Level: scp01.Level(v.l)}.Authenticate(hc)
	case securechannel.SCP02:
		hc, _ := scp02.HostCryptogram(k.ENC.Bytes(), iu.HostChallenge, append(append([]byte{}, iu.Counter...), iu.CardChallenge...))
		hc[0] ^= badCryptogram
		cmd, _, err = scp02.Channel{MAC: k.MAC.Bytes(), Option: scp02.Option(v.o), Level: scp02.Level(v.l)}.Authenticate(hc)
	default:
		hc, _ := scp03.HostCryptogram(k.MAC.Bytes(), iu.HostChallenge, iu.CardChallenge)
		hc[0] ^= badCryptogram
		cmd, _, err = scp03.Channel{MAC: k.MAC.Bytes(), Option: scp03.Option(v.o), Level: scp03.Level(v.l)}.Authenticate(hc)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd.Data[len(cmd.Data)-1] ^= badMAC
	return cmd
}

// TestCardOpening walks the refusals of INITIALIZE UPDATE and EXTERNAL
// AUTHENTICATE and what they do to the counter.
func TestCardOpening(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp01Full, scp02Full, scp03Full} {
		step := uint32(0) // what INITIALIZE UPDATE adds
		if v.p == securechannel.SCP03 {
			step = 1
		}
		for _, tc := range []struct {
			name    string
			change  func(cmd *apdu.Command)
			crypto  byte
			mac     byte
			want    apdu.StatusWord
			counter uint32 // of SCP02, added by EXTERNAL AUTHENTICATE
		}{
			{"good", nil, 0, 0, apdu.SWSuccess, 1},
			{"host cryptogram", nil, 1, 0, apdu.SWAuthFailed, 1},
			{"C-MAC", nil, 0, 1, apdu.SWSecurityStatus, 0},
			{"both", nil, 1, 1, apdu.SWAuthFailed, 0},
			{"level", func(c *apdu.Command) { c.P1 = 0x02 }, 0, 0, apdu.SWIncorrectP1P2, 0},
			{"P2", func(c *apdu.Command) { c.P2 = 1 }, 0, 0, apdu.SWIncorrectP1P2, 0},
			{"length", func(c *apdu.Command) { c.Data = c.Data[:8] }, 0, 0, apdu.SWWrongLength, 0},
			{"class", func(c *apdu.Command) { c.CLA = 0x80 }, 0, 0, apdu.SWSecurityStatus, 0},
		} {
			card := newTestCard(v)
			before := card.keys.Counter
			cmd := authCommand(t, v, card.InitializeUpdate(initUpdate(v)), tc.crypto, tc.mac)
			if tc.change != nil {
				tc.change(&cmd)
			}
			if got := card.ExternalAuthenticate(cmd); got.SW != tc.want || len(got.Data) != 0 {
				t.Errorf("%v %s: %v, want %v", v.p, tc.name, got.SW, tc.want)
			}
			added := step
			if v.p == securechannel.SCP02 {
				added = tc.counter
			}
			if card.keys.Counter != before+added {
				t.Errorf("%v %s: counter moved by %d, want %d", v.p, tc.name, card.keys.Counter-before, added)
			}
			l, isOpen := card.Level()
			if isOpen != (tc.want == apdu.SWSuccess) || isOpen && l != v.l {
				t.Errorf("%v %s: open %t at %v", v.p, tc.name, isOpen, l)
			}
			if got := card.ExternalAuthenticate(cmd); got.SW != apdu.SWConditionsOfUse {
				t.Errorf("%v %s: sent again: %v", v.p, tc.name, got.SW)
			}
		}
	}
}

func TestCardInitializeUpdateRefuses(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp02Full, scp03Full, {securechannel.SCP03, 0x71, 0x33, 16}} {
		for name, tc := range map[string]struct {
			card func(c *testCard)
			cmd  func(c *apdu.Command)
			want apdu.StatusWord
		}{
			"version":         {nil, func(c *apdu.Command) { c.P1 = 0x22 }, apdu.SWReferencedNotFound},
			"key index":       {nil, func(c *apdu.Command) { c.P2 = 1 }, apdu.SWIncorrectP1P2},
			"short challenge": {nil, func(c *apdu.Command) { c.Data = c.Data[1:] }, apdu.SWWrongLength},
			"no challenge":    {nil, func(c *apdu.Command) { c.Data = nil }, apdu.SWWrongLength},
			"counter at end":  {func(c *testCard) { c.keys.Counter = 0xFFFFFF }, nil, apdu.SWConditionsOfUse},
			"option":          {func(c *testCard) { c.keys.Option = 0x0A }, nil, apdu.SWReferencedNotFound},
			"protocol":        {func(c *testCard) { c.keys.Protocol = 4 }, nil, apdu.SWReferencedNotFound},
			"key":             {func(c *testCard) { c.keys.ENC = secret.Secret{} }, nil, apdu.SWNoDiagnosis},
		} {
			card := newTestCard(v)
			cmd := initUpdate(v)
			if tc.card != nil {
				tc.card(card)
			}
			if tc.cmd != nil {
				tc.cmd(&cmd)
			}
			if got := card.InitializeUpdate(cmd); got.SW != tc.want || len(got.Data) != 0 {
				t.Errorf("%+v %s: %v, want %v", v, name, got.SW, tc.want)
			}
			if got := card.ExternalAuthenticate(apdu.Command{CLA: 0x84, P1: 1, Data: make([]byte, 16)}); got.SW != apdu.SWConditionsOfUse {
				t.Errorf("%+v %s: EXTERNAL AUTHENTICATE after it: %v", v, name, got.SW)
			}
		}
	}
}

func TestCardCounterNotStored(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp02Full, scp03Full} {
		card := newTestCard(v)
		card.keys.SetCounter = func(uint32) error { return errors.New("torn") }
		r := card.InitializeUpdate(initUpdate(v))
		if v.p == securechannel.SCP02 {
			r = card.ExternalAuthenticate(authCommand(t, v, r, 0, 0))
		}
		if _, isOpen := card.Level(); r.SW != apdu.SWMemoryFailure || isOpen {
			t.Errorf("%v: %v, open %t", v.p, r.SW, isOpen)
		}
	}
}

// TestCardStates sends plain and wrapped commands in every state.
func TestCardStates(t *testing.T) {
	t.Parallel()
	plain := apdu.Command{CLA: 0x80, INS: 0xCA, P2: 0x66, Ne: 256}
	secured := apdu.Command{CLA: 0x84, INS: 0xCA, P2: 0x66, Data: make([]byte, 8), Ne: 256}
	for _, v := range []variant{scp02Full, scp03Full} {
		card := newTestCard(v)
		check := func(state string, cmd apdu.Command, want apdu.StatusWord) {
			t.Helper()
			if got, sw := card.Unwrap(cmd); sw != want || sw == apdu.SWSuccess && got.INS != cmd.INS {
				t.Errorf("%v %s: %v, want %v", v.p, state, sw, want)
			}
		}
		check("idle, plain", plain, apdu.SWSuccess)
		check("idle, secured", secured, apdu.SWConditionsOfUse)
		r := card.InitializeUpdate(initUpdate(v))
		check("pending, plain", plain, apdu.SWSuccess)
		card.ExternalAuthenticate(authCommand(t, v, r, 0, 0))
		if _, ok := card.DecryptDEK(make([]byte, 16)); !ok {
			t.Errorf("%v: no data encryption key in a session", v.p)
		}
		if kvn, ok := card.KeyVersion(); !ok || kvn != 0x21 {
			t.Errorf("%v: key version %v, %t", v.p, kvn, ok)
		}
		check("open, plain", plain, apdu.SWSecurityStatus)
		check("aborted, plain", plain, apdu.SWSecurityStatus)
		check("aborted, secured", secured, apdu.SWSecurityStatus)
		if got := card.ExternalAuthenticate(secured); got.SW != apdu.SWSecurityStatus {
			t.Errorf("%v: EXTERNAL AUTHENTICATE when aborted: %v", v.p, got.SW)
		}
		check("still aborted, plain", plain, apdu.SWSecurityStatus)
		if _, ok := card.DecryptDEK(make([]byte, 16)); ok {
			t.Errorf("%v: data encryption key without a session", v.p)
		}
		card.Terminate()
		check("terminated, plain", plain, apdu.SWSuccess)
		card.ExternalAuthenticate(authCommand(t, v, card.InitializeUpdate(initUpdate(v)), 0, 0))
		if got := card.ExternalAuthenticate(secured); got.SW != apdu.SWConditionsOfUse {
			t.Errorf("%v: EXTERNAL AUTHENTICATE in a session: %v", v.p, got.SW)
		}
		check("aborted by it, plain", plain, apdu.SWSecurityStatus)
		card.Terminate()
		if got := card.WrapResponse(apdu.Response{Data: []byte{1}, SW: apdu.SWSuccess}); len(got.Data) != 1 {
			t.Errorf("%v: answer without a session altered", v.p)
		}
		if card.MaxResponse() != 256 {
			t.Errorf("%v: %d", v.p, card.MaxResponse())
		}
	}
}

func TestCardQuirkMACError(t *testing.T) {
	t.Parallel()
	card := newTestCard(scp03Full)
	card.cfg.MACError = 0x6988
	card.CardSession = securechannel.NewCard(card.cfg)
	card.ExternalAuthenticate(authCommand(t, scp03Full, card.InitializeUpdate(initUpdate(scp03Full)), 0, 0))
	for range 2 {
		if _, sw := card.Unwrap(apdu.Command{CLA: 0x84, INS: 0xF2, Data: make([]byte, 9)}); sw != 0x6988 {
			t.Error(sw)
		}
	}
}

func TestDecryptDEK(t *testing.T) {
	t.Parallel()
	plain := bytes.Repeat([]byte{0x5A}, 32)
	for _, v := range []variant{scp01Full, scp02Full, {securechannel.SCP03, 0x70, 0x03, 32}} {
		card := newTestCard(v)
		s := open(t, v, card)
		k := testKeys(v.keyLen)
		var ct []byte
		var err error
		switch v.p {
		case securechannel.SCP01:
			ct, err = scp01.EncryptDEK(k.dek, plain)
		case securechannel.SCP02:
			dek, _ := scp02.SessionKey(k.dek, scp02.SDEK, [2]byte(s.Info().Counter))
			ct, err = scp02.EncryptDEK(dek, plain)
		default:
			ct, err = scp03.EncryptDEK(k.dek, plain)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := card.DecryptDEK(ct); !ok || !bytes.Equal(got, plain) {
			t.Errorf("%v: %x, %t", v.p, got, ok)
		}
		for _, n := range []int{0, 1, 31} {
			if _, ok := card.DecryptDEK(ct[:n]); ok {
				t.Errorf("%v: %d bytes decrypted", v.p, n)
			}
		}
	}
}

// TestLogicalChannels wraps for every channel: the MAC does not know it.
func TestLogicalChannels(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp01Full, scp02Full, scp03Full} {
		card := newTestCard(v)
		s := open(t, v, card)
		for _, cla := range []byte{0x80, 0x81, 0x83, 0x00, 0x02, 0xC0, 0xCF, 0x40, 0x45} {
			cmd := echoCommand(apdu.SWSuccess, []byte{7})
			cmd.CLA = cla
			r, err := s.Do(t.Context(), cmd)
			if err != nil || r.SW != apdu.SWSuccess {
				t.Fatalf("%v class %02X: %+v, %v", v.p, cla, r, err)
			}
			if got := card.plain[len(card.plain)-1].CLA; got != cla {
				t.Errorf("%v class %02X arrives as %02X", v.p, cla, got)
			}
			wantSM := cla | 0x04
			if cla&0x40 != 0 {
				wantSM = cla | 0x20
			}
			if got := card.sent[len(card.sent)-1][0]; got != wantSM {
				t.Errorf("%v class %02X sent as %02X, want %02X", v.p, cla, got, wantSM)
			}
		}
	}
}

func FuzzInitUpdateNoPanic(f *testing.F) {
	for _, v := range []variant{scp01Full, scp02Full, scp03Full, {securechannel.SCP03, 0x71, 0x33, 16}, {securechannel.SCP03, 0x00, 0x00, 16}} {
		c := newTestCard(v)
		f.Add(c.InitializeUpdate(initUpdate(v)).Data, byte(v.p), byte(v.o), v.p == securechannel.SCP03 && v.o&1 != 0)
	}
	f.Fuzz(func(t *testing.T, data []byte, hintP, hintO byte, s16 bool) {
		req := securechannel.Request{
			HintProtocol: securechannel.Protocol(hintP), HintOption: securechannel.Option(hintO), HostChallenge: make([]byte, 8),
		}
		if s16 {
			req.HostChallenge = make([]byte, 16)
		}
		iu, err := securechannel.ParseInitializeUpdate(data, req)
		if err != nil {
			return
		}
		if iu.KDD != gp.KDD(data[:10]) || len(iu.CardCryptogram) != len(req.HostChallenge) {
			t.Errorf("%+v out of %x", iu, data)
		}
		k := securechannel.SessionKeys{ENC: secret.Random(16), MAC: secret.Random(16)}
		if err := securechannel.VerifyCard(iu, k); !errors.Is(err, securechannel.ErrCryptogram) {
			t.Errorf("random keys: %v", err)
		}
	})
}

func FuzzUnwrapNoPanic(f *testing.F) {
	vs := variants()
	for i := range vs {
		f.Add(byte(i), []byte{0x84, 0xF2, 0x80, 0x02, 0x0A, 0x4F, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 0x00}, []byte{0x90, 0})
	}
	f.Add(byte(0), []byte{0x80, 0x50, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{0x6A, 0x88})
	f.Add(byte(9), []byte{0x84, 0x82, 3, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}, []byte{1, 0x63, 0x10})
	f.Fuzz(func(t *testing.T, which byte, raw, answer []byte) {
		v := vs[int(which)%len(vs)]
		card := newTestCard(v)
		s := open(t, v, card)
		// The host takes any answer to a command of its own.
		inner := card.tamper
		card.tamper = func(int, []byte) []byte { return append(bytes.Clone(answer), 0x90, 0x00) }
		r, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, raw[:min(len(raw), 64)]))
		if err == nil && v.l&securechannel.RMAC != 0 {
			t.Errorf("%+v: answer %x taken for %+v", v, answer, r)
		}
		card.tamper = inner
		// The card takes any command.
		if cmd, err := apdu.ParseCommand(raw); err == nil {
			card.plain = nil
			card.process(cmd)
			if n := len(card.plain); n != 0 && v.l&securechannel.CMAC != 0 && cmd.CLA != 0xB0 {
				t.Errorf("%+v: forged command %x reached the application", v, raw)
			}
		}
	})
}

func BenchmarkWrap(b *testing.B) {
	for _, bc := range []struct {
		name string
		v    variant
		n    int
	}{
		{"scp=01/len=0", scp01Full, 0}, {"scp=01/len=239", scp01Full, 239},
		{"scp=02/len=0", scp02Full, 0}, {"scp=02/len=239", scp02Full, 239},
		{"scp=03/len=0", scp03Full, 0}, {"scp=03/len=239", scp03Full, 239}, {"scp=03/len=255", scp03Full, 255},
	} {
		b.Run(bc.name, func(b *testing.B) {
			k := testKeys(16)
			cmd := echoCommand(apdu.SWSuccess, make([]byte, bc.n))
			c2 := scp02.Channel{ENC: k.enc, MAC: k.mac, Option: 0x15, Level: 0x03}
			c3 := scp03.Channel{ENC: k.enc, MAC: k.mac, Option: 0x70, Level: 0x03}
			var s2 scp02.Chain
			var s3 scp03.Chain
			var err error
			b.ReportAllocs()
			b.SetBytes(int64(bc.n))
			for b.Loop() {
				if bc.v.p == securechannel.SCP02 {
					_, s2, err = c2.Wrap(s2, cmd)
				} else {
					_, s3, err = c3.Wrap(s3, cmd)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
