// Package rawrsa is RSA as the chips of smart cards do it: modular exponentiation
// of a whole block, without padding. The software card's applets share it.
package rawrsa

import (
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// Key is an RSA key, big-endian numbers without leading zeros. A public key
// has N and E only. Its JSON is what card images hold.
type Key struct {
	N, E            []byte
	P, Q            []byte `json:",omitempty"`
	DP, DQ, Inverse []byte `json:",omitempty"` // d mod p-1, d mod q-1, q⁻¹ mod p
}

// New takes a key of two primes apart.
func New(k *rsa.PrivateKey) (private, public *Key, err error) {
	if len(k.Primes) != 2 {
		return nil, nil, fmt.Errorf("RSA key of %d primes", len(k.Primes))
	}
	one := big.NewInt(1)
	p, q := k.Primes[0], k.Primes[1]
	dp := new(big.Int).Mod(k.D, new(big.Int).Sub(p, one))
	dq := new(big.Int).Mod(k.D, new(big.Int).Sub(q, one))
	inverse := new(big.Int).ModInverse(q, p)
	if inverse == nil {
		return nil, nil, errors.New("RSA key with equal primes")
	}
	n, e := k.N.Bytes(), big.NewInt(int64(k.E)).Bytes()
	private = &Key{N: n, E: e, P: p.Bytes(), Q: q.Bytes(), DP: dp.Bytes(), DQ: dq.Bytes(), Inverse: inverse.Bytes()}
	return private, &Key{N: append([]byte(nil), n...), E: append([]byte(nil), e...)}, nil
}

// FromCRT builds a private key from its CRT values alone, as the old plain blob
// has them, and checks them.
func FromCRT(p, q, inverse, dp, dq []byte) (*Key, error) {
	bp, bq := new(big.Int).SetBytes(p), new(big.Int).SetBytes(q)
	order := new(big.Int).Sub(bp, big.NewInt(1))
	if bp.BitLen() < 256 || bq.BitLen() < 256 || bp.BitLen() > 2048 || bq.BitLen() > 2048 {
		return nil, errors.New("RSA primes of the wrong size")
	}
	e := new(big.Int).ModInverse(new(big.Int).SetBytes(dp), order)
	if e == nil {
		return nil, errors.New("RSA exponent without inverse")
	}
	k := &Key{
		N: new(big.Int).Mul(bp, bq).Bytes(), E: e.Bytes(), P: bp.Bytes(), Q: bq.Bytes(),
		DP: new(big.Int).SetBytes(dp).Bytes(), DQ: new(big.Int).SetBytes(dq).Bytes(),
		Inverse: new(big.Int).SetBytes(inverse).Bytes(),
	}
	if !k.Sound(k.Bits(), true) {
		return nil, errors.New("RSA values do not belong together")
	}
	return k, nil
}

// Bits is the length of the modulus.
func (k *Key) Bits() int { return new(big.Int).SetBytes(k.N).BitLen() }

// Size is the length of the modulus in bytes.
func (k *Key) Size() int { return len(k.N) }

// Sound checks the numbers against each other, cheaply.
func (k *Key) Sound(bits int, private bool) bool {
	n, e := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E)
	if n.BitLen() != bits || bits < 512 || bits > 4096 || bits%8 != 0 || len(k.N) != bits/8 || n.Bit(0) == 0 ||
		e.BitLen() < 2 || e.BitLen() > 32 || e.Bit(0) == 0 {
		return false
	}
	if !private {
		return true
	}
	one := big.NewInt(1)
	p, q := new(big.Int).SetBytes(k.P), new(big.Int).SetBytes(k.Q)
	if p.Cmp(one) <= 0 || q.Cmp(one) <= 0 || new(big.Int).Mul(p, q).Cmp(n) != 0 {
		return false
	}
	exponent := func(d []byte, prime *big.Int) bool { // e·d = 1 mod prime-1
		v := new(big.Int).Mul(e, new(big.Int).SetBytes(d))
		return len(d) <= len(k.N) && v.Mod(v, new(big.Int).Sub(prime, one)).Cmp(one) == 0
	}
	inverse := new(big.Int).Mul(q, new(big.Int).SetBytes(k.Inverse))
	return exponent(k.DP, p) && exponent(k.DQ, q) && inverse.Mod(inverse, p).Cmp(one) == 0
}

// Errors of [Key.Raw].
var (
	ErrRange = errors.New("input is not below the modulus")
	ErrFault = errors.New("the result does not verify")
)

// Raw is the modular exponentiation of a block below the modulus, the public one
// if k has no private values. The private one is blinded, done by the Chinese
// remainder theorem, and checked, so that a fault does not give the key away.
func (k *Key) Raw(rnd io.Reader, block []byte) ([]byte, error) {
	n, e, m := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E), new(big.Int).SetBytes(block)
	if m.Cmp(n) >= 0 {
		return nil, ErrRange
	}
	if len(k.P) == 0 {
		return m.Exp(m, e, n).FillBytes(make([]byte, k.Size())), nil
	}
	blind, unblind, err := blinding(rnd, n, e)
	if err != nil {
		return nil, err
	}
	x := new(big.Int).Mul(m, blind)
	x = k.chinese(x.Mod(x, n))
	x.Mul(x, unblind).Mod(x, n)
	check := new(big.Int).Exp(x, e, n)
	size := k.Size()
	if subtle.ConstantTimeCompare(check.FillBytes(make([]byte, size)), m.FillBytes(make([]byte, size))) != 1 {
		return nil, ErrFault
	}
	return x.FillBytes(make([]byte, size)), nil
}

// chinese is x^d mod n out of the two halves.
func (k *Key) chinese(x *big.Int) *big.Int {
	p, q := new(big.Int).SetBytes(k.P), new(big.Int).SetBytes(k.Q)
	m1 := new(big.Int).Exp(x, new(big.Int).SetBytes(k.DP), p)
	m2 := new(big.Int).Exp(x, new(big.Int).SetBytes(k.DQ), q)
	h := new(big.Int).Sub(m1, m2)
	h.Mul(h, new(big.Int).SetBytes(k.Inverse)).Mod(h, p)
	return h.Mul(h, q).Add(h, m2)
}

// blinding draws r and returns r^e and r⁻¹ mod n.
func blinding(rnd io.Reader, n, e *big.Int) (blind, unblind *big.Int, err error) {
	b := make([]byte, (n.BitLen()+7)/8)
	for range 16 {
		if _, err := io.ReadFull(rnd, b); err != nil {
			return nil, nil, fmt.Errorf("drawing a blinding value: %w", err)
		}
		r := new(big.Int).SetBytes(b)
		r.Mod(r, n)
		if unblind := new(big.Int).ModInverse(r, n); unblind != nil {
			return r.Exp(r, e, n), unblind, nil
		}
	}
	return nil, nil, errors.New("the random generator gives no blinding value")
}

// Wipe overwrites the private values.
func (k *Key) Wipe() {
	for _, b := range [][]byte{k.P, k.Q, k.DP, k.DQ, k.Inverse} {
		clear(b)
	}
}
