//go:build cgo && !windows

package pkcs11

import (
	"crypto/subtle"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// raw are the calls of one session. Only one goroutine is in it at a time, and
// only inside of call. Errors are return values as the module gave them.
type raw struct {
	c  *p11.Ctx
	h  p11.SessionHandle
	in *intake
}

// derive makes a key of type t by one of the *_ENCRYPT_DATA mechanisms; iv is nil for
// ECB.
func (r raw) derive(m uint, iv, data []byte, base p11.ObjectHandle, t hsm.KeyType, e exposure) (p11.ObjectHandle, error) {
	return r.deriveData(m, iv, r.lengthen(t, data), base, derived(r.kept(t), e))
}

// key reads a readable key of type t.
func (r raw) key(o p11.ObjectHandle, t hsm.KeyType) ([]byte, error) {
	v, err := r.value(o)
	return r.shorten(t, v), err
}

// deriveData derives by one of the *_ENCRYPT_DATA mechanisms; iv is nil for ECB.
func (r raw) deriveData(m uint, iv, data []byte, base p11.ObjectHandle, template []*p11.Attribute) (p11.ObjectHandle, error) {
	param, pin := encryptData(iv, data)
	defer pin.Unpin()
	return r.c.DeriveKey(r.h, mech(m, param), base, template)
}

// bytes derives data through a base key's cipher in ECB and reads the result.
func (r raw) bytes(c kdf.Cipher, base p11.ObjectHandle, data []byte) ([]byte, error) {
	o, err := r.deriveData(ecbData(c), nil, data, base, bytesOut(len(data)))
	if err != nil {
		return nil, err
	}
	v, err := r.value(o)
	return v, errors.Join(err, r.c.DestroyObject(r.h, o))
}

// value reads a readable key.
func (r raw) value(o p11.ObjectHandle) ([]byte, error) {
	a, err := r.c.GetAttributeValue(r.h, o, []*p11.Attribute{attr(p11.CKA_VALUE, nil)})
	if err != nil {
		return nil, err
	}
	return a[0].Value, nil
}

// encrypt is CBC with IV zero over whole blocks.
func (r raw) encrypt(c kdf.Cipher, k p11.ObjectHandle, data []byte) ([]byte, error) {
	m, iv := cbc(c)
	if err := r.c.EncryptInit(r.h, mech(m, iv), k); err != nil {
		return nil, err
	}
	return r.c.Encrypt(r.h, data)
}

// blocks is ECB over whole blocks, by CBC of each.
func (r raw) blocks(c kdf.Cipher, k p11.ObjectHandle, data []byte) ([]byte, error) {
	_, iv := cbc(c)
	out := make([]byte, 0, len(data))
	for n := len(iv); len(data) > 0; data = data[n:] {
		b, err := r.encrypt(c, k, data[:n])
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func (r raw) sign(m uint, param []byte, k p11.ObjectHandle, data []byte) ([]byte, error) {
	if err := r.c.SignInit(r.h, mech(m, param), k); err != nil {
		return nil, err
	}
	return r.c.Sign(r.h, data)
}

// hmac is HMAC-SHA-256.
func (r raw) hmac(k p11.ObjectHandle, data []byte) ([]byte, error) {
	return r.sign(p11.CKM_SHA256_HMAC, nil, k, data)
}

// cmacByCBC is AES-CMAC for tokens without it: the last block of CBC over the
// message with its last block masked (SP 800-38B §6.2).
func (r raw) cmacByCBC(k p11.ObjectHandle, data []byte) ([]byte, error) {
	zero, err := r.encrypt(kdf.AES, k, make([]byte, 16))
	if err != nil {
		return nil, err
	}
	defer clear(zero)
	mask := double([16]byte(zero))
	full := max((len(data)+15)/16, 1) * 16
	msg := make([]byte, full)
	copy(msg, data)
	if len(data) != full {
		msg[len(data)] = 0x80
		mask = double(mask)
	}
	subtle.XORBytes(msg[full-16:], msg[full-16:], mask[:])
	out, err := r.encrypt(kdf.AES, k, msg)
	if err != nil {
		return nil, err
	}
	return out[full-16:], nil
}

// wrap is C_WrapKey of a key of type t as PUT KEY wants it: DES in ECB, AES in CBC with
// IV zero.
func (r raw) wrap(c kdf.Cipher, kek, k p11.ObjectHandle, t hsm.KeyType) ([]byte, error) {
	m, iv := uint(p11.CKM_DES3_ECB), []byte(nil)
	if c == kdf.AES {
		m, iv = cbc(c)
	}
	ct, err := r.c.WrapKey(r.h, mech(m, iv), kek, k)
	return r.shorten(t, ct), err
}

// find returns the handles of objects with these attributes; more than limit of
// them is an error.
func (r raw) find(limit int, template ...*p11.Attribute) (out []p11.ObjectHandle, err error) {
	if err := r.c.FindObjectsInit(r.h, template); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.c.FindObjectsFinal(r.h)) }()
	for {
		got, _, err := r.c.FindObjects(r.h, 64)
		if err != nil || len(got) == 0 {
			return out, err
		}
		if out = append(out, got...); len(out) > limit {
			return nil, fmt.Errorf("more than %d objects", limit)
		}
	}
}

// attributes reads several attributes at once.
func (r raw) attributes(o p11.ObjectHandle, types ...uint) (map[uint][]byte, error) {
	var want []*p11.Attribute
	for _, t := range types {
		want = append(want, attr(t, nil))
	}
	got, err := r.c.GetAttributeValue(r.h, o, want)
	if err != nil {
		return nil, err
	}
	out := map[uint][]byte{}
	for _, a := range got {
		out[a.Type] = a.Value
	}
	return out, nil
}

// is reports whether a boolean attribute is true.
func is(b []byte) bool { return len(b) == 1 && b[0] != 0 }

// double multiplies by x in GF(2^128) (SP 800-38B §6.1).
func double(in [16]byte) (out [16]byte) {
	for i := range 15 {
		out[i] = in[i]<<1 | in[i+1]>>7
	}
	out[15] = in[15]<<1 ^ 0x87&-(in[0]>>7)
	return out
}
