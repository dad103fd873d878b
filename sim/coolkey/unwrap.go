package coolkey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/subtle"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/securechannel/primitive"
	"inkan/sim/internal/rawrsa"
)

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// decrypt removes the transport key's encryption from a private key.
func (a *Applet) decrypt(i importCommand, transport, sealed []byte) ([]byte, apdu.StatusWord) {
	if !a.isAES(i) {
		b, err := primitive.TripleDES(transport)
		if err != nil || len(i.iv) != b.BlockSize() || len(sealed)%b.BlockSize() != 0 {
			return nil, apdu.SWWrongLength
		}
		plain := make([]byte, len(sealed))
		cipher.NewCBCDecrypter(b, i.iv).CryptBlocks(plain, sealed)
		return plain, done // padding stays: the DER knows where it ends
	}
	b, err := aes.NewCipher(transport)
	if err != nil {
		return nil, ck.SWInternal
	}
	unwrap := unwrapKWP
	if i.algorithm == ck.ImportAESCBC {
		unwrap = unwrapCBC
	}
	plain, ok := unwrap(b, sealed)
	if !ok {
		return nil, ck.SWBadPrivateKey
	}
	return plain, done
}

// unwrapCBC is AES-CBC with a zero IV and PKCS #7 padding.
func unwrapCBC(b cipher.Block, sealed []byte) ([]byte, bool) {
	n := b.BlockSize()
	if len(sealed) == 0 || len(sealed)%n != 0 {
		return nil, false
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(b, make([]byte, n)).CryptBlocks(plain, sealed)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > n || !bytes.HasSuffix(plain, bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, false
	}
	return plain[:len(plain)-pad], true
}

// unwrapKWP is AES Key Unwrap with Padding, RFC 5649 §4.2.
func unwrapKWP(b cipher.Block, sealed []byte) ([]byte, bool) {
	n := len(sealed)/8 - 1
	if n < 1 || len(sealed)%8 != 0 {
		return nil, false
	}
	var a [aes.BlockSize]byte
	out := bytes.Clone(sealed[8:])
	if n == 1 {
		b.Decrypt(a[:], sealed)
		copy(out, a[8:])
	} else {
		copy(a[:8], sealed)
		for t := 6 * n; t >= 1; t-- {
			block := out[8*((t-1)%n):][:8]
			binary.BigEndian.PutUint64(a[:], binary.BigEndian.Uint64(a[:])^uint64(t))
			copy(a[8:], block)
			b.Decrypt(a[:], a[:])
			copy(block, a[8:])
		}
	}
	size := uint64(binary.BigEndian.Uint32(a[4:]))
	good := equal(a[:4], []byte{0xA6, 0x59, 0x59, 0xA6})
	if !good || size > uint64(8*n) || size <= uint64(8*(n-1)) || !equal(out[size:], make([]byte, uint64(8*n)-size)) {
		return nil, false
	}
	return out[:size], true
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
)

// pkcs8 is PrivateKeyInfo, RFC 5208 §5.
type pkcs8 struct {
	Version   int
	Algorithm struct {
		OID        asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	PrivateKey []byte
}

// parsePKCS8 reads a PrivateKeyInfo with the algorithm want; whole is its DER
// without what follows it.
func parsePKCS8(der []byte, want asn1.ObjectIdentifier) (info pkcs8, whole []byte, sw apdu.StatusWord) {
	if len(der) == 0 || der[0] != 0x30 {
		return info, nil, ck.SWBadPrivateKey
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil {
		return info, nil, ck.SWBadDER
	}
	if !info.Algorithm.OID.Equal(want) {
		return info, nil, ck.SWBadAlgorithmID
	}
	return info, der[:len(der)-len(rest)], done
}

func rsaOfPKCS8(der []byte) (private, public *key, sw apdu.StatusWord) {
	info, _, sw := parsePKCS8(der, oidRSA)
	if sw != done {
		return nil, nil, sw
	}
	k, err := x509.ParsePKCS1PrivateKey(info.PrivateKey)
	if err != nil {
		return nil, nil, ck.SWBadDER
	}
	priv, pub, err := rawrsa.New(k)
	if err != nil {
		return nil, nil, ck.SWBadDER
	}
	bits := k.N.BitLen()
	return &key{RSA: priv, Bits: bits}, &key{RSA: pub, Bits: bits}, done
}

func ecOfPKCS8(der []byte) (private, public *key, sw apdu.StatusWord) {
	_, whole, sw := parsePKCS8(der, oidEC)
	if sw != done {
		return nil, nil, sw
	}
	parsed, err := x509.ParsePKCS8PrivateKey(whole)
	if err != nil {
		return nil, nil, ck.SWBadDER
	}
	k, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, ck.SWBadAlgorithmID
	}
	bits := k.Curve.Params().BitSize
	if _, err := ck.CurveOfBits(bits); err != nil {
		return nil, nil, ck.SWKeySize
	}
	priv, pub, err := newECKey(k)
	if err != nil {
		return nil, nil, ck.SWBadDER
	}
	return &key{EC: priv, Bits: bits}, &key{EC: pub, Bits: bits}, done
}
