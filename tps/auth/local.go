package auth

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"inkan/apdu/secret"
	"inkan/tps/token"
)

// LocalID is the id of the authenticator over local users.
const LocalID = "local"

// Fields of the form of local users.
const (
	FieldUser     = "UID"
	FieldPassword = "PASSWORD"
)

// maxUserID is the longest user id, in bytes.
const maxUserID = 255

// Local authenticates local users. It is safe for concurrent use: at most one
// password per processor core is computed at a time, and one per user.
type Local struct {
	users    Users
	throttle Throttle
	turns    chan struct{}
	nobody   string // hash that an unknown user's password is compared with
}

// NewLocal returns the authenticator over users.
func NewLocal(users Users) *Local {
	return &Local{users: users, turns: make(chan struct{}, runtime.GOMAXPROCS(0)), nobody: noPassword()}
}

// Form implements Authenticator. There are English texts only.
func (l *Local) Form(string) Form {
	return Form{
		Title:       "Log in",
		Description: "Enter your user name and password.",
		Fields: []Field{
			{ID: FieldUser, Name: "User name", Description: "The name you log in with"},
			{ID: FieldPassword, Name: "Password", Description: "Your password", Secret: true},
		},
	}
}

// Check implements Authenticator. An unknown user takes as long as a wrong
// password and counts as one.
func (l *Local) Check(ctx context.Context, a Answers) (Person, error) {
	id := string(a[FieldUser].Bytes())
	password := a[FieldPassword]
	if id == "" || len(id) > maxUserID || password.IsZero() || password.Len() > MaxPasswordBytes {
		return Person{}, ErrBadCredentials
	}
	var p Person
	err := l.throttle.Do(ctx, id, func() (err error) {
		p, err = l.check(ctx, token.UserID(id), password)
		return err
	})
	return p, err
}

func (l *Local) check(ctx context.Context, id token.UserID, password secret.Secret) (Person, error) {
	u, err := l.users.User(ctx, id)
	unknown := errors.Is(err, token.ErrNotFound)
	if err != nil && !unknown {
		return Person{}, fmt.Errorf("reading user: %w", err)
	}
	select {
	case l.turns <- struct{}{}:
	case <-ctx.Done():
		return Person{}, ctx.Err()
	}
	defer func() { <-l.turns }()
	if unknown {
		u.Hash = l.nobody
	}
	right, err := VerifyPassword(u.Hash, password)
	if err != nil {
		return Person{}, fmt.Errorf("checking the password of %s: %w", id, err)
	}
	if !right || unknown {
		return Person{}, ErrBadCredentials
	}
	return u.Person(), nil
}

// Person is what the record says about somebody who logged in.
func (u User) Person() Person {
	return Person{ID: u.ID, Name: u.Name, Mail: u.Mail, UPN: u.UPN, Roles: u.Roles,
		Attributes: map[string]string{"uid": string(u.ID), "cn": u.Name, "mail": u.Mail, "upn": u.UPN}}
}
