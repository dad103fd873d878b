package gp

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// KeyType is a key type code (GlobalPlatform 2.3.1 §11.1.8).
type KeyType uint8

// Key types in use.
const (
	KeyDES        KeyType = 0x80
	KeyDES201     KeyType = 0x81 // 3DES as Open Platform 2.0.1 codes it
	KeyPSK        KeyType = 0x85
	KeyAES        KeyType = 0x88
	KeyRSAPublic  KeyType = 0xA0 // exponent
	KeyRSAModulus KeyType = 0xA1
	KeyECPublic   KeyType = 0xB0
	KeyECPrivate  KeyType = 0xB1
)

// String names the type.
func (t KeyType) String() string {
	switch {
	case t >= KeyDES && t <= 0x84:
		return "DES3"
	case t == KeyPSK:
		return "PSK"
	case t == KeyAES:
		return "AES"
	case t >= KeyRSAPublic && t <= 0xA8:
		return "RSA"
	case t >= KeyECPublic && t <= 0xB7:
		return "EC"
	}
	return fmt.Sprintf("type %02X", uint8(t))
}

// KeyComponent is type and length of one part of a key.
type KeyComponent struct {
	Type   KeyType
	Length int // bytes; 256 stands for "256 or more" in the basic form
}

// KeyInfoEntry is one key of the key information template (GlobalPlatform 2.3.1
// §11.3.3.1). Type and Length are those of its first component.
type KeyInfoEntry struct {
	KID    uint8 // 1 ENC, 2 MAC, 3 DEK
	KVN    KeyVersion
	Type   KeyType
	Length int            // bytes
	More   []KeyComponent // further components of a public key
	Usage  []byte         // extended form only
	Access []byte         // extended form only
}

// ReadKeyInfo reads the key information template (tag E0).
func ReadKeyInfo(ctx context.Context, d apdu.Doer) ([]KeyInfoEntry, error) {
	b, err := GetData(ctx, d, TagKeyInfo)
	if err != nil {
		return nil, err
	}
	return ParseKeyInfo(b)
}

// ParseKeyInfo reads a key information template, with or without its header.
// Basic and extended entries may stand side by side; an empty entry is skipped.
func ParseKeyInfo(b []byte) ([]KeyInfoEntry, error) {
	ts, err := tlv.Parse(Value(b, TagKeyInfo))
	if err != nil {
		return nil, fmt.Errorf("parsing key information: %w", err)
	}
	var es []KeyInfoEntry
	for _, t := range ts {
		if t.Tag != 0xC0 || len(t.Value) == 0 {
			continue
		}
		e, err := parseKeyEntry(t.Value)
		if err != nil {
			return nil, fmt.Errorf("parsing key information: entry %d: %w", len(es)+1, err)
		}
		es = append(es, e)
	}
	return es, nil
}

var errKeyEntry = errors.New("key entry is cut")

func parseKeyEntry(b []byte) (KeyInfoEntry, error) {
	if len(b) < 4 {
		return KeyInfoEntry{}, errKeyEntry
	}
	e := KeyInfoEntry{KID: b[0], KVN: KeyVersion(b[1])}
	var cs []KeyComponent
	var err error
	if b[2] == 0xFF {
		cs, err = e.parseExtended(b[2:])
	} else {
		cs, err = parseBasic(b[2:])
	}
	if err != nil {
		return KeyInfoEntry{}, err
	}
	e.Type, e.Length, e.More = cs[0].Type, cs[0].Length, cs[1:]
	return e, nil
}

func parseBasic(b []byte) ([]KeyComponent, error) {
	if len(b)%2 != 0 {
		return nil, errKeyEntry
	}
	var cs []KeyComponent
	for ; len(b) > 0; b = b[2:] {
		n := int(b[1])
		if n == 0 {
			n = 256
		}
		cs = append(cs, KeyComponent{Type: KeyType(b[0]), Length: n})
	}
	return cs, nil
}

// parseExtended reads {FF type length(2)}… usage access.
func (e *KeyInfoEntry) parseExtended(b []byte) ([]KeyComponent, error) {
	var cs []KeyComponent
	for len(b) >= 4 && b[0] == 0xFF {
		cs = append(cs, KeyComponent{Type: KeyType(b[1]), Length: int(b[2])<<8 | int(b[3])})
		b = b[4:]
	}
	if len(cs) == 0 {
		return nil, errKeyEntry
	}
	var err error
	for _, dst := range []*[]byte{&e.Usage, &e.Access} {
		if len(b) == 0 {
			break
		}
		if *dst, b, err = cutLV(b); err != nil {
			return nil, errKeyEntry
		}
	}
	return cs, nil
}

// cutLV reads a one-byte length and that many bytes.
func cutLV(b []byte) (v, rest []byte, err error) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return nil, nil, errors.New("length-value field is cut")
	}
	n := int(b[0])
	return b[1 : 1+n : 1+n], b[1+n:], nil
}

// KeyVersions lists the key versions of a template in the order of the card,
// each once.
func KeyVersions(es []KeyInfoEntry) []KeyVersion {
	var vs []KeyVersion
	seen := map[KeyVersion]bool{}
	for _, e := range es {
		if !seen[e.KVN] {
			seen[e.KVN] = true
			vs = append(vs, e.KVN)
		}
	}
	return vs
}

// KeyBits is the size of the first key in bits, as the mapping filter
// symKeySize compares it; 0 for an empty template.
func KeyBits(es []KeyInfoEntry) int {
	if len(es) == 0 {
		return 0
	}
	return es[0].Length * 8
}
