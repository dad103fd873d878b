package coolkey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu/secret"
)

// ImportAlgorithm says how a private key is encrypted under the transport key.
type ImportAlgorithm byte

// Ways of wrapping a private key.
const (
	ImportDES    ImportAlgorithm = 0x81 // 3DES-CBC, two-key transport key
	ImportAESKWP ImportAlgorithm = 0x88 // RFC 5649
	ImportAESCBC ImportAlgorithm = 0x89 // AES-CBC, zero IV, PKCS #7 padding
)

// String names the algorithm.
func (a ImportAlgorithm) String() string {
	switch a {
	case ImportDES:
		return "3DES-CBC"
	case ImportAESKWP:
		return "AES-KWP"
	case ImportAESCBC:
		return "AES-CBC"
	}
	return fmt.Sprintf("%02X", byte(a))
}

// WrappedPrivateKey is a private key encrypted under a transport key.
type WrappedPrivateKey struct {
	Algorithm ImportAlgorithm
	Blob      []byte // content of [IDImport]: encoding, type, bits, ciphertext
	KeyCheck  []byte // of the transport key, 3 bytes; empty = the card checks nothing
	IV        []byte // 8 or 16 bytes
}

// WrapPrivateKey encrypts a PKCS #8 private key (RSA, or EC on an applet that
// takes it) under a transport key: 16 bytes for DES, 16 or 32 for AES. Both
// secrets stay the caller's.
func WrapPrivateKey(alg ImportAlgorithm, transport, pkcs8 secret.Secret) (WrappedPrivateKey, error) {
	w := WrappedPrivateKey{Algorithm: alg}
	head, err := blobHeader(pkcs8.Bytes())
	if err != nil {
		return w, fmt.Errorf("wrapping private key: %w", err)
	}
	var sealed []byte
	switch alg {
	case ImportDES:
		sealed, err = w.sealDES(transport.Bytes(), pkcs8.Bytes())
	case ImportAESKWP, ImportAESCBC:
		sealed, err = w.sealAES(transport.Bytes(), pkcs8.Bytes())
	default:
		err = fmt.Errorf("algorithm %v: %w", alg, errors.ErrUnsupported)
	}
	if err != nil {
		return w, fmt.Errorf("wrapping private key: %w", err)
	}
	w.Blob = append(head, sealed...)
	return w, nil
}

// blobHeader is encoding 01 (encrypted), type and bits of a PKCS #8 key.
func blobHeader(pkcs8 []byte) ([]byte, error) {
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, errors.New("not a PKCS #8 private key") // the cause could quote the key
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return binary.BigEndian.AppendUint16([]byte{1, byte(KeyRSAPair)}, uint16(k.N.BitLen())), nil
	case *ecdsa.PrivateKey:
		return binary.BigEndian.AppendUint16([]byte{1, byte(KeyECPair)}, uint16(k.Curve.Params().BitSize)), nil
	}
	return nil, fmt.Errorf("private key of type %T: %w", key, errors.ErrUnsupported)
}

func (w *WrappedPrivateKey) sealDES(transport, pkcs8 []byte) ([]byte, error) {
	if len(transport) != 16 {
		return nil, fmt.Errorf("DES transport key of %d bytes, want 16", len(transport))
	}
	ede := append(append(make([]byte, 0, 24), transport...), transport[:8]...)
	defer clear(ede)
	b, err := des.NewTripleDESCipher(ede)
	if err != nil {
		return nil, err
	}
	w.IV = make([]byte, des.BlockSize)
	rand.Read(w.IV) // never fails
	w.KeyCheck = make([]byte, des.BlockSize)
	b.Encrypt(w.KeyCheck, w.KeyCheck)
	w.KeyCheck = w.KeyCheck[:3]
	return cbc(b, w.IV, pkcs8), nil
}

func (w *WrappedPrivateKey) sealAES(transport, pkcs8 []byte) ([]byte, error) {
	if len(transport) != 16 && len(transport) != 32 {
		return nil, fmt.Errorf("AES transport key of %d bytes, want 16 or 32", len(transport))
	}
	b, err := aes.NewCipher(transport)
	if err != nil {
		return nil, err
	}
	w.KeyCheck = bytes.Repeat([]byte{1}, aes.BlockSize)
	b.Encrypt(w.KeyCheck, w.KeyCheck)
	w.KeyCheck = w.KeyCheck[:3]
	if w.Algorithm == ImportAESKWP {
		w.IV = make([]byte, 8) // the applet ignores it
		rand.Read(w.IV)
		return keyWrapPadded(b, pkcs8), nil
	}
	w.IV = make([]byte, aes.BlockSize) // zeros: a transport key encrypts one private key
	return cbc(b, w.IV, pkcs8), nil
}

// cbc encrypts data with PKCS #7 padding.
func cbc(b cipher.Block, iv, data []byte) []byte {
	pad := b.BlockSize() - len(data)%b.BlockSize()
	out := append(make([]byte, 0, len(data)+pad), data...)
	out = append(out, bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, out)
	return out
}

// keyWrapPadded is AES Key Wrap with Padding, RFC 5649 §4.1, for 9 bytes or more.
func keyWrapPadded(b cipher.Block, data []byte) []byte {
	n := (len(data) + 7) / 8
	out := make([]byte, 8*(n+1))
	copy(out[8:], data)
	var a [aes.BlockSize]byte
	copy(a[:], []byte{0xA6, 0x59, 0x59, 0xA6})
	binary.BigEndian.PutUint32(a[4:], uint32(len(data)))
	if n == 1 {
		copy(a[8:], out[8:])
		b.Encrypt(a[:], a[:])
		return append(out[:0], a[:]...)
	}
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(a[8:], out[8*i:])
			b.Encrypt(a[:], a[:])
			binary.BigEndian.PutUint64(a[:], binary.BigEndian.Uint64(a[:])^uint64(n*j+i))
			copy(out[8*i:8*i+8], a[8:])
		}
	}
	copy(out, a[:8])
	return out
}
