package manager

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
	"inkan/securechannel/keyset"
	"inkan/securechannel/primitive"
	"inkan/securechannel/scp01"
	"inkan/securechannel/scp02"
	"inkan/securechannel/scp03"
)

// Key is one static key of a card manager.
type Key struct {
	Value secret.Secret
	KCV   *gp.KCV // check value that came with it; nil: none
}

// Keys are the static keys of a card manager: ENC, MAC and DEK, of one length.
type Keys [3]Key

// Places of the keys.
const (
	enc = iota
	mac
	dek
)

// names are for people.
var names = [3]string{"ENC", "MAC", "DEK"}

// Wipe overwrites the keys.
func (k Keys) Wipe() {
	for _, key := range k {
		key.Value.Wipe()
	}
}

// Factory returns the published test keys (GlobalPlatform Card Specification,
// 40 to 4F) that card makers deliver with.
func Factory() Keys {
	var k Keys
	for i := range k {
		b := make([]byte, 16)
		for j := range b {
			b[j] = 0x40 + byte(j)
		}
		k[i].Value = secret.New(b)
	}
	return k
}

// factory reports whether one of the keys is a published one.
func (k Keys) factory() bool {
	f := Factory()
	for _, key := range k {
		if key.Value.Equal(f[0].Value) {
			return true
		}
	}
	return false
}

// ParseKey reads a key in hexadecimal, 16, 24 or 32 bytes, and behind it its check
// value, three bytes, if there is one. text is not kept; an error does not quote it.
func ParseKey(text []byte) (Key, error) {
	fields := bytes.Fields(text)
	if len(fields) < 1 || len(fields) > 2 {
		return Key{}, errors.New("want a key, and its check value behind it")
	}
	b := make([]byte, hex.DecodedLen(len(fields[0])))
	if _, err := hex.Decode(b, fields[0]); err != nil {
		clear(b)
		return Key{}, errors.New("the key is not hexadecimal")
	}
	if n := len(b); n != 16 && n != 24 && n != 32 {
		clear(b)
		return Key{}, fmt.Errorf("the key has %d bytes: want 16, 24 or 32", n)
	}
	k := Key{Value: secret.New(b)}
	if len(fields) == 1 {
		return k, nil
	}
	var kcv gp.KCV
	if len(fields[1]) != hex.EncodedLen(len(kcv)) {
		k.Value.Wipe()
		return Key{}, errors.New("a check value has six hexadecimal digits")
	}
	if _, err := hex.Decode(kcv[:], fields[1]); err != nil {
		k.Value.Wipe()
		return Key{}, errors.New("the check value is not hexadecimal")
	}
	k.KCV = &kcv
	return k, nil
}

// ParseKeys reads three lines, ENC, MAC and DEK, each as [ParseKey] has it. Empty
// lines and those that begin with # do not count. text is not kept.
func ParseKeys(text []byte) (Keys, error) {
	var keys Keys
	n := 0
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if n == len(keys) {
			keys.Wipe()
			return Keys{}, errors.New("reading keys: more than three")
		}
		k, err := ParseKey(line)
		if err != nil {
			keys.Wipe()
			return Keys{}, fmt.Errorf("reading key %s: %w", names[n], err)
		}
		keys[n] = k
		n++
	}
	if n != len(keys) {
		keys.Wipe()
		return Keys{}, fmt.Errorf("reading keys: %d, want three: ENC, MAC, DEK", n)
	}
	if err := keys.check(); err != nil {
		keys.Wipe()
		return Keys{}, err
	}
	return keys, nil
}

func (k Keys) check() error {
	for _, key := range k {
		if key.Value.Len() != k[enc].Value.Len() {
			return errors.New("the three keys have different lengths")
		}
	}
	return nil
}

// keyType is the type of the keys that a protocol works with.
func keyType(p securechannel.Protocol) keyset.Type {
	switch p {
	case securechannel.SCP03:
		return keyset.AES
	case securechannel.SCP01:
		return keyset.DESLegacy
	}
	return keyset.DES
}

// ErrKCV means that a key does not have the check value that came with it.
var ErrKCV = keyset.ErrKCV

// kcvs computes the check values and compares those that came; required wants all.
func (k Keys) kcvs(t keyset.Type, required bool) ([3]gp.KCV, error) {
	var out [3]gp.KCV
	for i, key := range k {
		of := primitive.KCVDES
		if t == keyset.AES {
			of = primitive.KCVAES
		}
		got, err := of(key.Value.Bytes())
		switch {
		case err != nil:
			return out, fmt.Errorf("check value of %s: %w", names[i], err)
		case key.KCV == nil && required:
			return out, fmt.Errorf("%s comes without a check value: nobody could tell a key that was mistyped", names[i])
		case key.KCV != nil && *key.KCV != got:
			return out, fmt.Errorf("%s: %w: it is %s, not %s", names[i], ErrKCV, got, key.KCV)
		}
		out[i] = got
	}
	return out, nil
}

// session derives the session keys of a channel: a securechannel.KeySource.
func (k Keys) session(_ context.Context, iu securechannel.InitUpdate) (s securechannel.SessionKeys, err error) {
	if s.ENC, err = k.derive(iu, enc, scp02.SENC, scp03.SENC); err != nil {
		return s, err
	}
	if s.MAC, err = k.derive(iu, mac, scp02.SMAC, scp03.SMAC); err != nil {
		return s, err
	}
	if iu.Protocol == securechannel.SCP01 {
		return s, nil // its answers have no MAC
	}
	s.RMAC, err = k.derive(iu, mac, scp02.SRMAC, scp03.SRMAC)
	return s, err
}

func (k Keys) derive(iu securechannel.InitUpdate, i int, c scp02.Constant, d scp03.Derivation) (secret.Secret, error) {
	var b []byte
	var err error
	switch {
	case iu.Protocol == securechannel.SCP01:
		b, err = scp01.SessionKey(k[i].Value.Bytes(), iu.HostChallenge, iu.CardChallenge)
	case iu.Protocol == securechannel.SCP03:
		b, err = scp03.SessionKey(k[i].Value.Bytes(), d, scp03.Context(iu.HostChallenge, iu.CardChallenge))
	case iu.Protocol == securechannel.SCP02 && len(iu.Counter) == 2:
		b, err = scp02.SessionKey(k[i].Value.Bytes(), c, [2]byte(iu.Counter))
	default:
		err = fmt.Errorf("%v: %w", iu.Protocol, apdu.ErrUnsupported)
	}
	return secret.New(b), err
}

// encrypt encrypts key material under the card's data encryption key.
func (k Keys) encrypt(iu securechannel.InitUpdate) (keyset.Encrypt, error) {
	switch iu.Protocol {
	case securechannel.SCP01:
		return func(plain []byte) ([]byte, error) { return scp01.EncryptDEK(k[dek].Value.Bytes(), plain) }, nil
	case securechannel.SCP03:
		return func(plain []byte) ([]byte, error) { return scp03.EncryptDEK(k[dek].Value.Bytes(), plain) }, nil
	}
	sdek, err := k.derive(iu, dek, scp02.SDEK, 0)
	if err != nil {
		return nil, err
	}
	return func(plain []byte) ([]byte, error) { return scp02.EncryptDEK(sdek.Bytes(), plain) }, nil
}
