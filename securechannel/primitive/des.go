package primitive

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"fmt"
)

// TripleDES returns the 3DES cipher of a key of 16 bytes (K1‖K2, used as
// K1‖K2‖K1) or 24 bytes. Parity bits are ignored.
func TripleDES(key []byte) (cipher.Block, error) {
	if len(key) != 16 && len(key) != 24 {
		return nil, fmt.Errorf("3DES key of %d bytes, want 16 or 24", len(key))
	}
	var full [24]byte
	defer clear(full[:])
	n := copy(full[:], key)
	copy(full[n:], key[:24-n])
	return des.NewTripleDESCipher(full[:])
}

// FullMAC returns the 8 bytes of ISO 9797-1 algorithm 1 with 3DES and padding
// method 2 over the concatenation of parts: the last block of 3DES-CBC with IV
// icv. The key has 16 or 24 bytes, icv 8 (nil: zeros).
func FullMAC(key, icv []byte, parts ...[]byte) ([]byte, error) {
	b, err := TripleDES(key)
	if err != nil {
		return nil, fmt.Errorf("computing full 3DES MAC: %w", err)
	}
	mac, err := cbcMAC(b, icv, append(parts[:len(parts):len(parts)], padding(parts)))
	if err != nil {
		return nil, fmt.Errorf("computing full 3DES MAC: %w", err)
	}
	return mac, nil
}

// RetailMAC returns the 8 bytes of ISO 9797-1 algorithm 3 (single-DES CBC, 3DES
// on the last block) with padding method 2 over the concatenation of parts. The
// key has 16 bytes, icv 8 (nil: zeros).
func RetailMAC(key, icv []byte, parts ...[]byte) ([]byte, error) {
	mac, err := retailMAC(key, icv, append(parts[:len(parts):len(parts)], padding(parts)))
	if err != nil {
		return nil, fmt.Errorf("computing retail MAC: %w", err)
	}
	return mac, nil
}

// retailMAC is RetailMAC of parts that fill whole blocks.
func retailMAC(key, icv []byte, parts [][]byte) ([]byte, error) {
	if len(key) != 16 {
		return nil, fmt.Errorf("key of %d bytes, want 16", len(key))
	}
	k1, err := des.NewCipher(key[:8])
	if err != nil {
		return nil, err
	}
	k2, err := des.NewCipher(key[8:])
	if err != nil {
		return nil, err
	}
	x, err := cbcMAC(k1, icv, parts)
	if err != nil {
		return nil, err
	}
	k2.Decrypt(x, x)
	k1.Encrypt(x, x)
	return x, nil
}

// cbcMAC is the last block of CBC over parts, which fill whole blocks together.
func cbcMAC(b cipher.Block, icv []byte, parts [][]byte) ([]byte, error) {
	x := make([]byte, des.BlockSize)
	if icv != nil && len(icv) != len(x) {
		return nil, fmt.Errorf("initial chaining value of %d bytes, want 8", len(icv))
	}
	copy(x, icv)
	n := 0 // position in the running block
	for _, p := range parts {
		for len(p) > 0 {
			c := min(len(x)-n, len(p))
			subtle.XORBytes(x[n:n+c], x[n:n+c], p[:c])
			n, p = n+c, p[c:]
			if n == len(x) {
				b.Encrypt(x, x)
				n = 0
			}
		}
	}
	return x, nil
}

// padding is what padding method 2 adds to parts.
func padding(parts [][]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	return Pad80(nil, des.BlockSize)[:des.BlockSize-n%des.BlockSize]
}
