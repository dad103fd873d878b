package coolkey_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
	"inkan/apdu/secret"
)

// TestWireForms are the exact encodings of coolkey-applet.md §5.2 and
// tps-operations.md §2.5, before secure messaging.
func TestWireForms(t *testing.T) {
	t.Parallel()
	pin := pinOf(t, "1234")
	nonce := coolkey.NewNonce([8]byte{1, 2, 3, 4, 5, 6, 7, 8})
	challenge := make([]byte, 16)
	slots := coolkey.Slots{Private: 2, Public: 3}
	all := func(f func(ctx context.Context, d apdu.Doer) error) func(ctx context.Context, d apdu.Doer) error {
		return f
	}
	for _, tt := range []struct {
		name   string
		run    func(ctx context.Context, d apdu.Doer) error
		answer string
		want   string
	}{
		{"select", all(coolkey.Select), "9000", "00A4040007627601FF000000"},
		{"status", func(ctx context.Context, d apdu.Doer) error { _, err := coolkey.ReadStatus(ctx, d); return err },
			"01010104 00001388 0000101E 01 04 0000 9000", "B03C000010"},
		{"build id", func(ctx context.Context, d apdu.Doer) error { _, err := coolkey.ReadBuildID(ctx, d); return err },
			"58768072 9000", "B070000004"},
		{"life cycle", func(ctx context.Context, d apdu.Doer) error { _, err := coolkey.ReadLifeCycle(ctx, d); return err },
			"0F 9000", "B0F2000001"},
		{"info", func(ctx context.Context, d apdu.Doer) error { _, err := coolkey.ReadInfo(ctx, d); return err },
			"0F010101 9000", "B0F2000004"},
		{"list objects", func(ctx context.Context, d apdu.Doer) error { _, err := coolkey.ListObject(ctx, d, true); return err },
			"7A300000 00000358 FFFF 4000 4000 9000", "B05801000E"},
		{"read", func(ctx context.Context, d apdu.Doer) error {
			_, err := coolkey.ReadObject(ctx, d, coolkey.Channel(), coolkey.IDCombined, 0x10, 2)
			return err
		}, "AABB 9000", "8456000009 7A300000 00000010 02 00"},
		{"read with nonce", func(ctx context.Context, d apdu.Doer) error {
			_, err := coolkey.ReadObject(ctx, d, coolkey.Login(nonce), coolkey.IDCombined, 0, 2)
			return err
		}, "AABB 9000", "B056000011 7A300000 00000000 02 0102030405060708 02"},
		{"write", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.WriteObject(ctx, d, coolkey.Channel(), coolkey.IDCombined, 0x100, []byte{0xAA, 0xBB})
		}, "9000", "845400000B 7A300000 00000100 02 AABB"},
		{"create", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.CreateObject(ctx, d, coolkey.Channel(), coolkey.ObjectInfo{ID: coolkey.IDCombined, Size: 0x358, ACL: coolkey.TokenObjectACL})
		}, "9000", "845A00000E 7A300000 00000358 FFFF 4000 4000"},
		{"delete", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.DeleteObject(ctx, d, coolkey.Anonymous(), coolkey.IDCombined, coolkey.Zeroize)
		}, "9000", "B05200010C 7A300000 0000000000000000"},
		{"create PIN", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.CreatePIN(ctx, d, coolkey.Channel(), 0, 127, pinOf(t, "password"))
		}, "9000", "8440007F08 70617373776F7264"},
		{"set PIN", func(ctx context.Context, d apdu.Doer) error { return coolkey.SetPIN(ctx, d, 0, pin) },
			"9000", "8404000004 31323334"},
		{"change PIN", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.ChangePIN(ctx, d, 0, pin, pinOf(t, "56789"))
		},
			"9000", "B04400000B 04 31323334 05 3536373839"},
		{"logout", func(ctx context.Context, d apdu.Doer) error { return coolkey.Logout(ctx, d, 0, nonce) },
			"9000", "B061000008 0102030405060708"},
		{"set life cycle", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.SetLifeCycle(ctx, d, coolkey.Personalized)
		},
			"9000", "84F00F00"},
		{"issuer info", func(ctx context.Context, d apdu.Doer) error { return coolkey.SetIssuerInfo(ctx, d, "abc") },
			"9000", "84F40000E0 616263" + strings.Repeat("00", 221)},
		{"creation rules", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.SetCreationACL(ctx, d, coolkey.CreationACL{Object: 0xFFFF, Key: 0x4000, PIN: 1, Changeable: true})
		}, "9000", "84F8000007 FFFF 4000 0001 01"},
		{"generate RSA", func(ctx context.Context, d apdu.Doer) error {
			_, err := coolkey.GenerateRSA(ctx, d, slots, 2048, challenge)
			return err
		}, "020F 9000", "840C020317 80 0800 00 00 10" + strings.Repeat("00", 16) + "00 00"},
		{"generate EC", func(ctx context.Context, d apdu.Doer) error {
			_, err := coolkey.GenerateEC(ctx, d, coolkey.Slots{Private: 14, Public: 15, Owner: coolkey.OwnerAnyone, Usage: 3}, 256, challenge)
			return err
		}, "009B 9000", "840DFE3F17 05 0100 00 00 10" + strings.Repeat("00", 16) + "00 00"},
		{"clear key slots", func(ctx context.Context, d apdu.Doer) error {
			return coolkey.ClearKeySlots(ctx, d, []coolkey.Slots{slots, {Private: 4, Public: 5}})
		}, "9000", "8455000004 02030405"},
		{"random", func(ctx context.Context, d apdu.Doer) error { _, err := coolkey.Random(ctx, d, 3); return err },
			"010203 9000", "B072000003"},
		{"seed", func(ctx context.Context, d apdu.Doer) error { return coolkey.SeedRandom(ctx, d, []byte{1, 2}) },
			"9000", "B073000002 0102"},
		{"ECDSA", func(ctx context.Context, d apdu.Doer) error {
			_, err := coolkey.SignECDSA(ctx, d, coolkey.Login(nonce), 2, make([]byte, 20))
			return err
		}, "0102 9000", "B03802041F 01 0014" + strings.Repeat("00", 20) + "0102030405060708 00"},
	} {
		t.Run("command="+strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			s := &script{answers: []string{tt.answer}}
			if err := tt.run(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if want := strings.ReplaceAll(tt.want, " ", ""); len(s.sent) != 1 || s.sent[0] != want {
				t.Errorf("sent %v, want %s", s.sent, want)
			}
			refused := &script{answers: []string{"9C06"}}
			if err := tt.run(t.Context(), refused); !errors.Is(err, coolkey.SWUnauthorized) || !strings.Contains(err.Error(), "not authorized") {
				t.Errorf("9C06 becomes %v", err)
			}
			if err := tt.run(t.Context(), &script{}); !errors.Is(err, apdu.ErrCardRemoved) {
				t.Errorf("a removed card becomes %v", err)
			}
			// inside a channel, class 84 is wrapped and everything else is not
			b := &batch{script{answers: []string{tt.answer}}}
			if err := tt.run(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			if plain := b.modes[0]&apdu.Plain != 0; plain == strings.HasPrefix(tt.want, "84") {
				t.Errorf("plain = %t", plain)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &script{answers: []string{
		"01010104 00001388 0000101E 02 04 4001 9000", "58768072 9000",
		"0F030101 9000", "0005 9000",
		"02 03 03 0400 0000 4000 0001 9000", "03 01 FF 0400 FFFF 4000 FFFF 9000", "9000",
		"7A300000 00000358 FFFF 4000 4000 9000", "FF00FFF3 00000284 4000 4000 4000 9000", "9C12",
	}}
	v, err := coolkey.ReadVersion(ctx, s)
	if err != nil || v.String() != "1.4.58768072" {
		t.Errorf("version %v, %v", v, err)
	}
	if i, err := coolkey.ReadInfo(ctx, s); err != nil || i != (coolkey.Info{LifeCycle: coolkey.Personalized, Login: 3, ProtocolMajor: 1, ProtocolMinor: 1}) {
		t.Errorf("info %+v, %v", i, err)
	}
	if p, err := coolkey.ListPINs(ctx, s); err != nil || !reflect.DeepEqual(p, []int{0, 2}) {
		t.Errorf("PINs %v, %v", p, err)
	}
	keys, err := coolkey.ListKeys(ctx, s)
	want := []coolkey.KeyInfo{
		{Number: 2, Type: coolkey.KeyRSAPrivate, Mate: 3, Bits: 1024, ACL: coolkey.KeyACL{Write: 0x4000, Use: 1}},
		{Number: 3, Type: coolkey.KeyRSAPublic, Mate: coolkey.NoKey, Bits: 1024, ACL: coolkey.KeyACL{Read: 0xFFFF, Write: 0x4000, Use: 0xFFFF}},
	}
	if err != nil || !reflect.DeepEqual(keys, want) {
		t.Errorf("keys %+v, %v", keys, err)
	}
	objects, err := coolkey.ListObjects(ctx, s)
	if err != nil || len(objects) != 2 || objects[0].ID != coolkey.IDCombined || objects[1].Size != 0x284 || objects[1].ACL != coolkey.ImportObjectACL {
		t.Errorf("objects %+v, %v", objects, err)
	}
}

// endless is a card that never ends a list.
type endless string

func (e endless) Do(context.Context, apdu.Command) (apdu.Response, error) {
	b, err := hex.DecodeString(string(e))
	if err != nil {
		return apdu.Response{}, err
	}
	return apdu.ParseResponse(b)
}

func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	if _, err := coolkey.ListObjects(ctx, endless("7A30000000000358FFFF400040009000")); err == nil {
		t.Error("an endless list of objects is taken")
	}
	if _, err := coolkey.ListKeys(ctx, endless("0203030400000040000001"+"9000")); err == nil {
		t.Error("an endless list of keys is taken")
	}
	if l, err := coolkey.ListObjects(ctx, endless("9C00")); err != nil || len(l) != 0 {
		t.Errorf("the objects of Dogtag's soft token: %v, %v", l, err)
	}
	short := endless("019000")
	for name, run := range map[string]func() error{
		"status": func() error { _, err := coolkey.ReadStatus(ctx, short); return err },
		"build":  func() error { _, err := coolkey.ReadBuildID(ctx, short); return err },
		"info":   func() error { _, err := coolkey.ReadInfo(ctx, short); return err },
		"issuer": func() error { _, err := coolkey.ReadIssuerInfo(ctx, short); return err },
		"rules":  func() error { _, err := coolkey.ReadCreationACL(ctx, short); return err },
		"object": func() error { _, err := coolkey.ListObject(ctx, short, false); return err },
		"size": func() error {
			_, err := coolkey.ListObject(ctx, endless("7A300000FFFFFFFFFFFF400040009000"), false)
			return err
		},
		"keys":   func() error { _, err := coolkey.ListKeys(ctx, short); return err },
		"PINs":   func() error { _, err := coolkey.ListPINs(ctx, short); return err },
		"nonce":  func() error { _, err := coolkey.VerifyPIN(ctx, short, 0, pinOf(t, "1234")); return err },
		"random": func() error { _, err := coolkey.Random(ctx, short, 2); return err },
		"read": func() error {
			_, err := coolkey.ReadObject(ctx, short, coolkey.Channel(), coolkey.IDCombined, 0, 2)
			return err
		},
		"long": func() error {
			_, err := coolkey.ReadObject(ctx, endless("0102039000"), coolkey.Channel(), coolkey.IDCombined, 0, 2)
			return err
		},
		"result": func() error { _, err := coolkey.ReadKeyResult(ctx, short, 0xFFFF); return err },
		"RSA": func() error {
			_, err := coolkey.ComputeRSA(ctx, short, coolkey.Anonymous(), 2, coolkey.Sign, make([]byte, 128))
			return err
		},
		"RSA 256": func() error {
			_, err := coolkey.ComputeRSA(ctx, short, coolkey.Anonymous(), 2, coolkey.Sign, make([]byte, 256))
			return err
		},
		"ECDSA": func() error {
			_, err := coolkey.SignECDSA(ctx, short, coolkey.Anonymous(), 2, make([]byte, 32))
			return err
		},
		"ECDH": func() error {
			_, err := coolkey.DeriveECDH(ctx, short, coolkey.Anonymous(), 2, append([]byte{4}, make([]byte, 64)...))
			return err
		},
		"generate": func() error {
			_, err := coolkey.GenerateRSA(ctx, short, coolkey.Slots{Public: 1}, 1024, make([]byte, 16))
			return err
		},
	} {
		if err := run(); err == nil {
			t.Errorf("case=%s: taken", name)
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &script{}
	long := secret.PIN{Secret: secret.New(make([]byte, 17))}
	challenge := make([]byte, 16)
	for name, err := range map[string]error{
		"issuer":    coolkey.SetIssuerInfo(ctx, s, strings.Repeat("x", 225)),
		"PIN":       coolkey.ChangePIN(ctx, s, 0, pinOf(t, "1234"), long),
		"same slot": second(coolkey.GenerateRSA(ctx, s, coolkey.Slots{Private: 2, Public: 2}, 1024, challenge)),
		"slot":      second(coolkey.GenerateRSA(ctx, s, coolkey.Slots{Private: 16, Public: 3}, 1024, challenge)),
		"owner":     second(coolkey.GenerateRSA(ctx, s, coolkey.Slots{Private: 2, Public: 3, Owner: 9}, 1024, challenge)),
		"usage":     second(coolkey.GenerateRSA(ctx, s, coolkey.Slots{Private: 2, Public: 3, Usage: 16}, 1024, challenge)),
		"challenge": second(coolkey.GenerateRSA(ctx, s, coolkey.Slots{Private: 2, Public: 3}, 1024, challenge[:15])),
		"bits":      second(coolkey.GenerateRSA(ctx, s, coolkey.Slots{Private: 2, Public: 3}, 1<<16, challenge)),
		"transport": coolkey.ImportEncrypted(ctx, s, coolkey.Slots{Public: 1}, coolkey.Import{TransportKey: make([]byte, 24)}),
		"blob": coolkey.ImportEncrypted(ctx, s, coolkey.Slots{Public: 1}, coolkey.Import{
			TransportKey: challenge, WrappedPrivateKey: coolkey.WrappedPrivateKey{Blob: make([]byte, 0x8000)}}),
		"random": second(coolkey.Random(ctx, s, 256)),
		"read":   second(coolkey.ReadObject(ctx, s, coolkey.Channel(), coolkey.IDCombined, -1, 1)),
		"block":  second(coolkey.ComputeRSA(ctx, s, coolkey.Channel(), 2, coolkey.Sign, make([]byte, 513))),
		"hash":   second(coolkey.SignECDSA(ctx, s, coolkey.Channel(), 2, nil)),
		"point":  second(coolkey.DeriveECDH(ctx, s, coolkey.Channel(), 2, challenge)),
	} {
		if err == nil || errors.Is(err, apdu.ErrCardRemoved) {
			t.Errorf("case=%s: %v", name, err)
		}
	}
	if len(s.sent) != 0 {
		t.Errorf("sent %v", s.sent)
	}
}

func second[T any](_ T, err error) error { return err }

func TestPINErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answers []string
		tries   int
		blocked bool
		text    string
	}{
		{[]string{"9C02", "02 9000"}, 2, false, "wrong PIN, 2 tries left"},
		{[]string{"9C02", "01 9000"}, 1, false, "wrong PIN, 1 try left"},
		{[]string{"9C02", "00 9000"}, 0, true, "the PIN is blocked"},
		{[]string{"9C02", "6D00"}, -1, false, "wrong PIN"},
		{[]string{"9C0C"}, 0, true, "the PIN is blocked"},
	} {
		for _, run := range []func(s *script) error{
			func(s *script) error { return second(coolkey.VerifyPIN(t.Context(), s, 0, pinOf(t, "4711"))) },
			func(s *script) error {
				return coolkey.ChangePIN(t.Context(), s, 0, pinOf(t, "4711"), pinOf(t, "0815"))
			},
		} {
			err := run(&script{answers: append([]string(nil), tt.answers...)})
			var pe *coolkey.PINError
			if !errors.As(err, &pe) || pe.Tries != tt.tries || pe.Blocked() != tt.blocked || pe.Error() != tt.text {
				t.Errorf("%v: %v", tt.answers, err)
			}
			if strings.Contains(err.Error(), "4711") {
				t.Errorf("the PIN is in the error: %v", err)
			}
		}
	}
	err := second(coolkey.VerifyPIN(t.Context(), &script{answers: []string{"9C02"}}, 0, pinOf(t, "4711")))
	if !errors.Is(err, apdu.ErrCardRemoved) {
		t.Errorf("card removed while asking for the tries: %v", err)
	}
	err = second(coolkey.VerifyPIN(t.Context(), &script{answers: []string{"9C10"}}, 0, pinOf(t, "4711")))
	if !errors.Is(err, coolkey.SWIncorrectP1) {
		t.Errorf("no PIN: %v", err)
	}
}

func TestPieces(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 207, 208, 209, 416, 856} {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(i)
		}
		total := 0
		for i, e := range coolkey.WriteObjectEntries(coolkey.Channel(), coolkey.IDCombined, 0, data) {
			if len(e.Data) > 9+coolkey.MaxPiece || e.Mode != 0 || e.Ne != 0 {
				t.Errorf("n=%d: entry %d of %d bytes with mode %d", n, i, len(e.Data), e.Mode)
			}
			total += len(e.Data) - 9
		}
		if total != n {
			t.Errorf("n=%d: %d bytes are written", n, total)
		}
		es := coolkey.ReadObjectEntries(coolkey.Anonymous(), coolkey.IDCombined, 0, n)
		var rs []apdu.Response
		rest := data
		for _, e := range es {
			if e.Mode != apdu.Plain {
				t.Errorf("mode %d of a plain command", e.Mode)
			}
			piece := int(e.Data[8])
			rs = append(rs, apdu.Response{Data: rest[:piece], SW: apdu.SWSuccess})
			rest = rest[piece:]
		}
		got, err := coolkey.JoinReads(es, rs)
		if err != nil || string(got) != string(data) {
			t.Errorf("n=%d: %x, %v", n, got, err)
		}
		if n > 0 {
			if _, err := coolkey.JoinReads(es, rs[:len(rs)-1]); err == nil {
				t.Error("a missing answer is taken")
			}
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, id := range []coolkey.ObjectID{coolkey.IDCombined, coolkey.IDIOBuffer, coolkey.IDImport, {'k', 'A'}, {0, 0, 0, 0}} {
		b, _ := id.MarshalText()
		var back coolkey.ObjectID
		if err := back.UnmarshalText(b); err != nil || back != id {
			t.Errorf("%s: %v, %v", b, back, err)
		}
	}
	for _, bad := range []string{"", "z", "z00", "7A30", "GG300000"} {
		if _, err := coolkey.ParseObjectID(bad); err == nil {
			t.Errorf("%q is an object identifier", bad)
		}
	}
	for i, c := range "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		id := coolkey.ObjectID{'k', byte(c)}
		if n, ok := id.Index(); !ok || n != i {
			t.Errorf("%v has the index %d, %v", id, n, ok)
		}
	}
	var v coolkey.Version
	if err := v.UnmarshalText([]byte("1.3.44724DDE")); err != nil || v.String() != "1.3.44724dde" {
		t.Errorf("version %v, %v", v, err)
	}
	for _, bad := range []string{"", "1.4", "1.4.1", "1.400.58768072", "1.4.5876807g", "a.4.58768072"} {
		if _, err := coolkey.ParseVersion(bad); err == nil {
			t.Errorf("%q is a version", bad)
		}
	}
	n := coolkey.NewNonce([8]byte{1, 2, 3})
	if got := fmt.Sprintf("%v %+v %#v %s %x", n, coolkey.Login(n), n, n, "x"); strings.Contains(got, "1 2 3") || strings.Contains(got, "0x1, 0x2") {
		t.Errorf("the nonce prints: %s", got)
	}
}
