package coolkey_test

import (
	"bytes"
	"compress/zlib"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
)

func capabilities(t testing.TB, names ...string) coolkey.Fixed {
	t.Helper()
	f, err := coolkey.ParseCapabilities(names)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// exampleCertificates are those of coolkey-applet.md §11 with the capabilities of
// the shipped profile.
func exampleCertificates(t testing.TB) []coolkey.Certificate {
	v := getVectors(t)
	return []coolkey.Certificate{{
		Number: 1, Label: "signing key for jdoe", DER: v.Z0[73 : 73+339], PublicKey: v.Signing.public(),
		Private: capabilities(t, "sign", "signRecover", "sensitive", "private", "token"),
		Public:  capabilities(t, "verify", "verifyRecover", "token"),
	}, {
		Number: 2, Label: "encryption key for jdoe", DER: v.Z0[488 : 488+339], PublicKey: v.Encryption.public(),
		Private: capabilities(t, "decrypt", "unwrap", "sensitive", "private", "token"),
		Public:  capabilities(t, "encrypt", "wrap", "token"),
	}}
}

func TestCombinedVector(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	c, err := coolkey.NewCombined(apdu.CUID(v.Z0[4:14]), 0x42, "jdoe", exampleCertificates(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Encode(false)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, v.Z0) {
		t.Errorf("encoded\n%x\nwant\n%x", got, v.Z0)
	}
	for name, b := range map[string][]byte{"uncompressed": v.Z0, "zlib": v.Z0Zlib} {
		d, err := coolkey.Decode(b)
		if err != nil {
			t.Errorf("form=%s: %v", name, err)
			continue
		}
		if !reflect.DeepEqual(c, d) {
			t.Errorf("form=%s:\n%+v\nwant\n%+v", name, d, c)
		}
		if certs := d.Certificates(); !reflect.DeepEqual(certs[0].PublicKey, exampleCertificates(t)[0].PublicKey) || len(certs) != 2 {
			t.Errorf("form=%s: certificates %+v", name, certs)
		}
	}
	small, err := c.Encode(true)
	if err != nil {
		t.Fatal(err)
	}
	if len(small) >= len(v.Z0) {
		t.Errorf("compressed to %d bytes", len(small))
	}
	if d, err := coolkey.Decode(small); err != nil || !reflect.DeepEqual(c, d) {
		t.Errorf("compressed form reads %+v, %v", d, err)
	}
}

// TestFixedWords are the words of Dogtag's shipped profile.
func TestFixedWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		id    int
		class coolkey.Class
		names []string
		want  coolkey.Fixed
	}{
		{1, coolkey.ClassCertificate, []string{"token"}, 0x00000091},
		{1, coolkey.ClassPublicKey, []string{"token", "verify", "verifyRecover"}, 0x000C00A1},
		{1, coolkey.ClassPrivateKey, []string{"token", "private", "sign", "signRecover", "sensitive"}, 0x001301B1},
		{2, coolkey.ClassPublicKey, []string{"token", "encrypt", "wrap"}, 0x000050A2},
		{2, coolkey.ClassPrivateKey, []string{"token", "private", "decrypt", "unwrap", "sensitive"}, 0x0010A1B2},
		{3, coolkey.ClassPublicKey, []string{"token", "decrypt", "sensitive"}, 0x000000A3}, // not valid for the class
	} {
		got := coolkey.NewFixed(tt.id, tt.class, capabilities(t, tt.names...))
		if got != tt.want || got.ID() != tt.id || got.Class() != tt.class {
			t.Errorf("%v: %v, want %v", tt.names, got, tt.want)
		}
	}
	if _, err := coolkey.ParseCapabilities([]string{"sign", "fly"}); err == nil {
		t.Error("an unknown capability is taken")
	}
	if n := capabilities(t, "derive", "token", "encrypt").Capabilities(); !reflect.DeepEqual(n, []string{"encrypt", "derive", "token"}) {
		t.Errorf("names %v", n)
	}
}

func TestPadding(t *testing.T) {
	t.Parallel()
	for _, compress := range []bool{false, true} {
		for n := range 300 {
			c := coolkey.Combined{Format: 0x0100, Label: strings.Repeat("x", min(n, 127))}
			if n > 127 {
				c.Objects = []coolkey.Object{{
					ID: coolkey.ObjectID{'d', '0'}, Attributes: []coolkey.Attribute{{Type: coolkey.AttrLabel, Value: make([]byte, n)}},
				}}
			}
			b, err := c.Encode(compress)
			if err != nil {
				t.Fatal(err)
			}
			payload := b[20:]
			if b[15] == 1 {
				r, err := zlib.NewReader(bytes.NewReader(payload))
				if err != nil {
					t.Fatal(err)
				}
				var raw bytes.Buffer
				raw.ReadFrom(r)
				payload = raw.Bytes()
			}
			if len(b) < 255 || len(payload) < 260 {
				t.Fatalf("compress=%t n=%d: object of %d bytes, payload of %d", compress, n, len(b), len(payload))
			}
			if d, err := coolkey.Decode(b); err != nil || !reflect.DeepEqual(c.Objects, nilIfEmpty(d.Objects)) || d.Label != c.Label {
				t.Fatalf("compress=%t n=%d: reads %+v, %v", compress, n, d, err)
			}
		}
	}
}

func nilIfEmpty(o []coolkey.Object) []coolkey.Object {
	if len(o) == 0 {
		return nil
	}
	return o
}

func TestEncodeLimits(t *testing.T) {
	t.Parallel()
	big := coolkey.Object{ID: coolkey.ObjectID{'d', '0'}, Attributes: []coolkey.Attribute{{Type: coolkey.AttrValue, Value: make([]byte, 14900-17)}}}
	c := coolkey.Combined{Objects: []coolkey.Object{big}}
	for _, compress := range []bool{false, true} {
		if _, err := c.Encode(compress); !errors.Is(err, coolkey.ErrTooLarge) {
			t.Errorf("compress=%t: payload over the limit: %v", compress, err)
		}
	}
	big.Attributes[0].Value = big.Attributes[0].Value[:14900-17-5]
	if b, err := c.Encode(false); err != nil || len(b) != 20+14900 {
		t.Errorf("payload at the limit: %d bytes, %v", len(b), err)
	}
	if _, err := (coolkey.Combined{Label: strings.Repeat("x", 128)}).Encode(false); !errors.Is(err, coolkey.ErrTooLarge) {
		t.Errorf("long label: %v", err)
	}
	bad := coolkey.Combined{Objects: []coolkey.Object{{Attributes: []coolkey.Attribute{{Kind: 4}}}}}
	if _, err := bad.Encode(false); err == nil {
		t.Error("an unknown kind is encoded")
	}
}

func TestDecodeRefusals(t *testing.T) {
	t.Parallel()
	v := getVectors(t)
	change := func(off int, b ...byte) []byte {
		c := bytes.Clone(v.Z0)
		copy(c[off:], b)
		return c
	}
	bomb := func(n int) []byte {
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		w.Write([]byte{0, 5, 0, 0, 0}) // no objects, no name
		w.Write(make([]byte, n-5))
		w.Close()
		head := change(14, 0, 1, byte(z.Len()>>8), byte(z.Len()))[:20]
		return append(head, z.Bytes()...)
	}
	for name, b := range map[string][]byte{
		"empty":               {},
		"header only":         v.Z0[:20],
		"cut":                 v.Z0[:len(v.Z0)-1],
		"format":              change(0, 2),
		"compression":         change(14, 0, 2),
		"not zlib":            change(14, 0, 1),
		"payload offset":      change(18, 0, 19),
		"payload length":      change(16, 0xFF, 0xFF),
		"first object":        change(20, 0, 8),
		"first object behind": change(20, 4, 0),
		"count":               change(22, 0xFF, 0xFF),
		"one object too many": change(22, 0, 7),
		"name length":         change(24, 200),
		"attribute count":     change(37, 0xFF, 0xFF),
		"attribute kind":      change(43, 9),
		"attribute length":    change(44, 0xFF),
		"too long":            make([]byte, 0x10000),
		"bomb":                bomb(10 << 20),
		"one byte too many":   bomb(64<<10 + 1),
		"cut zlib":            append(change(14, 0, 1, 0, 100)[:20], v.Z0Zlib[20:120]...),
	} {
		if c, err := coolkey.Decode(b); err == nil {
			t.Errorf("case=%s: read as %+v", name, c)
		}
	}
	if _, err := coolkey.Decode(append(bytes.Clone(v.Z0), 1, 2, 3)); err != nil {
		t.Errorf("bytes behind the payload: %v", err)
	}
	if _, err := coolkey.Decode(bomb(64 << 10)); err != nil {
		t.Errorf("64 KiB inflated: %v", err)
	}
}

func TestDEF30ECObjects(t *testing.T) {
	t.Parallel()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c, err := coolkey.NewCombined(apdu.CUID{}, 1, "x", []coolkey.Certificate{{Number: 7, DER: []byte{1}, PublicKey: &k.PublicKey}})
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{"c7", "kF", "kE"}
		for i, o := range c.Objects {
			if o.ID.String() != ids[i] || o.Fixed.ID() != 7 {
				t.Errorf("object %d is %v with %v", i, o.ID, o.Fixed)
			}
		}
		point, _ := k.PublicKey.Bytes()
		if a, ok := c.Objects[1].Attribute(coolkey.AttrECPoint); !ok || !bytes.Equal(a.Value, point) {
			t.Errorf("EC_POINT %x", a.Value)
		}
		for _, o := range c.Objects[1:] {
			if a, ok := o.Attribute(coolkey.AttrKeyType); !ok || a.Kind != coolkey.KindInteger || a.Number != 3 {
				t.Errorf("KEY_TYPE of %v: %+v", o.ID, a)
			}
		}
		if curve == elliptic.P256() {
			if a, _ := c.Objects[2].Attribute(coolkey.AttrECParams); hex.EncodeToString(a.Value) != "06082a8648ce3d030107" {
				t.Errorf("EC_PARAMS %x", a.Value)
			}
		}
		if _, ok := c.Objects[2].Attribute(coolkey.AttrECPoint); ok {
			t.Error("the private key has a point")
		}
	}
}

func TestPutAndRemove(t *testing.T) {
	t.Parallel()
	certs := exampleCertificates(t)
	c, err := coolkey.NewCombined(apdu.CUID{}, 1, "jdoe", certs)
	if err != nil {
		t.Fatal(err)
	}
	renewed := certs[0]
	renewed.Label = "renewed"
	if err := c.Put(renewed); err != nil {
		t.Fatal(err)
	}
	if got := order(c); got != "c1 k3 k2 c2 k5 k4" {
		t.Errorf("order after renewal: %s", got)
	}
	if got, ok := c.Certificate(1); !ok || got.Label != "renewed" || got.Private != renewed.Private {
		t.Errorf("certificate 1: %+v", got)
	}
	c.Remove(1)
	if got := order(c); got != "c2 k5 k4" {
		t.Errorf("order after removal: %s", got)
	}
	if _, ok := c.Certificate(1); ok {
		t.Error("certificate 1 is still there")
	}
	for name, bad := range map[string]coolkey.Certificate{
		"number":   {Number: 8, DER: []byte{1}, PublicKey: certs[0].PublicKey},
		"negative": {Number: -1, DER: []byte{1}, PublicKey: certs[0].PublicKey},
		"no DER":   {Number: 1, PublicKey: certs[0].PublicKey},
		"no key":   {Number: 1, DER: []byte{1}},
	} {
		if err := c.Put(bad); err == nil {
			t.Errorf("case=%s: taken", name)
		}
	}
	if _, err := coolkey.NewCombined(apdu.CUID{}, 1, "", []coolkey.Certificate{certs[0], certs[0]}); err == nil {
		t.Error("the same number twice is taken")
	}
}

// TestFormers: former certificates are no certificates with keys, have the CKA_ID of
// theirs, and stand behind everything else, as often as there are numbers.
func TestFormers(t *testing.T) {
	t.Parallel()
	certs := exampleCertificates(t)
	c, err := coolkey.NewCombined(apdu.CUID{}, 1, "jdoe", certs)
	if err != nil {
		t.Fatal(err)
	}
	added := 0
	for ; err == nil; added++ {
		err = c.AddFormer(coolkey.Former{Of: 2, Label: "old", DER: []byte{0x30, byte(added)}})
	}
	if !errors.Is(err, coolkey.ErrNoNumber) || added != 1+coolkey.MaxCertificates-len(certs) {
		t.Errorf("added %d: %v", added, err)
	}
	b, err := c.Encode(true)
	if err != nil {
		t.Fatal(err)
	}
	back, err := coolkey.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := order(back); got != "c1 k3 k2 c2 k5 k4 c0 c3 c4 c5 c6 c7" {
		t.Errorf("order: %s", got)
	}
	if got := back.Certificates(); len(got) != len(certs) {
		t.Errorf("%d certificates with keys, want %d", len(got), len(certs))
	}
	got := back.Formers()
	if len(got) != added-1 || got[1].Number != 3 || got[1].Of != 2 || got[1].Label != "old" || string(got[1].DER) != "\x30\x01" {
		t.Errorf("former certificates %+v", got)
	}
	if _, ok := back.Certificate(3); ok {
		t.Error("a former certificate has keys")
	}
}

func order(c coolkey.Combined) string {
	var ids []string
	for _, o := range c.Objects {
		ids = append(ids, o.ID.String())
	}
	return strings.Join(ids, " ")
}

func TestMaxSize(t *testing.T) {
	t.Parallel()
	k, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 5 {
		var planned []coolkey.PlannedCertificate
		var certs []coolkey.Certificate
		for i := range n {
			planned = append(planned, coolkey.PlannedCertificate{Label: 20, DER: 1000})
			certs = append(certs, coolkey.Certificate{Number: i, Label: strings.Repeat("l", 20), DER: make([]byte, 1000), PublicKey: &k.PublicKey})
		}
		c, err := coolkey.NewCombined(apdu.CUID{}, 0, "someone", certs)
		if err != nil {
			t.Fatal(err)
		}
		for _, compress := range []bool{false, true} {
			b, err := c.Encode(compress)
			if err != nil {
				t.Fatal(err)
			}
			if limit := coolkey.MaxSize("someone", planned); len(b) > limit || !compress && limit > len(b)+64*(n+1) {
				t.Errorf("n=%d compress=%t: %d bytes, planned %d", n, compress, len(b), limit)
			}
		}
	}
}

func FuzzCombinedNoPanic(f *testing.F) {
	v := getVectors(f)
	f.Add([]byte(v.Z0))
	f.Add([]byte(v.Z0Zlib))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := coolkey.Decode(b)
		if err != nil {
			return
		}
		c.Certificates()
		c.Encode(true)
	})
}

func FuzzCombinedRoundTrip(f *testing.F) {
	v := getVectors(f)
	f.Add([]byte(v.Z0), true)
	f.Add([]byte(v.Z0Zlib), false)
	f.Fuzz(func(t *testing.T, b []byte, compress bool) {
		c, err := coolkey.Decode(b)
		if err != nil {
			return
		}
		e, err := c.Encode(compress)
		if errors.Is(err, coolkey.ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		d, err := coolkey.Decode(e)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", c) != fmt.Sprintf("%+v", d) {
			t.Errorf("%+v became %+v", c, d)
		}
	})
}
