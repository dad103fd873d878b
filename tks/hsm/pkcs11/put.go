//go:build cgo && !windows

package pkcs11

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// intake says how keys come into the token. It is settled by negotiation.
type intake struct {
	// by is for keys of known value, by cipher: 0 is C_CreateObject; a mechanism is
	// C_UnwrapKey by it, for tokens in which clear keys may not be created (FIPS 140
	// level 3).
	by map[kdf.Cipher]uint
	// long: the token knows 3DES keys of three parts only. A session key of two parts
	// has its first behind the second once more, and is the same key.
	long bool
}

// byCreating stands for C_CreateObject in an intake.
const byCreating uint = 0

// create makes a session key of known value.
func (r raw) create(t hsm.KeyType, value []byte, e exposure) (p11.ObjectHandle, error) {
	if r.kept(t) != t {
		value = r.lengthen(t, value)
		defer clear(value)
	}
	return r.put(t.Cipher(), value, cardKey(r.kept(t), e))
}

// kept is the type that a session key of type t has in the token.
func (r raw) kept(t hsm.KeyType) hsm.KeyType {
	if t == hsm.DES2 && r.in.long {
		return hsm.DES3
	}
	return t
}

// lengthen repeats the first part of a key of two, or of the data that one is derived
// from by ECB, where the token wants three.
func (r raw) lengthen(t hsm.KeyType, b []byte) []byte {
	if r.kept(t) == t {
		return b
	}
	return append(bytes.Clone(b[:16]), b[:8]...)
}

// shorten is the opposite of lengthen. What is no such key comes back as it is.
func (r raw) shorten(t hsm.KeyType, b []byte) []byte {
	if r.kept(t) != t && len(b) == 24 && subtle.ConstantTimeCompare(b[:8], b[16:]) == 1 {
		return b[:16]
	}
	return b
}

// put makes a key of known value from a template without it.
func (r raw) put(c kdf.Cipher, value []byte, template []*p11.Attribute) (p11.ObjectHandle, error) {
	by := r.in.by[c]
	if by == byCreating {
		return r.c.CreateObject(r.h, append([]*p11.Attribute{attr(p11.CKA_VALUE, value)}, template...))
	}
	under, err := r.c.GenerateKey(r.h, mech(p11.CKM_AES_KEY_GEN, nil), passage())
	if err != nil {
		return 0, err
	}
	o, err := r.putUnder(by, under, value, template)
	return o, errors.Join(err, r.c.DestroyObject(r.h, under))
}

// putUnder encrypts the value under a key of the token, and has it unwrapped.
func (r raw) putUnder(by uint, under p11.ObjectHandle, value []byte, template []*p11.Attribute) (p11.ObjectHandle, error) {
	if by == p11.CKM_AES_CBC_PAD {
		pad := 16 - len(value)%16
		plain := append(bytes.Clone(value), bytes.Repeat([]byte{byte(pad)}, pad)...)
		defer clear(plain)
		ct, err := r.encrypt(kdf.AES, under, plain)
		if err != nil {
			return 0, err
		}
		return r.c.UnwrapKey(r.h, mech(by, make([]byte, 16)), under, ct, template)
	}
	ct, err := keyWrap(value, func(block []byte) ([]byte, error) { return r.encrypt(kdf.AES, under, block) })
	if err != nil {
		return 0, err
	}
	return r.c.UnwrapKey(r.h, mech(by, nil), under, ct, template)
}

// passage is the template of the AES key under which a value goes into the token.
func passage() []*p11.Attribute {
	return []*p11.Attribute{
		attr(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), attr(p11.CKA_KEY_TYPE, uint(p11.CKK_AES)), attr(p11.CKA_VALUE_LEN, 32),
		attr(p11.CKA_TOKEN, false), attr(p11.CKA_PRIVATE, true), attr(p11.CKA_SENSITIVE, true), attr(p11.CKA_EXTRACTABLE, false),
		attr(p11.CKA_ENCRYPT, true), attr(p11.CKA_DECRYPT, false), attr(p11.CKA_SIGN, false), attr(p11.CKA_VERIFY, false),
		attr(p11.CKA_WRAP, false), attr(p11.CKA_UNWRAP, true), attr(p11.CKA_DERIVE, false),
	}
}

// keyWrap is AES key wrap (RFC 3394 §2.2.1) of whole units of 8 bytes, block by block
// through a key that somebody else has.
func keyWrap(value []byte, encrypt func(block []byte) ([]byte, error)) ([]byte, error) {
	out := append(bytes.Repeat([]byte{0xA6}, 8), value...)
	n := len(value) / 8
	for t := range 6 * n {
		unit := out[8*(1+t%n):][:8]
		b, err := encrypt(append(bytes.Clone(out[:8]), unit...))
		if err != nil {
			clear(out)
			return nil, err
		}
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b)^uint64(t+1))
		copy(unit, b[8:])
	}
	return out, nil
}

// negotiateImport finds the way in for keys of t's cipher, and leaves one there.
func (s strategies) negotiateImport(r raw, t hsm.KeyType, value []byte, e exposure) (o p11.ObjectHandle, ok bool) {
	op := opImport.with(t.Cipher())
	for _, by := range []uint{byCreating, p11.CKM_AES_KEY_WRAP, p11.CKM_AES_CBC_PAD} {
		for _, long := range []bool{false, true} {
			if long && t != hsm.DES2 {
				continue
			}
			s.in.by[t.Cipher()], s.in.long = by, s.in.long && t != hsm.DES2 || long
			o, err := r.create(t, value, e)
			s.tried[op] = append(s.tried[op], importCandidate(r.kept(t), by, err))
			if err == nil {
				s.ways[op] = inside
				return o, true
			}
		}
	}
	return 0, false
}

func importCandidate(t hsm.KeyType, by uint, err error) hsm.Candidate {
	c := candidate(by, err)
	if by == byCreating {
		c.Name, c.Number = "C_CreateObject of "+ckkName(t), ckk(t)
		return c
	}
	c.Name = "C_UnwrapKey of " + ckkName(t) + " by " + c.Name
	return c
}

// ckkName names the CKA_KEY_TYPE of a key type.
func ckkName(t hsm.KeyType) string {
	switch t {
	case hsm.DES2:
		return "CKK_DES2"
	case hsm.DES3:
		return "CKK_DES3"
	case hsm.HMACKey:
		return "CKK_GENERIC_SECRET"
	}
	return "CKK_AES"
}
