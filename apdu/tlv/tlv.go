// Package tlv reads and writes BER-TLV data objects as smart cards use them
// (ISO 7816-4 §6.3): [Parse] and [Find] read, [Append] writes.
//
// Tags have one to three bytes, lengths up to three bytes behind the first
// (16 MiB); the indefinite form is refused. Lengths longer than needed are
// accepted, as cards send them, and never written. Values alias the input. All
// functions are pure and safe for concurrent use.
package tlv

import (
	"errors"
	"fmt"
)

// Tag is a tag as its bytes read in hexadecimal: 0x84, 0x9F7F, 0x5FC102.
type Tag uint32

// String is the tag in upper-case hexadecimal.
func (t Tag) String() string { return fmt.Sprintf("%02X", uint32(t)) }

// Constructed reports whether the value is itself a sequence of data objects.
func (t Tag) Constructed() bool { return t.first()&0x20 != 0 }

func (t Tag) first() byte {
	for t > 0xFF {
		t >>= 8
	}
	return byte(t)
}

// TLV is one data object. Value aliases what it was parsed from.
type TLV struct {
	Tag   Tag
	Value []byte
}

// Children parses the value as a sequence of data objects.
func (t TLV) Children() ([]TLV, error) { return Parse(t.Value) }

var errCut = errors.New("data object is cut")

// Parse reads the data objects of one level. Bytes 00 before, between and after
// them are skipped (ISO 7816-4 §6.3). The values are not looked into.
func Parse(b []byte) ([]TLV, error) {
	var ts []TLV
	for len(b) > 0 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		t, rest, err := Next(b)
		if err != nil {
			return nil, fmt.Errorf("parsing TLV object %d: %w", len(ts)+1, err)
		}
		ts = append(ts, t)
		b = rest
	}
	return ts, nil
}

// Next reads the first data object of b and returns what follows it.
func Next(b []byte) (t TLV, rest []byte, err error) {
	tag, b, err := readTag(b)
	if err != nil {
		return TLV{}, nil, err
	}
	n, b, err := ReadLength(b)
	if err != nil {
		return TLV{}, nil, fmt.Errorf("tag %v: %w", tag, err)
	}
	if n > len(b) {
		return TLV{}, nil, fmt.Errorf("tag %v: %w: length %d, %d left", tag, errCut, n, len(b))
	}
	return TLV{Tag: tag, Value: b[:n:n]}, b[n:], nil
}

func readTag(b []byte) (Tag, []byte, error) {
	if len(b) == 0 {
		return 0, nil, errCut
	}
	t := Tag(b[0])
	if b[0] == 0 {
		return 0, nil, errors.New("tag 00")
	}
	if b[0]&0x1F != 0x1F {
		return t, b[1:], nil
	}
	for i := 1; i < 3; i++ {
		if i == len(b) {
			return 0, nil, errCut
		}
		t = t<<8 | Tag(b[i])
		if b[i]&0x80 == 0 {
			return t, b[i+1:], nil
		}
	}
	return 0, nil, fmt.Errorf("tag %v… longer than three bytes", t)
}

// ReadLength reads a BER length field and returns what follows it.
func ReadLength(b []byte) (n int, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errCut
	}
	first, b := b[0], b[1:]
	if first < 0x80 {
		return int(first), b, nil
	}
	k := int(first & 0x7F)
	if k == 0 || k > 3 {
		return 0, nil, fmt.Errorf("length field %02X not supported", first)
	}
	if k > len(b) {
		return 0, nil, errCut
	}
	for _, c := range b[:k] {
		n = n<<8 | int(c)
	}
	return n, b[k:], nil
}

// Find follows a path of tags, the first object with a tag at each level, and
// returns the value at its end. It reports false where a level does not parse.
func Find(b []byte, path ...Tag) (value []byte, ok bool) {
	for _, tag := range path {
		ts, err := Parse(b)
		if err != nil {
			return nil, false
		}
		t, found := First(ts, tag)
		if !found {
			return nil, false
		}
		b = t.Value
	}
	return b, true
}

// First returns the first object with a tag.
func First(ts []TLV, tag Tag) (TLV, bool) {
	for _, t := range ts {
		if t.Tag == tag {
			return t, true
		}
	}
	return TLV{}, false
}
