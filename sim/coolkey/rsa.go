package coolkey

import (
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// rsaKey is an RSA key, big-endian numbers without leading zeros. A public key
// has N and E only.
type rsaKey struct {
	N, E            []byte
	P, Q            []byte `json:",omitempty"`
	DP, DQ, Inverse []byte `json:",omitempty"` // d mod p-1, d mod q-1, q⁻¹ mod p
}

func newRSAKey(k *rsa.PrivateKey) (private, public *rsaKey, err error) {
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
	private = &rsaKey{N: n, E: e, P: p.Bytes(), Q: q.Bytes(), DP: dp.Bytes(), DQ: dq.Bytes(), Inverse: inverse.Bytes()}
	return private, &rsaKey{N: append([]byte(nil), n...), E: append([]byte(nil), e...)}, nil
}

// newCRTKey builds a private key from its CRT values alone, as the old plain blob
// has them, and checks them.
func newCRTKey(p, q, inverse, dp, dq []byte) (*rsaKey, error) {
	bp, bq := new(big.Int).SetBytes(p), new(big.Int).SetBytes(q)
	order := new(big.Int).Sub(bp, big.NewInt(1))
	if bp.BitLen() < 256 || bq.BitLen() < 256 || bp.BitLen() > 2048 || bq.BitLen() > 2048 {
		return nil, errors.New("RSA primes of the wrong size")
	}
	e := new(big.Int).ModInverse(new(big.Int).SetBytes(dp), order)
	if e == nil {
		return nil, errors.New("RSA exponent without inverse")
	}
	k := &rsaKey{
		N: new(big.Int).Mul(bp, bq).Bytes(), E: e.Bytes(), P: bp.Bytes(), Q: bq.Bytes(),
		DP: new(big.Int).SetBytes(dp).Bytes(), DQ: new(big.Int).SetBytes(dq).Bytes(),
		Inverse: new(big.Int).SetBytes(inverse).Bytes(),
	}
	if !k.sound(k.bits(), true) {
		return nil, errors.New("RSA values do not belong together")
	}
	return k, nil
}

func (k *rsaKey) bits() int { return new(big.Int).SetBytes(k.N).BitLen() }

// size is the length of the modulus in bytes.
func (k *rsaKey) size() int { return len(k.N) }

// sound checks the numbers against each other, cheaply.
func (k *rsaKey) sound(bits int, private bool) bool {
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

var (
	errRange = errors.New("input is not below the modulus")
	errFault = errors.New("the result does not verify")
)

// raw is the modular exponentiation of a block below the modulus, the public one
// if k has no private values. The private one is blinded, done by the Chinese
// remainder theorem, and checked, so that a fault does not give the key away.
func (k *rsaKey) raw(rnd io.Reader, block []byte) ([]byte, error) {
	n, e, m := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.E), new(big.Int).SetBytes(block)
	if m.Cmp(n) >= 0 {
		return nil, errRange
	}
	if len(k.P) == 0 {
		return m.Exp(m, e, n).FillBytes(make([]byte, k.size())), nil
	}
	blind, unblind, err := blinding(rnd, n, e)
	if err != nil {
		return nil, err
	}
	x := new(big.Int).Mul(m, blind)
	x = k.chinese(x.Mod(x, n))
	x.Mul(x, unblind).Mod(x, n)
	check := new(big.Int).Exp(x, e, n)
	size := k.size()
	if subtle.ConstantTimeCompare(check.FillBytes(make([]byte, size)), m.FillBytes(make([]byte, size))) != 1 {
		return nil, errFault
	}
	return x.FillBytes(make([]byte, size)), nil
}

// chinese is x^d mod n out of the two halves.
func (k *rsaKey) chinese(x *big.Int) *big.Int {
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

func (k *rsaKey) wipe() {
	for _, b := range [][]byte{k.P, k.Q, k.DP, k.DQ, k.Inverse} {
		clear(b)
	}
}
