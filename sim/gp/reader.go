package gp

import (
	"errors"

	"inkan/apdu"
)

var errStructure = errors.New("wrong structure")

// reader takes a command's data field apart. After the first error every
// method returns nothing, and err tells.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() []byte {
	r.b, r.err = nil, errStructure
	return nil
}

// take returns the next n bytes.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		return r.fail()
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	v := r.take(1)
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// lv returns the value behind one length byte.
func (r *reader) lv() []byte { return r.take(int(r.byte())) }

// blv returns the value behind a BER length.
func (r *reader) blv() []byte {
	n := int(r.byte())
	if n > 0x80 && n <= 0x83 {
		size := n - 0x80
		n = 0
		for range size {
			n = n<<8 | int(r.byte())
		}
	}
	return r.take(n)
}

// aid returns an AID behind one length byte: 5 to 16 bytes, or none.
func (r *reader) aid() apdu.AID {
	v := r.lv()
	if n := len(v); n != 0 && n < 5 || n > 16 {
		r.fail()
		return apdu.AID{}
	}
	a, _ := apdu.NewAID(v) // the length is checked
	return a
}

// tlv returns the next tag (one or two bytes) and value.
func (r *reader) tlv() (tag uint16, value []byte) {
	t := r.byte()
	tag = uint16(t)
	if t&0x1F == 0x1F {
		tag = tag<<8 | uint16(r.byte())
	}
	return tag, r.blv()
}

func (r *reader) more() bool { return r.err == nil && len(r.b) > 0 }
