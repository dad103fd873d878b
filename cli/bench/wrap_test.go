//go:build cgo && linux

package bench_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"testing"

	"inkan/apdu"
	"inkan/securechannel/scp03"
)

// measureWrap wraps commands as an applet is loaded under SCP03 (C-MAC and
// C-DECRYPTION), and does only the cryptography of it over the same bytes: AES-CBC
// and CMAC with ciphers and subkeys made beforehand.
func measureWrap(t *testing.T, s size, r results) {
	cmd := apdu.Command{CLA: 0x80, INS: 0xE8, Data: bytes.Repeat([]byte{0x5A}, 239)}
	ch := scp03.Channel{ENC: []byte("0123456789ABCDEF"), MAC: []byte("FEDCBA9876543210"), Level: scp03.LevelCMAC | scp03.LevelCDEC}
	bare := newBareCrypto(t, ch)
	r.put("wrap_ratio", "%.2f", ratio(s.turns, 1000, func(n int) {
		var chain scp03.Chain
		for range n {
			var err error
			if _, chain, err = ch.Wrap(chain, cmd); err != nil {
				t.Fatal(err)
			}
		}
	}, func(n int) {
		for range n {
			bare.message(len(cmd.Data))
		}
	}))
}

// bareCrypto is what wrapping a command of one length costs at least.
type bareCrypto struct {
	enc, mac cipher.Block
	k1       [aes.BlockSize]byte
	iv       [aes.BlockSize]byte
	text     []byte
	input    []byte
}

func newBareCrypto(t *testing.T, ch scp03.Channel) *bareCrypto {
	t.Helper()
	b := &bareCrypto{text: make([]byte, 512), input: make([]byte, 512)}
	var err error
	b.enc, err = aes.NewCipher(ch.ENC)
	must(t, err)
	b.mac, err = aes.NewCipher(ch.MAC)
	must(t, err)
	b.mac.Encrypt(b.k1[:], b.k1[:])
	return b
}

// message is the IV, the ciphertext of n bytes and their padding, and the MAC of
// chaining value, header and ciphertext.
func (b *bareCrypto) message(n int) {
	text := b.text[:n/aes.BlockSize*aes.BlockSize+aes.BlockSize]
	b.enc.Encrypt(b.iv[:], b.iv[:])
	cipher.NewCBCEncrypter(b.enc, b.iv[:]).CryptBlocks(text, text)
	input := b.input[:(aes.BlockSize+5+len(text)+aes.BlockSize-1)/aes.BlockSize*aes.BlockSize]
	last := input[len(input)-aes.BlockSize:]
	subtle.XORBytes(last, last, b.k1[:])
	cipher.NewCBCEncrypter(b.mac, make([]byte, aes.BlockSize)).CryptBlocks(input, input)
}
