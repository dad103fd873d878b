package coolkey

import "crypto/aes"

// UnwrapKWP lets tests run the vectors of RFC 5649, whose key has 24 bytes.
func UnwrapKWP(key, sealed []byte) ([]byte, bool) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, false
	}
	return unwrapKWP(b, sealed)
}
