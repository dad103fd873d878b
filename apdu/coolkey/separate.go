package coolkey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Stored is an object of the heap with its content.
type Stored struct {
	ID   ObjectID
	Data []byte
}

// Formats of the records on tokens without a combined object.
const (
	recordV0 = 0 // attributes with two-byte lengths, integers little-endian
	recordV1 = 1 // as inside the combined object
)

var errRecord = errors.New("malformed token object")

// ParseSeparate reads the objects of a token without a combined object: records
// of certificates (c) and keys (k) in the old and the new format, and the bare
// certificates (C), which become attribute VALUE of their c. Objects of other
// kinds, such as a left-over [IDImport], are ignored. A record that does not parse
// is an error together with what did parse.
func ParseSeparate(stored []Stored) ([]Object, error) {
	var objects []Object
	var errs []error
	for _, s := range stored {
		if k := s.ID.Kind(); k != KindAttributes && k != KindKey {
			continue
		}
		if _, ok := s.ID.Index(); !ok {
			continue
		}
		o, err := parseRecord(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		objects = append(objects, o)
	}
	for _, s := range stored {
		n, ok := s.ID.Index()
		if s.ID.Kind() == KindCertificate && ok {
			objects = attachDER(objects, n, s.Data)
		}
	}
	return objects, errors.Join(errs...)
}

// attachDER gives certificate n its DER. One without a c record gets one, so that
// nobody takes its number for free.
func attachDER(objects []Object, n int, der []byte) []Object {
	value := Attribute{Type: AttrValue, Value: bytes.Clone(der)}
	for i, o := range objects {
		if m, _ := o.ID.Index(); o.ID.Kind() == KindAttributes && m == n {
			if _, ok := o.Attribute(AttrValue); !ok {
				objects[i].Attributes = append(o.Attributes, value)
			}
			return objects
		}
	}
	return append(objects, Object{
		ID:         ObjectID{byte(KindAttributes), indexDigits[n]},
		Fixed:      NewFixed(n, ClassCertificate, FlagToken),
		Attributes: []Attribute{value},
	})
}

func parseRecord(s Stored) (Object, error) {
	if len(s.Data) < 7 {
		return Object{}, fmt.Errorf("%w %v: %d bytes", errRecord, s.ID, len(s.Data))
	}
	if id := ObjectID(s.Data[1:5]); id != s.ID {
		return Object{}, fmt.Errorf("%w %v: it names itself %v", errRecord, s.ID, id)
	}
	switch s.Data[0] {
	case recordV0:
		return parseV0(s)
	case recordV1:
		o, _, err := parseObject(s.Data[1:])
		if err != nil {
			return Object{}, fmt.Errorf("%w %v: %w", errRecord, s.ID, err)
		}
		return o, nil
	}
	return Object{}, fmt.Errorf("%w %v: format %d", errRecord, s.ID, s.Data[0])
}

// parseV0 reads a record of the old format and builds its fixed word.
func parseV0(s Stored) (Object, error) {
	total := int(binary.BigEndian.Uint16(s.Data[5:]))
	b := s.Data[7:]
	if total > len(b) {
		return Object{}, fmt.Errorf("%w %v: %d bytes of attributes, %d there", errRecord, s.ID, total, len(b))
	}
	b = b[:total]
	o := Object{ID: s.ID}
	class, flags := defaultClass(s.ID), Fixed(0)
	for len(b) > 0 {
		if len(b) < 6 {
			return Object{}, fmt.Errorf("%w %v: %w", errRecord, s.ID, errShort)
		}
		t := AttributeType(binary.BigEndian.Uint32(b))
		v, rest, ok := counted(b[4:])
		if !ok {
			return Object{}, fmt.Errorf("%w %v: %w", errRecord, s.ID, errShort)
		}
		b = rest
		flag := flagOf(t)
		switch {
		case t == AttrClass && len(v) == 4:
			class = Class(min(binary.LittleEndian.Uint32(v), 7))
		case t == AttrKeyType && len(v) == 4, t == AttrCertificateType && len(v) == 4:
			o.Attributes = append(o.Attributes, Attribute{Type: t, Kind: KindInteger, Number: binary.LittleEndian.Uint32(v)})
		case flag != 0 && len(v) == 1:
			if v[0] != 0 {
				flags |= flag
			}
		default:
			o.Attributes = append(o.Attributes, Attribute{Type: t, Value: bytes.Clone(v)})
		}
	}
	n, _ := s.ID.Index()
	if s.ID.Kind() == KindKey {
		n /= 2
	}
	o.Fixed = NewFixed(n, class, flags)
	return o, nil
}

func defaultClass(id ObjectID) Class {
	n, _ := id.Index()
	switch {
	case id.Kind() == KindAttributes:
		return ClassCertificate
	case n%2 == 1:
		return ClassPublicKey
	}
	return ClassPrivateKey
}

func flagOf(t AttributeType) Fixed {
	i := slices.IndexFunc(capabilities, func(c capability) bool { return c.attr == t })
	if i < 0 {
		return 0
	}
	return capabilities[i].flag
}
