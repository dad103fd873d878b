package coolkey

import "crypto/aes"

// KeyWrapPadded lets tests run the vectors of RFC 5649, whose key has 24 bytes.
func KeyWrapPadded(key, data []byte) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return keyWrapPadded(b, data), nil
}
