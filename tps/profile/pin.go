package profile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"inkan/apdu/secret"
	"inkan/tps/token"
)

// ErrPIN means that a PIN breaks the rules of its profile. No error ever shows
// the PIN.
var ErrPIN = errors.New("PIN does not follow the rules")

// longestRun is how many characters in a row may follow one another (1234,
// 4321) or be the same (1111) in a PIN that is not to be simple.
const longestRun = 3

// Check says whether a person may have the PIN.
func (p PIN) Check(pin secret.PIN, user token.UserID, name string) error {
	b := pin.Bytes()
	switch {
	case len(b) < p.Min:
		return fmt.Errorf("%w: shorter than %d characters", ErrPIN, p.Min)
	case len(b) > p.Max:
		return fmt.Errorf("%w: longer than %d characters", ErrPIN, p.Max)
	case kinds(b) < p.Kinds:
		return fmt.Errorf("%w: wants %d of digits, small letters, capital letters and other characters", ErrPIN, p.Kinds)
	case p.Digits && !digits(b):
		return fmt.Errorf("%w: has other characters than digits", ErrPIN)
	case p.Simple:
		return nil
	case run(b) > longestRun || run(b) == len(b):
		return fmt.Errorf("%w: too simple, has characters in a row such as 1234 or 1111", ErrPIN)
	case isName(b, user, name):
		return fmt.Errorf("%w: too simple, it is the user's name", ErrPIN)
	}
	return nil
}

// digits reports whether b has nothing else.
func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// kinds counts the kinds of characters in b.
func kinds(b []byte) int {
	var digits, lower, upper, other int
	for _, c := range b {
		switch {
		case '0' <= c && c <= '9':
			digits = 1
		case 'a' <= c && c <= 'z':
			lower = 1
		case 'A' <= c && c <= 'Z':
			upper = 1
		default:
			other = 1
		}
	}
	return digits + lower + upper + other
}

// run is the length of the longest run in b.
func run(b []byte) int {
	longest, length, before := min(len(b), 1), 1, 0
	for i := 1; i < len(b); i++ {
		step, ok := stepOf(b[i-1], b[i])
		switch {
		case !ok:
			length = 1
		case length > 1 && step == before:
			length++
		default:
			length = 2
		}
		before = step
		longest = max(longest, length)
	}
	return longest
}

// stepOf is -1, 0 or 1 if b follows a in a run; 0 follows 9 as on a keyboard.
func stepOf(a, b byte) (int, bool) {
	switch {
	case a == '9' && b == '0':
		return 1, true
	case a == '0' && b == '9':
		return -1, true
	}
	step := int(b) - int(a)
	return step, -1 <= step && step <= 1
}

// isName says whether b is, forwards or backwards, in any case, the user id or
// a part of the name, or contains one of four characters or more.
func isName(b []byte, user token.UserID, name string) bool {
	pin := bytes.ToLower(b)
	defer clear(pin)
	parts := append(strings.Fields(strings.ToLower(name)), strings.ToLower(string(user)), strings.ToLower(name))
	for _, part := range parts {
		forwards := []byte(part)
		backwards := slices.Clone(forwards)
		slices.Reverse(backwards)
		for _, word := range [][]byte{forwards, backwards} {
			if len(word) > 0 && bytes.Equal(pin, word) || len(word) >= 4 && bytes.Contains(pin, word) {
				return true
			}
		}
	}
	return false
}
