package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Code is a cause of failure (config-sealing.md §11). It is an error, so that
// errors.Is(err, seal.Rollback) works.
type Code string

// Codes.
const (
	HSMUnreachable    Code = "HSM_UNREACHABLE"
	BootstrapMissing  Code = "BOOTSTRAP_MISSING"
	SealedMissing     Code = "SEALED_MISSING"
	KeyMissing        Code = "KEY_MISSING"
	NoSpace           Code = "NO_SPACE"
	Mechanism         Code = "MECHANISM"
	DependencyMissing Code = "DEPENDENCY_MISSING"
	PIN               Code = "PIN"
	Tampered          Code = "TAMPERED"
	WrongKey          Code = "WRONG_KEY"
	Damaged           Code = "DAMAGED"
	Rollback          Code = "ROLLBACK"
	AnchorBehind      Code = "ANCHOR_BEHIND"
	Identity          Code = "IDENTITY"
	Permission        Code = "PERMISSION"
	Version           Code = "VERSION"
	Expired           Code = "EXPIRED"
	PlaintextFound    Code = "PLAINTEXT_FOUND"
	Conflict          Code = "CONFLICT"
	Locked            Code = "LOCKED"
)

// codes are the numbers and what an operator does next.
var codes = map[Code]struct {
	number int
	hint   string
}{
	HSMUnreachable:    {10, "check the link to the HSM and that its token is there, then start again"},
	BootstrapMissing:  {11, "put seal.toml back from a backup of this folder (inkan restore)"},
	SealedMissing:     {12, "put the file back from a backup (inkan restore), or go back one generation: inkan config recover --from-prev"},
	KeyMissing:        {13, "restore the key with the HSM's own backup, or open with the recovery key: inkan config recover"},
	NoSpace:           {14, "free space on the disk; nothing was changed"},
	Mechanism:         {15, "use a token that has one of these mechanisms: inkan config recover moves the files to it"},
	DependencyMissing: {16, "install what is missing, let this user reach it (its group, a new login), then start again"},
	PIN:               {17, "set the right PIN in the PIN source; it is not tried again by itself, tokens lock after a few"},
	Tampered:          {18, "restore the file from a backup and find out who changed it"},
	WrongKey:          {19, "use the token that holds the right key"},
	Damaged:           {20, "restore the file from a backup, or go back one generation: inkan config recover --from-prev"},
	Rollback:          {21, "somebody put an old file back: restore the newest, or accept it: inkan config recover --accept-generation"},
	AnchorBehind:      {22, "the HSM was restored from an old backup: inkan config adopt"},
	Identity:          {23, "the file is of another server or another role: put the right one back"},
	Permission:        {24, "correct the mode or owner of the file and its folder (0600 and 0700, owner the service)"},
	Version:           {25, "a newer inkan wrote it: use that version"},
	Expired:           {26, "seal it again: inkan config reseal"},
	PlaintextFound:    {27, "remove the plaintext file, or take it in: inkan config seal"},
	Conflict:          {28, "read the configuration again and repeat the change"},
	Locked:            {29, "wait until the other process is done"},
}

// Codes lists all codes by number.
func Codes() []Code {
	out := make([]Code, len(codes))
	for c, v := range codes {
		out[v.number-10] = c
	}
	return out
}

// Number is the number of §11; 0 for what is no code.
func (c Code) Number() int { return codes[c].number }

// Hint is what an operator does next.
func (c Code) Hint() string { return codes[c].hint }

// Error implements error.
func (c Code) Error() string { return string(c) }

// Error is every failure of this package: what happened to which role, and what to
// do next. Cause never holds a secret.
type Error struct {
	Code  Code
	Role  Role // empty where it is about the folder or the key
	Cause error
	Hint  string // empty: the code's
}

// Error implements error.
func (e *Error) Error() string {
	what := "secure key storage"
	if e.Role != "" {
		what = "sealed " + string(e.Role)
	}
	return fmt.Sprintf("%s: %s (%d): %v; next: %s", what, e.Code, e.Code.Number(), e.Cause, e.Next())
}

// Next is what an operator does next.
func (e *Error) Next() string {
	if e.Hint != "" {
		return e.Hint
	}
	return e.Code.Hint()
}

// Unwrap makes the code and the cause visible to errors.Is.
func (e *Error) Unwrap() []error { return []error{e.Code, e.Cause} }

// CodeOf is the code of an error; empty where it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// refuse makes an error of a role.
func refuse(c Code, r Role, format string, a ...any) error {
	return &Error{Code: c, Role: r, Cause: fmt.Errorf(format, a...)}
}

// invalid is a file that is damaged: the words that a person gets whatever the
// parser found.
func invalid(r Role, format string, a ...any) error {
	return refuse(Damaged, r, "not a valid sealed configuration: "+format, a...)
}

// ofFile gives an error of the file system its code. An error that has one stays.
func ofFile(r Role, doing string, err error) error {
	if err == nil || CodeOf(err) != "" {
		return err
	}
	c := Code("")
	switch {
	case errors.Is(err, syscall.ENOSPC), isQuota(err):
		c = NoSpace
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		c = Permission
	case errors.Is(err, fs.ErrNotExist):
		c = SealedMissing
	default:
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &Error{Code: c, Role: r, Cause: fmt.Errorf("%s: %w", doing, err)}
}
