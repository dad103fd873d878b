// Package scp01 holds the pure functions of Secure Channel Protocol 01: session
// keys, cryptograms, and the wrapping of commands as both ends see it
// (GlobalPlatform Card Specification 2.2.1 appendix D, Open Platform 2.0.1
// chapters 13 and 14). Responses have no protection in this protocol.
//
// [Channel] has no state: what one command hands to the next is a [Chain] that
// goes in and comes out, so a list can be wrapped ahead. Everything is safe for
// concurrent use.
package scp01

import (
	"crypto/cipher"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/primitive"
)

// Option is the implementation option "i" (§D.1.1).
type Option uint8

// Options: both have three keys and explicit initiation.
const (
	PlainICV     Option = 0x05 // the previous C-MAC is the chaining value
	EncryptedICV Option = 0x15 // the previous C-MAC, encrypted, is
)

// Check refuses every option but 05 and 15. The error is apdu.ErrUnsupported.
func (o Option) Check() error {
	if o != PlainICV && o != EncryptedICV {
		return fmt.Errorf("SCP01 i=%02X: %w", uint8(o), apdu.ErrUnsupported)
	}
	return nil
}

// DerivationData is the block of 16 bytes that a static key encrypts, 3DES-ECB,
// to give a session key (§D.4.1.2). Both challenges have 8 bytes.
func DerivationData(host, card []byte) ([]byte, error) {
	if len(host) != 8 || len(card) != 8 {
		return nil, fmt.Errorf("SCP01 challenges of %d and %d bytes, want 8", len(host), len(card))
	}
	b := append(make([]byte, 0, 16), card[4:]...)
	b = append(append(b, host[:4]...), card[:4]...)
	return append(b, host[4:]...), nil
}

// SessionKey derives S-ENC from the static ENC key, or S-MAC from the static MAC
// key: 16 bytes from 16 (or 24, where the key is stored extended). The data
// encryption key has no session key.
func SessionKey(static, host, card []byte) ([]byte, error) {
	d, err := DerivationData(host, card)
	if err != nil {
		return nil, fmt.Errorf("deriving SCP01 session key: %w", err)
	}
	k, err := ecb(static, d, cipher.Block.Encrypt)
	if err != nil {
		return nil, fmt.Errorf("deriving SCP01 session key: %w", err)
	}
	return k, nil
}

// CardCryptogram is what the card proves itself with: 8 bytes (§D.3.2).
func CardCryptogram(senc, host, card []byte) ([]byte, error) {
	return cryptogram(senc, host, card)
}

// HostCryptogram is what the host proves itself with: 8 bytes.
func HostCryptogram(senc, host, card []byte) ([]byte, error) {
	return cryptogram(senc, card, host)
}

func cryptogram(senc, first, second []byte) ([]byte, error) {
	if len(first) != 8 || len(second) != 8 {
		return nil, fmt.Errorf("computing SCP01 cryptogram: challenges of %d and %d bytes", len(first), len(second))
	}
	c, err := primitive.FullMAC(senc, nil, first, second)
	if err != nil {
		return nil, fmt.Errorf("computing SCP01 cryptogram: %w", err)
	}
	return c, nil
}

// EncryptDEK encrypts whole blocks of sensitive data under the static DEK,
// 3DES-ECB (§D.3.5). The result is a new slice.
func EncryptDEK(dek, plain []byte) ([]byte, error) { return ecb(dek, plain, cipher.Block.Encrypt) }

// DecryptDEK is the card's side of EncryptDEK.
func DecryptDEK(dek, ct []byte) ([]byte, error) { return ecb(dek, ct, cipher.Block.Decrypt) }

func ecb(key, in []byte, crypt func(b cipher.Block, dst, src []byte)) ([]byte, error) {
	b, err := primitive.TripleDES(key)
	if err != nil {
		return nil, err
	}
	if len(in) == 0 || len(in)%8 != 0 {
		return nil, fmt.Errorf("data of %d bytes, want a multiple of 8", len(in))
	}
	out := make([]byte, len(in))
	for i := 0; i < len(in); i += 8 {
		crypt(b, out[i:i+8], in[i:i+8])
	}
	return out, nil
}
