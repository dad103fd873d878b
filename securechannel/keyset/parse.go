package keyset

import (
	"crypto/subtle"
	"fmt"

	"inkan/apdu/gp"
	"inkan/apdu/secret"
)

// PutKey is the content of a PUT KEY data field.
type PutKey struct {
	Version gp.KeyVersion
	Keys    []Key
}

// Key is one key out of a PUT KEY data field: a secret key, or a public key as
// its components.
type Key struct {
	Type   Type
	Value  secret.Secret // secret keys only
	KCV    gp.KCV        // secret keys only; computed, and equal to the one that came, if one came
	Public []Component   // public keys only
}

// Component is one part of a public key.
type Component struct {
	Type  Type
	Value []byte
}

// Wipe overwrites the secret keys.
func (p PutKey) Wipe() {
	for _, k := range p.Keys {
		k.Value.Wipe()
	}
}

// Set returns the keys as a key set; false unless they are three secret keys of
// the same kind and length.
func (p PutKey) Set() (Set, bool) {
	if len(p.Keys) != 3 {
		return Set{}, false
	}
	first := p.Keys[0]
	for _, k := range p.Keys {
		if !k.Type.secret() || (k.Type == AES) != (first.Type == AES) || k.Value.Len() != first.Value.Len() {
			return Set{}, false
		}
	}
	return Set{Type: first.Type, ENC: first.Value, MAC: p.Keys[1].Value, DEK: p.Keys[2].Value}, true
}

// Answer is the data of the card's answer: the version, then the check values
// of the secret keys without lengths.
func (p PutKey) Answer() []byte {
	b := []byte{byte(p.Version)}
	for _, k := range p.Keys {
		if k.Type.secret() {
			b = append(b, k.KCV[:]...)
		}
	}
	return b
}

// CheckAnswer compares the data of a card's answer with what was sent. A card
// may answer the version alone, or nothing. The error is [ErrKCV] where a check
// value differs.
func CheckAnswer(data []byte, v gp.KeyVersion, kcvs [3]gp.KCV) error {
	if len(data) == 0 {
		return nil
	}
	if gp.KeyVersion(data[0]) != v {
		return fmt.Errorf("answer to PUT KEY names key version %v, want %v: %w", gp.KeyVersion(data[0]), v, ErrMalformed)
	}
	if len(data) == 1 {
		return nil
	}
	want := []byte{byte(v)}
	for _, k := range kcvs {
		want = append(want, k[:]...)
	}
	if subtle.ConstantTimeCompare(data, want) != 1 {
		return fmt.Errorf("answer to PUT KEY: %w", ErrKCV)
	}
	return nil
}

// Parse decodes a PUT KEY data field of any dialect. decrypt is the inverse of
// [Encrypt] and false where it cannot; it is called for each secret key. Errors
// are [ErrMalformed] and [ErrKCV]; nothing is returned with them.
func Parse(data []byte, decrypt func(ct []byte) ([]byte, bool)) (PutKey, error) {
	r := reader{data}
	p := PutKey{Version: gp.KeyVersion(r.byte())}
	if len(data) < 2 || p.Version < 1 || p.Version > 0x7F {
		return PutKey{}, fmt.Errorf("%w: new key version %v", ErrMalformed, p.Version)
	}
	for len(r.rest) > 0 {
		k, err := r.key(decrypt)
		if err != nil {
			p.Wipe()
			return PutKey{}, fmt.Errorf("key %d: %w", len(p.Keys)+1, err)
		}
		p.Keys = append(p.Keys, k)
	}
	return p, nil
}

// reader reads fields off the front of rest. Reading too far yields zeros and
// leaves rest nil, which every caller ends up noticing by a length it refuses.
type reader struct{ rest []byte }

func (r *reader) byte() byte {
	b := r.bytes(1)
	if b == nil {
		return 0
	}
	return b[0]
}

// bytes returns nil where there are not n bytes.
func (r *reader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.rest = nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// field reads a length and that many bytes; false where they are not there. The
// length is BER, and 128 may stand as one byte 80.
func (r *reader) field() ([]byte, bool) {
	if len(r.rest) == 0 {
		return nil, false
	}
	n := int(r.byte())
	if n > 0x80 {
		l := r.bytes(n - 0x80)
		if len(l) == 0 || len(l) > 2 {
			return nil, false
		}
		n = 0
		for _, b := range l {
			n = n<<8 | int(b)
		}
	}
	if n > len(r.rest) {
		return nil, false
	}
	return r.bytes(n), true
}

// key reads one key block.
func (r *reader) key(decrypt func([]byte) ([]byte, bool)) (Key, error) {
	t := Type(r.byte())
	extended := t == 0xFF
	if extended {
		t = Type(r.byte())
	}
	value, ok := r.field()
	if !ok {
		return Key{}, fmt.Errorf("%w: type %v", ErrMalformed, t)
	}
	k := Key{Type: t}
	var err error
	switch {
	case t.secret():
		err = k.decrypt(value, decrypt)
	case t == RSAPublic || t == ECPublic:
		second := Type(r.byte())
		v2, ok2 := r.field()
		if !ok2 || second != secondComponent(t) || len(value) == 0 || len(v2) == 0 {
			err = fmt.Errorf("%w: type %v", ErrMalformed, t)
		}
		k.Public = []Component{{t, value}, {second, v2}}
	default:
		err = fmt.Errorf("%w: type %v", ErrMalformed, t)
	}
	if err == nil {
		err = r.trailer(k, extended)
	}
	if err != nil {
		k.Value.Wipe()
		return Key{}, err
	}
	return k, nil
}

// secondComponent is the component that follows in a public key.
func secondComponent(t Type) Type {
	if t == RSAPublic {
		return 0xA0 // exponent
	}
	return 0xF0 // curve
}

// decrypt takes the value of a secret component. A length that is no multiple of
// a cipher block has the key's length in front (§11.8.2.3.1).
func (k *Key) decrypt(value []byte, decrypt func([]byte) ([]byte, bool)) error {
	n := len(value)
	if n%8 == 1 {
		n, value = int(value[0]), value[1:]
	}
	if !k.Type.fits(n) || n > len(value) || len(value) > n+15 {
		return fmt.Errorf("%w: key of %d bytes in %d", ErrMalformed, n, len(value))
	}
	plain, ok := decrypt(value)
	if !ok || len(plain) < n {
		return fmt.Errorf("%w: key does not decrypt", ErrMalformed)
	}
	k.Value = secret.New(plain[:n:n])
	clear(plain[n:])
	kcv, err := k.Type.kcv(k.Value.Bytes())
	k.KCV = kcv
	return err
}

// trailer reads the check value of a key and, in the extended format, its usage
// and access, which are not kept.
func (r *reader) trailer(k Key, extended bool) error {
	kcv, ok := r.field()
	if extended {
		_, usage := r.field()
		_, access := r.field()
		ok = ok && usage && access
	}
	switch {
	case !ok:
		return fmt.Errorf("%w: check value", ErrMalformed)
	case len(kcv) == 0 || k.Public != nil:
		return nil
	case len(kcv) != len(k.KCV):
		return fmt.Errorf("%w: check value of %d bytes", ErrMalformed, len(kcv))
	case subtle.ConstantTimeCompare(kcv, k.KCV[:]) != 1:
		return ErrKCV
	}
	return nil
}
