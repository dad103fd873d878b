//go:build cgo && !windows

package pkcs11

import (
	"errors"
	"fmt"
	"strings"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// errNames are return values that the binding has no name for.
var errNames = map[uint]string{0x1B: "CKR_ACTION_PROHIBITED"}

// rv prints a return value as CKR_NAME(0xNN); any other error as it is.
func rv(err error) string {
	e, ok := asRV(err)
	if !ok {
		return err.Error()
	}
	_, name, _ := strings.Cut(strings.TrimPrefix(e.Error(), "pkcs11: "), ": ")
	if name == "" {
		name = errNames[uint(e)]
	}
	if name == "" {
		name = "CKR_VENDOR_DEFINED"
	}
	return fmt.Sprintf("%s(0x%X)", name, uint(e))
}

// isRV reports whether err is one of the return values.
func isRV(err error, values ...uint) bool {
	e, ok := asRV(err)
	if !ok {
		return false
	}
	for _, v := range values {
		if uint(e) == v {
			return true
		}
	}
	return false
}

// class is what a return value calls for (hsm.md §16).
type class uint8

const (
	classCaller  class = iota + 1 // the request was wrong, the token is fine
	classSession                  // session, login or handle is gone
	classDevice                   // token or connection is gone
	classProbe                    // says nothing: ask the token how it is
	classPIN                      // never try again
)

var classes = map[uint]class{
	p11.CKR_SESSION_CLOSED: classSession, p11.CKR_SESSION_HANDLE_INVALID: classSession,
	p11.CKR_OPERATION_ACTIVE: classSession, p11.CKR_OPERATION_NOT_INITIALIZED: classSession,
	p11.CKR_USER_NOT_LOGGED_IN: classSession, p11.CKR_OBJECT_HANDLE_INVALID: classSession,
	p11.CKR_KEY_HANDLE_INVALID: classSession,

	p11.CKR_FUNCTION_FAILED: classDevice, p11.CKR_DEVICE_ERROR: classDevice, p11.CKR_DEVICE_MEMORY: classDevice,
	p11.CKR_DEVICE_REMOVED: classDevice, p11.CKR_TOKEN_NOT_PRESENT: classDevice, p11.CKR_TOKEN_NOT_RECOGNIZED: classDevice,
	p11.CKR_CRYPTOKI_NOT_INITIALIZED: classDevice, p11.CKR_SLOT_ID_INVALID: classDevice,

	p11.CKR_GENERAL_ERROR: classProbe, p11.CKR_HOST_MEMORY: classProbe,

	p11.CKR_PIN_INCORRECT: classPIN, p11.CKR_PIN_INVALID: classPIN, p11.CKR_PIN_LEN_RANGE: classPIN,
	p11.CKR_PIN_EXPIRED: classPIN, p11.CKR_PIN_LOCKED: classPIN,
}

func classOf(err error) class {
	e, ok := asRV(err)
	if !ok {
		return classCaller
	}
	if c, ok := classes[uint(e)]; ok {
		return c
	}
	if uint(e) >= p11.CKR_VENDOR_DEFINED {
		return classDevice
	}
	return classCaller
}

// asRV returns the return value in err.
func asRV(err error) (p11.Error, bool) {
	var e p11.Error
	ok := errors.As(err, &e)
	return e, ok
}

func isUnavailable(err error) bool { return errors.Is(err, hsm.ErrUnavailable) }
