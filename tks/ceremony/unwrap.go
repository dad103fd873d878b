package ceremony

import (
	"bytes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu/secret"
	"inkan/tks/hsm"
	"inkan/tks/kdf"
)

// ErrWrapped means that a wrapped key is damaged, or was wrapped under another
// transport key.
var ErrWrapped = errors.New("wrapped key integrity check failed: the file is damaged, or the transport key is another one")

// Unwrap opens a file with a key of type t, wrapped under a transport key.
//
// Under an AES transport key the file is AES key wrap with padding (RFC 5649) in
// hexadecimal. Under a 3DES transport key it is what Dogtag's tkstool -W writes: 32
// digits of a des2 key in 3DES-ECB, 8 digits of its check value, whatever else
// between them. [ErrWrapped] where the file and the transport key do not belong
// together.
func Unwrap(transport hsm.KeyType, kek secret.Secret, t hsm.KeyType, file []byte) (secret.Secret, error) {
	if kek.Len() != transport.Size() {
		return secret.Secret{}, fmt.Errorf("unwrapping: transport key of %d bytes, want %d", kek.Len(), transport.Size())
	}
	block, err := kdf.NewBlock(transport.Cipher(), kek.Bytes())
	if err != nil {
		return secret.Secret{}, fmt.Errorf("unwrapping: transport key: %w", err)
	}
	var value []byte
	if transport.Cipher() == kdf.DES {
		value, err = unwrapTKSTool(block, t, file)
	} else {
		value, err = unwrapKWP(block, file)
	}
	if err != nil {
		return secret.Secret{}, fmt.Errorf("unwrapping: %w", err)
	}
	if len(value) != t.Size() {
		clear(value)
		return secret.Secret{}, fmt.Errorf("unwrapping: the key has %d bytes, %v has %d", len(value), t, t.Size())
	}
	return secret.New(value), nil
}

func unwrapTKSTool(kek cipher.Block, t hsm.KeyType, file []byte) ([]byte, error) {
	if t != hsm.DES2 {
		return nil, fmt.Errorf("a file under a 3DES transport key holds a des2 key, not %v", t)
	}
	b, err := parseHex(file, true)
	if err != nil {
		return nil, err
	}
	if len(b) != 16+longKCV {
		return nil, fmt.Errorf("the file has %d bytes in hexadecimal, want 16 of the key and 4 of its check value", len(b))
	}
	value, kcv := b[:16:16], b[16:]
	for i := 0; i < len(value); i += kek.BlockSize() {
		kek.Decrypt(value[i:], value[i:])
	}
	if err := check(t, secret.New(value), kcv); err != nil {
		clear(value)
		return nil, ErrWrapped
	}
	return value, nil
}

// unwrapKWP is RFC 5649 §4.2.
func unwrapKWP(kek cipher.Block, file []byte) ([]byte, error) {
	b, err := parseHex(file, false)
	if err != nil {
		return nil, err
	}
	if len(b) < 16 || len(b)%8 != 0 || len(b) > 64 {
		return nil, fmt.Errorf("the file has %d bytes in hexadecimal, want 16 to 64 in steps of 8", len(b))
	}
	unwrapRounds(kek, b)
	key, n := b[8:], int(binary.BigEndian.Uint32(b[4:8]))
	ok := subtle.ConstantTimeCompare(b[:4], []byte{0xA6, 0x59, 0x59, 0xA6})
	if ok != 1 || n > len(key) || n <= len(key)-8 || !bytes.Equal(key[n:], make([]byte, len(key)-n)) {
		clear(b)
		return nil, ErrWrapped
	}
	return key[:n:n], nil
}

// unwrapRounds is the unwrapping function W⁻¹ (RFC 3394 §2.2.2) in place; one block
// is plain AES (RFC 5649 §4.2).
func unwrapRounds(kek cipher.Block, b []byte) {
	n := len(b)/8 - 1
	if n == 1 {
		kek.Decrypt(b, b)
		return
	}
	var x [16]byte
	defer clear(x[:])
	for t := 6 * n; t > 0; t-- {
		r := b[8*((t-1)%n+1):][:8]
		binary.BigEndian.PutUint64(x[:], binary.BigEndian.Uint64(b)^uint64(t))
		copy(x[8:], r)
		kek.Decrypt(x[:], x[:])
		copy(b, x[:8])
		copy(r, x[8:])
	}
}
