package coolkey

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
)

// ecKey is a key on P-256, P-384 or P-521; D is empty for a public key.
type ecKey struct {
	D     []byte `json:",omitempty"`
	Point []byte // 04 ‖ X ‖ Y
}

func newECKey(k *ecdsa.PrivateKey) (private, public *ecKey, err error) {
	d, err := k.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("encoding EC key: %w", err)
	}
	point, err := k.PublicKey.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("encoding EC point: %w", err)
	}
	return &ecKey{D: d, Point: point}, &ecKey{Point: append([]byte(nil), point...)}, nil
}

// private is the key for the packages of the standard library.
func (k *ecKey) private(bits int) (*ecdsa.PrivateKey, error) {
	curve, err := ck.CurveOfBits(bits)
	if err != nil {
		return nil, err
	}
	return ecdsa.ParseRawPrivateKey(curve, k.D)
}

func (k *ecKey) sound(bits int, private bool) bool {
	curve, err := ck.CurveOfBits(bits)
	if err != nil {
		return false
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, k.Point)
	if err != nil {
		return false
	}
	if !private {
		return len(k.D) == 0
	}
	key, err := k.private(bits)
	return err == nil && key.PublicKey.Equal(pub)
}

// Instructions of the elliptic curve operations. The two clients that know them
// disagree which is which; the shape of the input tells them apart
// (coolkey-applet.md §7).
const (
	insEC37 = 0x37 // OpenSC: agreement, coolkey: signature
	insEC38 = 0x38 // OpenSC: signature, coolkey: agreement
)

// computeEC signs a hash or agrees on a secret with a point.
func (a *Applet) computeEC(c call) ([]byte, apdu.StatusWord) {
	k, sw := a.usable(c)
	if sw != done {
		return nil, sw
	}
	if c.cmd.P2 != stepOne {
		return nil, ck.SWIncorrectP2
	}
	if k.Type != ck.KeyECPrivate {
		return nil, ck.SWKeyTypeUnsupported
	}
	if len(c.data) < 3 || len(c.data) != 3+int(binary.BigEndian.Uint16(c.data[1:])) {
		return nil, ck.SWInvalidParameter
	}
	switch c.data[0] {
	case locationAPDU:
	case locationBuffer:
		return nil, ck.SWLocationUnsupported
	default:
		return nil, ck.SWLocationInvalid
	}
	input := c.data[3:]
	if len(input) == 0 {
		return nil, ck.SWDataSize
	}
	private, err := k.EC.private(k.Bits)
	if err != nil {
		return nil, ck.SWInternal
	}
	if isPoint(input) {
		return agree(private, input, c.cmd.INS == insEC38)
	}
	return signHash(c, private, input)
}

func isPoint(b []byte) bool {
	return b[0] == 4 && (len(b) == 65 || len(b) == 97 || len(b) == 133)
}

// agree is ECDH with cofactor 1: X of the common point; counted for coolkey.
func agree(private *ecdsa.PrivateKey, point []byte, withLength bool) ([]byte, apdu.StatusWord) {
	mine, err := private.ECDH()
	if err != nil {
		return nil, ck.SWInternal
	}
	theirs, err := mine.Curve().NewPublicKey(point)
	if err != nil {
		return nil, ck.SWInvalidParameter
	}
	secret, err := mine.ECDH(theirs)
	if err != nil {
		return nil, ck.SWInvalidParameter
	}
	if withLength {
		return appendCounted(nil, secret), done
	}
	return secret, done
}

// signHash is ECDSA: r and s for OpenSC (INS 38), counted DER for coolkey (INS 37).
func signHash(c call, private *ecdsa.PrivateKey, hash []byte) ([]byte, apdu.StatusWord) {
	der, err := ecdsa.SignASN1(c.env.Rand(), private, hash)
	if err != nil {
		return nil, ck.SWInternal
	}
	if c.cmd.INS == insEC37 {
		return appendCounted(nil, der), done
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, ck.SWInternal
	}
	size := (private.Curve.Params().N.BitLen() + 7) / 8
	return append(sig.R.FillBytes(make([]byte, size)), sig.S.FillBytes(make([]byte, size))...), done
}

func appendCounted(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}
