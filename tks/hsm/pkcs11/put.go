//go:build cgo && !windows

package pkcs11

import (
	"bytes"
	"encoding/binary"
	"errors"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// puts says by cipher how keys of known value come into the token: 0 is
// C_CreateObject; a mechanism is C_UnwrapKey by it, for tokens in which clear keys
// may not be created (FIPS 140 level 3).
type puts map[kdf.Cipher]uint

// byCreating stands for C_CreateObject in puts.
const byCreating uint = 0

// create makes a session key of known value.
func (r raw) create(t hsm.KeyType, value []byte, e exposure) (p11.ObjectHandle, error) {
	return r.put(t.Cipher(), value, cardKey(t, e))
}

// put makes a key of known value from a template without it.
func (r raw) put(c kdf.Cipher, value []byte, template []*p11.Attribute) (p11.ObjectHandle, error) {
	by := r.puts[c]
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
		s.puts[t.Cipher()] = by
		o, err := r.create(t, value, e)
		c := candidate(by, err)
		if by == byCreating {
			c.Name, c.Number = "C_CreateObject of "+ckkName(t), ckk(t)
		} else {
			c.Name = "C_UnwrapKey by " + c.Name
		}
		s.tried[op] = append(s.tried[op], c)
		if err == nil {
			s.ways[op] = inside
			return o, true
		}
	}
	return 0, false
}

// ckkName names the key type of the known answers.
func ckkName(t hsm.KeyType) string {
	switch t.Cipher() {
	case kdf.DES:
		return "CKK_DES2"
	case kdf.HMAC:
		return "CKK_GENERIC_SECRET"
	}
	return "CKK_AES"
}
