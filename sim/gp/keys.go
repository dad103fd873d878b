package gp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
)

// KeyMaker makes key pairs. Tests use a pool, because RSA takes seconds.
type KeyMaker interface {
	RSA(bits int) (*rsa.PrivateKey, error)
	EC(c elliptic.Curve) (*ecdsa.PrivateKey, error)
}

// FreshKeys makes new key pairs from crypto/rand.
type FreshKeys struct{}

// RSA implements KeyMaker.
func (FreshKeys) RSA(bits int) (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, bits) }

// EC implements KeyMaker.
func (FreshKeys) EC(c elliptic.Curve) (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(c, rand.Reader)
}
