package coolkey

import (
	"fmt"
	"slices"
)

// AttributeType is a PKCS #11 attribute number (CKA_…).
type AttributeType uint32

// Attributes that tokens carry.
const (
	AttrClass           AttributeType = 0x000
	AttrToken           AttributeType = 0x001
	AttrPrivate         AttributeType = 0x002
	AttrLabel           AttributeType = 0x003
	AttrValue           AttributeType = 0x011
	AttrCertificateType AttributeType = 0x080
	AttrKeyType         AttributeType = 0x100
	AttrSubject         AttributeType = 0x101
	AttrID              AttributeType = 0x102
	AttrModulus         AttributeType = 0x120
	AttrPublicExponent  AttributeType = 0x122
	AttrECParams        AttributeType = 0x180
	AttrECPoint         AttributeType = 0x181
)

// Values of AttrKeyType.
const (
	ckkRSA = 0
	ckkEC  = 3
)

// AttributeKind says how an attribute's value is coded.
type AttributeKind byte

// Kinds of attribute values.
const (
	KindString  AttributeKind = 0
	KindInteger AttributeKind = 1
	KindFalse   AttributeKind = 2
	KindTrue    AttributeKind = 3
)

// Attribute is one explicit attribute of an object.
type Attribute struct {
	Type   AttributeType
	Kind   AttributeKind
	Value  []byte // KindString
	Number uint32 // KindInteger
}

// Class is a PKCS #11 object class.
type Class byte

// Object classes.
const (
	ClassData        Class = 0
	ClassCertificate Class = 1
	ClassPublicKey   Class = 2
	ClassPrivateKey  Class = 3
	ClassSecretKey   Class = 4
)

// Fixed is the fixed attribute word of an object: CKA_ID (0 to 15), class and the
// boolean attributes, of which those count that are valid for the class.
type Fixed uint32

// Boolean attributes of a Fixed.
const (
	FlagToken            Fixed = 1 << 7
	FlagPrivate          Fixed = 1 << 8
	FlagModifiable       Fixed = 1 << 9
	FlagDerive           Fixed = 1 << 10
	FlagLocal            Fixed = 1 << 11
	FlagEncrypt          Fixed = 1 << 12
	FlagDecrypt          Fixed = 1 << 13
	FlagWrap             Fixed = 1 << 14
	FlagUnwrap           Fixed = 1 << 15
	FlagSign             Fixed = 1 << 16
	FlagSignRecover      Fixed = 1 << 17
	FlagVerify           Fixed = 1 << 18
	FlagVerifyRecover    Fixed = 1 << 19
	FlagSensitive        Fixed = 1 << 20
	FlagAlwaysSensitive  Fixed = 1 << 21
	FlagExtractable      Fixed = 1 << 22
	FlagNeverExtractable Fixed = 1 << 23
)

// flagMask holds the booleans valid for a class, by class.
var flagMask = [...]Fixed{0x00000380, 0x00000380, 0x000C5F80, 0x00F3AF80, 0x00F5FF80}

// NewFixed is the word of an object with a CKA_ID of 0 to 15. Flags that are not
// valid for the class are dropped.
func NewFixed(id int, class Class, flags Fixed) Fixed {
	f := Fixed(id&0xF) | Fixed(class&7)<<4
	return f | flags&f.mask()
}

// ID is the CKA_ID, 0 to 15.
func (f Fixed) ID() int { return int(f & 0xF) }

// Class is the object class.
func (f Fixed) Class() Class { return Class(f >> 4 & 7) }

// Flags are the booleans that are set and valid for the class.
func (f Fixed) Flags() Fixed { return f & f.mask() }

func (f Fixed) mask() Fixed {
	if c := f.Class(); int(c) < len(flagMask) {
		return flagMask[c]
	}
	return 0
}

// String is eight hexadecimal digits.
func (f Fixed) String() string { return fmt.Sprintf("%08X", uint32(f)) }

// capability names a flag as profiles do, in the order of the old records.
type capability struct {
	name string
	flag Fixed
	attr AttributeType
}

var capabilities = []capability{
	{"encrypt", FlagEncrypt, 0x104},
	{"sign", FlagSign, 0x108},
	{"signRecover", FlagSignRecover, 0x109},
	{"decrypt", FlagDecrypt, 0x105},
	{"derive", FlagDerive, 0x10C},
	{"unwrap", FlagUnwrap, 0x107},
	{"wrap", FlagWrap, 0x106},
	{"verifyRecover", FlagVerifyRecover, 0x10B},
	{"verify", FlagVerify, 0x10A},
	{"sensitive", FlagSensitive, 0x103},
	{"private", FlagPrivate, 0x002},
	{"token", FlagToken, 0x001},
}

// ParseCapabilities turns the names of a profile (encrypt, sign, signRecover,
// decrypt, derive, unwrap, wrap, verifyRecover, verify, sensitive, private,
// token) into flags.
func ParseCapabilities(names []string) (Fixed, error) {
	var f Fixed
	for _, name := range names {
		i := slices.IndexFunc(capabilities, func(c capability) bool { return c.name == name })
		if i < 0 {
			return 0, fmt.Errorf("unknown key capability %q", name)
		}
		f |= capabilities[i].flag
	}
	return f, nil
}

// Capabilities are the names of the flags set in f, whatever the class.
func (f Fixed) Capabilities() []string {
	var names []string
	for _, c := range capabilities {
		if f&c.flag != 0 {
			names = append(names, c.name)
		}
	}
	return names
}
