package piv

import (
	"context"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
)

// PINLen is the length of a PIN or PUK on the wire; a shorter one is filled up
// with FF. MinPINLen is the shortest PIN.
const (
	PINLen    = 8
	MinPINLen = 6
)

// Values of a card as it leaves the factory.
const (
	DefaultPIN = "123456"
	DefaultPUK = "12345678"
)

// PINError is a PIN or PUK that the card did not take. It unwraps to the status.
type PINError struct {
	What  string // "PIN" or "PUK"
	Tries int    // left; -1 if the card does not say
	SW    apdu.StatusWord
}

// Blocked reports whether no value is taken any more.
func (e *PINError) Blocked() bool { return e.SW == apdu.SWAuthBlocked || e.Tries == 0 }

// Error implements error.
func (e *PINError) Error() string {
	switch {
	case e.Blocked():
		return fmt.Sprintf("the %s is blocked", e.What)
	case e.Tries < 0:
		return "wrong " + e.What
	case e.Tries == 1:
		return fmt.Sprintf("wrong %s, 1 try left", e.What)
	}
	return fmt.Sprintf("wrong %s, %d tries left", e.What, e.Tries)
}

// Unwrap returns the status word.
func (e *PINError) Unwrap() error { return e.SW }

// refused makes the PINError of a status, nil for one that is none.
func refused(what string, sw apdu.StatusWord) *PINError {
	if n, ok := sw.Retries(); ok {
		return &PINError{What: what, Tries: n, SW: sw}
	}
	switch {
	case sw == apdu.SWAuthBlocked:
		return &PINError{What: what, SW: sw}
	case sw == apdu.SWAuthFailed:
		return &PINError{What: what, Tries: -1, SW: sw}
	case sw&0xFFF0 == 0x6300: // cards before 63Cx
		return &PINError{What: what, Tries: int(sw & 0xF), SW: sw}
	}
	return nil
}

var errPINLen = fmt.Errorf("a PIN or PUK has 1 to %d bytes", PINLen)

// padded puts values of 8 bytes each behind one another. The caller clears it.
func padded(values ...secret.PIN) ([]byte, error) {
	b := make([]byte, 0, PINLen*len(values))
	for _, v := range values {
		if v.Len() < 1 || v.Len() > PINLen {
			clear(b)
			return nil, errPINLen
		}
		b = append(b, v.Bytes()...)
		for len(b)%PINLen != 0 {
			b = append(b, 0xFF)
		}
	}
	return b, nil
}

// reference runs a command with PINs in its data.
func reference(ctx context.Context, d apdu.Doer, doing, what string, ins, p2 byte, values ...secret.PIN) error {
	data, err := padded(values...)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer clear(data)
	c := command(ins, 0, p2, data, 0)
	r, err := send(ctx, d, c)
	if err == nil {
		if e := refused(what, r.SW); e != nil {
			err = e
		} else {
			err = r.Check(c)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// VerifyPIN logs in until the next reset or SELECT. A refused PIN is a *[PINError].
func VerifyPIN(ctx context.Context, d apdu.Doer, pin secret.PIN) error {
	return reference(ctx, d, "verifying the PIN", "PIN", InsVerify, p2PIN, pin)
}

// PINStatus is what VERIFY without a PIN tells.
type PINStatus struct {
	Verified bool
	Tries    int // left; -1 while verified, when cards do not say
}

// ReadPINStatus asks whether the PIN is verified, without spending a try.
func ReadPINStatus(ctx context.Context, d apdu.Doer) (PINStatus, error) {
	c := command(InsVerify, 0, p2PIN, nil, 0)
	r, err := send(ctx, d, c)
	if err != nil {
		return PINStatus{}, fmt.Errorf("reading the PIN's state: %w", err)
	}
	if r.SW == apdu.SWSuccess {
		return PINStatus{Verified: true, Tries: -1}, nil
	}
	if e := refused("PIN", r.SW); e != nil {
		return PINStatus{Tries: e.Tries}, nil
	}
	return PINStatus{}, fmt.Errorf("reading the PIN's state: %w", r.Check(c))
}

// LogOut ends the login.
func LogOut(ctx context.Context, d apdu.Doer) error {
	_, err := call(ctx, d, "logging out", command(InsVerify, logOut, p2PIN, nil, 0))
	return err
}

// ChangePIN replaces the PIN by its owner. A refused old PIN is a *[PINError].
func ChangePIN(ctx context.Context, d apdu.Doer, old, new secret.PIN) error {
	return reference(ctx, d, "changing the PIN", "PIN", InsChange, p2PIN, old, new)
}

// ChangePUK replaces the PUK. A refused old PUK is a *[PINError].
func ChangePUK(ctx context.Context, d apdu.Doer, old, new secret.PIN) error {
	return reference(ctx, d, "changing the PUK", "PUK", InsChange, p2PUK, old, new)
}

// Unblock sets a new PIN with the PUK, and gives the PIN all its tries back. A
// refused PUK is a *[PINError].
func Unblock(ctx context.Context, d apdu.Doer, puk, pin secret.PIN) error {
	return reference(ctx, d, "setting a new PIN", "PUK", InsResetRetry, p2PIN, puk, pin)
}

// SetRetries sets how many tries PIN and PUK have, 1 to 255, and makes both the
// factory's values. It needs the management key and a verified PIN.
func SetRetries(ctx context.Context, d apdu.Doer, pin, puk int) error {
	if min(pin, puk) < 1 || max(pin, puk) > 255 {
		return errors.New("setting the tries of PIN and PUK: 1 to 255 are possible")
	}
	_, err := call(ctx, d, "setting the tries of PIN and PUK", command(InsSetRetries, byte(pin), byte(puk), nil, 0))
	return err
}
