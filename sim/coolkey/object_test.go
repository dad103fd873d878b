package coolkey_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/coolkey"
)

// TestACLMatrix runs every kind of access against every kind of rule.
func TestACLMatrix(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "")
	for n := range 2 {
		check(t, ck.CreatePIN(ctx, f, ck.Channel(), n, 5, pinOf(t, "1234")))
	}
	who := map[string]func() ck.Access{
		"authority": ck.Channel,
		"anonymous": ck.Anonymous,
		"PIN 0":     func() ck.Access { return ck.Login(must(ck.VerifyPIN(ctx, f, 0, pinOf(t, "1234")))(t)) },
		"PIN 1":     func() ck.Access { return ck.Login(must(ck.VerifyPIN(ctx, f, 1, pinOf(t, "1234")))(t)) },
	}
	allowed := map[ck.ACL]string{
		ck.ACLNobody:                     "",
		ck.ACLAuthority:                  "authority",
		ck.ACLAnonymous:                  "anonymous", // locks out who is logged in
		ck.ACLOfPIN(0):                   "PIN 0",
		ck.ACLOfPIN(1):                   "PIN 1",
		ck.ACLOfPIN(2):                   "",
		0x8001:                           "anonymous PIN 0",
		ck.ACLEveryone:                   "authority anonymous PIN 0 PIN 1",
		ck.ACLEveryone ^ ck.ACLAuthority: "anonymous PIN 0 PIN 1",
	}
	id := ck.ObjectID{'d', '0'}
	for rule, names := range allowed {
		for name, access := range who {
			f.applet.Reset()
			a := access()
			want := error(nil)
			if !strings.Contains(names, name) {
				want = ck.SWUnauthorized
			}
			for op, run := range map[string]func() error{
				"read":   func() error { _, err := ck.ReadObject(ctx, f, a, id, 0, 4); return err },
				"write":  func() error { return ck.WriteObject(ctx, f, a, id, 0, []byte{1}) },
				"delete": func() error { return ck.DeleteObject(ctx, f, a, id, ck.Zeroize) },
			} {
				acl := map[string]ck.ObjectACL{"read": {Read: rule}, "write": {Write: rule}, "delete": {Delete: rule}}[op]
				check(t, ck.CreateObject(ctx, f, ck.Channel(), ck.ObjectInfo{ID: id, Size: 4, ACL: acl}))
				if err := run(); !errors.Is(err, want) {
					t.Errorf("rule=%v who=%s op=%s: %v", rule, name, op, err)
				}
			}
			if err := ck.CreateObject(ctx, f, a, ck.ObjectInfo{ID: ck.ObjectID{'d', '1'}, Size: 1}); (err == nil) != (name == "authority") {
				t.Errorf("who=%s: creating: %v", name, err)
			}
		}
	}
}

func TestObjectCommands(t *testing.T) {
	t.Parallel()
	f := newCard(t, coolkey.Config{Variant: coolkey.Applet14}, "")
	zero := strings.Repeat("00", 8)
	f.want("845A000000", "9C0F")
	f.want("845A01000E 64300000 00000010 FFFF FFFF FFFF", "9C10")
	f.want("845A00000E 64300000 00008000 FFFF FFFF FFFF", "9C01")
	f.want("845A00000E 64300000 00000000 FFFF FFFF FFFF", "9C0F")
	f.want("845A00000E 64300000 00007FFF FFFF FFFF FFFF", "9C01")
	f.want("845A00000E FFFFFFFF 00000385 0000 0000 0000", "9C01")
	f.want("845A00000E FFFFFFFF 00000384 0000 0000 0000", "9000")
	f.want("8456000009 FFFFFFFE 00000380 04", "00000000 9000")
	f.want("B05A000016 64300000 00000010 FFFF FFFF FFFF"+zero, "9C06")
	f.want("B05800000E", "9C12") // the buffer is not listed
	f.want("845A00000E 64300000 00000010 FFFF FFFF FFFF", "9000")
	f.want("845400000B 64300000 0000000E 02 AABB", "9000")
	f.want("845400000B 64300000 0000000F 02 AABB", "9C0F")
	f.want("845400000B 64300000 FFFFFFFF 02 AABB", "9C0F")
	f.want("845400000B 64300000 00000000 03 AABB", "9C0F") // inner length
	f.want("845400000B 64300000 00000000 01 AABB", "9C0F")
	f.want("8454000008 64300000 00000000", "9C0F")
	f.want("8454010009 64300000 00000000 00", "9C10")
	f.want("8456000109 64300000 00000000 00", "9C11")
	f.want("8456000009 64300000 0000000E 02", "AABB 9000")
	f.want("8456000009 64300000 0000000F 02", "9C0F") // refused as a whole
	f.want("8456000009 64300000 00000010 00", "9000")
	f.want("8456000008 64300000 00000000", "9C0F")
	f.want("8456000009 64310000 00000000 01", "9C07")
	f.want("845400000A 64310000 00000000 01 AA", "9C07")
	f.want("B056000011 64300000 0000000E 02"+zero, "AABB 9000")
	f.want("B056000009 64300000 0000000E 02", "9C06") // the last 8 bytes are no nonce
	f.want("B056000004 64300000", "9C06")             // too short for one
	f.want("B05800000D", "6700")
	f.want("B058000000", "64300000 00000010 FFFF FFFF FFFF 9000")
	f.want("B0580000FF", "64300000 00000010 FFFF FFFF FFFF 9000")
	f.want("B05802000E", "9C10")
	f.want("B05800010E", "9C11")
	f.want("8452000003 643000", "9C0F")
	f.want("8452000204 64300000", "9C11")
	f.want("8452000004 64310000", "9C07")
	f.want("8452000004 64300000", "9000")
	f.want("8456000009 64300000 0000000E 02", "9C07")
	f.want("B03C000010", "01010104 00001388 00001386 00 00 0000 9000")
}

// TestHeap checks the accounting of coolkey-applet.md §9.
func TestHeap(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "00020100") // 256 bytes
	free := func() int { return int(must(ck.ReadStatus(ctx, f))(t).HeapFree) }
	create := func(n byte, size int) error {
		return ck.CreateObject(ctx, f, ck.Channel(), ck.ObjectInfo{ID: ck.ObjectID{'d', n}, Size: size, ACL: ck.TokenObjectACL})
	}
	listed := func() string {
		var s []string
		for _, o := range must(ck.ListObjects(ctx, f))(t) {
			s = append(s, fmt.Sprintf("%v:%d", o.ID, o.Size))
		}
		return strings.Join(s, " ")
	}
	steps := []struct {
		do   func() error
		free int
		list string
		err  error
	}{
		{func() error { return create('0', 64) }, 254 - 80, "d0:64", nil},
		{func() error { return create('1', 64) }, 254 - 160, "d1:64 d0:64", nil},
		{func() error { return create('2', 79) }, 0, "d2:79 d1:64 d0:64", nil},            // 95 of 96: the rest of one byte goes along
		{func() error { return create('3', 1) }, 0, "d2:79 d1:64 d0:64", ck.SWNoMemory},   // nothing left
		{func() error { return create('0', 200) }, 0, "d2:79 d1:64 d0:64", ck.SWNoMemory}, // d0 survives
		{func() error { return create('0', 60) }, 2, "d0:60 d2:79 d1:64", nil},            // replaced, now the newest
		{func() error { return ck.DeleteObject(ctx, f, ck.Channel(), ck.ObjectID{'d', '1'}, 0) }, 82, "d0:60 d2:79", nil},
		{func() error { return ck.DeleteObject(ctx, f, ck.Channel(), ck.ObjectID{'d', '2'}, 0) }, 178, "d0:60", nil},
		{func() error { return create('4', 160) }, 2, "d4:160 d0:60", nil}, // fits because free blocks have merged
		{func() error { return ck.DeleteObject(ctx, f, ck.Channel(), ck.ObjectID{'d', '0'}, 0) }, 76, "d4:160", nil},
		{func() error { return ck.DeleteObject(ctx, f, ck.Channel(), ck.ObjectID{'d', '4'}, 0) }, 254, "", nil},
		{func() error { return create('5', 240) }, 0, "d5:240", nil},
		{func() error { return create('5', 240) }, 0, "d5:240", nil},
	}
	for i, s := range steps {
		if err := s.do(); !errors.Is(err, s.err) {
			t.Fatalf("step %d: %v, want %v", i+1, err, s.err)
		}
		if n, l := free(), listed(); n != s.free || l != s.list {
			t.Errorf("step %d: %d free, objects %s; want %d, %s", i+1, n, l, s.free, s.list)
		}
	}
}

func TestListPositionSurvivesOtherCommands(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "")
	for n := range byte(4) {
		check(t, ck.CreateObject(ctx, f, ck.Channel(), ck.ObjectInfo{ID: ck.ObjectID{'d', '0' + n}, Size: 1, ACL: ck.TokenObjectACL}))
	}
	f.want("B05801000E", "9C12") // nothing was begun
	first := must(ck.ListObject(ctx, f, false))(t)
	must(ck.ReadObject(ctx, f, ck.Anonymous(), first.ID, 0, 1))(t)
	check(t, ck.DeleteObject(ctx, f, ck.Channel(), ck.ObjectID{'d', '2'}, ck.Forget))
	check(t, ck.DeleteObject(ctx, f, ck.Channel(), first.ID, ck.Forget))
	if o := must(ck.ListObject(ctx, f, true))(t); o.ID.String() != "d1" {
		t.Errorf("next object %v", o.ID)
	}
}

func TestReplaceByAuthority(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	v := getVectors(t)
	f := exampleCard(t, coolkey.Extended)
	check(t, ck.CreateObject(ctx, f, ck.Channel(), ck.ObjectInfo{ID: ck.IDImport, Size: 8, ACL: ck.ImportObjectACL}))
	c := must(ck.Decode(v.Z0))(t)
	c.Version = c.NextVersion()
	b := must(c.Encode(true))(t)
	must(apdu.RunAll(ctx, f, ck.ReplaceObjectEntries(ck.Channel(), ck.IDCombined, ck.TokenObjectACL, b)))(t)
	list := must(ck.ListObjects(ctx, f))(t)
	if len(list) != 2 || list[0].ID != ck.IDCombined || list[0].Size != len(b) {
		t.Errorf("objects %+v", list)
	}
	if got := must(ck.ReadObject(ctx, f, ck.Anonymous(), ck.IDCombined, 0, len(b)))(t); !bytes.Equal(got, b) {
		t.Error("content differs")
	}
}

func TestCreationRules(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	f := newCard(t, coolkey.Config{}, "")
	open := ck.CreationACL{Object: ck.ACLEveryone, Key: ck.ACLEveryone, PIN: ck.ACLAuthority, Changeable: true}
	if err := ck.SetCreationACL(ctx, f, open); !errors.Is(err, ck.SWNotAllowed) {
		t.Errorf("without the switch: %v", err)
	}
	f = newCard(t, coolkey.Config{}, "000214000101")
	check(t, ck.SetCreationACL(ctx, f, open))
	f.want("B0F2000004", "07020101 9000")
	o := ck.ObjectInfo{ID: ck.ObjectID{'d', '0'}, Size: 4, ACL: ck.ObjectACL{Read: ck.ACLEveryone, Write: ck.ACLEveryone}}
	check(t, ck.CreateObject(ctx, f, ck.Anonymous(), o))
	if err := ck.CreateObject(ctx, f, ck.Anonymous(), o); !errors.Is(err, ck.SWObjectExists) {
		t.Errorf("creating again: %v", err)
	}
	check(t, ck.CreateObject(ctx, f, ck.Channel(), o))
	open.Changeable = false
	check(t, ck.SetCreationACL(ctx, f, open))
	if err := ck.SetCreationACL(ctx, f, open); !errors.Is(err, ck.SWNotAllowed) {
		t.Errorf("after the last change: %v", err)
	}
}
