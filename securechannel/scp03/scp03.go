// Package scp03 holds the pure functions of Secure Channel Protocol 03: session
// keys, cryptograms, the pseudo-random card challenge, and the wrapping of
// commands and responses as both ends see it (GlobalPlatform Amendment D 1.1.1;
// S16 mode as Amendment D 1.2 has it).
//
// [Channel] has no state: what one command hands to the next is a [Chain] that
// goes in and comes out, so a list can be wrapped ahead. Everything is safe for
// concurrent use.
package scp03

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/primitive"
)

// Option is the implementation option "i" (§5.1).
type Option uint8

// Bits of an option.
const (
	SixteenByte  Option = 0x01 // S16: challenges, cryptograms and MACs of 16 bytes
	PseudoRandom Option = 0x10 // card challenge is computed, see [CardChallenge]
	RMAC         Option = 0x20
	RENC         Option = 0x40 // only together with RMAC
)

// Check refuses undefined options. The error is apdu.ErrUnsupported.
func (o Option) Check() error {
	if o&^(SixteenByte|PseudoRandom|RMAC|RENC) != 0 || o&(RMAC|RENC) == RENC {
		return fmt.Errorf("SCP03 i=%02X: %w", uint8(o), apdu.ErrUnsupported)
	}
	return nil
}

// Size is the length of challenges, cryptograms and MACs: 8 bytes, or 16 in
// S16 mode.
func (o Option) Size() int {
	if o&SixteenByte != 0 {
		return 16
	}
	return 8
}

// Derivation says which session key is derived: the constant of Amendment D table 4-1.
type Derivation uint8

// Session keys.
const (
	SENC  = Derivation(primitive.ConstSENC)  // from the static ENC key
	SMAC  = Derivation(primitive.ConstSMAC)  // from the static MAC key
	SRMAC = Derivation(primitive.ConstSRMAC) // from the static MAC key
)

// Context is what session keys and cryptograms are derived over: host and card
// challenge.
func Context(host, card []byte) []byte {
	return append(append(make([]byte, 0, len(host)+len(card)), host...), card...)
}

// SessionKey derives a session key, as long as the static key: 16, 24 or 32 bytes.
func SessionKey(static []byte, d Derivation, context []byte) ([]byte, error) {
	k, err := primitive.KDF03(static, byte(d), context, len(static))
	if err != nil {
		return nil, fmt.Errorf("deriving SCP03 session key: %w", err)
	}
	return k, nil
}

// CardCryptogram is what the card proves itself with, as long as a challenge.
func CardCryptogram(smac, host, card []byte) ([]byte, error) {
	return cryptogram(smac, primitive.ConstCardCryptogram, host, card)
}

// HostCryptogram is what the host proves itself with, as long as a challenge.
func HostCryptogram(smac, host, card []byte) ([]byte, error) {
	return cryptogram(smac, primitive.ConstHostCryptogram, host, card)
}

func cryptogram(smac []byte, constant byte, host, card []byte) ([]byte, error) {
	n := len(host)
	if n != len(card) || n != 8 && n != 16 {
		return nil, fmt.Errorf("computing SCP03 cryptogram: challenges of %d and %d bytes", n, len(card))
	}
	c, err := primitive.KDF03(smac, constant, Context(host, card), n)
	if err != nil {
		return nil, fmt.Errorf("computing SCP03 cryptogram: %w", err)
	}
	return c, nil
}

// CardChallenge is the pseudo-random card challenge of option bit 10, n bytes,
// from the static ENC key, the sequence counter after its increment and the AID
// of the application in which the channel opens (§6.2.2.1).
func CardChallenge(enc []byte, counter [3]byte, aid apdu.AID, n int) ([]byte, error) {
	c, err := primitive.KDF03(enc, primitive.ConstCardChallenge, Context(counter[:], aid.Bytes()), n)
	if err != nil {
		return nil, fmt.Errorf("computing SCP03 card challenge: %w", err)
	}
	return c, nil
}

// EncryptDEK encrypts whole blocks of sensitive data under the static DEK,
// AES-CBC with zero IV. The result is a new slice.
func EncryptDEK(dek, plain []byte) ([]byte, error) {
	return cbcZero(dek, plain, cipher.NewCBCEncrypter)
}

// DecryptDEK is the card's side of EncryptDEK.
func DecryptDEK(dek, ct []byte) ([]byte, error) { return cbcZero(dek, ct, cipher.NewCBCDecrypter) }

func cbcZero(key, in []byte, mode func(cipher.Block, []byte) cipher.BlockMode) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("data encryption key of %d bytes", len(key))
	}
	if len(in) == 0 || len(in)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("sensitive data of %d bytes, want a multiple of 16", len(in))
	}
	out := make([]byte, len(in))
	mode(b, make([]byte, aes.BlockSize)).CryptBlocks(out, in)
	return out, nil
}
