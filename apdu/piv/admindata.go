package piv

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha1"
	"errors"
	"fmt"

	"inkan/apdu/secret"
	"inkan/apdu/tlv"
)

// AdminContent is what the programs of Yubico note in object 5FFF00: how the PIN guards
// the card's management key, if it does.
type AdminContent struct {
	Stored     bool   // the management key is in the printed information, which is read with the PIN
	Salt       []byte // the management key is derived from the PIN with it, see [DerivedManagementKey]; nil = it is not
	PUKBlocked bool   // whoever did either has blocked the PUK
}

// Tags of object 5FFF00, flags in it, and tags of a key in the printed information.
const (
	tagAdmin      tlv.Tag = 0x80
	tagAdminFlags tlv.Tag = 0x81
	tagAdminSalt  tlv.Tag = 0x82
	flagBlocked           = 0x01
	flagStored            = 0x02

	tagStored    tlv.Tag = 0x88
	tagStoredKey tlv.Tag = 0x89
)

// saltLen is the length of a salt, bytes.
const saltLen = 16

// BehindPIN reports whether the management key is to be had with the PIN.
func (a AdminContent) BehindPIN() bool { return a.Stored || a.Salt != nil }

// Encode is the content of object 5FFF00.
func (a AdminContent) Encode() []byte {
	var flags byte
	if a.PUKBlocked {
		flags |= flagBlocked
	}
	if a.Stored {
		flags |= flagStored
	}
	fields := tlv.Encode(tagAdminFlags, []byte{flags})
	if a.Salt != nil {
		fields = tlv.Append(fields, tagAdminSalt, a.Salt)
	}
	return tlv.Encode(tagAdmin, fields)
}

// ParseAdminData reads the content of object 5FFF00. Tags it does not know are ignored.
func ParseAdminData(b []byte) (AdminContent, error) {
	v, err := unwrap(b, tagAdmin)
	if err != nil {
		return AdminContent{}, fmt.Errorf("parsing admin data: %w", err)
	}
	ts, err := tlv.Parse(v)
	if err != nil {
		return AdminContent{}, fmt.Errorf("parsing admin data: %w", err)
	}
	var a AdminContent
	if t, ok := tlv.First(ts, tagAdminFlags); ok {
		if len(t.Value) != 1 {
			return AdminContent{}, fmt.Errorf("parsing admin data: flags of %d bytes", len(t.Value))
		}
		a.PUKBlocked, a.Stored = t.Value[0]&flagBlocked != 0, t.Value[0]&flagStored != 0
	}
	if t, ok := tlv.First(ts, tagAdminSalt); ok {
		if len(t.Value) != saltLen {
			return AdminContent{}, fmt.Errorf("parsing admin data: salt of %d bytes, want %d", len(t.Value), saltLen)
		}
		a.Salt = bytes.Clone(t.Value)
	}
	return a, nil
}

// StoredManagementKey is the content of the printed information of a card that keeps its
// management key there. The caller clears it.
func StoredManagementKey(key secret.Secret) []byte {
	return tlv.Encode(tagStored, tlv.Encode(tagStoredKey, key.Bytes()))
}

// ParseStoredManagementKey takes the management key out of the content of the printed
// information, which the caller clears. piv-go 2.6.0 writes a key of 16 or 32 bytes behind
// the length of one of 24; it is taken for what it is.
func ParseStoredManagementKey(b []byte) (secret.Secret, error) {
	const header = 4
	if n := len(b) - header; (n == AES128.KeyLen() || n == AES256.KeyLen()) &&
		b[0] == byte(tagStored) && b[2] == byte(tagStoredKey) && int(b[3]) == AES192.KeyLen() {
		return secret.New(bytes.Clone(b[header:])), nil
	}
	v, ok := tlv.Find(b, tagStored, tagStoredKey)
	if !ok || len(v) != AES128.KeyLen() && len(v) != AES192.KeyLen() && len(v) != AES256.KeyLen() {
		return secret.Secret{}, errors.New("there is no management key in the printed information")
	}
	return secret.New(bytes.Clone(v)), nil
}

// DerivedManagementKey is the management key, of 24 bytes, of a card whose programs
// derive it from its PIN (RFC 8018 §5.2, PBKDF2 with HMAC-SHA-1).
func DerivedManagementKey(pin secret.PIN, salt []byte) (secret.Secret, error) {
	const rounds, length = 10000, 24
	key, err := pbkdf2.Key(sha1.New, string(pin.Bytes()), salt, rounds, length) // the library wants a string
	if err != nil {
		return secret.Secret{}, fmt.Errorf("deriving the management key from the PIN: %w", err)
	}
	return secret.New(key), nil
}
