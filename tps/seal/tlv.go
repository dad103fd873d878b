package seal

import (
	"encoding/binary"
	"fmt"
)

// tlv is type u16, length u16, value (config-sealing.md §8).
type tlv struct {
	tag   uint16
	value []byte
}

// ignorable marks types that a reader may not know.
const ignorable = 0x8000

func appendTLV(b []byte, tag uint16, value []byte) ([]byte, error) {
	if len(value) > 0xFFFF {
		return nil, fmt.Errorf("field %04X of %d bytes", tag, len(value))
	}
	b = binary.BigEndian.AppendUint16(b, tag)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...), nil
}

// splitTLV reads fields in ascending order; only repeats of repeatable may follow
// each other.
func splitTLV(b []byte, repeatable uint16) (out []tlv, err error) {
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, fmt.Errorf("field cut off")
		}
		t := tlv{tag: binary.BigEndian.Uint16(b)}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			return nil, fmt.Errorf("field %04X cut off", t.tag)
		}
		t.value, b = b[4:4+n], b[4+n:]
		if len(out) > 0 {
			last := out[len(out)-1].tag
			if t.tag < last || t.tag == last && (repeatable == 0 || t.tag != repeatable) {
				return nil, fmt.Errorf("field %04X out of order", t.tag)
			}
		}
		out = append(out, t)
	}
	return out, nil
}

// writer collects fields; the first error stays.
type writer struct {
	b   []byte
	err error
}

func (w *writer) put(tag uint16, value []byte) {
	if w.err == nil {
		w.b, w.err = appendTLV(w.b, tag, value)
	}
}

// opt puts a field that may be absent.
func (w *writer) opt(tag uint16, value []byte) {
	if len(value) > 0 {
		w.put(tag, value)
	}
}

func (w *writer) u64(tag uint16, v uint64) { w.put(tag, binary.BigEndian.AppendUint64(nil, v)) }
