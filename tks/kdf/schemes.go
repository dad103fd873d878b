package kdf

import (
	"encoding/binary"

	"inkan/apdu/gp"
)

// scheme is one diversification (secure-channel.md §9.1): what its master key is
// for, and how card data become a derivation. size is the master's length in bytes.
type scheme struct {
	cipher Cipher
	derive func(k Slot, d gp.KDD, size int) Derivation
}

// schemes are the diversifications but for None.
var schemes = map[Code]scheme{
	VISA2:       {DES, func(k Slot, d gp.KDD, _ int) Derivation { return blocks(DES, k, d[0:2], d[4:8]) }},
	EMV:         {DES, func(k Slot, d gp.KDD, _ int) Derivation { return blocks(DES, k, d[4:10]) }},
	VISA:        {DES, func(k Slot, d gp.KDD, _ int) Derivation { return blocks(DES, k, d[0:4], d[8:10]) }},
	DogtagEMV:   {DES, func(k Slot, d gp.KDD, _ int) Derivation { return blocks(AES, k, d[4:10]) }},
	DogtagVISA2: {DES, func(k Slot, d gp.KDD, _ int) Derivation { return blocks(AES, k, d[0:2], d[4:8]) }},
	KDF3:        {AES, kdf3},
	GPKMC:       {AES, gpkmc},
	DogtagSP800: {HMAC, dogtagSP800},
}

// blocks is X F0 k X 0F k, encrypted with 3DES-ECB into a key of cipher c: six
// bytes X of card data in one or two parts. Dogtag takes the result unchanged as an
// AES key under SCP03 (secure-channel.md §9.4).
func blocks(c Cipher, k Slot, x ...[]byte) Derivation {
	in := make([]byte, 0, 16)
	for _, half := range []byte{0xF0, 0x0F} {
		for _, part := range x {
			in = append(in, part...)
		}
		in = append(in, half, byte(k))
	}
	return Derivation{Method: ECB, Input: in, Cipher: c, Length: 16}
}

// kdf3 is CMAC over i ‖ 00 00 00 k 00 ‖ KDD, i = 1, 2. Both blocks are always
// there, so that a longer key can be had from the same derivation.
func kdf3(k Slot, d gp.KDD, n int) Derivation {
	in := make([]byte, 0, 32)
	for i := byte(1); i <= 2; i++ {
		in = append(append(in, i, 0, 0, 0, byte(k), 0), d[:]...)
	}
	return Derivation{Method: CMAC, Input: in, Cipher: AES, Length: n}
}

// gpkmc is CMAC over i ‖ 00 00 00 k 00 ‖ 00 00 ‖ serial ‖ batch ‖ L, i = 1, 2, with
// serial and batch out of the CUID d and L the key's length in bits.
func gpkmc(k Slot, d gp.KDD, n int) Derivation {
	in := make([]byte, 0, 32)
	for i := byte(1); i <= 2; i++ {
		in = append(in, i, 0, 0, 0, byte(k), 0, 0, 0)
		in = append(append(in, d[6:10]...), d[4:6]...)
		in = binary.BigEndian.AppendUint16(in, uint16(8*n))
	}
	return Derivation{Method: CMAC, Input: in, Cipher: AES, Length: n}
}

// dogtagSP800 is HMAC-SHA-256 over i ‖ 04 ‖ 00 ‖ data ‖ 0180, i = 1, 2: the three
// keys one behind the other in 64 bytes (secure-channel.md §9.3). Each key comes out
// of one of the two.
func dogtagSP800(k Slot, d gp.KDD, _ int) Derivation {
	at := 16 * (int(k) - 1)
	in := append([]byte{byte(1 + at/32), 4, 0}, d[:]...)
	return Derivation{Method: HMACSHA256, Input: append(in, 0x01, 0x80), Skip: at % 32, Cipher: DES, Length: 16}
}
