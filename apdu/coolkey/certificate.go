package coolkey

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"inkan/apdu"
)

// MaxCertificates is how many certificates with key pairs a token has room for:
// key generation reaches slots 0 to 15. The coolkey module reads the first five.
const MaxCertificates = 8

// Certificate is a certificate on a token with the descriptions of its keys,
// which are in slots 2n (private) and 2n+1 (public) for certificate n.
type Certificate struct {
	Number    int // 0 to 7; also the CKA_ID
	Label     string
	DER       []byte
	PublicKey crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	Private   Fixed            // flags of the private key, see [ParseCapabilities]
	Public    Fixed            // flags of the public key
}

// PrivateKey is the slot of the private key, 2n.
func (c Certificate) PrivateKey() KeyNumber { return KeyNumber(2 * c.Number) }

// PublicKeyNumber is the slot of the public key, 2n+1.
func (c Certificate) PublicKeyNumber() KeyNumber { return KeyNumber(2*c.Number + 1) }

// NewCombined builds the combined object of a token: for each certificate its
// attributes, its public and its private key, in the order given.
func NewCombined(cuid apdu.CUID, version uint16, label string, certs []Certificate) (Combined, error) {
	c := Combined{Format: CombinedFormat, Version: version, CUID: cuid, Label: label}
	for _, cert := range certs {
		if _, ok := c.Certificate(cert.Number); ok {
			return Combined{}, fmt.Errorf("certificate %d is given twice", cert.Number)
		}
		if err := c.Put(cert); err != nil {
			return Combined{}, err
		}
	}
	return c, nil
}

// Put adds a certificate, or replaces the one of its number in place. The object
// version stays: see [Combined.NextVersion].
func (c *Combined) Put(cert Certificate) error {
	group, err := cert.objects()
	if err != nil {
		return fmt.Errorf("certificate %d: %w", cert.Number, err)
	}
	at := slices.IndexFunc(c.Objects, cert.owns)
	if at < 0 {
		c.Objects = append(c.Objects, group...)
		return nil
	}
	rest := slices.DeleteFunc(slices.Clone(c.Objects), cert.owns)
	c.Objects = slices.Insert(rest, at, group...)
	return nil
}

// Remove takes certificate n and its keys out.
func (c *Combined) Remove(n int) {
	c.Objects = slices.DeleteFunc(slices.Clone(c.Objects), Certificate{Number: n}.owns)
}

// owns reports whether o belongs to the certificate.
func (c Certificate) owns(o Object) bool {
	i, ok := o.ID.Index()
	switch o.ID.Kind() {
	case KindAttributes, KindCertificate:
		return ok && i == c.Number
	case KindKey:
		return ok && i/2 == c.Number
	}
	return false
}

// Certificates are the certificates of the object in its order, one per number.
// PublicKey is nil where the certificate cannot be parsed.
func (c Combined) Certificates() []Certificate {
	var list []Certificate
	seen := make(map[int]bool)
	for _, o := range c.Objects {
		n, ok := o.ID.Index()
		if !ok || o.ID.Kind() != KindAttributes || seen[n] {
			continue
		}
		seen[n] = true
		if cert, ok := c.Certificate(n); ok {
			list = append(list, cert)
		}
	}
	return list
}

// Certificate is certificate number n of the object.
func (c Combined) Certificate(n int) (Certificate, bool) {
	cert := Certificate{Number: n}
	found := false
	for _, o := range c.Objects {
		if !cert.owns(o) {
			continue
		}
		if o.former() {
			return Certificate{}, false
		}
		switch o.Fixed.Class() {
		case ClassCertificate:
			found = true
			label, _ := o.Attribute(AttrLabel)
			value, _ := o.Attribute(AttrValue)
			cert.Label, cert.DER = string(label.Value), bytes.Clone(value.Value)
		case ClassPublicKey:
			cert.Public = o.Fixed.Flags()
		case ClassPrivateKey:
			cert.Private = o.Fixed.Flags()
		}
	}
	if x, err := x509.ParseCertificate(cert.DER); err == nil {
		cert.PublicKey = x.PublicKey
	}
	return cert, found
}

func (c Certificate) objects() ([]Object, error) {
	if c.Number < 0 || c.Number >= MaxCertificates {
		return nil, fmt.Errorf("number out of 0 to %d", MaxCertificates-1)
	}
	if len(c.DER) == 0 {
		return nil, errors.New("no certificate bytes")
	}
	public, private, err := keyAttributes(c.PublicKey)
	if err != nil {
		return nil, err
	}
	id := func(k Kind, n int) ObjectID { return ObjectID{byte(k), indexDigits[n]} }
	return []Object{{
		ID: id(KindAttributes, c.Number), Fixed: NewFixed(c.Number, ClassCertificate, FlagToken),
		Attributes: []Attribute{
			{Type: AttrLabel, Value: []byte(c.Label)},
			{Type: AttrValue, Value: bytes.Clone(c.DER)},
		},
	}, {
		ID: id(KindKey, 2*c.Number+1), Fixed: NewFixed(c.Number, ClassPublicKey, FlagToken|c.Public),
		Attributes: public,
	}, {
		ID: id(KindKey, 2*c.Number), Fixed: NewFixed(c.Number, ClassPrivateKey, FlagToken|c.Private),
		Attributes: private,
	}}, nil
}

// keyAttributes are the explicit attributes of the two halves of a key pair.
func keyAttributes(pub crypto.PublicKey) (public, private []Attribute, err error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return nil, []Attribute{{Type: AttrKeyType, Kind: KindInteger, Number: ckkRSA}}, nil
	case *ecdsa.PublicKey:
		params, err := curveParams(k.Curve)
		if err != nil {
			return nil, nil, err
		}
		point, err := k.Bytes()
		if err != nil {
			return nil, nil, fmt.Errorf("encoding EC point: %w", err)
		}
		private = []Attribute{
			{Type: AttrKeyType, Kind: KindInteger, Number: ckkEC},
			{Type: AttrECParams, Value: params},
		}
		return append(slices.Clone(private), Attribute{Type: AttrECPoint, Value: point}), private, nil
	}
	return nil, nil, fmt.Errorf("public key of type %T: %w", pub, errors.ErrUnsupported)
}

// curveParams is the DER of a named curve's object identifier.
func curveParams(c elliptic.Curve) ([]byte, error) {
	switch c {
	case elliptic.P256():
		return []byte{0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07}, nil
	case elliptic.P384():
		return []byte{0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22}, nil
	case elliptic.P521():
		return []byte{0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23}, nil
	}
	return nil, fmt.Errorf("curve: %w", errors.ErrUnsupported)
}

// ObjectOverhead is what an object costs of the applet's heap beyond its size.
const ObjectOverhead = 16

// PlannedCertificate is a certificate that does not exist yet.
type PlannedCertificate struct {
	Label int // bytes
	DER   int // bytes, an upper bound
}

// MaxSize is an upper bound of the size of the object that will hold certs,
// whatever their keys and whether compressed or not, in bytes. On the heap add
// [ObjectOverhead].
func MaxSize(label string, certs []PlannedCertificate) int {
	const (
		certificate = objectMinimum + 2*(attributeMinimum+2)
		keyType     = attributeMinimum + 4
		ecParams    = attributeMinimum + 2 + 10
		ecPoint     = attributeMinimum + 2 + 133
		keys        = 2*(objectMinimum+keyType+ecParams) + ecPoint
	)
	payload := 5 + len(label)
	for _, c := range certs {
		payload += certificate + keys + c.Label + c.DER
	}
	return combinedHeader + max(payload, paddedPayload)
}
