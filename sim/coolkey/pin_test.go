package coolkey_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/coolkey"
)

func TestPINCommands(t *testing.T) {
	t.Parallel()
	f := newCard(t, coolkey.Config{}, "")
	zero := strings.Repeat("00", 8)
	f.want("B042000004 31323334", "9C10") // no PIN
	f.want("8404000004 31323334", "9C10")
	f.want("B048000002", "0000 9000")
	f.want("B04000050C 31323334"+zero, "9C06")
	f.want("8440000503 313233", "9C0F")
	f.want("8440000511"+strings.Repeat("31", 17), "9C0F")
	f.want("8440000004 31323334", "9C0F") // no tries
	f.want("8440008004 31323334", "9C0F")
	f.want("8440080504 31323334", "9C10")
	f.want("8440000504 31323334", "9000")
	f.want("8440000504 31323334", "9C10") // exists
	f.want("8440070310"+strings.Repeat("31", 16), "9000")
	f.want("B048000002", "0081 9000")
	f.want("B048010002", "9C10")
	f.want("B048000102", "9C11")
	f.want("B048000003", "6700")
	f.want("B04A080001", "9C10")
	f.want("B04A000101", "9C11")
	f.want("B04A000002", "6700")
	f.want("B04A000001", "05 9000")
	f.want("B042000104 31323334", "9C11")
	f.want("B042090004 31323334", "9C10")
	f.want("B042000005 3132333400", "9C02") // a longer PIN with the same start
	f.want("B04A000001", "04 9000")
	f.want("B04400000A 04 31323334 04 35363738", "9000")
	f.want("B04A000001", "05 9000")
	f.want("B042000004 31323334", "9C02")
	f.want("B04400000A 04 31323334 04 35363738", "9C02")
	f.want("B044000009 04 35363738 03 353637", "9C0F")
	f.want("B044000009 03 353637 04 35363738", "9C0F")
	f.want("B04400000B 04 35363738 04 31323334 00", "9C0F")
	f.want("B044000005 04 35363738", "9C0F")
	f.want("B04400000C 0004 35363738 0004 31323334", "9C0F") // the two-byte form of libckyapplet
	f.want("B044010000", "9C10")
	f.want("B04A000001", "03 9000")
	f.want("8404000103 313233", "9C11")
	f.want("8404000003 313233", "9C0F")
	f.want("8404000004 30303030", "9000")
	f.want("B04A000001", "05 9000")
	f.want("B061000100", "9C11")
	f.want("B061090000", "9C10")
	f.want("B061010000", "9C10") // an empty slot
	f.want("B0F2000004", "07010101 9000")
}

// TestNonce follows the life of logins through coolkey-applet.md §4.1.
func TestNonce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "")
	for n := range 2 {
		check(t, ck.CreatePIN(ctx, f, ck.Channel(), n, 5, pinOf(t, "1234")))
	}
	id := ck.ObjectID{'d', '0'}
	check(t, ck.CreateObject(ctx, f, ck.Channel(), ck.ObjectInfo{ID: id, Size: 4, ACL: ck.ObjectACL{Read: ck.ACLOfPIN(0)}}))
	verify := func(n int, pin string) (ck.Nonce, error) { return ck.VerifyPIN(ctx, f, n, pinOf(t, pin)) }
	login := func(n int) ck.Nonce { return must(verify(n, "1234"))(t) }
	works := func(n ck.Nonce) bool {
		_, err := ck.ReadObject(ctx, f, ck.Login(n), id, 0, 4)
		if err != nil && !errors.Is(err, ck.SWUnauthorized) {
			t.Fatal(err)
		}
		return err == nil
	}
	loggedIn := func() ck.ACL { return must(ck.ReadStatus(ctx, f))(t).LoggedIn }

	nonce := login(0)
	if !works(nonce) || !login(1).Equal(nonce.Secret) || loggedIn() != 3 {
		t.Error("two PINs do not share the nonce")
	}
	check(t, ck.Logout(ctx, f, 0, nonce))
	if works(nonce) || loggedIn() != 2 {
		t.Error("PIN 0 is still logged in")
	}
	if !login(0).Equal(nonce.Secret) {
		t.Error("the nonce changed while PIN 1 was logged in")
	}
	check(t, ck.Logout(ctx, f, 0, nonce))
	check(t, ck.Logout(ctx, f, 1, nonce))
	if second := login(0); second.Equal(nonce.Secret) || works(nonce) || !works(second) {
		t.Error("the nonce survived the last logout")
	}

	ends := map[string]func(){
		"wrong PIN": func() {
			if _, err := verify(0, "9999"); !errors.Is(err, ck.SWAuthFailed) {
				t.Fatal(err)
			}
		},
		"change":  func() { check(t, ck.ChangePIN(ctx, f, 0, pinOf(t, "1234"), pinOf(t, "1234"))) },
		"set":     func() { check(t, ck.SetPIN(ctx, f, 0, pinOf(t, "1234"))) },
		"reset":   func() { f.applet.Reset() },
		"re-load": func() { check(t, f.applet.Load(f.save())) },
	}
	for name, end := range ends {
		first := login(0)
		login(0) // a second client
		end()
		if works(first) {
			t.Errorf("%s leaves the login", name)
		}
	}
	held := login(0)
	f.want("00A4040007 627601FF000000", "9000")
	if !works(held) {
		t.Error("selection ends the login")
	}
	f.want("845400000A FFFFFFFF 00000000 01 AA", "9000")
	check(t, ck.Logout(ctx, f, 0, held))
	f.want("8456000009 FFFFFFFF 00000000 01", "9C0F") // cleared by logout
}

func TestNonceAtLogout(t *testing.T) {
	t.Parallel()
	f := newCard(t, coolkey.Config{Variant: coolkey.Applet13}, "")
	check(t, ck.CreatePIN(t.Context(), f, ck.Channel(), 0, 5, pinOf(t, "1234")))
	nonce := must(ck.VerifyPIN(t.Context(), f, 0, pinOf(t, "1234")))(t)
	f.want("B061000000", "9C06")
	f.want("B061000008 0102030405060708", "9C06")
	check(t, ck.Logout(t.Context(), f, 0, nonce))
}

func TestPINBlocks(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "")
	check(t, ck.CreatePIN(ctx, f, ck.Channel(), 0, 3, pinOf(t, "1234")))
	for tries := 2; tries >= 0; tries-- {
		_, err := ck.VerifyPIN(ctx, f, 0, pinOf(t, "9999"))
		var pe *ck.PINError
		if !errors.As(err, &pe) || pe.Tries != tries || pe.Blocked() != (tries == 0) {
			t.Errorf("tries=%d: %v", tries, err)
		}
	}
	if _, err := ck.VerifyPIN(ctx, f, 0, pinOf(t, "1234")); !errors.Is(err, ck.SWIdentityBlocked) {
		t.Errorf("the right PIN of a blocked slot: %v", err)
	}
	f.applet.Reset()
	if err := ck.ChangePIN(ctx, f, 0, pinOf(t, "1234"), pinOf(t, "5678")); !errors.Is(err, ck.SWIdentityBlocked) {
		t.Errorf("changing a blocked PIN: %v", err)
	}
	check(t, ck.SetPIN(ctx, f, 0, pinOf(t, "5678")))
	must(ck.VerifyPIN(ctx, f, 0, pinOf(t, "5678")))(t)
	if n := must(ck.PINTries(ctx, f, 0))(t); n != 3 {
		t.Errorf("%d tries after SET PIN", n)
	}
}

// TestWrongPINDelaysItsCardOnly lets a slow card wait while another one answers.
func TestWrongPINDelaysItsCardOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // however long the other one takes on a busy machine
		ctx := t.Context()
		factory := coolkey.Factory(coolkey.Config{PINDelay: 300 * time.Millisecond})
		slow := newCard(t, coolkey.Config{}, "")
		slow.applet = must(factory(ck.InstanceAID(), nil, nil))(t)
		check(t, ck.CreatePIN(ctx, slow, ck.Channel(), 0, 9, pinOf(t, "1234")))
		ended := make(chan time.Duration, 1)
		go func() {
			begin := time.Now()
			slow.send("B042000004 39393939")
			ended <- time.Since(begin)
		}()
		synctest.Wait()
		quick := newCard(t, coolkey.Config{}, "")
		check(t, ck.CreatePIN(ctx, quick, ck.Channel(), 0, 9, pinOf(t, "1234")))
		quick.want("B042000004 39393939", "9C02")
		select {
		case <-ended:
			t.Error("the other card did not answer before the slow one")
		default:
		}
		if d := <-ended; d != 300*time.Millisecond {
			t.Errorf("the wrong PIN took %v", d)
		}
	})
}

// TestTrySpentFirst: the try is durable before the card knows whether the PIN was
// right, and a card that cannot make it so tells neither.
func TestTrySpentFirst(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, guess := range []string{"1234", "9999"} {
		f := newCard(t, coolkey.Config{}, "")
		check(t, ck.CreatePIN(ctx, f, ck.Channel(), 0, 3, pinOf(t, "1234")))
		f.committed = nil
		_, err := ck.VerifyPIN(ctx, f, 0, pinOf(t, guess))
		if (err == nil) != (guess == "1234") {
			t.Errorf("PIN %s: %v", guess, err)
		}
		died := newCard(t, coolkey.Config{}, "")
		check(t, died.applet.Load(f.committed))
		if n := must(ck.PINTries(ctx, died, 0))(t); n != 2 {
			t.Errorf("PIN %s: a card that died has %d tries left, want 2", guess, n)
		}
		f.commitErr = errors.New("disk is full")
		if _, err := ck.VerifyPIN(ctx, f, 0, pinOf(t, guess)); !errors.Is(err, apdu.SWMemoryFailure) {
			t.Errorf("PIN %s, which cannot be counted: %v", guess, err)
		}
	}
}
