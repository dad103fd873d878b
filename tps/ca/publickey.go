package ca

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
)

const (
	defaultMinRSABits = 2048
	maxRSABits        = 8192
	minRSAExponent    = 65537 // FIPS 186-5 §A.1.1
)

// usageFor checks a public key against a profile and returns the key usage of its
// certificate. Its errors are ErrRefused.
func usageFor(p CertProfile, pub crypto.PublicKey) (x509.KeyUsage, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if p.RSAUsage == 0 {
			return 0, fmt.Errorf("%w: profile %s takes no RSA keys", ErrRefused, p.Name)
		}
		least := p.MinRSABits
		if least == 0 {
			least = defaultMinRSABits
		}
		return p.RSAUsage, checkRSA(k, least)
	case *ecdsa.PublicKey:
		if p.ECUsage == 0 {
			return 0, fmt.Errorf("%w: profile %s takes no EC keys", ErrRefused, p.Name)
		}
		return p.ECUsage, checkEC(k)
	case ed25519.PublicKey: // signs, and does nothing else
		return onlyUsage(p, p.ECUsage&^x509.KeyUsageKeyAgreement, "Ed25519")
	case *ecdh.PublicKey: // X25519 agrees, and does nothing else (RFC 8410 §5)
		if k.Curve() == ecdh.X25519() {
			return onlyUsage(p, p.ECUsage&x509.KeyUsageKeyAgreement, "X25519")
		}
	}
	return 0, fmt.Errorf("%w: public key of type %T", ErrRefused, pub)
}

// onlyUsage refuses a kind of key that can do nothing of what the profile is for.
func onlyUsage(p CertProfile, usage x509.KeyUsage, kind string) (x509.KeyUsage, error) {
	if usage == 0 {
		return 0, fmt.Errorf("%w: profile %s takes no %s keys", ErrRefused, p.Name, kind)
	}
	return usage, nil
}

func checkRSA(k *rsa.PublicKey, least int) error {
	if k == nil || k.N == nil || k.N.Sign() <= 0 {
		return fmt.Errorf("%w: RSA key without modulus", ErrRefused)
	}
	switch bits := k.N.BitLen(); {
	case bits < least || bits > maxRSABits:
		return fmt.Errorf("%w: RSA key of %d bits, allowed are %d to %d", ErrRefused, bits, least, maxRSABits)
	case k.E < minRSAExponent || k.E%2 == 0:
		return fmt.Errorf("%w: RSA exponent %d, want an odd one from %d", ErrRefused, k.E, minRSAExponent)
	case hasSmallFactor(k.N):
		return fmt.Errorf("%w: RSA modulus has a small factor", ErrRefused)
	case hasROCAFingerprint(k.N):
		return fmt.Errorf("%w: RSA key made by a faulty generator (CVE-2017-15361)", ErrRefused)
	}
	return nil
}

func checkEC(k *ecdsa.PublicKey) error {
	if k == nil || !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, k.Curve) {
		return fmt.Errorf("%w: curve of the EC key is none of P-256, P-384, P-521", ErrRefused)
	}
	if _, err := k.ECDH(); err != nil {
		return fmt.Errorf("%w: EC key is no point of its curve", ErrRefused)
	}
	return nil
}

// smallPrimes are the primes from 3 to 167, by which the generator of
// CVE-2017-15361 can be told ("The Return of Coppersmith's Attack", ACM CCS 2017, §2.3).
var smallPrimes = []uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
	97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

func hasSmallFactor(n *big.Int) bool {
	return n.Bit(0) == 0 || slices.ContainsFunc(smallPrimes, func(p uint64) bool { return residue(n, p) == 0 })
}

// hasROCAFingerprint reports whether n is a power of 65537 modulo every small
// prime. A sound modulus passes for one with a probability of about 2^-27.
func hasROCAFingerprint(n *big.Int) bool {
	for _, p := range smallPrimes {
		if !isPowerOf65537(residue(n, p), p) {
			return false
		}
	}
	return true
}

func isPowerOf65537(r, p uint64) bool {
	x := uint64(1)
	for range p {
		if x == r {
			return true
		}
		x = x * 65537 % p
	}
	return false
}

func residue(n *big.Int, p uint64) uint64 {
	return new(big.Int).Mod(n, new(big.Int).SetUint64(p)).Uint64()
}

// keyHash is the SHA-256 of a SubjectPublicKeyInfo.
func keyHash(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: encoding the public key: %w", ErrRefused, err)
	}
	h := sha256.Sum256(spki)
	return h[:], nil
}

// keyID is the subject key identifier of a key: the leftmost 160 bits of the
// SHA-256 of its bit string (RFC 7093 §2, method 1).
func keyID(pub crypto.PublicKey) ([]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return nil, fmt.Errorf("decoding the public key: %w", err)
	}
	h := sha256.Sum256(info.Key.Bytes)
	return h[:20], nil
}

// checkCSR verifies that a certificate request is signed by the key it is for
// and that this key is pub.
func checkCSR(der []byte, pub crypto.PublicKey) error {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return fmt.Errorf("%w: decoding the certificate request: %w", ErrRefused, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return fmt.Errorf("%w: signature of the certificate request: %w", ErrRefused, err)
	}
	if !samePublicKey(csr.PublicKey, pub) {
		return fmt.Errorf("%w: certificate request is for another key", ErrRefused)
	}
	return nil
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
