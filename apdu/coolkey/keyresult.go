package coolkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
)

// maxKeyResult bounds what key generation may leave in the I/O buffer: twice the
// size that an RSA key of 4096 bits needs.
const maxKeyResult = 2 * 1039

// KeyResult is a key pair made on the card: its public half, as the card gave it
// (Blob), and the proof that the card holds the private one. Blob and Proof are
// copies.
type KeyResult struct {
	Public crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	Blob   []byte
	Proof  []byte
}

var errKeyResult = errors.New("malformed key result")

// ParseKeyResult reads the I/O buffer after key generation: two counted fields,
// blob and proof, and nothing else. RSA keys of 1024 to 4096 bits and the curves
// P-256, P-384, P-521 are taken. The proof is not verified: see [VerifyProof].
func ParseKeyResult(ioBuffer []byte) (KeyResult, error) {
	if len(ioBuffer) > maxKeyResult {
		return KeyResult{}, fmt.Errorf("%w: %d bytes", errKeyResult, len(ioBuffer))
	}
	blob, rest, ok := counted(ioBuffer)
	if !ok {
		return KeyResult{}, fmt.Errorf("%w: cut key blob", errKeyResult)
	}
	proof, rest, ok := counted(rest)
	if !ok || len(rest) != 0 || len(proof) == 0 {
		return KeyResult{}, fmt.Errorf("%w: proof of possession", errKeyResult)
	}
	pub, err := ParseKeyBlob(blob)
	if err != nil {
		return KeyResult{}, err
	}
	return KeyResult{Public: pub, Blob: append([]byte(nil), blob...), Proof: append([]byte(nil), proof...)}, nil
}

// ParseKeyBlob reads a public key blob: encoding 00, type, bits, counted values.
func ParseKeyBlob(blob []byte) (crypto.PublicKey, error) {
	if len(blob) < 4 || blob[0] != 0 {
		return nil, fmt.Errorf("%w: key blob of %d bytes is not a plain one", errKeyResult, len(blob))
	}
	bits := int(binary.BigEndian.Uint16(blob[2:]))
	switch t := KeyType(blob[1]); t {
	case KeyRSAPublic:
		return parseRSABlob(bits, blob[4:])
	case KeyECPublic:
		return parseECBlob(bits, blob[4:])
	default:
		return nil, fmt.Errorf("%w: key type %v", errKeyResult, t)
	}
}

func parseRSABlob(bits int, b []byte) (crypto.PublicKey, error) {
	modulus, b, ok1 := counted(b)
	exponent, b, ok2 := counted(b)
	if !ok1 || !ok2 || len(b) != 0 || len(exponent) == 0 || len(exponent) > 4 {
		return nil, fmt.Errorf("%w: RSA key blob", errKeyResult)
	}
	n := new(big.Int).SetBytes(modulus)
	e := new(big.Int).SetBytes(exponent).Int64()
	if bits < 1024 || bits > 4096 || n.BitLen() != bits || n.Bit(0) == 0 {
		return nil, fmt.Errorf("%w: RSA modulus of %d bits where %d were named", errKeyResult, n.BitLen(), bits)
	}
	if e < 3 || e&1 == 0 || e > 1<<31-1 {
		return nil, fmt.Errorf("%w: RSA exponent %d", errKeyResult, e)
	}
	return &rsa.PublicKey{N: n, E: int(e)}, nil
}

func parseECBlob(bits int, b []byte) (crypto.PublicKey, error) {
	curve, err := CurveOfBits(bits)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeyResult, err)
	}
	point, b, ok := counted(b)
	if !ok || len(b) != 0 {
		return nil, fmt.Errorf("%w: EC key blob", errKeyResult)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeyResult, err)
	}
	return pub, nil
}

// CurveOfBits is the curve that the applet names by its bits: P-256, P-384, P-521.
func CurveOfBits(bits int) (elliptic.Curve, error) {
	switch bits {
	case 256:
		return elliptic.P256(), nil
	case 384:
		return elliptic.P384(), nil
	case 521:
		return elliptic.P521(), nil
	}
	return nil, fmt.Errorf("no curve of %d bits", bits)
}

// EncodeKeyBlob is the inverse of [ParseKeyBlob] for *rsa.PublicKey and
// *ecdsa.PublicKey.
func EncodeKeyBlob(pub crypto.PublicKey) ([]byte, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		b := []byte{0, byte(KeyRSAPublic)}
		b = binary.BigEndian.AppendUint16(b, uint16(k.N.BitLen()))
		b = appendCounted(b, k.N.Bytes())
		return appendCounted(b, big.NewInt(int64(k.E)).FillBytes(make([]byte, exponentLen(k.E)))), nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encoding EC key: %w", err)
		}
		b := []byte{0, byte(KeyECPublic)}
		b = binary.BigEndian.AppendUint16(b, uint16(k.Curve.Params().BitSize))
		return appendCounted(b, point), nil
	}
	return nil, fmt.Errorf("key blob of a %T: %w", pub, errors.ErrUnsupported)
}

// exponentLen keeps the three bytes 010001 of the usual exponent.
func exponentLen(e int) int { return max(1, (big.NewInt(int64(e)).BitLen()+7)/8) }

// ErrProof means that a card did not prove possession of the private key.
var ErrProof = errors.New("proof of possession is wrong")

// VerifyProof checks the proof of r over its blob and the plain challenge: RSA
// PKCS #1 v1.5 or ECDSA (DER), both with SHA-1 as the applet has it. The error is
// [ErrProof].
func VerifyProof(r KeyResult, challenge []byte) error {
	if len(challenge) != ChallengeLen {
		return fmt.Errorf("%w: challenge of %d bytes", ErrProof, len(challenge))
	}
	// The proof belongs to the key in the blob, whatever Public says.
	pub, err := ParseKeyBlob(r.Blob)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProof, err)
	}
	h := sha1.New()
	h.Write(r.Blob)
	h.Write(challenge)
	digest := h.Sum(nil)
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if rsa.VerifyPKCS1v15(k, crypto.SHA1, digest, r.Proof) == nil && k.Equal(r.Public) {
			return nil
		}
	case *ecdsa.PublicKey:
		if ecdsa.VerifyASN1(k, digest, r.Proof) && k.Equal(r.Public) {
			return nil
		}
	}
	return ErrProof
}

// counted splits a field with a two-byte length off b.
func counted(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b)-2 < n {
		return nil, nil, false
	}
	return b[2 : 2+n : 2+n], b[2+n:], true
}

func appendCounted(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}
