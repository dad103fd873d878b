package securechannel_test

import (
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/securechannel"
)

func openTogether(t *testing.T, v variant, card apdu.Card) *securechannel.Session {
	t.Helper()
	req := v.request(newRand(1))
	req.Together = true
	s, err := securechannel.Open(t.Context(), apdu.NewConn(card), req, testKeys(v.keyLen).source)
	if err != nil {
		t.Fatalf("%+v: %v", v, err)
	}
	return s
}

// EXTERNAL AUTHENTICATE travels with the first commands, in every variant.
func TestTogether(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		card := &batchCard{testCard: newTestCard(v)}
		s := openTogether(t, v, card)
		if len(card.sent) != 1 || apdu.Together(s) == 1 {
			t.Fatalf("%+v: Open sent %d commands", v, len(card.sent))
		}
		cmd := echoCommand(apdu.SWSuccess, []byte("data"))
		rs, err := s.DoAll(t.Context(), []apdu.Entry{{Command: cmd}, {Command: cmd}})
		if err != nil || len(rs) != 2 || string(rs[1].Data) != "atad" || card.lists != 1 {
			t.Fatalf("%+v: %+v in %d lists, %v", v, rs, card.lists, err)
		}
		if r, err := s.Do(t.Context(), cmd); err != nil || string(r.Data) != "atad" {
			t.Fatalf("%+v: then %+v, %v", v, r, err)
		}
		if err := s.Authenticate(t.Context()); err != nil || len(card.sent) != 5 {
			t.Errorf("%+v: %d commands, %v", v, len(card.sent), err)
		}
	}
}

// Authenticate sends it alone, once; a closed session sends nothing.
func TestAuthenticate(t *testing.T) {
	t.Parallel()
	card := newTestCard(scp03Full)
	s := openTogether(t, scp03Full, card)
	for range 2 {
		if err := s.Authenticate(t.Context()); err != nil || len(card.sent) != 2 {
			t.Fatalf("%d commands, %v", len(card.sent), err)
		}
	}
	if r, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, []byte("ab"))); err != nil || string(r.Data) != "ba" {
		t.Errorf("%+v, %v", r, err)
	}
	closed := newTestCard(scp03Full)
	s = openTogether(t, scp03Full, closed)
	s.Close()
	if err := s.Authenticate(t.Context()); err != nil || len(closed.sent) != 1 {
		t.Errorf("closed: %d commands, %v", len(closed.sent), err)
	}
}

// A card that does not accept the host runs none of the commands behind it.
func TestTogetherRefused(t *testing.T) {
	t.Parallel()
	for _, batches := range []bool{false, true} {
		inner := newTestCard(scp03Full)
		inner.tamper = func(n int, a []byte) []byte {
			if n == 1 {
				return []byte{0x63, 0x00}
			}
			return a
		}
		var card apdu.Card = inner
		if batches {
			card = &batchCard{testCard: inner}
		}
		s := openTogether(t, scp03Full, card)
		cmd := echoCommand(apdu.SWSuccess, []byte("data"))
		rs, err := s.DoAll(t.Context(), []apdu.Entry{{Command: cmd, Mode: apdu.Anyway}, {Command: cmd}})
		if len(rs) != 0 || !errors.Is(err, securechannel.ErrNotAccepted) || !errors.Is(err, apdu.StatusWord(0x6300)) {
			t.Errorf("batches %t: %+v, %v", batches, rs, err)
		}
		if len(inner.plain) != 0 || len(inner.sent) != 2 {
			t.Errorf("batches %t: %d commands sent, %d ran", batches, len(inner.sent), len(inner.plain))
		}
		if _, err := s.Do(t.Context(), cmd); !errors.Is(err, securechannel.ErrAborted) {
			t.Errorf("batches %t: afterwards %v", batches, err)
		}
	}
}
