package tps

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/securechannel"
	"inkan/tks"
	"inkan/tps/auth"
	"inkan/tps/token"
)

// Status is the code of an END_OP message, numbered as Dogtag numbers them.
type Status int

// Statuses in use.
const (
	StatusOK               Status = 0
	StatusInternal         Status = 1 // unclassified; also: card busy
	StatusSetPIN           Status = 4
	StatusLifeCycle        Status = 6
	StatusEnroll           Status = 7 // generating, issuing or writing keys and certificates
	StatusCannotPerform    Status = 8 // the card answered something unusable, or the operation does not exist
	StatusLogin            Status = 14
	StatusDatabase         Status = 15
	StatusUnknownToken     Status = 16
	StatusSecureChannel    Status = 17 // also: key service, foreign keys, claimed identity
	StatusMisconfiguration Status = 18
	StatusApplet           Status = 19
	StatusKeyChangeover    Status = 20
	StatusNoMapping        Status = 22
	StatusDisabledToken    Status = 26
	StatusNotPINResettable Status = 27
	StatusConnectionLost   Status = 28
	StatusLostToken        Status = 32
	StatusOtherActiveToken Status = 34
	StatusTerminated       Status = 35
	StatusRenewal          Status = 37 // also what Dogtag says of a failed recovery
	StatusArchiveOff       Status = 39 // keys are to be archived, and there is no archive
	StatusUpdateFailed     Status = 41
	StatusRevocationFailed Status = 42
	StatusNotOwner         Status = 43
	StatusNoCardManager    Status = 45
)

// Error is the one error that crosses the wire as a status. Everything behind
// Err stays in log and audit.
type Error struct {
	Status Status
	Op     Operation
	Step   StepName
	Token  apdu.CUID
	Err    error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Step != "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Fail makes an *Error.
func Fail(s Status, err error) error { return &Error{Status: s, Err: err} }

// refuse makes an *Error with a text of its own.
func refuse(s Status, format string, a ...any) error {
	return &Error{Status: s, Err: fmt.Errorf(format, a...)}
}

// StatusOf maps any error to the status that the client gets. A cause that says
// more than the step it happened in wins: a card that left, a key service or a
// database that does not answer.
func StatusOf(err error) Status {
	for _, m := range causes {
		if errors.Is(err, m.err) {
			return m.status
		}
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return StatusInternal
}

var causes = []struct {
	err    error
	status Status
}{
	{apdu.ErrCardRemoved, StatusConnectionLost},
	{context.Canceled, StatusConnectionLost},
	{securechannel.ErrNotAccepted, StatusSecureChannel},
	{tks.ErrUnavailable, StatusSecureChannel},
	{tks.ErrCryptogram, StatusSecureChannel},
	{tks.ErrUnknownKeyVersion, StatusSecureChannel},
	{token.ErrUnavailable, StatusDatabase},
	{auth.ErrBadCredentials, StatusLogin},
	{auth.ErrThrottled, StatusLogin},
}

// within says where an error happened; the status is used unless err has one.
func within(s Status, step StepName, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		if e.Step == "" {
			e.Step = step
		}
		return err
	}
	return &Error{Status: s, Step: step, Err: err}
}
