package auth

import (
	"context"
	"fmt"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"inkan/apdu/secret"
)

// Roles lists all roles.
var Roles = []Role{Admin, Agent, Operator}

// ParseRole accepts a role's name.
func ParseRole(s string) (Role, error) {
	if !slices.Contains(Roles, Role(s)) {
		return "", fmt.Errorf("unknown role %q: want admin, agent or operator", s)
	}
	return Role(s), nil
}

// userID keeps ids apart that look alike and goes unescaped into every directory.
var userID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

// Check says whether the record may be stored: a plain id, a printable name,
// addresses that are addresses, known roles without repetition.
func (u User) Check() error {
	if !userID.MatchString(string(u.ID)) {
		return fmt.Errorf("user id %q: want 1 to 64 letters, digits, '.', '_', '@' and '-', beginning with a letter or digit", u.ID)
	}
	for what, text := range map[string]string{"name": u.Name, "mail": u.Mail, "UPN": u.UPN} {
		if len(text) > 255 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return fmt.Errorf("%s of user %s: want at most 255 bytes of printable characters", what, u.ID)
		}
	}
	if a, err := mail.ParseAddress(u.Mail); u.Mail != "" && (err != nil || a.Address != u.Mail) {
		return fmt.Errorf("mail of user %s: %q is not a mail address", u.ID, u.Mail)
	}
	if user, domain, _ := strings.Cut(u.UPN, "@"); u.UPN != "" && (user == "" || domain == "") {
		return fmt.Errorf("UPN of user %s: %q is not name@domain", u.ID, u.UPN)
	}
	for i, r := range u.Roles {
		if _, err := ParseRole(string(r)); err != nil {
			return err
		}
		if slices.Contains(u.Roles[:i], r) {
			return fmt.Errorf("role %s twice", r)
		}
	}
	return nil
}

// Create checks and stores a new user with a password. token.ErrConflict if the
// id is taken, ErrPassword if the password breaks the rules.
func Create(ctx context.Context, users Users, u User, password secret.Secret) (User, error) {
	return CreateAt(ctx, users, u, password, Cost{})
}

// CreateAt is Create with a password that costs something else than the default.
func CreateAt(ctx context.Context, users Users, u User, password secret.Secret, c Cost) (User, error) {
	if err := u.Check(); err != nil {
		return User{}, err
	}
	err := CheckPassword(password, string(u.ID))
	if err == nil {
		u.Hash, err = HashPassword(password, c)
	}
	if err != nil {
		return User{}, err
	}
	return users.CreateUser(ctx, u)
}
