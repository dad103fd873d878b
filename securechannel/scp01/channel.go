package scp01

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/internal/class"
	"inkan/securechannel/primitive"
)

// MACLength is the length of a C-MAC.
const MACLength = 8

// Level is the security level of a channel: bits 01 C-MAC, 02 C-DECRYPTION.
type Level uint8

// Bits of a level.
const (
	LevelCMAC Level = 0x01
	LevelCDEC Level = 0x02
)

// EmptyField says what is sent at level 03 for a command without data. Our card
// takes either.
type EmptyField uint8

// Dialects.
const (
	EmptyBare   EmptyField = iota // only the C-MAC, as GlobalPlatform writes it
	EmptyPadded                   // the block 00 80 00…, encrypted, as Dogtag sends it
)

// Channel is the secure messaging of one session. The keys are neither copied
// nor changed.
type Channel struct {
	ENC, MAC []byte // 16 bytes each
	Option   Option
	Level    Level
	Empty    EmptyField
}

// Chain is what one command hands to the next: its C-MAC. The zero value stands
// before EXTERNAL AUTHENTICATE.
type Chain struct {
	mac     [MACLength]byte
	running bool
}

// NewChain is the chain after a command whose C-MAC was mac.
func NewChain(mac [MACLength]byte) Chain { return Chain{mac: mac, running: true} }

// MAC is the C-MAC that the chain continues.
func (c Chain) MAC() [MACLength]byte { return c.mac }

var (
	errMAC    = errors.New("SCP01 MAC is wrong")
	errNoMAC  = errors.New("SCP01 MAC is missing")
	errCipher = errors.New("SCP01 ciphertext is wrong")
)

// Authenticate builds EXTERNAL AUTHENTICATE for the channel's level.
func (c Channel) Authenticate(hostCryptogram []byte) (apdu.Command, Chain, error) {
	first := Channel{MAC: c.MAC, Option: c.Option, Level: LevelCMAC}
	return first.Wrap(Chain{}, apdu.Command{CLA: 0x84, INS: 0x82, P1: byte(c.Level), Data: hostCryptogram})
}

// VerifyAuthenticate checks the C-MAC of EXTERNAL AUTHENTICATE and returns the
// host cryptogram in it, which the caller has to verify.
func (c Channel) VerifyAuthenticate(cmd apdu.Command) ([]byte, Chain, error) {
	first := Channel{MAC: c.MAC, Option: c.Option, Level: LevelCMAC}
	plain, chain, err := first.Unwrap(Chain{}, cmd)
	return plain.Data, chain, err
}

// Wrap gives a command the secure messaging of the channel's level: a C-MAC over
// the plain command, then the data encrypted. At a level without C-MAC the
// command comes back as it is. Le is kept. There is no extended length in this
// protocol: more than 247 bytes of data (encrypted: 239) are apdu.ErrUnsupported.
func (c Channel) Wrap(chain Chain, cmd apdu.Command) (apdu.Command, Chain, error) {
	if c.Level&LevelCMAC == 0 {
		return cmd, chain, nil
	}
	if err := class.Check(cmd.CLA); err != nil {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
	}
	mac, err := c.cmac(chain, cmd)
	if err != nil {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
	}
	data := cmd.Data
	if c.Level&LevelCDEC != 0 && (len(data) > 0 || c.Empty == EmptyPadded) {
		if data, err = c.encrypt(data); err != nil {
			return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
		}
	}
	if len(data)+MACLength > apdu.MaxShortData || cmd.Ne > apdu.MaxShortNe {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: SCP01 in extended length: %w", apdu.ErrUnsupported)
	}
	out := cmd
	out.CLA = class.Secure(cmd.CLA)
	out.Data = append(data[:len(data):len(data)], mac[:]...)
	return out, NewChain(mac), nil
}

// Unwrap decrypts and verifies a command as the card does. The command that
// comes back has no secure messaging bit and no MAC. On an error the chain is
// unchanged and the session has to be aborted.
func (c Channel) Unwrap(chain Chain, cmd apdu.Command) (apdu.Command, Chain, error) {
	if c.Level&LevelCMAC == 0 {
		return cmd, chain, nil
	}
	n := len(cmd.Data) - MACLength
	if n < 0 || !class.Secured(cmd.CLA) || class.Check(cmd.CLA) != nil {
		return apdu.Command{}, chain, errNoMAC
	}
	if len(cmd.Data) > apdu.MaxShortData {
		return apdu.Command{}, chain, errMAC
	}
	plain, got := cmd, cmd.Data[n:]
	plain.CLA = class.Bare(cmd.CLA)
	plain.Data = cmd.Data[:n:n]
	if c.Level&LevelCDEC != 0 && n > 0 {
		var err error
		if plain.Data, err = c.decrypt(plain.Data); err != nil {
			return apdu.Command{}, chain, err
		}
	}
	mac, err := c.cmac(chain, plain)
	if err != nil {
		return apdu.Command{}, chain, err
	}
	if subtle.ConstantTimeCompare(mac[:], got) != 1 {
		return apdu.Command{}, chain, errMAC
	}
	return plain, NewChain(mac), nil
}

// cmac is the C-MAC of a plain command (§D.3.3): modified header, Lc with the MAC.
func (c Channel) cmac(chain Chain, cmd apdu.Command) ([MACLength]byte, error) {
	icv, err := c.icv(chain)
	if err != nil {
		return [MACLength]byte{}, err
	}
	head := []byte{class.MAC(cmd.CLA), cmd.INS, cmd.P1, cmd.P2, byte(len(cmd.Data) + MACLength)}
	mac, err := primitive.FullMAC(c.MAC, icv[:], head, cmd.Data)
	if err != nil {
		return [MACLength]byte{}, err
	}
	return [MACLength]byte(mac), nil
}

// icv is the chaining value of the next C-MAC: the previous C-MAC, with option 15
// encrypted with 3DES; zero for the first.
func (c Channel) icv(chain Chain) ([MACLength]byte, error) {
	if !chain.running || c.Option != EncryptedICV {
		return chain.mac, nil
	}
	b, err := primitive.TripleDES(c.MAC)
	if err != nil {
		return chain.mac, err
	}
	b.Encrypt(chain.mac[:], chain.mac[:])
	return chain.mac, nil
}

// encrypt puts the length before the data and pads only what does not fill whole
// blocks yet (§D.3.4). The length of data that do not fit a command is never sent.
func (c Channel) encrypt(data []byte) ([]byte, error) {
	b, err := primitive.TripleDES(c.ENC)
	if err != nil {
		return nil, err
	}
	ct := append([]byte{byte(len(data))}, data...)
	if len(ct)%des.BlockSize != 0 {
		ct = primitive.Pad80(ct, des.BlockSize)
	}
	cipher.NewCBCEncrypter(b, make([]byte, des.BlockSize)).CryptBlocks(ct, ct)
	return ct, nil
}

// decrypt takes what the length byte says and drops the rest.
func (c Channel) decrypt(ct []byte) ([]byte, error) {
	b, err := primitive.TripleDES(c.ENC)
	if err != nil {
		return nil, err
	}
	if len(ct)%des.BlockSize != 0 {
		return nil, errCipher
	}
	data := make([]byte, len(ct))
	cipher.NewCBCDecrypter(b, make([]byte, des.BlockSize)).CryptBlocks(data, ct)
	n := int(data[0])
	if n >= len(data) {
		return nil, errCipher
	}
	return data[1 : 1+n : 1+n], nil
}
