package hsm

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"inkan/tks"
	"inkan/tks/kdf"
)

// KeyType is the kind and length of a symmetric key.
type KeyType uint8

// Key types. DES2 is a 3DES key of two parts (16 bytes), what cards hold; DES3
// has three parts (24 bytes), what a new DES master key has. HMACKey is a master key
// of Dogtag's SP 800-108 diversification: a shorter one has zeros behind it, which
// HMAC does not see and without which tokens refuse it.
const (
	AES128 KeyType = 1
	AES192 KeyType = 2
	AES256 KeyType = 3
	DES2   KeyType = 4
	DES3   KeyType = 5

	HMACKey KeyType = 6
)

var keyTypes = map[KeyType]struct {
	name   string
	cipher kdf.Cipher
	size   int
}{
	AES128: {"aes-128", kdf.AES, 16},
	AES192: {"aes-192", kdf.AES, 24},
	AES256: {"aes-256", kdf.AES, 32},
	DES2:   {"des2", kdf.DES, 16},
	DES3:   {"des3", kdf.DES, 24},

	HMACKey: {"hmac-sha256", kdf.HMAC, 32},
}

// KeyTypes lists the key types that a card key can have, and its master with it:
// all but HMACKey.
func KeyTypes() []KeyType { return []KeyType{AES128, AES192, AES256, DES2, DES3} }

// ParseKeyType reads aes-128, aes-192, aes-256, des2, des3 or hmac-sha256.
func ParseKeyType(s string) (KeyType, error) {
	for t := range keyTypes {
		if t.String() == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf("key type %q: want aes-128, aes-192, aes-256, des2, des3 or hmac-sha256", s)
}

// KeyTypeOf is the type of a key of a cipher and a length in bytes.
func KeyTypeOf(c kdf.Cipher, size int) (KeyType, error) {
	for t := range keyTypes {
		if t.Cipher() == c && t.Size() == size {
			return t, nil
		}
	}
	return 0, fmt.Errorf("no %v key has %d bytes", c, size)
}

// String is aes-128, aes-192, aes-256, des2, des3 or hmac-sha256.
func (t KeyType) String() string {
	if k, ok := keyTypes[t]; ok {
		return k.name
	}
	return fmt.Sprintf("key type %d", uint8(t))
}

// Valid reports whether t is one of the constants.
func (t KeyType) Valid() bool { _, ok := keyTypes[t]; return ok }

// Cipher is DES or AES; zero for an invalid type.
func (t KeyType) Cipher() kdf.Cipher { return keyTypes[t].cipher }

// Size is the length in bytes; zero for an invalid type.
func (t KeyType) Size() int { return keyTypes[t].size }

// MarshalText implements encoding.TextMarshaler.
func (t KeyType) MarshalText() ([]byte, error) {
	if !t.Valid() {
		return nil, fmt.Errorf("%v is not a key type", t)
	}
	return []byte(t.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *KeyType) UnmarshalText(b []byte) (err error) {
	*t, err = ParseKeyType(string(b))
	return err
}

// Level says where the keys of cards are while they are worked with. The master
// key itself leaves the HSM at none of A, B and C.
type Level byte

// Levels, best first.
const (
	LevelA Level = 'A' // card keys stay objects in the HSM, wrapped inside; the master key may only derive
	LevelB Level = 'B' // as A, but new card keys pass through memory for PUT KEY, or the master key may do more
	LevelC Level = 'C' // card keys are in memory for the time of a request
	LevelD Level = 'D' // no HSM: everything in memory
)

// String is the letter.
func (l Level) String() string { return string(rune(l)) }

// Reaches reports whether l is at least as good as want.
func (l Level) Reaches(want Level) bool { return l >= LevelA && l <= want }

// Protection is a level and what keeps it from being a better one.
type Protection struct {
	Level Level
	// Why names mechanism, attribute or vault for a person; empty at level A.
	Why string
}

// ParseLevel reads A, B, C or D.
func ParseLevel(s string) (Level, error) {
	if len(s) == 1 && s[0] >= 'A' && s[0] <= 'D' {
		return Level(s[0]), nil
	}
	return 0, fmt.Errorf("protection level %q: want A, B, C or D", s)
}

// Algorithm is the kind and length of a key pair.
type Algorithm string

// Algorithms of key pairs.
const (
	RSA2048 Algorithm = "rsa-2048"
	RSA3072 Algorithm = "rsa-3072"
	RSA4096 Algorithm = "rsa-4096"
	P256    Algorithm = "ec-p256"
	P384    Algorithm = "ec-p384"
	P521    Algorithm = "ec-p521"
	Ed25519 Algorithm = "ed25519"
)

// Algorithms lists the algorithms of key pairs that authorities sign certificates
// with. Tokens are signed with P521 and Ed25519 as well.
func Algorithms() []Algorithm { return []Algorithm{RSA2048, RSA3072, RSA4096, P256, P384} }

// Valid reports whether a is one of the constants.
func (a Algorithm) Valid() bool { return slices.Contains(append(Algorithms(), P521, Ed25519), a) }

// ParseAlgorithm reads the name of an algorithm that authorities sign with.
func ParseAlgorithm(s string) (Algorithm, error) {
	for _, a := range Algorithms() {
		if string(a) == s {
			return a, nil
		}
	}
	return "", fmt.Errorf("key algorithm %q: want rsa-2048, rsa-3072, rsa-4096, ec-p256 or ec-p384", s)
}

// Bits is the modulus length of an RSA algorithm, 0 for EC.
func (a Algorithm) Bits() int {
	return map[Algorithm]int{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096}[a]
}

// SignerLabel names a key pair: "tms:ca:inkan:v01", and the CA of an array of nodes
// "tms:peerca:ARRAY:EPOCH". It is the CKA_LABEL; the
// CKA_ID is the SHA-1 of the public key.
type SignerLabel string

var signerLabel = regexp.MustCompile(`^tms:((ca|sign):[a-z0-9][a-z0-9-]{0,31}:v[0-9a-f]{2}|peerca:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:[0-9]{1,16})$`)

// CALabel is the label of generation n of the certificate authority name.
func CALabel(name string, n uint8) SignerLabel {
	return SignerLabel(fmt.Sprintf("tms:ca:%s:v%02x", name, n))
}

// Check reports whether the label has the form tms:ROLE:NAME:vNN with role ca or
// sign, a name of 1 to 32 of a-z, 0-9 and hyphen, and two hexadecimal digits; or that of
// the CA of an array, with its UUID and a decimal epoch.
func (l SignerLabel) Check() error {
	if !signerLabel.MatchString(string(l)) {
		return fmt.Errorf("label %q is not of the form tms:ca:NAME:vNN or tms:sign:NAME:vNN", string(l))
	}
	return nil
}

// Errors that callers branch on.
var (
	// ErrNotFound: no such key, or nobody is logged in.
	ErrNotFound = errors.New("key not found in the HSM")
	// ErrExists: label and identifier are taken.
	ErrExists = errors.New("key exists already")
	// ErrPIN: the PIN or passphrase is wrong. Nobody tries again by himself.
	ErrPIN = errors.New("wrong PIN or passphrase")
	// ErrUnavailable: the HSM does not answer now. It is a tks.ErrUnavailable.
	ErrUnavailable = fmt.Errorf("HSM not available: %w", tks.ErrUnavailable)
	// ErrModule: the library of the HSM cannot be loaded, or not be initialized.
	ErrModule = errors.New("PKCS #11 module not usable")
)

// Candidate is a mechanism that was tried for an operation, and why it did not do.
type Candidate struct {
	Name   string // CKM_AES_CMAC
	Number uint   // 108A
	Reason string // CKR_MECHANISM_INVALID(0x70)
}

// String is CKM_AES_CMAC(0x108A) CKR_MECHANISM_INVALID(0x70).
func (c Candidate) String() string { return fmt.Sprintf("%s(0x%X) %s", c.Name, c.Number, c.Reason) }

// MechanismError says that the token cannot do an operation. It names every
// mechanism that would have done.
type MechanismError struct {
	Token      string // label, and the maker's name of it
	Operation  string // "wrap a 3DES card key for PUT KEY"
	Candidates []Candidate
	Remedy     string // what to do; may be empty
}

// Error implements error.
func (e *MechanismError) Error() string {
	var tried []string
	for _, c := range e.Candidates {
		tried = append(tried, c.String())
	}
	s := fmt.Sprintf("token %s cannot %s: %s", e.Token, e.Operation, strings.Join(tried, "; "))
	if e.Remedy != "" {
		s += ". " + e.Remedy
	}
	return s
}
