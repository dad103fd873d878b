package coolkey

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ObjectID names an object of the applet's heap: an ASCII letter, an ASCII index
// character and two zero bytes for the objects of a token.
type ObjectID [4]byte

// IDCombined is z0, the combined object that holds all certificates and key
// descriptions of a token. IDIOBuffer names the applet's input/output buffer;
// it is not an object of the heap. IDImport is the object that holds a wrapped
// private key for [ImportEncrypted].
var (
	IDCombined = ObjectID{'z', '0'}
	IDIOBuffer = ObjectID{0xFF, 0xFF, 0xFF, 0xFF}
	IDImport   = ObjectID{0xFF, 0x00, 0xFF, 0xF3}
)

// Kind is the first letter of an [ObjectID].
type Kind byte

// Kinds of objects.
const (
	KindAttributes  Kind = 'c' // attributes of a certificate
	KindCertificate Kind = 'C' // DER of a certificate
	KindKey         Kind = 'k' // attributes of a key
	KindCombined    Kind = 'z' // combined object
)

const indexDigits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Kind is the identifier's letter.
func (id ObjectID) Kind() Kind { return Kind(id[0]) }

// Index is the number that the index character stands for.
func (id ObjectID) Index() (n int, ok bool) {
	n = strings.IndexByte(indexDigits, id[1])
	return n, n >= 0 && id[2] == 0 && id[3] == 0
}

// String is the letter and index ("k3") where they are printable and eight
// hexadecimal digits otherwise.
func (id ObjectID) String() string {
	if id[2] == 0 && id[3] == 0 && id[0] > ' ' && id[0] < 0x7F && id[1] > ' ' && id[1] < 0x7F {
		return string(id[:2])
	}
	return fmt.Sprintf("%08X", id[:])
}

// ParseObjectID reads what String returns.
func ParseObjectID(s string) (ObjectID, error) {
	var id ObjectID
	if len(s) == 2 && s[0] > ' ' && s[0] < 0x7F && s[1] > ' ' && s[1] < 0x7F {
		copy(id[:], s)
		return id, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("object identifier %q is neither two characters nor eight hexadecimal digits", s)
	}
	copy(id[:], b)
	return id, nil
}

// MarshalText implements encoding.TextMarshaler.
func (id ObjectID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ObjectID) UnmarshalText(t []byte) (err error) {
	*id, err = ParseObjectID(string(t))
	return err
}

// ACL is a set of identities, one of which must be present.
type ACL uint16

// Sets of identities. A login is not part of ACLAnonymous: use ACLEveryone for
// what everybody may do.
const (
	ACLNobody    ACL = 0x0000
	ACLAuthority ACL = 0x4000 // registration authority: any command of class 84
	ACLAnonymous ACL = 0x8000 // class B0 with a zero nonce
	ACLEveryone  ACL = 0xFFFF
)

// ACLOfPIN is the identity of PIN n, 0 to 7.
func ACLOfPIN(n int) ACL { return 1 << (n & 7) }

// String is four hexadecimal digits.
func (a ACL) String() string { return fmt.Sprintf("%04X", uint16(a)) }

// ObjectACL says who may read, write and delete an object.
type ObjectACL struct{ Read, Write, Delete ACL }

// TokenObjectACL is the rule of z0 and all token objects: everybody reads, the
// registration authority writes and deletes. ImportObjectACL is that of [IDImport].
var (
	TokenObjectACL  = ObjectACL{Read: ACLEveryone, Write: ACLAuthority, Delete: ACLAuthority}
	ImportObjectACL = ObjectACL{Read: ACLAuthority, Write: ACLAuthority, Delete: ACLAuthority}
)

// KeyACL says who may read, write and use a key.
type KeyACL struct{ Read, Write, Use ACL }
