package coolkey_test

import (
	"context"
	"encoding/binary"
	"testing"

	"inkan/apdu"
	"inkan/apdu/coolkey"
)

// says answers every command with the same data.
type says []byte

func (s says) Do(context.Context, apdu.Command) (apdu.Response, error) {
	return apdu.Response{Data: s, SW: apdu.SWSuccess}, nil
}

// TestDEF06UnsignedMemorySizes: bytes of 80 and above are no negative numbers.
func TestDEF06UnsignedMemorySizes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status      says
		total, free uint32
	}{
		{says{1, 1, 1, 4, 0, 0, 0x80, 0xFF, 0, 0, 0xFF, 0x80, 1, 2, 0, 0}, 0x80FF, 0xFF80},
		{says{1, 1, 1, 4, 0x80, 0, 0, 0x81, 0xFF, 0xFF, 0xFF, 0xFE, 0x90, 0xFF, 0, 0}, 0x80000081, 0xFFFFFFFE},
		{says{1, 1, 0x84, 0xF4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 0, 0},
	} {
		s, err := coolkey.ReadStatus(t.Context(), c.status)
		if err != nil || s.HeapTotal != c.total || s.HeapFree != c.free {
			t.Errorf("% X: %d of %d bytes free (%v), want %d of %d", []byte(c.status), s.HeapFree, s.HeapTotal, err, c.free, c.total)
		}
		if s.PINs != int(c.status[12]) || s.Keys != int(c.status[13]) || s.AppletMajor != c.status[2] || s.AppletMinor != c.status[3] {
			t.Errorf("% X: %+v", []byte(c.status), s)
		}
	}
}

// TestDEF27CountIsWhatIsWritten: the number of objects in the combined object is
// that of the objects behind it, also when some came and went.
func TestDEF27CountIsWhatIsWritten(t *testing.T) {
	t.Parallel()
	certs := exampleCertificates(t)
	c, err := coolkey.NewCombined(apdu.CUID{}, 1, "jdoe", certs)
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, want int) {
		t.Helper()
		b, err := c.Encode(false)
		if err != nil {
			t.Fatal(err)
		}
		back, err := coolkey.Decode(b)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if n := int(binary.BigEndian.Uint16(b[22:])); n != want || len(back.Objects) != want {
			t.Errorf("%s: %d objects counted, %d written, want %d", when, n, len(back.Objects), want)
		}
	}
	check("two certificates", 6)
	c.Remove(1)
	check("one removed", 3)
	if err := c.Put(certs[0]); err != nil {
		t.Fatal(err)
	}
	check("put again", 6)
	c.Objects = c.Objects[:len(c.Objects)-1] // a key that is gone
	check("an object lost", 5)
	c.Remove(1)
	c.Remove(2)
	check("none", 0)
}
