package piv

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// Tags of GENERATE ASYMMETRIC and IMPORT KEY.
const (
	tagPublicKey   tlv.Tag = 0x7F49
	tagModulus     tlv.Tag = 0x81
	tagExponentE   tlv.Tag = 0x82
	tagPoint       tlv.Tag = 0x86
	tagGenerate    tlv.Tag = 0xAC
	tagAlgorithm   tlv.Tag = 0x80
	tagPINPolicy   tlv.Tag = 0xAA
	tagTouchPolicy tlv.Tag = 0xAB
)

// Policy says what a key wants before it is used. The zero value is the slot's
// default.
type Policy struct {
	PIN   PINPolicy
	Touch TouchPolicy
}

// append adds the policies that are not the default: cards of other makers know
// neither tag.
func (p Policy) append(b []byte) []byte {
	if p.PIN != PINDefault {
		b = tlv.Append(b, tagPINPolicy, []byte{byte(p.PIN)})
	}
	if p.Touch != TouchDefault {
		b = tlv.Append(b, tagTouchPolicy, []byte{byte(p.Touch)})
	}
	return b
}

// Generate makes a key pair in a slot, in place of the one that is there, and
// returns its public key: *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or
// *ecdh.PublicKey. It needs the management key. Nothing proves that the key was
// made on a card: see [Attest].
func Generate(ctx context.Context, d apdu.Doer, slot Slot, alg Algorithm, p Policy) (crypto.PublicKey, error) {
	what := fmt.Sprintf("generating a key in slot %v", slot)
	b, err := call(ctx, d, what, GenerateCommand(slot, alg, p))
	if err != nil {
		return nil, err
	}
	pub, err := ParseGenerated(alg, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return pub, nil
}

// GenerateCommand is INS 47.
func GenerateCommand(slot Slot, alg Algorithm, p Policy) apdu.Command {
	data := tlv.Encode(tagGenerate, p.append(tlv.Encode(tagAlgorithm, []byte{byte(alg)})))
	return command(InsGenerate, 0, byte(slot), data, apdu.MaxShortNe)
}

// ParseGenerated reads the answer to [GenerateCommand].
func ParseGenerated(alg Algorithm, b []byte) (crypto.PublicKey, error) {
	v, err := unwrap(b, tagPublicKey)
	if err != nil {
		return nil, err
	}
	return ParsePublicKey(alg, v)
}

// ParsePublicKey reads 81 modulus 82 exponent, or 86 point, and checks that it is a
// key of the algorithm.
func ParsePublicKey(alg Algorithm, b []byte) (crypto.PublicKey, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return nil, err
	}
	if bits := alg.Bits(); bits != 0 {
		return parseRSA(ts, bits)
	}
	point, ok := tlv.First(ts, tagPoint)
	if !ok {
		return nil, errors.New("public key without a point")
	}
	switch {
	case alg.Curve() != nil:
		return ecdsa.ParseUncompressedPublicKey(alg.Curve(), point.Value)
	case alg == Ed25519 && len(point.Value) == ed25519.PublicKeySize:
		return ed25519.PublicKey(append([]byte(nil), point.Value...)), nil
	case alg == X25519:
		return ecdh.X25519().NewPublicKey(point.Value)
	}
	return nil, fmt.Errorf("public key of %d bytes does not fit %v", len(point.Value), alg)
}

func parseRSA(ts []tlv.TLV, bits int) (*rsa.PublicKey, error) {
	n, ok1 := tlv.First(ts, tagModulus)
	e, ok2 := tlv.First(ts, tagExponentE)
	if !ok1 || !ok2 || len(e.Value) > 8 {
		return nil, errors.New("RSA key without modulus or exponent")
	}
	modulus, exponent := new(big.Int).SetBytes(n.Value), new(big.Int).SetBytes(e.Value)
	if modulus.BitLen() != bits || modulus.Bit(0) == 0 {
		return nil, fmt.Errorf("RSA modulus of %d bits, want %d", modulus.BitLen(), bits)
	}
	if exponent.BitLen() < 2 || exponent.BitLen() > 31 || exponent.Bit(0) == 0 {
		return nil, fmt.Errorf("RSA exponent %v", exponent)
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

// AppendPublicKey is the inverse of [ParsePublicKey].
func AppendPublicKey(b []byte, pub crypto.PublicKey) ([]byte, error) {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		b = tlv.Append(b, tagModulus, k.N.Bytes())
		return tlv.Append(b, tagExponentE, big.NewInt(int64(k.E)).Bytes()), nil
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, err
		}
		return tlv.Append(b, tagPoint, point), nil
	case ed25519.PublicKey:
		return tlv.Append(b, tagPoint, k), nil
	case *ecdh.PublicKey:
		return tlv.Append(b, tagPoint, k.Bytes()), nil
	}
	return nil, fmt.Errorf("public key of type %T", pub)
}

// Import brings a private key into a slot, in place of the one that is there:
// *rsa.PrivateKey of two primes and exponent 65537, *ecdsa.PrivateKey,
// ed25519.PrivateKey or *ecdh.PrivateKey. It needs the management key. Such a key
// cannot be attested.
func Import(ctx context.Context, d apdu.Doer, slot Slot, key crypto.PrivateKey, p Policy) error {
	what := fmt.Sprintf("importing a key into slot %v", slot)
	alg, data, err := privateFields(key)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	c := command(InsImport, byte(alg), byte(slot), p.append(data), 0)
	defer clear(data)
	defer clear(c.Data)
	_, err = call(ctx, d, what, c)
	return err
}

func privateFields(key crypto.PrivateKey) (Algorithm, []byte, error) {
	signer, ok := key.(interface{ Public() crypto.PublicKey })
	if !ok {
		return 0, nil, fmt.Errorf("private key of type %T", key)
	}
	alg, err := AlgorithmOf(signer.Public())
	if err != nil {
		return 0, nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		b, err := rsaFields(k)
		return alg, b, err
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		return alg, tlv.Encode(0x06, d), err
	case ed25519.PrivateKey:
		return alg, tlv.Encode(0x07, k.Seed()), nil
	case *ecdh.PrivateKey:
		return alg, tlv.Encode(0x08, k.Bytes()), nil
	}
	return 0, nil, fmt.Errorf("private key of type %T", key)
}

// rsaFields are p, q, dP, dQ and qInv, each half as long as the modulus.
func rsaFields(k *rsa.PrivateKey) ([]byte, error) {
	if len(k.Primes) != 2 || k.E != 65537 {
		return nil, errors.New("the RSA key is not of two primes and exponent 65537")
	}
	half := (k.N.BitLen() + 15) / 16
	one := big.NewInt(1)
	p, q := k.Primes[0], k.Primes[1]
	values := []*big.Int{
		p, q,
		new(big.Int).Mod(k.D, new(big.Int).Sub(p, one)),
		new(big.Int).Mod(k.D, new(big.Int).Sub(q, one)),
		new(big.Int).ModInverse(q, p),
	}
	var b []byte
	for i, v := range values {
		if v == nil || v.BitLen() > 8*half {
			return nil, errors.New("the primes of the RSA key are not of one length")
		}
		b = tlv.Append(b, tlv.Tag(i+1), v.FillBytes(make([]byte, half)))
	}
	return b, nil
}

// MoveKey moves a key to another slot (from version 5.7 on). It needs the
// management key. Certificates stay where they are.
func MoveKey(ctx context.Context, d apdu.Doer, from, to Slot) error {
	_, err := call(ctx, d, fmt.Sprintf("moving the key of slot %v to %v", from, to), command(InsMoveKey, byte(to), byte(from), nil, 0))
	return err
}

// DeleteKey deletes a key (from version 5.7 on). It needs the management key. The
// certificate stays.
func DeleteKey(ctx context.Context, d apdu.Doer, slot Slot) error {
	_, err := call(ctx, d, fmt.Sprintf("deleting the key of slot %v", slot), DeleteKeyCommand(slot))
	return err
}

// DeleteKeyCommand is the command of DeleteKey.
func DeleteKeyCommand(slot Slot) apdu.Command {
	return command(InsMoveKey, moveToNowhere, byte(slot), nil, 0)
}
