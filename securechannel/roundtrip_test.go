package securechannel_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"inkan/apdu"
	"inkan/securechannel"
)

// TestRoundTrip sends random lists through every variant, whole and one by one,
// and compares what reaches the application and what comes back.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	vs := variants()
	if len(vs) < 100 {
		t.Fatalf("only %d variants", len(vs))
	}
	for i, v := range vs {
		t.Run(fmt.Sprintf("scp=%v/i=%v/level=%v/key=%d", v.p, v.o, v.l, v.keyLen*8), func(t *testing.T) {
			t.Parallel()
			rnd := newRand(byte(i))
			card := &batchCard{testCard: newTestCard(v)}
			s := open(t, v, card)
			for range 6 {
				es := randomList(rnd, s)
				checkList(t, card, s, es)
			}
			// Every length once.
			var es []apdu.Entry
			for n := range s.MaxData() + 1 {
				es = append(es, apdu.Entry{Command: echoCommand(apdu.SWSuccess, randomBytes(rnd, n))})
			}
			checkList(t, card, s, es)
		})
	}
}

// randomList has commands of any length, plain entries and error statuses.
func randomList(rnd *rand.Rand, s *securechannel.Session) []apdu.Entry {
	var es []apdu.Entry
	for range 1 + rnd.IntN(12) {
		sw := []apdu.StatusWord{apdu.SWSuccess, apdu.SWSuccess, apdu.SWSuccess, 0x6310, 0x6283, 0x6A88, 0x6985}[rnd.IntN(7)]
		e := apdu.Entry{Command: echoCommand(sw, randomBytes(rnd, rnd.IntN(s.MaxData()+1)))}
		e.CLA = []byte{0x80, 0x84, 0x00, 0x04}[rnd.IntN(4)]
		if s.Level() == securechannel.LevelAuthenticated {
			e.CLA = 0x80
		}
		if rnd.IntN(3) == 0 {
			e.Mode = apdu.Anyway
		}
		if rnd.IntN(5) == 0 {
			e = apdu.Entry{Command: apdu.Command{CLA: 0xB0, INS: 0x58, Ne: 14}, Mode: apdu.Plain}
		}
		if rnd.IntN(8) == 0 && s.Info().Protocol == securechannel.SCP03 {
			e.Command = echoCommand(sw, randomBytes(rnd, 256+rnd.IntN(900)))
			e.Ne = apdu.MaxExtendedNe
			e.Mode &^= apdu.Plain
		}
		es = append(es, e)
	}
	return es
}

// checkList runs a list and compares it with what a card without secure
// messaging would have done.
func checkList(t *testing.T, card *batchCard, s *securechannel.Session, es []apdu.Entry) {
	t.Helper()
	card.plain = nil
	got, err := s.DoAll(t.Context(), es)
	if err != nil {
		t.Fatalf("after %d of %d: %v", len(got), len(es), err)
	}
	for i, e := range es {
		want := apdu.Response{Data: []byte("plain"), SW: apdu.SWSuccess}
		if e.Mode&apdu.Plain == 0 {
			want = echo(e.Command, card.MaxResponse())
		}
		if i >= len(got) || i >= len(card.plain) {
			t.Fatalf("%d answers, %d commands ran, want more", len(got), len(card.plain))
		}
		if got[i].SW != want.SW || !bytes.Equal(got[i].Data, want.Data) {
			t.Fatalf("command %d: answer %+v, want %+v", i, got[i], want)
		}
		ran := card.plain[i]
		if ran.CLA&^4 != e.CLA&^4 || ran.INS != e.INS || ran.P1 != e.P1 || ran.P2 != e.P2 || !bytes.Equal(ran.Data, e.Data) {
			t.Fatalf("command %d: application got %+v, want %+v", i, ran, e.Command)
		}
		if want.SW != apdu.SWSuccess && e.Mode&apdu.Anyway == 0 {
			if len(got) != i+1 || len(card.plain) != i+1 {
				t.Fatalf("list went on after command %d with %v", i, want.SW)
			}
			return
		}
	}
	if len(got) != len(es) {
		t.Fatalf("%d answers to %d commands", len(got), len(es))
	}
}

// TestEarlyStopContinues stops lists at every position, in a card that runs them
// whole and in one that does not, and goes on.
func TestEarlyStopContinues(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{
		{securechannel.SCP01, 0x05, 0x01, 16}, {securechannel.SCP01, 0x15, 0x03, 16},
		{securechannel.SCP02, 0x15, 0x03, 16}, {securechannel.SCP02, 0x75, 0x13, 16},
		{securechannel.SCP03, 0x70, 0x33, 32}, {securechannel.SCP03, 0x00, 0x03, 16},
	} {
		for stop := range 5 {
			one := newTestCard(v)
			batch := &batchCard{testCard: newTestCard(v)}
			for _, card := range []apdu.Card{one, batch} {
				s := open(t, v, card)
				es := apdu.Entries(0, slices.Repeat([]apdu.Command{echoCommand(apdu.SWSuccess, []byte("data"))}, 5)...)
				es[stop].P1, es[stop].P2 = 0x6A, 0x88
				got, err := s.DoAll(t.Context(), es)
				if err != nil || len(got) != stop+1 || got[stop].SW != apdu.SWReferencedNotFound {
					t.Fatalf("%+v stop=%d: %d answers, %v", v, stop, len(got), err)
				}
				r, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, []byte("more")))
				if err != nil || string(r.Data) != "erom" {
					t.Errorf("%+v stop=%d: going on: %+v, %v", v, stop, r, err)
				}
			}
			if batch.lists < 2 {
				t.Errorf("%+v: %d lists sent whole", v, batch.lists)
			}
		}
	}
}

// TestWrongLeIsWrappedAgain has the card answer 6C10 to wrapped commands, whose
// C-MAC is then used up.
func TestWrongLeIsWrappedAgain(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{
		{securechannel.SCP01, 0x15, 0x03, 16},
		{securechannel.SCP02, 0x75, 0x13, 16}, {securechannel.SCP03, 0x70, 0x33, 16}, {securechannel.SCP03, 0x00, 0x01, 16},
	} {
		card := newTestCard(v)
		s := open(t, v, card)
		cmds := []apdu.Command{echoCommand(apdu.SWSuccess, []byte("a")), echoCommand(apdu.SWSuccess, []byte("b"))}
		card.wrongLe = 1
		got, err := s.DoAll(t.Context(), apdu.Entries(0, cmds...))
		if err != nil || len(got) != 2 || string(got[0].Data) != "a" || string(got[1].Data) != "b" {
			t.Errorf("%+v: %+v, %v", v, got, err)
		}
		card.wrongLe = 2 // twice for one command: the answer stands
		r, err := s.Do(t.Context(), cmds[0])
		if err != nil || r.SW != 0x6C10 {
			t.Errorf("%+v: %+v, %v", v, r, err)
		}
		card.wrongLe = 1
		got, err = s.DoAll(t.Context(), apdu.Entries(apdu.Anyway, cmds...))
		if err != nil || len(got) != 2 || got[0].SW != 0x6C10 || string(got[1].Data) != "b" {
			t.Errorf("%+v Anyway: %+v, %v", v, got, err)
		}
	}
}

// TestDialects runs the deviations of cards and hosts against each other.
func TestDialects(t *testing.T) {
	t.Parallel()
	empty := apdu.Entries(0, slices.Repeat([]apdu.Command{echoCommand(apdu.SWSuccess, nil), echoCommand(apdu.SWSuccess, []byte{1})}, 3)...)

	for _, host := range []securechannel.Dialect{0, securechannel.EmptyField} {
		card := newTestCard(scp01Full)
		req := scp01Full.request(newRand(1))
		req.Dialect = host
		s, err := securechannel.Open(t.Context(), apdu.NewConn(card), req, testKeys(16).source)
		if err != nil {
			t.Fatal(err)
		}
		if rs, err := s.DoAll(t.Context(), empty); err != nil || len(rs) != len(empty) {
			t.Errorf("SCP01 host dialect %d: %d answers, %v", host, len(rs), err)
		}
		if n, want := len(card.sent[2]), 5+8+8*int(host)+1; n != want {
			t.Errorf("SCP01 host dialect %d: empty field sent in %d bytes, want %d", host, n, want)
		}
	}

	card := newTestCard(scp01Full)
	req := scp01Full.request(newRand(1))
	req.Dialect = securechannel.NoLe
	s, err := securechannel.Open(t.Context(), apdu.NewConn(card), req, testKeys(16).source)
	if err != nil {
		t.Fatal(err)
	}
	if rs, err := s.DoAll(t.Context(), empty); err != nil || len(rs) != len(empty) || len(rs[1].Data) != 1 {
		t.Errorf("SCP01 without Le: %+v, %v", rs, err)
	}
	for _, raw := range card.sent[1:] {
		if len(raw) != 5+int(raw[4]) {
			t.Errorf("SCP01 without Le: sent %X", raw)
		}
	}

	v02 := variant{securechannel.SCP02, 0x75, 0x13, 16}
	for _, errorMAC := range []bool{false, true} {
		card := newTestCard(v02)
		card.cfg.ErrorMAC = errorMAC
		card.CardSession = securechannel.NewCard(card.cfg)
		req := v02.request(newRand(1))
		req.Dialect = securechannel.EmptyField
		s, err := securechannel.Open(t.Context(), apdu.NewConn(card), req, testKeys(16).source)
		if err != nil {
			t.Fatal(err)
		}
		es := append(slices.Clone(empty), apdu.Entry{Command: echoCommand(0x6A88, nil), Mode: apdu.Anyway}, empty[1])
		if rs, err := s.DoAll(t.Context(), es); err != nil || len(rs) != len(es) {
			t.Errorf("SCP02 errorMAC=%t: %d answers, %v", errorMAC, len(rs), err)
		}
		if n := len(card.sent[2]); n != 5+16+1 {
			t.Errorf("SCP02: empty field sent in %d bytes", n)
		}
	}

	v03 := variant{securechannel.SCP03, 0x70, 0x33, 16}
	for _, host := range []securechannel.Dialect{0, securechannel.CounterWithDataOnly} {
		card := newTestCard(v03)
		card.cfg.CounterWithDataOnly = true
		card.CardSession = securechannel.NewCard(card.cfg)
		req := v03.request(newRand(1))
		req.Dialect = host
		s, err := securechannel.Open(t.Context(), apdu.NewConn(card), req, testKeys(16).source)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := s.DoAll(t.Context(), empty)
		if ok := err == nil && len(rs) == len(empty) && rs[len(rs)-1].SW == apdu.SWSuccess; ok != (host != 0) {
			t.Errorf("SCP03 host dialect %d: %+v, %v", host, rs, err)
		}
	}
}
