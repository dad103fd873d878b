// Package kdf says how the static keys of one card come out of a master key:
// [Card] turns a diversification code and a card's identification into a
// [Derivation], the exact blocks that go through the master key's cipher.
//
// The blocks are public. Whoever holds the master key (a package under tks/hsm)
// runs them through it; [Derivation.Apply] is the same in memory, for software
// keys, software cards and tests.
//
// Implemented: none, VISA2 and KDF3 (GlobalPlatformPro's names). Every other
// code of an existing key set is refused by name with apdu.ErrUnsupported.
// All functions are pure and safe for concurrent use.
package kdf

import (
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
)

// Code names a diversification, as the last byte of a master key's CKA_ID holds it.
type Code uint8

// Codes. [UseCUID] is a bit on top of them.
const (
	NotKeyed    Code = 0x00 // the key is no card master key
	None        Code = 0x01 // the master is the card key
	VISA2       Code = 0x02
	EMV         Code = 0x03
	VISA        Code = 0x04
	KDF3        Code = 0x05
	GPKMC       Code = 0x06
	DogtagSP800 Code = 0x07
	DogtagEMV   Code = 0x08
	DogtagVISA2 Code = 0x09
	PIV         Code = 0x0A

	UseCUID Code = 0x80 // the CUID stands where the KDD would
)

var codeNames = map[Code]string{
	NotKeyed: "-", None: "none", VISA2: "visa2", EMV: "emv", VISA: "visa", KDF3: "kdf3", GPKMC: "gpkmc",
	DogtagSP800: "dogtag-sp800-108", DogtagEMV: "dogtag-prot3-emv", DogtagVISA2: "dogtag-prot3-visa2", PIV: "piv",
}

// String is the name, with "+cuid" where the CUID replaces the KDD.
func (c Code) String() string {
	name, ok := codeNames[c&^UseCUID]
	if !ok {
		name = fmt.Sprintf("kdf-%02x", uint8(c&^UseCUID))
	}
	if c&UseCUID != 0 {
		name += "+cuid"
	}
	return name
}

// Diversified reports whether two cards get different keys from one master.
func (c Code) Diversified() bool { return c&^UseCUID != None && c&^UseCUID != NotKeyed }

// Cipher is the block cipher that a key is for.
type Cipher uint8

// Ciphers.
const (
	DES Cipher = 1 // 3DES with two or three keys
	AES Cipher = 2
)

// String is DES or AES.
func (c Cipher) String() string {
	switch c {
	case DES:
		return "DES"
	case AES:
		return "AES"
	}
	return fmt.Sprintf("cipher(%d)", uint8(c))
}

// Slot is the key identifier (KID) of a card key.
type Slot uint8

// Slots of a key set, in PUT KEY order.
const (
	ENC Slot = 1
	MAC Slot = 2
	DEK Slot = 3
)

// Slots lists the three keys of a set in PUT KEY order.
func Slots() [3]Slot { return [3]Slot{ENC, MAC, DEK} }

// String is enc, mac or dek.
func (s Slot) String() string {
	switch s {
	case ENC:
		return "enc"
	case MAC:
		return "mac"
	case DEK:
		return "dek"
	}
	return fmt.Sprintf("slot(%d)", uint8(s))
}

// Identity is what a card says about itself in INITIALIZE UPDATE (KDD) and
// through its CPLC (CUID).
type Identity struct {
	KDD  gp.KDD
	CUID apdu.CUID
}

// Master describes the master key: its cipher and its length in bytes (DES 16
// or 24, AES 16, 24 or 32).
type Master struct {
	Cipher Cipher
	Size   int
}

// Card returns how key slot of the card is derived from a master key under
// diversification code. It fails with apdu.ErrUnsupported for a code that is not
// implemented, and where the code does not go with the cipher.
func Card(code Code, slot Slot, id Identity, m Master) (Derivation, error) {
	if slot < ENC || slot > DEK {
		return Derivation{}, fmt.Errorf("diversifying: no key slot %d", uint8(slot))
	}
	data := id.KDD
	if code&UseCUID != 0 {
		data = gp.KDD(id.CUID)
	}
	switch base := code &^ UseCUID; base {
	case None:
		return Derivation{Method: Same, Cipher: m.Cipher, Length: m.Size}, nil
	case VISA2:
		if m.Cipher != DES {
			return Derivation{}, fmt.Errorf("diversifying: %v is not defined for an %v master key", base, m.Cipher)
		}
		return visa2(slot, data), nil
	case KDF3:
		if m.Cipher != AES {
			return Derivation{}, fmt.Errorf("diversifying: %v is not defined for a %v master key", base, m.Cipher)
		}
		return kdf3(slot, data, m.Size), nil
	}
	return Derivation{}, fmt.Errorf("diversifying with %v: %w", code, apdu.ErrUnsupported)
}

// Default is the diversification of a key set made here: KDF3 for AES masters,
// VISA2 for DES masters.
func Default(c Cipher) Code {
	if c == DES {
		return VISA2
	}
	return KDF3
}

// visa2 is X F0 k X 0F k with X = KDD[0:2] ‖ KDD[4:8], encrypted with 3DES-ECB.
func visa2(k Slot, d gp.KDD) Derivation {
	x := []byte{d[0], d[1], d[4], d[5], d[6], d[7]}
	in := make([]byte, 0, 16)
	in = append(append(in, x...), 0xF0, byte(k))
	in = append(append(in, x...), 0x0F, byte(k))
	return Derivation{Method: ECB, Input: in, Cipher: DES, Length: 16}
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
