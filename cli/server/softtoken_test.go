//go:build unix

package server_test

import (
	"bytes"
	"crypto"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
)

// softToken answers commands as the soft token of Dogtag's tpsclient does
// (tps-protocol §14.4 to §14.6), its oddities included. What it shares with our
// own card is nothing but the block cipher. The transcripts of the real one hold
// it to its word: TestSoftTokenTranscript.
type softToken struct {
	cuid            [10]byte
	msn, version    [4]byte // the version is shown whatever is loaded
	keyInfo         [2]byte // key version, protocol
	auth, mac, kek  []byte  // 16 bytes each
	pin             []byte
	challenge       func() [8]byte
	newKey          func(bits int, challenge []byte) []byte // key blob and proof, both counted
	buffer          []byte                                  // the last key result
	encKey, macKey  []byte                                  // of the session
	icv             []byte
	encrypted       bool
	commands, wrong int // commands under secure messaging, and those refused with 6A88
}

// errLeft means that the token stops without an answer: tpsclient ends or crashes.
var errLeft = errors.New("the soft token does not answer")

// newSoftToken is a token as tpsclient starts with; last is the last byte of its CUID.
func newSoftToken(last byte) *softToken {
	key := []byte("@ABCDEFGHIJKLMNO")
	return &softToken{
		cuid: [10]byte{0xA0, 0x01, 0x92, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, last},
		msn:  [4]byte{1, 2, 3, 4}, version: [4]byte{0x6F, 0xBB, 0xC1, 0x05}, keyInfo: [2]byte{1, 1},
		auth: key, mac: key, kek: key, pin: []byte("password"),
		challenge: func() (c [8]byte) { rand.Read(c[:]); return c },
		newKey:    rsaResult,
	}
}

// Statuses that the token knows.
var (
	swOK      = []byte{0x90, 0x00}
	swRefused = []byte{0x6A, 0x88}
	swListEnd = []byte{0x9C, 0x00}
)

// transmit answers a command. It looks at INS, hardly ever at CLA.
func (s *softToken) transmit(cmd []byte) ([]byte, error) {
	if len(cmd) < 5 {
		return nil, errLeft
	}
	if cmd[0] == 0x84 && s.encrypted && cmd[1] != 0x82 {
		var err error
		if cmd, err = s.decrypt(cmd); err != nil {
			return nil, err
		}
	}
	switch cmd[1] {
	case 0xA4, 0x2A: // whatever is selected
		return swOK, nil
	case 0xCA: // whatever is asked for
		return s.cplc(), nil
	case 0x3C:
		return []byte{0, 0, 0, 0, 1, 0, 0x20, 0xFF, 1, 0, 0x20, 0, 1, 0, 1, 0, 0x90, 0}, nil
	case 0x70, 0x48, 0xF6:
		return append(s.version[:], swOK...), nil
	case 0xF2:
		return swRefused, nil
	case 0x58:
		return swListEnd, nil
	case 0x50:
		return s.initialize(cmd)
	}
	return s.secured(cmd)
}

// cplc has three bytes of no meaning where the header of 9F7F is.
func (s *softToken) cplc() []byte {
	b := append([]byte{1, 0, 1}, s.cuid[:4]...)
	b = append(b, 1, 0, 1, 0, 1, 0, 1, 0)
	b = append(append(b, s.cuid[6:]...), s.cuid[4:6]...)
	b = append(b, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0)
	return append(append(b, s.msn[:]...), swOK...)
}

func (s *softToken) initialize(cmd []byte) ([]byte, error) {
	if len(cmd) < 13 {
		return nil, errLeft // it aborts
	}
	if v := cmd[2]; v != 0 && v != s.keyInfo[0] {
		return swRefused, nil
	}
	host, card := cmd[5:13], s.challenge()
	derivation := append(append(append(bytes.Clone(card[4:]), host[:4]...), card[:4]...), host[4:]...)
	s.encKey, s.macKey = ecb(s.auth, derivation, false), ecb(s.mac, derivation, false)
	s.icv, s.encrypted = make([]byte, 8), false
	cryptogram := fullMAC(s.encKey, s.icv, append(bytes.Clone(host), card[:]...))
	b := append(append(bytes.Clone(s.cuid[:]), s.keyInfo[:]...), card[:]...)
	return append(append(b, cryptogram...), swOK...), nil
}

// decrypt undoes level 3: what stands between header and MAC. A command without
// data has to have an encrypted field all the same.
func (s *softToken) decrypt(cmd []byte) ([]byte, error) {
	n := len(cmd) - 8
	if n <= 5 {
		return nil, fmt.Errorf("%w: it crashes at the bare C-MAC of %X", errLeft, cmd)
	}
	field := bytes.Clone(cmd[5:n])
	if len(field)%8 != 0 {
		return cmd, nil // and the MAC will not be right
	}
	cipher.NewCBCDecrypter(block(s.encKey), make([]byte, 8)).CryptBlocks(field, field)
	size := int(field[0])
	if size >= len(field) {
		return cmd, nil
	}
	plain := append(bytes.Clone(cmd[:4]), byte(size+8))
	return append(append(plain, field[1:1+size]...), cmd[n:]...), nil
}

// secured answers commands with a MAC, which is in the last eight bytes.
func (s *softToken) secured(cmd []byte) ([]byte, error) {
	answer, known := softAnswers[cmd[1]]
	if !known {
		return nil, fmt.Errorf("%w to INS %02X", errLeft, cmd[1])
	}
	n := len(cmd) - 8
	if n < 5 {
		return nil, errLeft
	}
	s.commands++
	head, data := [4]byte{0x84, cmd[1], cmd[2], cmd[3]}, cmd[5:n]
	switch cmd[1] { // what it does not keep of a command, it makes up
	case 0xE4:
		if len(data) < 2 {
			return nil, errLeft
		}
		head[2], head[3], data = 0, 0, append([]byte{0x4F}, data[1:]...)
	case 0xE6:
		if head[3] = 0; head[2] != 0x02 {
			head[2] = 0x0C
		}
	}
	input := append(append(bytes.Clone(head[:]), byte(len(data)+8)), data...)
	if s.macKey == nil {
		return nil, errLeft
	}
	s.icv = fullMAC(s.macKey, s.icv, input)
	good := bytes.Equal(s.icv, cmd[n:])
	if cmd[1] == 0xD8 { // takes the keys in any case
		s.putKeys(cmd[3], data)
	}
	if !good {
		s.wrong++
		return swRefused, nil
	}
	if answer == nil {
		return swOK, nil
	}
	return answer(s, cmd[2], data)
}

// softAnswers are the commands that it answers behind a good MAC; nil: 9000.
var softAnswers = map[byte]func(s *softToken, p1 byte, data []byte) ([]byte, error){
	0xE4: nil, 0xE6: nil, 0xE8: nil, 0xF0: nil, 0xD8: nil, 0x0A: nil, 0x02: nil, 0x5A: nil, 0x54: nil,
	0x82: func(s *softToken, p1 byte, _ []byte) ([]byte, error) { // the host cryptogram is not looked at
		s.encrypted = p1 == 3
		return swOK, nil
	},
	0xF4: showVersion, 0x40: showVersion,
	0x04: func(s *softToken, _ byte, data []byte) ([]byte, error) {
		s.pin = bytes.Clone(data)
		return swOK, nil
	},
	0x0C: func(s *softToken, _ byte, data []byte) ([]byte, error) {
		if len(data) < 22 || data[5] != 16 {
			return nil, errLeft
		}
		s.buffer = s.newKey(int(binary.BigEndian.Uint16(data[1:])), ecb(s.kek, data[6:22], true))
		return append(binary.BigEndian.AppendUint16(nil, uint16(len(s.buffer))), swOK...), nil
	},
	0x56: func(s *softToken, _ byte, data []byte) ([]byte, error) { // whatever the object
		if len(data) != 9 {
			return nil, errLeft
		}
		offset, n := int(binary.BigEndian.Uint32(data[4:])), int(data[8])
		piece := make([]byte, n)
		if offset+n <= len(s.buffer) {
			copy(piece, s.buffer[offset:])
		}
		return append(piece, swOK...), nil
	},
}

func showVersion(s *softToken, _ byte, _ []byte) ([]byte, error) {
	return append(bytes.Clone(s.version[:]), swOK...), nil
}

func (s *softToken) putKeys(p2 byte, data []byte) {
	if len(data) < 63 {
		return
	}
	s.auth, s.mac, s.kek = ecb(s.kek, data[3:19], true), ecb(s.kek, data[25:41], true), ecb(s.kek, data[47:63], true)
	s.keyInfo = [2]byte{data[0], p2 & 0x0F}
}

// rsaResult makes a key pair: its public half, and its signature over that and
// the challenge.
func rsaResult(bits int, challenge []byte) []byte {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil
	}
	return resultOf(key, challenge)
}

func resultOf(key *rsa.PrivateKey, challenge []byte) []byte {
	blob := []byte{0, 1}
	blob = binary.BigEndian.AppendUint16(blob, uint16(key.N.BitLen()))
	blob = counted(blob, key.N.Bytes())
	blob = counted(blob, []byte{1, 0, 1})
	digest := sha1.Sum(append(bytes.Clone(blob), challenge...))
	proof, err := rsa.SignPKCS1v15(nil, key, crypto.SHA1, digest[:])
	if err != nil {
		return nil
	}
	return counted(counted(nil, blob), proof)
}

func counted(b, field []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(field))), field...)
}

// block is DES3 under K1 K2 K1.
func block(key []byte) cipher.Block {
	b, err := des.NewTripleDESCipher(append(bytes.Clone(key), key[:8]...))
	if err != nil {
		panic(err) // not for 24 bytes
	}
	return b
}

func ecb(key, data []byte, decrypt bool) []byte {
	b, out := block(key), bytes.Clone(data)
	for i := 0; i < len(out); i += 8 {
		if decrypt {
			b.Decrypt(out[i:], out[i:])
		} else {
			b.Encrypt(out[i:], out[i:])
		}
	}
	return out
}

// fullMAC is the last block of DES3 in CBC mode over the data, always padded.
func fullMAC(key, icv, data []byte) []byte {
	padded := append(bytes.Clone(data), 0x80)
	padded = append(padded, make([]byte, (8-len(padded)%8)%8)...)
	cipher.NewCBCEncrypter(block(key), icv).CryptBlocks(padded, padded)
	return padded[len(padded)-8:]
}
