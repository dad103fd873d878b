package scp02

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

// MACLength is the length of a C-MAC and of an R-MAC.
const MACLength = 8

// Level is the security level of a channel: bits 01 C-MAC, 02 C-DECRYPTION, 10 R-MAC.
type Level uint8

// Bits of a level.
const (
	LevelCMAC Level = 0x01
	LevelCDEC Level = 0x02
	LevelRMAC Level = 0x10
)

// EmptyField says what is sent at level 03 for a command without data. A card
// takes either.
type EmptyField uint8

// Dialects.
const (
	EmptyBare   EmptyField = iota // only the C-MAC, as GlobalPlatform writes it
	EmptyPadded                   // an encrypted block of padding, as Dogtag sends it
)

// Channel is the secure messaging of one session. RMAC is needed for levels
// with R-MAC only. The keys are neither copied nor changed.
type Channel struct {
	ENC, MAC, RMAC []byte // 16 bytes each
	Option         Option
	Level          Level
	Empty          EmptyField
}

// Chain is what one command (or one response, which chain by themselves) hands
// to the next: its MAC. The zero value stands before EXTERNAL AUTHENTICATE.
type Chain struct {
	mac     [MACLength]byte
	running bool
}

// NewChain is the chain after a command or response whose MAC was mac. The
// responses of a session begin with the C-MAC of EXTERNAL AUTHENTICATE.
func NewChain(mac [MACLength]byte) Chain { return Chain{mac: mac, running: true} }

// MAC is the MAC that the chain continues.
func (c Chain) MAC() [MACLength]byte { return c.mac }

var (
	errMAC    = errors.New("SCP02 MAC is wrong")
	errNoMAC  = errors.New("SCP02 MAC is missing")
	errCipher = errors.New("SCP02 ciphertext is wrong")
)

// Authenticate builds EXTERNAL AUTHENTICATE for the channel's level. The chain
// it returns begins both the commands' and the responses' chain.
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

// Wrap gives a command the secure messaging of the channel's level. At a level
// without C-MAC the command comes back as it is. Le is kept. A command longer
// than 255 bytes gets the Lc of extended length into its MAC.
func (c Channel) Wrap(chain Chain, cmd apdu.Command) (apdu.Command, Chain, error) {
	if c.Level&LevelCMAC == 0 {
		return cmd, chain, nil
	}
	if err := class.Check(cmd.CLA); err != nil {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
	}
	mac, err := c.cmac(chain, cmd, wide(cmd, len(cmd.Data)+MACLength))
	if err != nil {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
	}
	data := cmd.Data
	if c.Level&LevelCDEC != 0 && (len(data) > 0 || c.Empty == EmptyPadded) {
		if data, err = c.encrypt(data); err != nil {
			return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
		}
	}
	out := cmd
	out.CLA = class.Secure(cmd.CLA)
	out.Data = append(data[:len(data):len(data)], mac[:]...)
	return out, NewChain(mac), nil
}

// Unwrap verifies and decrypts a command as the card does. The command that
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
	plain, got := cmd, cmd.Data[n:]
	plain.CLA = class.Bare(cmd.CLA)
	plain.Data = cmd.Data[:n:n]
	if c.Level&LevelCDEC != 0 && n > 0 {
		var err error
		if plain.Data, err = c.decrypt(plain.Data); err != nil {
			return apdu.Command{}, chain, err
		}
	}
	// The Lc in the MAC has one byte or three: the form of the command on the
	// wire, which a parsed command does not tell for sure. No input is valid in
	// both forms, since a short Lc is never 00.
	for _, w := range []bool{wide(cmd, len(plain.Data)+MACLength), true} {
		mac, err := c.cmac(chain, plain, w)
		if err != nil {
			return apdu.Command{}, chain, err
		}
		if subtle.ConstantTimeCompare(mac[:], got) == 1 {
			return plain, NewChain(mac), nil
		}
	}
	return apdu.Command{}, chain, errMAC
}

// wide reports whether a command with n bytes of data and MAC, before
// encryption, is sent in extended length.
func wide(cmd apdu.Command, n int) bool { return n > apdu.MaxShortData || cmd.Ne > apdu.MaxShortNe }

// cmac is the C-MAC of a plain command (§E.4.4): modified header, Lc with the MAC.
func (c Channel) cmac(chain Chain, cmd apdu.Command, wideLc bool) ([MACLength]byte, error) {
	icv, err := c.icv(chain)
	if err != nil {
		return [MACLength]byte{}, err
	}
	head := []byte{class.MAC(cmd.CLA), cmd.INS, cmd.P1, cmd.P2}
	head = appendLength(head, len(cmd.Data)+MACLength, wideLc)
	mac, err := primitive.RetailMAC(c.MAC, icv[:], head, cmd.Data)
	if err != nil {
		return [MACLength]byte{}, err
	}
	return [MACLength]byte(mac), nil
}

// icv is the chaining value of the next C-MAC (§E.3.4): the previous C-MAC,
// encrypted with single DES under option bit 10; zero for the first.
func (c Channel) icv(chain Chain) ([MACLength]byte, error) {
	if !chain.running || c.Option&EncryptedICV == 0 {
		return chain.mac, nil
	}
	if len(c.MAC) != 16 {
		return chain.mac, fmt.Errorf("C-MAC session key of %d bytes", len(c.MAC))
	}
	b, err := des.NewCipher(c.MAC[:8])
	if err != nil {
		return chain.mac, err
	}
	b.Encrypt(chain.mac[:], chain.mac[:])
	return chain.mac, nil
}

func (c Channel) encrypt(data []byte) ([]byte, error) {
	b, err := primitive.TripleDES(c.ENC)
	if err != nil {
		return nil, err
	}
	ct := primitive.Pad80(data, des.BlockSize)
	cipher.NewCBCEncrypter(b, make([]byte, des.BlockSize)).CryptBlocks(ct, ct)
	return ct, nil
}

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
	data, err = primitive.Unpad80(data)
	if err != nil {
		return nil, errCipher
	}
	return data, nil
}

// appendLength appends a length of one byte, or the three of extended length.
func appendLength(b []byte, n int, wide bool) []byte {
	if wide {
		return append(b, 0, byte(n>>8), byte(n))
	}
	return append(b, byte(n))
}
