package securechannel_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"inkan/apdu"
	"inkan/securechannel"
)

// TestTamperedAnswerAborts alters each byte of a protected answer.
func TestTamperedAnswerAborts(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp02Full, scp03Full, {securechannel.SCP03, 0x71, 0x33, 24}, {securechannel.SCP02, 0x35, 0x10, 16}} {
		for i := range 64 {
			card := newTestCard(v)
			s := open(t, v, card)
			hit := false
			card.tamper = func(_ int, a []byte) []byte {
				if hit = i < len(a)-2; hit {
					a[i] ^= 0x04
				}
				return a
			}
			_, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, []byte("some data")))
			if !hit {
				break
			}
			if !errors.Is(err, securechannel.ErrAborted) {
				t.Errorf("%+v byte %d: %v", v, i, err)
			}
			n := len(card.sent)
			if _, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, nil)); !errors.Is(err, securechannel.ErrAborted) || len(card.sent) != n {
				t.Errorf("%+v byte %d: used after it: %v", v, i, err)
			}
		}
	}
}

// TestTamperedStatus turns a success into another success-like status.
func TestTamperedStatus(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp02Full, scp03Full} {
		card := newTestCard(v)
		s := open(t, v, card)
		card.tamper = func(_ int, a []byte) []byte { a[len(a)-2] = 0x63; return a }
		if _, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, nil)); !errors.Is(err, securechannel.ErrAborted) {
			t.Errorf("%+v: %v", v, err)
		}
	}
}

// TestTamperedCommand alters each byte of a wrapped command on its way. The
// session is then over on both ends until a new one is opened.
func TestTamperedCommand(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{
		{securechannel.SCP01, 0x05, 0x01, 16}, scp01Full,
		{securechannel.SCP02, 0x15, 0x01, 16}, {securechannel.SCP02, 0x55, 0x03, 16}, scp02Full,
		{securechannel.SCP03, 0x00, 0x01, 16}, scp03Full, {securechannel.SCP03, 0x71, 0x33, 32},
	} {
		for i := 0; ; i++ {
			card := newTestCard(v)
			s := open(t, v, card)
			forged := &forger{Card: card, at: i}
			s2, err := securechannel.Open(t.Context(), apdu.NewConn(forged), v.request(newRand(2)), testKeys(v.keyLen).source)
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			forged.armed = true
			r, err := s2.Do(t.Context(), echoCommand(apdu.SWSuccess, []byte("twelve bytes")))
			if !forged.hit {
				break // past the end
			}
			if forged.exempt {
				continue
			}
			if err != nil || r.SW != apdu.SWSecurityStatus && r.SW != apdu.SWWrongLength || len(card.plain) != 0 {
				t.Errorf("%+v byte %d: %v, %v, %d commands reached the application", v, i, r.SW, err, len(card.plain))
			}
			if r.SW != apdu.SWSecurityStatus {
				continue // refused by the transport, before the session saw it
			}
			if _, err := s2.Do(t.Context(), echoCommand(apdu.SWSuccess, nil)); !errors.Is(err, securechannel.ErrAborted) {
				t.Errorf("%+v byte %d: session goes on: %v", v, i, err)
			}
			if _, sw := card.Unwrap(apdu.Command{CLA: 0x80, INS: 0xCA}); sw != apdu.SWSecurityStatus {
				t.Errorf("%+v byte %d: aborted card answers %v to a plain command", v, i, sw)
			}
			if s3 := open(t, v, card); s3 == nil {
				t.Error("no new session after an abort")
			}
		}
	}
}

// forger alters byte at of the commands it passes on, once armed.
type forger struct {
	apdu.Card
	at                 int
	armed, hit, exempt bool
}

func (f *forger) Transmit(ctx context.Context, cmd []byte) ([]byte, error) {
	if f.armed && f.at < len(cmd) {
		f.hit = true
		cmd[f.at] ^= 0x10
		// Bit 10 of Le is not under the MAC.
		f.exempt = f.at == len(cmd)-1
	}
	return f.Card.Transmit(ctx, cmd)
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	gone := errors.New("reader gone")
	cmd := echoCommand(apdu.SWSuccess, []byte{1})
	for name, tc := range map[string]struct {
		do      func(t *testing.T, s *securechannel.Session, c *testCard) error
		first   error // nil: none
		aborted bool
	}{
		"closed": {func(t *testing.T, s *securechannel.Session, c *testCard) error { return s.Close() }, nil, true},
		"6988 from the card": {func(t *testing.T, s *securechannel.Session, c *testCard) error {
			c.tamper = func(int, []byte) []byte { return []byte{0x69, 0x88} }
			defer func() { c.tamper = nil }()
			_, err := s.Do(t.Context(), cmd)
			return err
		}, nil, true},
		"6982 to a plain entry": {func(t *testing.T, s *securechannel.Session, c *testCard) error {
			c.tamper = func(int, []byte) []byte { return []byte{0x69, 0x82} }
			defer func() { c.tamper = nil }()
			_, err := s.DoAll(t.Context(), apdu.Entries(apdu.Plain, apdu.Command{CLA: 0xB0, INS: 0x58, Ne: 14}))
			return err
		}, nil, false},
		"application error": {func(t *testing.T, s *securechannel.Session, c *testCard) error {
			_, err := s.Do(t.Context(), echoCommand(0x6985, nil))
			return err
		}, nil, false},
		"class that cannot be wrapped": {func(t *testing.T, s *securechannel.Session, c *testCard) error {
			_, err := s.Do(t.Context(), apdu.Command{CLA: 0xB0, INS: 0x58})
			return err
		}, apdu.ErrUnsupported, false},
		"cancelled before": {func(t *testing.T, s *securechannel.Session, c *testCard) error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := s.Do(ctx, cmd)
			return err
		}, context.Canceled, false},
	} {
		for _, v := range []variant{scp01Full, scp02Full, scp03Full} {
			card := newTestCard(v)
			s := open(t, v, card)
			if err := tc.do(t, s, card); !errors.Is(err, tc.first) {
				t.Errorf("%s: %v", name, err)
			}
			r, err := s.Do(t.Context(), cmd)
			if tc.aborted != errors.Is(err, securechannel.ErrAborted) || !tc.aborted && (err != nil || r.SW != apdu.SWSuccess) {
				t.Errorf("%s: afterwards %+v, %v", name, r, err)
			}
		}
	}

	card := newTestCard(scp03Full)
	fail := false
	s, err := securechannel.Open(t.Context(), doer(func(c apdu.Command) (apdu.Response, error) {
		if fail {
			return apdu.Response{}, gone
		}
		return card.process(c), nil
	}), scp03Full.request(newRand(1)), testKeys(16).source)
	if err != nil {
		t.Fatal(err)
	}
	fail = true
	if _, err := s.DoAll(t.Context(), apdu.Entries(apdu.Plain, cmd)); !errors.Is(err, gone) {
		t.Errorf("plain entry: %v", err)
	}
	if _, err := s.Do(t.Context(), cmd); !errors.Is(err, gone) {
		t.Errorf("transport error: %v", err)
	}
	if _, err := s.Do(t.Context(), cmd); !errors.Is(err, securechannel.ErrAborted) {
		t.Errorf("after a transport error: %v", err)
	}
}

// TestSessionSerialises has many callers on one session; every command has to
// reach the card in the order in which it was wrapped.
func TestSessionSerialises(t *testing.T) {
	t.Parallel()
	s := open(t, scp03Full, newTestCard(scp03Full))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			r, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, []byte{byte(i)}))
			if err != nil || len(r.Data) != 1 || r.Data[0] != byte(i) {
				t.Errorf("caller %d: %+v, %v", i, r, err)
			}
		})
	}
	wg.Wait()
}

// TestVerifiesChangesNothing asks before the command runs, twice.
func TestVerifiesChangesNothing(t *testing.T) {
	t.Parallel()
	for _, v := range []variant{scp01Full, scp02Full, scp03Full} {
		card := newTestCard(v)
		var s *securechannel.Session
		check := &watcher{Card: card, look: func(cmd apdu.Command) {
			if s == nil {
				return
			}
			forged := cmd
			forged.P1 ^= 1
			if card.Verifies(forged) || !card.Verifies(cmd) || !card.Verifies(cmd) {
				t.Errorf("%v: wrong judgement of %+v", v.p, cmd)
			}
		}}
		s = open(t, v, check)
		for range 3 {
			if r, err := s.Do(t.Context(), echoCommand(apdu.SWSuccess, []byte("x"))); err != nil || string(r.Data) != "x" {
				t.Errorf("%v: %+v, %v", v.p, r, err)
			}
		}
		card.Terminate()
		if card.Verifies(echoCommand(apdu.SWSuccess, nil)) {
			t.Errorf("%v: verifies without a session", v.p)
		}
	}
}

// watcher looks at the commands it passes on.
type watcher struct {
	apdu.Card
	look func(apdu.Command)
}

func (w *watcher) Transmit(ctx context.Context, raw []byte) ([]byte, error) {
	if cmd, err := apdu.ParseCommand(raw); err == nil {
		w.look(cmd)
	}
	return w.Card.Transmit(ctx, raw)
}

func TestKeysAreWiped(t *testing.T) {
	t.Parallel()
	var kept securechannel.SessionKeys
	source := func(ctx context.Context, iu securechannel.InitUpdate) (securechannel.SessionKeys, error) {
		k, err := testKeys(16).source(ctx, iu)
		kept = k
		return k, err
	}
	s, err := securechannel.Open(t.Context(), apdu.NewConn(newTestCard(scp03Full)), scp03Full.request(newRand(1)), source)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for i, k := range [][]byte{kept.ENC.Bytes(), kept.MAC.Bytes(), kept.RMAC.Bytes()} {
		for _, b := range k {
			if b != 0 {
				t.Fatalf("key %d is not wiped", i)
			}
		}
	}
}

func Example() {
	// A software card stands in for a reader; keys would come from a key service.
	ctx := context.Background()
	card := newTestCard(variant{securechannel.SCP03, 0x70, 0x33, 16})
	s, err := securechannel.Open(ctx, apdu.NewConn(card), securechannel.Request{
		HostChallenge: []byte("01234567"), // random in earnest
		Level:         securechannel.LevelFull,
	}, testKeys(16).source)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	r, err := s.Do(ctx, apdu.Command{CLA: 0x80, INS: 0xE2, P1: 0x90, Data: []byte("olleh"), Ne: 256})
	fmt.Println(s.Info().Protocol, s.Level(), s.MaxData(), string(r.Data), r.SW, err)
	// Output: SCP03 33 239 hello status 9000 (success) <nil>
}
