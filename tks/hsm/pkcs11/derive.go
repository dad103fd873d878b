//go:build cgo && !windows

package pkcs11

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// Derive implements hsm.KeyMaker.
func (w *work) Derive(ctx context.Context, from hsm.Key, d kdf.Derivation) (hsm.Key, error) {
	base, err := w.own(ctx, from)
	if err != nil {
		return nil, err
	}
	if d.Method == kdf.Same {
		return base, nil
	}
	t, err := check(base.t, d)
	if err != nil {
		return nil, fmt.Errorf("deriving a key by %v: %w", d.Method, err)
	}
	o, err := w.derive(ctx, base, d, t, hidden)
	if err != nil {
		return nil, err
	}
	return &key{t: t, o: o, in: w, base: base, from: d, derive: w.s.c.ways[opDerive.with(t.Cipher())]}, nil
}

// check refuses what kdf.Derivation.Apply would refuse, and names the result.
func check(base hsm.KeyType, d kdf.Derivation) (hsm.KeyType, error) {
	block, made := 8, len(d.Input)
	switch d.Method {
	case kdf.HMACSHA256:
		if base.Cipher() != kdf.HMAC {
			return 0, fmt.Errorf("base key is %v, want HMAC", base)
		}
		block, made = 1, 32
	case kdf.CMAC:
		if base.Cipher() != kdf.AES {
			return 0, fmt.Errorf("base key is %v, want AES", base)
		}
		block = 16
	case kdf.ECB, kdf.CBC:
		switch base.Cipher() {
		case kdf.AES:
			block = 16
		case kdf.HMAC:
			return 0, fmt.Errorf("base key is %v, want a block cipher", base)
		}
	default:
		return 0, fmt.Errorf("no such method")
	}
	if len(d.Input) == 0 || len(d.Input)%block != 0 {
		return 0, fmt.Errorf("input of %d bytes, want blocks of %d", len(d.Input), block)
	}
	if d.Skip < 0 || d.Skip != 0 && d.Method != kdf.HMACSHA256 || d.Skip+d.Length > made {
		return 0, fmt.Errorf("%d bytes wanted of %d, behind %d", d.Length, made, d.Skip)
	}
	return hsm.KeyTypeOf(d.Cipher, d.Length)
}

// derive makes the object, inside the token where the base key can.
func (w *work) derive(ctx context.Context, base *key, d kdf.Derivation, t hsm.KeyType, e exposure) (p11.ObjectHandle, error) {
	switch {
	case base.derive == 0:
		return 0, w.s.c.missing(opDerive.with(base.t.Cipher()))
	case d.Cipher != base.t.Cipher() && base.t.Cipher() == kdf.DES && w.s.c.ways[opDeriveAES] != inside:
		return w.deriveInMemory(ctx, base, d, t, e)
	case base.derive != inside, d.Method == kdf.CBC && (base.t.Cipher() == kdf.AES || w.s.c.ways[opSession] != inside):
		return w.deriveInMemory(ctx, base, d, t, e)
	}
	m, iv, data := ecbData(base.t.Cipher()), []byte(nil), d.Input
	switch d.Method {
	case kdf.CBC:
		m, iv = cbcDerivation.mech, cbcDerivation.iv
	case kdf.CMAC:
		mask, err := w.mask(ctx, base)
		if err != nil {
			return 0, err
		}
		data = maskBlocks(d.Input, mask)
	}
	data = data[:wholeBlocks(d.Length, len(data))]
	return w.make(ctx, "deriving a card key", func(r raw) (p11.ObjectHandle, error) {
		return r.derive(m, iv, data, base.o, t, e)
	})
}

// wholeBlocks is n rounded up to blocks of 16, at most all there is.
func wholeBlocks(n, all int) int { return min((n+15)/16*16, all) }

// maskBlocks turns the CMAC of a message of one full block into its encryption:
// CMAC(M) = E(M ⊕ K1) (hsm.md §8.2).
func maskBlocks(in []byte, mask [16]byte) []byte {
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += 16 {
		subtle.XORBytes(out[i:i+16], in[i:i+16], mask[:])
	}
	return out
}

// mask is K1 = 2·E(0) of a base key. It is worth a secret: it stays here.
func (w *work) mask(ctx context.Context, base *key) ([16]byte, error) {
	if base.mask != nil {
		return *base.mask, nil
	}
	zero, err := do(ctx, w.s, "computing a CMAC term", func(r raw) ([]byte, error) {
		return r.bytes(kdf.AES, base.o, make([]byte, 16))
	})
	if err != nil {
		return [16]byte{}, err
	}
	w.s.c.created.Add(1)
	k1 := double([16]byte(zero))
	clear(zero)
	base.mask = &k1
	return k1, nil
}

// deriveInMemory is level C: the base key encrypts, and the value passes through.
func (w *work) deriveInMemory(ctx context.Context, base *key, d kdf.Derivation, t hsm.KeyType, e exposure) (p11.ObjectHandle, error) {
	value, err := w.compute(ctx, base, d)
	if err != nil {
		return 0, err
	}
	defer value.Wipe()
	return w.create(ctx, t, value, e)
}

func (w *work) compute(ctx context.Context, base *key, d kdf.Derivation) (secret.Secret, error) {
	var out []byte
	var err error
	switch d.Method {
	case kdf.CMAC:
		for in := d.Input; len(in) > 0 && err == nil; in = in[16:] {
			var b []byte
			b, err = w.CMAC(ctx, base, in[:16])
			out = append(out, b...)
		}
	case kdf.CBC:
		out, err = w.Encrypt(ctx, base, d.Input)
	case kdf.HMACSHA256:
		out, err = do(ctx, w.s, "deriving a card key", func(r raw) ([]byte, error) { return r.hmac(base.o, d.Input) })
	default:
		out, err = do(ctx, w.s, "deriving a card key", func(r raw) ([]byte, error) { return r.blocks(base.t.Cipher(), base.o, d.Input) })
	}
	if err != nil {
		clear(out)
		return secret.Secret{}, err
	}
	copy(out, out[d.Skip:d.Skip+d.Length])
	clear(out[d.Length:])
	out = out[:d.Length:d.Length]
	if d.Cipher == kdf.DES {
		kdf.OddParity(out)
	}
	return secret.New(out), nil
}

// Wrap implements hsm.KeyUser.
func (w *work) Wrap(ctx context.Context, kek, k hsm.Key) ([]byte, error) {
	under, err := w.own(ctx, kek)
	if err != nil {
		return nil, err
	}
	own, err := w.own(ctx, k)
	if err != nil {
		return nil, err
	}
	if own.value.IsZero() && own.base == nil {
		return nil, fmt.Errorf("wrapping a key: a master key does not leave the HSM")
	}
	c := under.t.Cipher()
	size := own.t.Size()
	if c == kdf.AES {
		size = (size + 15) / 16 * 16
	}
	switch w.s.c.ways[opWrap.with(own.t.Cipher())] {
	case 0:
		return nil, w.s.c.missing(opWrap.with(own.t.Cipher()))
	case inside:
		if c == own.t.Cipher() && (own.base == nil || size <= len(own.from.Input)) {
			return w.wrapInside(ctx, under, own, size)
		}
	}
	return w.wrapInMemory(ctx, under, own, size)
}

// wrapInside wraps a copy of the key that may be wrapped. A 24-byte AES key is
// derived 8 bytes longer: tokens cannot pad, and the padding is arbitrary.
func (w *work) wrapInside(ctx context.Context, kek, k *key, size int) ([]byte, error) {
	o, err := w.again(ctx, k, size, wrapable)
	if err != nil {
		return nil, err
	}
	return do(ctx, w.s, "wrapping a card key", func(r raw) ([]byte, error) { return r.wrap(kek.t.Cipher(), kek.o, o, k.t) })
}

// wrapInMemory reads a readable copy of the key and encrypts it (level B).
func (w *work) wrapInMemory(ctx context.Context, kek, k *key, size int) ([]byte, error) {
	plain := make([]byte, 0, size)
	defer func() { clear(plain[:cap(plain)]) }()
	if k.base == nil {
		plain = append(plain, k.value.Bytes()...)
	} else {
		o, err := w.again(ctx, k, k.t.Size(), readable)
		if err != nil {
			return nil, err
		}
		v, err := do(ctx, w.s, "reading a card key", func(r raw) ([]byte, error) { return r.key(o, k.t) })
		if err != nil {
			return nil, err
		}
		plain = append(plain, v...)
		clear(v)
	}
	plain = pad(plain, size)
	if kek.t.Cipher() == kdf.AES {
		return w.Encrypt(ctx, kek, plain)
	}
	return do(ctx, w.s, "encrypting a card key", func(r raw) ([]byte, error) { return r.blocks(kdf.DES, kek.o, plain) })
}

// pad fills up to size with random bytes, within the capacity of b.
func pad(b []byte, size int) []byte {
	n := len(b)
	b = b[:size]
	rand.Read(b[n:])
	return b
}

// again makes the key once more, size bytes long, with another template.
func (w *work) again(ctx context.Context, k *key, size int, e exposure) (p11.ObjectHandle, error) {
	t, err := hsm.KeyTypeOf(k.t.Cipher(), size)
	if err != nil {
		return 0, err
	}
	if k.base == nil {
		value := secret.New(pad(append(make([]byte, 0, size), k.value.Bytes()...), size))
		defer value.Wipe()
		return w.create(ctx, t, value, e)
	}
	d := k.from
	d.Length = size
	return w.derive(ctx, k.base, d, t, e)
}
