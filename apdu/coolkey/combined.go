package coolkey

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"inkan/apdu"
)

// Combined is the combined object z0: all certificates and key descriptions of a
// token.
type Combined struct {
	Format  uint16 // format version, 0100
	Version uint16 // must differ after every change of content: clients cache by it
	CUID    apdu.CUID
	Label   string // the token's name, at most 127 bytes
	Objects []Object
}

// Object is one object inside a [Combined].
type Object struct {
	ID         ObjectID
	Fixed      Fixed
	Attributes []Attribute // override what Fixed says
}

// Attribute returns the explicit attribute of type t.
func (o Object) Attribute(t AttributeType) (Attribute, bool) {
	for _, a := range o.Attributes {
		if a.Type == t {
			return a, true
		}
	}
	return Attribute{}, false
}

// Limits of the format and of its readers (measured with OpenSC and the coolkey
// module).
const (
	CombinedFormat   = 0x0100
	combinedHeader   = 20
	minCombined      = 255       // coolkey reads that many bytes at once
	minPayload       = 260       // OpenSC takes no less
	paddedPayload    = 300       // what a short payload is padded to
	paddedCombined   = 256       // what a short object is padded to
	maxPayload       = 14900     // coolkey copies the payload into a buffer without looking
	maxInflated      = 64 * 1024 // what we read
	maxLabel         = 127
	compressionNone  = 0
	compressionZlib  = 1
	attributeMinimum = 5 // type and kind
	objectMinimum    = 10
)

// ErrTooLarge means that a combined object would not fit what its readers take.
var ErrTooLarge = errors.New("combined object is too large")

var errCombined = errors.New("malformed combined object")

// NextVersion is the object version for a changed content.
func (c Combined) NextVersion() uint16 { return c.Version + 1 }

// Encode returns the object's bytes, padded to what its readers demand.
// Compression is left out where it gains nothing.
func (c Combined) Encode(compress bool) ([]byte, error) {
	payload, err := c.payload()
	if err != nil {
		return nil, err
	}
	method := uint16(compressionNone)
	if compress {
		z, err := deflate(payload)
		if err != nil {
			return nil, err
		}
		if len(z) < len(payload) {
			method, payload = compressionZlib, z
		}
	}
	format := c.Format
	if format == 0 {
		format = CombinedFormat
	}
	b := make([]byte, 0, max(combinedHeader+len(payload), paddedCombined))
	b = binary.BigEndian.AppendUint16(b, format)
	b = binary.BigEndian.AppendUint16(b, c.Version)
	b = append(b, c.CUID[:]...)
	for _, v := range []uint16{method, uint16(len(payload)), combinedHeader} {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	b = append(b, payload...)
	if len(b) < minCombined {
		b = b[:paddedCombined] // zeros behind the payload, which readers ignore
	}
	return b, nil
}

func (c Combined) payload() ([]byte, error) {
	if len(c.Label) > maxLabel {
		return nil, fmt.Errorf("token label of %d bytes: %w", len(c.Label), ErrTooLarge)
	}
	if len(c.Objects) > 0xFFFF {
		return nil, fmt.Errorf("%d objects: %w", len(c.Objects), ErrTooLarge)
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(5+len(c.Label)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Objects)))
	b = append(append(b, byte(len(c.Label))), c.Label...)
	for _, o := range c.Objects {
		var err error
		if b, err = o.append(b); err != nil {
			return nil, fmt.Errorf("object %v: %w", o.ID, err)
		}
	}
	if len(b) > maxPayload {
		return nil, fmt.Errorf("%w: payload of %d bytes, limit %d", ErrTooLarge, len(b), maxPayload)
	}
	if len(b) < minPayload {
		b = append(b, make([]byte, paddedPayload-len(b))...)
	}
	return b, nil
}

func (o Object) append(b []byte) ([]byte, error) {
	if len(o.Attributes) > 0xFFFF {
		return nil, fmt.Errorf("%d attributes: %w", len(o.Attributes), ErrTooLarge)
	}
	b = binary.BigEndian.AppendUint32(append(b, o.ID[:]...), uint32(o.Fixed))
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Attributes)))
	for _, a := range o.Attributes {
		b = append(binary.BigEndian.AppendUint32(b, uint32(a.Type)), byte(a.Kind))
		switch a.Kind {
		case KindString:
			if len(a.Value) > 0xFFFF {
				return nil, fmt.Errorf("attribute %X of %d bytes: %w", a.Type, len(a.Value), ErrTooLarge)
			}
			b = appendCounted(b, a.Value)
		case KindInteger:
			b = binary.BigEndian.AppendUint32(b, a.Number)
		case KindFalse, KindTrue:
		default:
			return nil, fmt.Errorf("attribute %X of kind %d", a.Type, a.Kind)
		}
	}
	return b, nil
}

// Decode reads a combined object. Bytes behind the payload and behind the last
// object are ignored, as every reader does. At most 64 KiB are inflated. The
// result holds no reference to b.
func Decode(b []byte) (Combined, error) {
	if len(b) < combinedHeader || len(b) > 0xFFFF {
		return Combined{}, fmt.Errorf("%w: %d bytes", errCombined, len(b))
	}
	u16 := func(off int) int { return int(binary.BigEndian.Uint16(b[off:])) }
	c := Combined{Format: uint16(u16(0)), Version: uint16(u16(2)), CUID: apdu.CUID(b[4:14])}
	if c.Format>>8 != CombinedFormat>>8 {
		return Combined{}, fmt.Errorf("%w: format version %04X", errCombined, c.Format)
	}
	size, offset := u16(16), u16(18)
	if offset < combinedHeader || offset+size > len(b) {
		return Combined{}, fmt.Errorf("%w: payload of %d bytes at %d", errCombined, size, offset)
	}
	payload := b[offset : offset+size]
	switch method := u16(14); method {
	case compressionNone:
	case compressionZlib:
		var err error
		if payload, err = inflate(payload); err != nil {
			return Combined{}, err
		}
	default:
		return Combined{}, fmt.Errorf("%w: compression %04X", errCombined, method)
	}
	return c, c.parsePayload(payload)
}

// compressors are kept, because each has tables of about a megabyte.
var compressors = sync.Pool{New: func() any { return zlib.NewWriter(nil) }}

func deflate(b []byte) ([]byte, error) {
	w := compressors.Get().(*zlib.Writer)
	defer compressors.Put(w)
	var z bytes.Buffer
	w.Reset(&z)
	w.Write(b) // a bytes.Buffer does not fail
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compressing combined object: %w", err)
	}
	return z.Bytes(), nil
}

func inflate(b []byte) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCombined, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxInflated+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errCombined, err)
	}
	if len(out) > maxInflated {
		return nil, fmt.Errorf("%w: more than %d bytes inflated", errCombined, maxInflated)
	}
	return out, nil
}

func (c *Combined) parsePayload(p []byte) error {
	if len(p) < 5 {
		return fmt.Errorf("%w: payload of %d bytes", errCombined, len(p))
	}
	first := int(binary.BigEndian.Uint16(p))
	count := int(binary.BigEndian.Uint16(p[2:]))
	name := int(p[4])
	if first < 5+name || first > len(p) {
		return fmt.Errorf("%w: first object at %d", errCombined, first)
	}
	if count > (len(p)-first)/objectMinimum {
		return fmt.Errorf("%w: %d objects in %d bytes", errCombined, count, len(p)-first)
	}
	c.Label = string(p[5 : 5+name])
	c.Objects = make([]Object, 0, count)
	rest := p[first:]
	for i := range count {
		o, tail, err := parseObject(rest)
		if err != nil {
			return fmt.Errorf("%w: object %d: %w", errCombined, i+1, err)
		}
		c.Objects, rest = append(c.Objects, o), tail
	}
	return nil
}

var errShort = errors.New("cut short")

func parseObject(b []byte) (o Object, rest []byte, err error) {
	if len(b) < objectMinimum {
		return o, nil, errShort
	}
	o = Object{ID: ObjectID(b[:4]), Fixed: Fixed(binary.BigEndian.Uint32(b[4:]))}
	count := int(binary.BigEndian.Uint16(b[8:]))
	b = b[objectMinimum:]
	if count > len(b)/attributeMinimum {
		return o, nil, errShort
	}
	for range count {
		var a Attribute
		if a, b, err = parseAttribute(b); err != nil {
			return o, nil, err
		}
		o.Attributes = append(o.Attributes, a)
	}
	return o, b, nil
}

func parseAttribute(b []byte) (a Attribute, rest []byte, err error) {
	if len(b) < attributeMinimum {
		return a, nil, errShort
	}
	a = Attribute{Type: AttributeType(binary.BigEndian.Uint32(b)), Kind: AttributeKind(b[4])}
	b = b[attributeMinimum:]
	switch a.Kind {
	case KindString:
		v, rest, ok := counted(b)
		if !ok {
			return a, nil, errShort
		}
		a.Value = bytes.Clone(v)
		return a, rest, nil
	case KindInteger:
		if len(b) < 4 {
			return a, nil, errShort
		}
		a.Number = binary.BigEndian.Uint32(b)
		return a, b[4:], nil
	case KindFalse, KindTrue:
		return a, b, nil
	}
	return a, nil, fmt.Errorf("attribute %X of kind %d", uint32(a.Type), a.Kind)
}
