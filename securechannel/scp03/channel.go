package scp03

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel/internal/class"
	"inkan/securechannel/primitive"
)

// Level is the security level of a channel: bits 01 C-MAC, 02 C-DECRYPTION,
// 10 R-MAC, 20 R-ENCRYPTION.
type Level uint8

// Bits of a level.
const (
	LevelCMAC Level = 0x01
	LevelCDEC Level = 0x02
	LevelRMAC Level = 0x10
	LevelRENC Level = 0x20
)

// Counting says which commands advance the encryption counter.
type Counting uint8

// Ways to count.
const (
	CountAll      Counting = iota // every command (§6.2.6)
	CountWithData                 // only those with data, as some cards do
)

// Padding says how a card pads the answers that it encrypts.
type Padding uint8

// Ways to pad.
const (
	PadBlock Padding = iota // to the next block (§6.2.7)
	PadLong                 // and a block of zeros, as some cards do
)

// Channel is the secure messaging of one session. RMAC is needed for levels
// with R-MAC only. The keys are neither copied nor changed.
type Channel struct {
	ENC, MAC, RMAC []byte // 16, 24 or 32 bytes each
	Option         Option // for the length of MACs
	Level          Level
	Counting       Counting
	Padding        Padding // of WrapResponse
}

// Chain is what one command hands to the next. The zero value stands before
// EXTERNAL AUTHENTICATE.
type Chain struct {
	MAC     [16]byte // MAC chaining value
	Counter uint64   // encryption counter of the last command
}

var (
	errMAC    = errors.New("SCP03 MAC is wrong")
	errNoMAC  = errors.New("SCP03 MAC is missing")
	errCipher = errors.New("SCP03 ciphertext is wrong")
	errData   = errors.New("SCP03 error status with data")
)

// Authenticate builds EXTERNAL AUTHENTICATE for the channel's level, and the
// chain after it.
func (c Channel) Authenticate(hostCryptogram []byte) (apdu.Command, Chain, error) {
	first := Channel{MAC: c.MAC, Option: c.Option, Level: LevelCMAC}
	cmd, chain, err := first.Wrap(Chain{}, apdu.Command{CLA: 0x84, INS: 0x82, P1: byte(c.Level), Data: hostCryptogram})
	return cmd, Chain{MAC: chain.MAC}, err
}

// VerifyAuthenticate checks the C-MAC of EXTERNAL AUTHENTICATE and returns the
// host cryptogram in it, which the caller has to verify.
func (c Channel) VerifyAuthenticate(cmd apdu.Command) ([]byte, Chain, error) {
	first := Channel{MAC: c.MAC, Option: c.Option, Level: LevelCMAC}
	plain, chain, err := first.Unwrap(Chain{}, cmd)
	return plain.Data, Chain{MAC: chain.MAC}, err
}

// Wrap gives a command the secure messaging of the channel's level. At a level
// without C-MAC the command comes back as it is. Le is kept. A command whose
// wrapped data exceed 255 bytes gets the Lc of extended length into its MAC.
func (c Channel) Wrap(chain Chain, cmd apdu.Command) (apdu.Command, Chain, error) {
	if c.Level&LevelCMAC == 0 {
		return cmd, chain, nil
	}
	if err := class.Check(cmd.CLA); err != nil {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
	}
	next := Chain{Counter: c.count(chain.Counter, len(cmd.Data))}
	data := cmd.Data
	if c.Level&LevelCDEC != 0 && len(data) > 0 {
		var err error
		if data, err = c.encrypt(next.Counter, 0, data); err != nil {
			return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
		}
	}
	out := cmd
	out.CLA = class.Secure(cmd.CLA)
	full, err := c.cmac(chain, cmd, data, c.wide(cmd, data))
	if err != nil {
		return apdu.Command{}, chain, fmt.Errorf("wrapping command: %w", err)
	}
	next.MAC = full
	out.Data = append(data[:len(data):len(data)], full[:c.Option.Size()]...)
	return out, next, nil
}

// Unwrap verifies and decrypts a command as the card does. The command that
// comes back has no secure messaging bit and no MAC. On an error the chain is
// unchanged and the session has to be aborted.
func (c Channel) Unwrap(chain Chain, cmd apdu.Command) (apdu.Command, Chain, error) {
	if c.Level&LevelCMAC == 0 {
		return cmd, chain, nil
	}
	n := len(cmd.Data) - c.Option.Size()
	if n < 0 || !class.Secured(cmd.CLA) || class.Check(cmd.CLA) != nil {
		return apdu.Command{}, chain, errNoMAC
	}
	data, got := cmd.Data[:n:n], cmd.Data[n:]
	next := Chain{Counter: c.count(chain.Counter, n)}
	var err error
	if next.MAC, err = c.verify(chain, cmd, data, got); err != nil {
		return apdu.Command{}, chain, err
	}
	if c.Level&LevelCDEC != 0 && n > 0 {
		if data, err = c.decrypt(next.Counter, 0, data); err != nil {
			return apdu.Command{}, chain, err
		}
	}
	plain := cmd
	plain.CLA = class.Bare(cmd.CLA)
	plain.Data = data
	return plain, next, nil
}

// verify checks a C-MAC and returns it in full. The Lc in it has one byte or
// three: the form of the command on the wire, which a parsed command does not
// tell for sure. No input is valid in both forms, since a short Lc is never 00.
func (c Channel) verify(chain Chain, cmd apdu.Command, data, got []byte) ([16]byte, error) {
	for _, w := range []bool{c.wide(cmd, data), true} {
		full, err := c.cmac(chain, cmd, data, w)
		if err != nil {
			return full, err
		}
		if subtle.ConstantTimeCompare(full[:len(got)], got) == 1 {
			return full, nil
		}
	}
	return [16]byte{}, errMAC
}

// wide reports whether a command with wrapped data is sent in extended length.
func (c Channel) wide(cmd apdu.Command, data []byte) bool {
	return len(data)+c.Option.Size() > apdu.MaxShortData || cmd.Ne > apdu.MaxShortNe
}

// count is the encryption counter of the command after the one that used n.
func (c Channel) count(n uint64, dataLen int) uint64 {
	if c.Counting == CountWithData && dataLen == 0 {
		return n
	}
	return n + 1
}

// cmac is the full C-MAC over chaining value, header and data as sent (§6.2.4).
func (c Channel) cmac(chain Chain, cmd apdu.Command, data []byte, wideLc bool) ([16]byte, error) {
	n := len(data) + c.Option.Size()
	head := []byte{class.MAC(cmd.CLA), cmd.INS, cmd.P1, cmd.P2, byte(n)}
	if wideLc {
		head = append(head[:4], 0, byte(n>>8), byte(n))
	}
	mac, err := primitive.CMAC(c.MAC, chain.MAC[:], head, data)
	if err != nil {
		return [16]byte{}, err
	}
	return [16]byte(mac), nil
}

// Directions of encryption: the first byte of the counter block.
const fromCard = 0x80

// encrypt pads and encrypts under the counter's initial chaining value
// (§6.2.6 for commands, direction 0; §6.2.7 for responses, [fromCard]).
func (c Channel) encrypt(counter uint64, direction byte, data []byte) ([]byte, error) {
	b, icv, err := c.cipher(counter, direction)
	if err != nil {
		return nil, err
	}
	ct := primitive.Pad80(data, aes.BlockSize)
	if direction == fromCard && c.Padding == PadLong {
		ct = append(ct, make([]byte, aes.BlockSize)...)
	}
	cipher.NewCBCEncrypter(b, icv).CryptBlocks(ct, ct)
	return ct, nil
}

func (c Channel) decrypt(counter uint64, direction byte, ct []byte) ([]byte, error) {
	b, icv, err := c.cipher(counter, direction)
	if err != nil {
		return nil, err
	}
	if len(ct)%aes.BlockSize != 0 {
		return nil, errCipher
	}
	data := make([]byte, len(ct))
	cipher.NewCBCDecrypter(b, icv).CryptBlocks(data, ct)
	data, err = primitive.Unpad80(data)
	if err != nil {
		return nil, errCipher
	}
	return data, nil
}

func (c Channel) cipher(counter uint64, direction byte) (cipher.Block, []byte, error) {
	b, err := aes.NewCipher(c.ENC)
	if err != nil {
		return nil, nil, fmt.Errorf("encryption key of %d bytes", len(c.ENC))
	}
	icv := make([]byte, aes.BlockSize)
	icv[0] = direction
	binary.BigEndian.PutUint64(icv[8:], counter)
	b.Encrypt(icv, icv)
	return b, icv, nil
}
