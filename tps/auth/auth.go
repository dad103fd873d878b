// Package auth says who somebody is and what they may do: local users now,
// directories later, behind [Authenticator].
package auth

import (
	"context"
	"errors"
	"slices"
	"time"

	"inkan/apdu/secret"
	"inkan/tps/token"
)

// Role is what a person may do beyond owning a card.
type Role string

// Roles.
const (
	Admin    Role = "admin"    // people, profiles, configuration
	Agent    Role = "agent"    // token states, revocation, releases
	Operator Role = "operator" // cards of others: format, resume
)

// Person is somebody who logged in.
type Person struct {
	ID    token.UserID
	Name  string
	Mail  string
	UPN   string
	Roles []Role
	// Attributes are further values of the person's record, for patterns such as $auth.cn$.
	Attributes map[string]string
}

// Is reports whether p has one of the roles.
func (p Person) Is(roles ...Role) bool {
	return slices.ContainsFunc(roles, func(r Role) bool { return slices.Contains(p.Roles, r) })
}

// Form is what a login asks for.
type Form struct {
	Title, Description string
	Fields             []Field
	// Invalid says that an earlier answer was wrong; Blocked that no more are taken.
	Invalid, Blocked bool
}

// Field is one question of a form.
type Field struct {
	ID          string // UID, PASSWORD, …
	Name        string // label
	Description string
	Secret      bool
}

// Answers are what a person typed, by field ID. All are treated as secret.
type Answers map[string]secret.Secret

// Wipe overwrites them.
func (a Answers) Wipe() {
	for _, s := range a {
		s.Wipe()
	}
}

// Authenticator asks and checks.
type Authenticator interface {
	Form(locale string) Form
	// Check returns the person, ErrBadCredentials, ErrThrottled or another error
	// (the authenticator cannot be reached).
	Check(ctx context.Context, a Answers) (Person, error)
}

// Errors that callers branch on.
var (
	ErrBadCredentials = errors.New("user name or password is wrong")
	ErrThrottled      = errors.New("too many wrong passwords, wait a moment")
)

// User is a local user's record. Hash is an Argon2id PHC string.
type User struct {
	ID       token.UserID
	Name     string
	Mail     string
	UPN      string
	Roles    []Role
	Hash     string
	Created  time.Time
	Modified time.Time
	Revision int64
}

// Users stores local users.
type Users interface {
	User(ctx context.Context, id token.UserID) (User, error) // token.ErrNotFound
	Users(ctx context.Context) ([]User, error)               // ordered by id
	CreateUser(ctx context.Context, u User) (User, error)    // token.ErrConflict
	ReplaceUser(ctx context.Context, u User) (User, error)   // token.ErrConflict
	DeleteUser(ctx context.Context, id token.UserID) error   // token.ErrNotFound
}
