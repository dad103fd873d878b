// Package kdf says how the static keys of one card come out of a master key:
// [Card] turns a diversification code and a card's identification into a
// [Derivation], the exact blocks that go through the master key's cipher.
//
// The blocks are public. Whoever holds the master key (a package under tks/hsm)
// runs them through it; [Derivation.Apply] is the same in memory, for software
// keys, software cards and tests.
//
// The diversifications are those of secure-channel.md §9.1: none, VISA2, EMV CPS
// 1.1, VISA and KDF3 (GlobalPlatformPro's names), and Dogtag's gpkmc, SP 800-108
// and DES3 masters for SCP03. Management keys and PUKs of PIV applets come out of
// [PIVManagementKey] and [PIVPUK]. Every other code of an existing key set is refused
// by name with apdu.ErrUnsupported. All functions are pure and safe for concurrent
// use.
package kdf

import (
	"fmt"
	"strings"

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

// Codes lists the diversifications of card keys that a master key can be made or
// imported for, without [UseCUID]. [PIV], for secrets of applets, is not one of them.
func Codes() []Code {
	return []Code{None, VISA2, EMV, VISA, KDF3, GPKMC, DogtagSP800, DogtagEMV, DogtagVISA2}
}

// ParseCode reads "piv" or the name of one of [Codes], of those with "+cuid" behind it
// where the CUID stands for the KDD. "none+cuid" means nothing and is refused.
func ParseCode(name string) (Code, error) {
	if name == PIV.String() {
		return PIV, nil
	}
	base, byCUID := strings.CutSuffix(name, "+cuid")
	for _, c := range Codes() {
		if c.String() != base || byCUID && c == None {
			continue
		}
		if byCUID {
			c |= UseCUID
		}
		return c, nil
	}
	return 0, fmt.Errorf("diversification %q: want none, visa2, emv, visa, kdf3, gpkmc, dogtag-sp800-108, dogtag-prot3-emv, dogtag-prot3-visa2 or piv, "+
		"all but none and piv with +cuid where the card's CUID stands for its diversification data", name)
}

// ByCUID reports whether the CUID goes into a card's keys, and not its KDD: by the
// bit, or because the diversification knows nothing else (gpkmc).
func (c Code) ByCUID() bool { return c&UseCUID != 0 || c == GPKMC }

// Diversified reports whether two cards get different keys from one master.
func (c Code) Diversified() bool { return c&^UseCUID != None && c&^UseCUID != NotKeyed }

// Cipher is the algorithm that a key is for.
type Cipher uint8

// Ciphers.
const (
	DES  Cipher = 1 // 3DES with two or three keys
	AES  Cipher = 2
	HMAC Cipher = 3 // HMAC-SHA-256: a master of DogtagSP800, never a card key
)

// String is DES, AES or HMAC.
func (c Cipher) String() string {
	switch c {
	case DES:
		return "DES"
	case AES:
		return "AES"
	case HMAC:
		return "HMAC"
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
// or 24, AES 16, 24 or 32, HMAC any).
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
	base := code &^ UseCUID
	if base == None && (m.Cipher == DES || m.Cipher == AES) {
		return Derivation{Method: Same, Cipher: m.Cipher, Length: m.Size}, nil
	}
	s, ok := schemes[base]
	if !ok && base != None {
		return Derivation{}, fmt.Errorf("diversifying with %v: %w", code, apdu.ErrUnsupported)
	}
	if m.Cipher != s.cipher {
		return Derivation{}, fmt.Errorf("diversifying: %v is not defined for a master key of %v", base, m.Cipher)
	}
	data := id.KDD
	if code.ByCUID() {
		data = gp.KDD(id.CUID)
	}
	return s.derive(slot, data, m.Size), nil
}

// Default is the diversification of a key set made here: KDF3 for AES masters,
// VISA2 for DES masters. HMAC masters have only one.
func Default(c Cipher) Code {
	switch c {
	case DES:
		return VISA2
	case HMAC:
		return DogtagSP800
	}
	return KDF3
}
