package kdf

import (
	"encoding/binary"
	"fmt"

	"inkan/apdu"
)

// Secrets of a PIV applet are derived like card keys, over the CUID: PIV has no
// diversification data (secure-channel.md §9.5). A master key under [PIV] is AES.

// Algorithms of PIV management keys (SP 800-78-4 table 6-2) and their lengths in bytes.
var managementLen = map[byte]int{0x03: 24, 0x08: 16, 0x0A: 24, 0x0C: 32}

const pivTripleDES = 0x03

// PIVManagementKey returns how the management key of a card is derived: its bytes are
// those of an AES key of that length. [FinishManagementKey] makes a 3DES key of them.
func PIVManagementKey(alg byte, cuid apdu.CUID) (Derivation, error) {
	n, ok := managementLen[alg]
	if !ok {
		return Derivation{}, fmt.Errorf("%02X is no algorithm of PIV management keys", alg)
	}
	return pivSecret("PIVM", alg, cuid, n), nil
}

// PIVPUK returns how the bytes are derived that [PUKDigits] makes the PUK of.
func PIVPUK(cuid apdu.CUID) Derivation { return pivSecret("PIVP", 0, cuid, 16) }

// pivSecret is CMAC over i ‖ label ‖ alg ‖ CUID, i = 1, 2.
func pivSecret(label string, alg byte, cuid apdu.CUID, n int) Derivation {
	in := make([]byte, 0, 32)
	for i := byte(1); i <= 2; i++ {
		in = append(append(append(in, i), label...), alg)
		in = append(in, cuid[:]...)
	}
	return Derivation{Method: CMAC, Input: in, Cipher: AES, Length: n}
}

// FinishManagementKey gives a 3DES key its parity, in place, and refuses one that
// cards refuse: weak parts, or two parts that are the same.
func FinishManagementKey(alg byte, key []byte) error {
	if alg != pivTripleDES {
		return nil
	}
	OddParity(key)
	var parts [3]uint64
	for i := range parts {
		parts[i] = binary.BigEndian.Uint64(key[8*i:])
	}
	if parts[0] == parts[1] || parts[1] == parts[2] || parts[0] == parts[2] || weak(parts[0]) || weak(parts[1]) || weak(parts[2]) {
		return fmt.Errorf("the 3DES management key of this card is weak: use an AES management key, or another version of the key set")
	}
	return nil
}

// weak reports a weak or semi-weak DES key (SP 800-67 §3.3.2).
func weak(k uint64) bool {
	switch k {
	case 0x0101010101010101, 0xFEFEFEFEFEFEFEFE, 0xE0E0E0E0F1F1F1F1, 0x1F1F1F1F0E0E0E0E,
		0x01FE01FE01FE01FE, 0xFE01FE01FE01FE01, 0x1FE01FE00EF10EF1, 0xE01FE01FF10EF10E,
		0x01E001E001F101F1, 0xE001E001F101F101, 0x1FFE1FFE0EFE0EFE, 0xFE1FFE1FFE0EFE0E,
		0x011F011F010E010E, 0x1F011F010E010E01, 0xE0FEE0FEF1FEF1FE, 0xFEE0FEE0FEF1FEF1:
		return true
	}
	return false
}

// PUKDigits makes eight decimal digits of 16 bytes: the big-endian integer modulo 10⁸.
func PUKDigits(raw []byte) []byte {
	const limit = 100_000_000
	n := uint64(0)
	for _, b := range raw {
		n = (n<<8 | uint64(b)) % limit
	}
	digits := make([]byte, 8)
	for i := range digits {
		digits[7-i] = '0' + byte(n%10)
		n /= 10
	}
	return digits
}

// Sample is one of the derivations that a master key under code serves: which cipher
// it leads to, and whether the two go together at all.
func Sample(code Code, m Master) (Derivation, error) {
	if code&^UseCUID != PIV {
		return Card(code, ENC, Identity{}, m)
	}
	if code != PIV || m.Cipher != AES {
		return Derivation{}, fmt.Errorf("diversifying: %v is not defined for a master key of %v", code, m.Cipher)
	}
	return PIVManagementKey(0x08, apdu.CUID{})
}
