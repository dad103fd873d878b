package coolkey

import (
	"bytes"
	"errors"
)

// Former is a certificate of a key whose present one is another. A program that looks for
// the key of a message by issuer and serial number finds it by this one: it has the
// CKA_ID of the key pair, and no key objects of its own.
type Former struct {
	Number int // of the object, one that no key pair has
	Of     int // of the key pair
	Label  string
	DER    []byte
}

// ErrNoNumber means that an object holds as many certificates as it can.
var ErrNoNumber = errors.New("no certificate number is left")

// AddFormer appends a certificate of the key pair f.Of under the first number that is
// free of keys and certificates; f.Number is not looked at. It fails with [ErrNoNumber].
func (c *Combined) AddFormer(f Former) error {
	for n := range MaxCertificates {
		if n == f.Of || c.taken(n) {
			continue
		}
		c.Objects = append(c.Objects, Object{
			ID: ObjectID{byte(KindAttributes), indexDigits[n]}, Fixed: NewFixed(f.Of, ClassCertificate, FlagToken),
			Attributes: []Attribute{{Type: AttrLabel, Value: []byte(f.Label)}, {Type: AttrValue, Value: bytes.Clone(f.DER)}},
		})
		return nil
	}
	return ErrNoNumber
}

func (c *Combined) taken(n int) bool {
	for _, o := range c.Objects {
		if (Certificate{Number: n}).owns(o) {
			return true
		}
	}
	return false
}

// Formers are the certificates that are not the present ones of their keys, in the
// order of the object.
func (c Combined) Formers() (all []Former) {
	for _, o := range c.Objects {
		if n, ok := o.ID.Index(); ok && o.former() {
			label, _ := o.Attribute(AttrLabel)
			value, _ := o.Attribute(AttrValue)
			all = append(all, Former{Number: n, Of: o.Fixed.ID(), Label: string(label.Value), DER: bytes.Clone(value.Value)})
		}
	}
	return all
}

// former reports a certificate whose CKA_ID is that of another number's keys.
func (o Object) former() bool {
	n, ok := o.ID.Index()
	return ok && o.ID.Kind() == KindAttributes && o.Fixed.Class() == ClassCertificate && o.Fixed.ID() != n
}
