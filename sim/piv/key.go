package piv

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"io"
	"math/big"

	"inkan/apdu/piv"
	"inkan/sim/gp"
	"inkan/sim/internal/rawrsa"
)

// key is a key pair in a slot.
type key struct {
	Algorithm piv.Algorithm
	Policy    piv.Policy // never a default
	Origin    piv.Origin
	RSA       *rawrsa.Key `json:",omitempty"`
	Scalar    []byte      `json:",omitempty"` // of the other algorithms; Ed25519: the seed
}

func (k *key) wipe() {
	if k.RSA != nil {
		k.RSA.Wipe()
	}
	clear(k.Scalar)
}

// sound reports whether the material is what the algorithm says.
func (k *key) sound() bool {
	if bits := k.Algorithm.Bits(); bits != 0 {
		return k.RSA != nil && k.RSA.Sound(bits, true) && len(k.RSA.P) > 0
	}
	if k.RSA != nil {
		return false
	}
	_, err := k.public()
	return err == nil
}

// public is the public key.
func (k *key) public() (crypto.PublicKey, error) {
	switch {
	case k.RSA != nil:
		return &rsa.PublicKey{N: new(big.Int).SetBytes(k.RSA.N), E: int(new(big.Int).SetBytes(k.RSA.E).Int64())}, nil
	case k.Algorithm.Curve() != nil:
		private, err := k.ecdsa()
		if err != nil {
			return nil, err
		}
		return &private.PublicKey, nil
	case k.Algorithm == piv.Ed25519:
		private, err := k.ed25519()
		if err != nil {
			return nil, err
		}
		return private.Public(), nil
	case k.Algorithm == piv.X25519:
		private, err := ecdh.X25519().NewPrivateKey(k.Scalar)
		if err != nil {
			return nil, err
		}
		return private.PublicKey(), nil
	}
	return nil, errors.New("key of an unknown algorithm")
}

func (k *key) ecdsa() (*ecdsa.PrivateKey, error) {
	return ecdsa.ParseRawPrivateKey(k.Algorithm.Curve(), k.Scalar)
}

func (k *key) ed25519() (ed25519.PrivateKey, error) {
	if len(k.Scalar) != ed25519.SeedSize {
		return nil, errors.New("Ed25519 seed of a wrong length")
	}
	return ed25519.NewKeyFromSeed(k.Scalar), nil
}

// signer is the key for the packages of the standard library.
func (k *key) signer() (crypto.Signer, error) {
	switch {
	case k.Algorithm.Curve() != nil:
		return k.ecdsa()
	case k.Algorithm == piv.Ed25519:
		return k.ed25519()
	case k.RSA == nil:
		return nil, errors.New("the key does not sign")
	}
	return k.rsa()
}

func (k *key) rsa() (*rsa.PrivateKey, error) {
	one := big.NewInt(1)
	p, q := new(big.Int).SetBytes(k.RSA.P), new(big.Int).SetBytes(k.RSA.Q)
	e := new(big.Int).SetBytes(k.RSA.E)
	order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	private := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).SetBytes(k.RSA.N), E: int(e.Int64())},
		D:         new(big.Int).ModInverse(e, order), Primes: []*big.Int{p, q},
	}
	if private.D == nil {
		return nil, errors.New("RSA exponent without inverse")
	}
	private.Precompute()
	return private, private.Validate()
}

// makeKey makes a key pair.
func makeKey(alg piv.Algorithm, maker gp.KeyMaker, r io.Reader) (*key, error) {
	k := &key{Algorithm: alg, Origin: piv.Generated}
	switch {
	case alg.Bits() != 0:
		made, err := maker.RSA(alg.Bits())
		if err != nil {
			return nil, err
		}
		k.RSA, _, err = rawrsa.New(made)
		return k, err
	case alg.Curve() != nil:
		made, err := maker.EC(alg.Curve())
		if err != nil {
			return nil, err
		}
		k.Scalar, err = made.Bytes()
		return k, err
	}
	k.Scalar = make([]byte, 32)
	_, err := io.ReadFull(r, k.Scalar)
	return k, err
}
