// Package scp02 holds the pure functions of Secure Channel Protocol 02 with
// explicit initiation and three keys: session keys, cryptograms, and the
// wrapping of commands and responses as both ends see it
// (GlobalPlatform Card Specification 2.2.1 appendix E).
//
// [Channel] has no state: what one command hands to the next is a [Chain] that
// goes in and comes out, so a list can be wrapped ahead. Everything is safe for
// concurrent use. Implicit initiation and one base key are not supported.
package scp02

import (
	"crypto/cipher"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/primitive"
)

// Option is the implementation option "i" (§E.1.1).
type Option uint8

// Bits of an option.
const (
	ThreeKeys    Option = 0x01
	Unmodified   Option = 0x02 // C-MAC over the unmodified APDU
	Explicit     Option = 0x04 // INITIALIZE UPDATE and EXTERNAL AUTHENTICATE
	AIDChaining  Option = 0x08 // first chaining value is a MAC over the AID
	EncryptedICV Option = 0x10
	RMAC         Option = 0x20
	PseudoRandom Option = 0x40 // card challenge is computed, see [CardChallenge]
)

// Check refuses every option but explicit initiation with three keys: 05, 15,
// 45, 55 and each of them with R-MAC. The error is apdu.ErrUnsupported.
func (o Option) Check() error {
	switch {
	case o&Explicit == 0:
		return fmt.Errorf("SCP02 i=%02X: implicit initiation: %w", uint8(o), apdu.ErrUnsupported)
	case o&ThreeKeys == 0:
		return fmt.Errorf("SCP02 i=%02X: one base key: %w", uint8(o), apdu.ErrUnsupported)
	case o&(Unmodified|AIDChaining|0x80) != 0:
		return fmt.Errorf("SCP02 i=%02X: %w", uint8(o), apdu.ErrUnsupported)
	}
	return nil
}

// Constant names a session key (§E.4.1).
type Constant uint16

// Derivation constants.
const (
	SMAC  Constant = 0x0101 // from the static MAC key
	SRMAC Constant = 0x0102 // from the static MAC key
	SDEK  Constant = 0x0181 // from the static DEK
	SENC  Constant = 0x0182 // from the static ENC key
)

// DerivationData is the block that a static key encrypts, 3DES-CBC with zero
// IV, to give a session key. counter is the two bytes of the card's answer.
func DerivationData(c Constant, counter [2]byte) [16]byte {
	return [16]byte{byte(c >> 8), byte(c), counter[0], counter[1]}
}

// SessionKey derives a session key of 16 bytes from a static key of 16 bytes
// (or 24, where the key is stored extended).
func SessionKey(static []byte, c Constant, counter [2]byte) ([]byte, error) {
	b, err := primitive.TripleDES(static)
	if err != nil {
		return nil, fmt.Errorf("deriving SCP02 session key: %w", err)
	}
	k := DerivationData(c, counter)
	cipher.NewCBCEncrypter(b, make([]byte, 8)).CryptBlocks(k[:], k[:])
	return k[:], nil
}

// CardCryptogram is what the card proves itself with: 8 bytes. card is the
// sequence counter and the card challenge as transmitted, 8 bytes.
func CardCryptogram(senc, host, card []byte) ([]byte, error) {
	return cryptogram(senc, host, card)
}

// HostCryptogram is what the host proves itself with: 8 bytes.
func HostCryptogram(senc, host, card []byte) ([]byte, error) {
	return cryptogram(senc, card, host)
}

func cryptogram(senc, first, second []byte) ([]byte, error) {
	if len(first) != 8 || len(second) != 8 {
		return nil, fmt.Errorf("computing SCP02 cryptogram: challenges of %d and %d bytes", len(first), len(second))
	}
	c, err := primitive.FullMAC(senc, nil, first, second)
	if err != nil {
		return nil, fmt.Errorf("computing SCP02 cryptogram: %w", err)
	}
	return c, nil
}

// CardChallenge is the well-known pseudo-random card challenge of option bit
// 40, 6 bytes: a MAC over the AID of the application in which the channel opens.
func CardChallenge(smac []byte, aid apdu.AID) ([]byte, error) {
	mac, err := primitive.RetailMAC(smac, nil, aid.Bytes())
	if err != nil {
		return nil, fmt.Errorf("computing SCP02 card challenge: %w", err)
	}
	return mac[:6], nil
}

// EncryptDEK encrypts whole blocks of sensitive data under the session DEK,
// 3DES-ECB. The result is a new slice.
func EncryptDEK(sdek, plain []byte) ([]byte, error) { return ecb(sdek, plain, cipher.Block.Encrypt) }

// DecryptDEK is the card's side of EncryptDEK.
func DecryptDEK(sdek, ct []byte) ([]byte, error) { return ecb(sdek, ct, cipher.Block.Decrypt) }

func ecb(key, in []byte, crypt func(b cipher.Block, dst, src []byte)) ([]byte, error) {
	b, err := primitive.TripleDES(key)
	if err != nil {
		return nil, fmt.Errorf("data encryption key: %w", err)
	}
	if len(in) == 0 || len(in)%8 != 0 {
		return nil, fmt.Errorf("sensitive data of %d bytes, want a multiple of 8", len(in))
	}
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += 8 {
		crypt(b, out[i:i+8], in[i:i+8])
	}
	return out, nil
}
