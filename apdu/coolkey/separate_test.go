package coolkey_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"inkan/apdu/coolkey"
)

// v0 builds a record of the old format as TPS wrote it.
func v0(id coolkey.ObjectID, attributes ...[]byte) []byte {
	body := bytes.Join(attributes, nil)
	b := append([]byte{0}, id[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func attribute(t coolkey.AttributeType, value ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(t))
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func TestSeparateObjects(t *testing.T) {
	t.Parallel()
	c1, k2, k3 := coolkey.ObjectID{'c', '1'}, coolkey.ObjectID{'k', '2'}, coolkey.ObjectID{'k', '3'}
	private := v0(k2,
		attribute(coolkey.AttrModulus, 0, 0xC7),
		attribute(coolkey.AttrKeyType, 0, 0, 0, 0),
		attribute(coolkey.AttrClass, 3, 0, 0, 0),
		attribute(0x108, 1), attribute(0x109, 1), attribute(0x103, 1), attribute(0x105, 0),
		attribute(coolkey.AttrPrivate, 1), attribute(coolkey.AttrToken, 1))
	stored := []coolkey.Stored{
		{ID: coolkey.IDImport, Data: make([]byte, 644)}, // left over from a cut import
		{ID: c1, Data: v0(c1, attribute(coolkey.AttrLabel, 'a', 'b'), attribute(coolkey.AttrCertificateType, 0, 0, 0, 0),
			attribute(coolkey.AttrClass, 1, 0, 0, 0), attribute(coolkey.AttrToken, 1))},
		{ID: k2, Data: private},
		{ID: k3, Data: append([]byte{1, 'k', '3', 0, 0, 0, 0x0C, 0, 0xA1, 0, 1}, 0, 0, 1, 0, 1, 0, 0, 0, 0)},
		{ID: coolkey.ObjectID{'C', '1'}, Data: []byte{0x30, 0}},
		{ID: coolkey.ObjectID{'C', '4'}, Data: []byte{0x30, 1}},
		{ID: coolkey.ObjectID{'r', '0'}, Data: []byte{9}},
	}
	objects, err := coolkey.ParseSeparate(stored)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		id    string
		fixed coolkey.Fixed
		der   []byte
	}{
		{"c1", 0x00000091, []byte{0x30, 0}},
		{"k2", 0x001301B1, nil},
		{"k3", 0x000C00A1, nil},
		{"c4", 0x00000094, []byte{0x30, 1}},
	}
	if len(objects) != len(want) {
		t.Fatalf("objects %+v", objects)
	}
	for i, w := range want {
		o := objects[i]
		der, _ := o.Attribute(coolkey.AttrValue)
		if o.ID.String() != w.id || o.Fixed != w.fixed || !bytes.Equal(der.Value, w.der) {
			t.Errorf("object %v: %v, DER %x", o.ID, o.Fixed, der.Value)
		}
	}
	if a, ok := objects[1].Attribute(coolkey.AttrModulus); !ok || !bytes.Equal(a.Value, []byte{0, 0xC7}) {
		t.Errorf("modulus %+v", a)
	}
}

func TestSeparateObjectsRefused(t *testing.T) {
	t.Parallel()
	k2 := coolkey.ObjectID{'k', '2'}
	good := v0(k2, attribute(coolkey.AttrLabel, 'x'))
	for name, data := range map[string][]byte{
		"short":      {0, 'k', '2'},
		"other name": v0(coolkey.ObjectID{'k', '3'}),
		"format":     {7, 'k', '2', 0, 0, 0, 0},
		"cut":        good[:len(good)-1],
		"attribute":  append([]byte{0, 'k', '2', 0, 0, 0, 3}, 1, 2, 3),
		"length":     append([]byte{0, 'k', '2', 0, 0, 0, 6}, 0, 0, 0, 3, 0, 9),
		"v1":         {1, 'k', '2', 0, 0, 0, 0, 0, 0, 0, 9},
	} {
		objects, err := coolkey.ParseSeparate([]coolkey.Stored{{ID: k2, Data: data}, {ID: k2, Data: good}})
		if err == nil || len(objects) != 1 {
			t.Errorf("case=%s: %+v, %v", name, objects, err)
		}
	}
}

func FuzzSeparateNoPanic(f *testing.F) {
	f.Add([]byte("k2\x00\x00"), v0(coolkey.ObjectID{'k', '2'}, attribute(coolkey.AttrClass, 3, 0, 0, 0)))
	f.Add([]byte("C1\x00\x00"), []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, id, data []byte) {
		if len(id) == 4 {
			coolkey.ParseSeparate([]coolkey.Stored{{ID: coolkey.ObjectID(id), Data: data}, {ID: coolkey.ObjectID{'C', '1'}, Data: data}})
		}
	})
}
