package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"inkan/apdu/secret"
)

// Cost is what one Argon2id computation takes (RFC 9106 §3.1). The zero value
// is the default: 64 MiB, 2 passes, 1 lane; OWASP asks for 19 MiB, 2, 1 at least.
type Cost struct {
	Memory uint32 // KiB, at least 8 per lane
	Passes uint32
	Lanes  uint8
}

var defaultCost = Cost{Memory: 64 << 10, Passes: 2, Lanes: 1}

// Limits of a stored hash, so that a broken record cannot stop the node.
const (
	maxMemory = 1 << 20 // KiB
	maxPasses = 32
	saltSize  = 16
	tagSize   = 32
)

// Lengths of passwords.
const (
	MinPassword      = 8    // characters
	MaxPasswordBytes = 1024 // UTF-8
)

// ErrPassword means that a new password breaks the rules. No error ever shows it.
var ErrPassword = errors.New("password does not follow the rules")

// CheckPassword says whether a person may choose the password: at least
// MinPassword characters, valid UTF-8, not the user id.
func CheckPassword(password secret.Secret, id string) error {
	b := password.Bytes()
	switch {
	case len(b) > MaxPasswordBytes:
		return fmt.Errorf("%w: longer than %d bytes", ErrPassword, MaxPasswordBytes)
	case !utf8.Valid(b):
		return fmt.Errorf("%w: not UTF-8", ErrPassword)
	case utf8.RuneCount(b) < MinPassword:
		return fmt.Errorf("%w: shorter than %d characters", ErrPassword, MinPassword)
	case equalFold(b, id):
		return fmt.Errorf("%w: it is the user's name", ErrPassword)
	}
	return nil
}

// equalFold compares ASCII letters in any case, without a copy of the password.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

// HashPassword returns the PHC string of a password with a new salt,
// $argon2id$v=19$m=65536,t=2,p=1$salt$tag.
func HashPassword(password secret.Secret, c Cost) (string, error) {
	if c == (Cost{}) {
		c = defaultCost
	}
	if err := c.check(); err != nil {
		return "", err
	}
	h := hash{cost: c, salt: make([]byte, saltSize)}
	rand.Read(h.salt) // never fails, crypto/rand
	h.tag = h.compute(password, tagSize)
	return h.String(), nil
}

// noPassword returns a PHC string of the default cost that belongs to no password: to compare
// one with it takes as long as with any other.
func noPassword() string {
	random := secret.Random(saltSize + tagSize).Bytes()
	return hash{cost: defaultCost, salt: random[:saltSize], tag: random[saltSize:]}.String()
}

// VerifyPassword says whether a PHC string is that of a password.
func VerifyPassword(phc string, password secret.Secret) (bool, error) {
	h, err := parseHash(phc)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(h.compute(password, len(h.tag)), h.tag) == 1, nil
}

func (c Cost) check() error {
	if c.Lanes == 0 || c.Passes == 0 || c.Passes > maxPasses || c.Memory < 8*uint32(c.Lanes) || c.Memory > maxMemory {
		return fmt.Errorf("argon2id cost m=%d,t=%d,p=%d is out of range", c.Memory, c.Passes, c.Lanes)
	}
	return nil
}

// hash is a parsed PHC string.
type hash struct {
	cost      Cost
	salt, tag []byte
}

func (h hash) compute(password secret.Secret, size int) []byte {
	return argon2.IDKey(password.Bytes(), h.salt, h.cost.Passes, h.cost.Memory, h.cost.Lanes, uint32(size))
}

// String is the PHC string.
func (h hash) String() string {
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.Memory, h.cost.Passes, h.cost.Lanes,
		e.EncodeToString(h.salt), e.EncodeToString(h.tag))
}

var costText = regexp.MustCompile(`^m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,3})$`)

var errHash = errors.New("stored password hash is not an Argon2id PHC string")

func parseHash(s string) (hash, error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v="+strconv.Itoa(argon2.Version) {
		return hash{}, errHash
	}
	m := costText.FindStringSubmatch(parts[3])
	if m == nil {
		return hash{}, errHash
	}
	memory, _ := strconv.ParseUint(m[1], 10, 32) // at most nine digits
	passes, _ := strconv.ParseUint(m[2], 10, 32)
	lanes, err := strconv.ParseUint(m[3], 10, 8)
	if err != nil {
		return hash{}, errHash
	}
	h := hash{cost: Cost{uint32(memory), uint32(passes), uint8(lanes)}}
	if err := h.cost.check(); err != nil {
		return hash{}, err
	}
	e := base64.RawStdEncoding.Strict()
	if h.salt, err = e.DecodeString(parts[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return hash{}, errHash
	}
	if h.tag, err = e.DecodeString(parts[5]); err != nil || len(h.tag) < 16 || len(h.tag) > 64 {
		return hash{}, errHash
	}
	return h, nil
}
