package primitive

import (
	"fmt"
)

// PRF is a pseudo-random function with its key inside, over the concatenation of parts.
type PRF func(parts ...[]byte) ([]byte, error)

// CounterKDF is the counter mode of SP 800-108 with a counter of one byte,
// counting from 1: PRF(before ‖ counter ‖ after), concatenated and cut to n
// bytes. It fails where n needs more than 255 iterations.
func CounterKDF(prf PRF, before, after []byte, n int) ([]byte, error) {
	if n < 1 {
		return nil, fmt.Errorf("deriving a key of %d bytes", n)
	}
	out := make([]byte, 0, n)
	for i := 1; len(out) < n; i++ {
		if i > 255 {
			return nil, fmt.Errorf("deriving a key of %d bytes: counter exhausted", n)
		}
		block, err := prf(before, []byte{byte(i)}, after)
		if err != nil {
			return nil, fmt.Errorf("deriving a key: %w", err)
		}
		out = append(out, block[:min(len(block), n-len(out))]...)
		clear(block)
	}
	return out, nil
}

// Derivation constants of SCP03 (Amendment D 1.1.1 tables 4-1 and 6-2).
const (
	ConstCardCryptogram byte = 0x00
	ConstHostCryptogram byte = 0x01
	ConstCardChallenge  byte = 0x02
	ConstSENC           byte = 0x04
	ConstSMAC           byte = 0x06
	ConstSRMAC          byte = 0x07
)

// KDF03 is the key derivation of SCP03 (Amendment D 1.1.1 §4.1.5): n bytes from
// an AES key, a derivation constant and a context. n is at most 8191.
func KDF03(key []byte, constant byte, context []byte, n int) ([]byte, error) {
	if n > 0xFFFF/8 {
		return nil, fmt.Errorf("deriving %d bytes: length field is 16 bits", n)
	}
	var before [15]byte // label (11 × 00, constant), separator, L
	before[11] = constant
	before[13], before[14] = byte(n*8>>8), byte(n*8)
	prf := func(parts ...[]byte) ([]byte, error) { return CMAC(key, parts...) }
	return CounterKDF(prf, before[:], context, n)
}
