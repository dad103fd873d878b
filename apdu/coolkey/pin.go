package coolkey

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/secret"
)

// PIN lengths the applet takes.
const (
	MinPINLen = 4
	MaxPINLen = 16
)

// UserPIN is the number of the person's PIN.
const UserPIN = 0

// PINError is a PIN that the card did not take. It unwraps to [SWAuthFailed] or
// [SWIdentityBlocked].
type PINError struct {
	Tries int // left; -1 if the applet does not say
	SW    apdu.StatusWord
}

// Blocked reports whether only [SetPIN] can make the PIN usable again.
func (e *PINError) Blocked() bool { return e.SW == SWIdentityBlocked || e.Tries == 0 }

// Error implements error.
func (e *PINError) Error() string {
	switch {
	case e.Blocked():
		return "the PIN is blocked"
	case e.Tries < 0:
		return "wrong PIN"
	case e.Tries == 1:
		return "wrong PIN, 1 try left"
	}
	return fmt.Sprintf("wrong PIN, %d tries left", e.Tries)
}

// Unwrap returns the status word.
func (e *PINError) Unwrap() error { return e.SW }

// VerifyPIN logs in with PIN number n and returns the nonce that proves it. A
// refused PIN is a *[PINError].
func VerifyPIN(ctx context.Context, d apdu.Doer, n int, pin secret.PIN) (Nonce, error) {
	c := plain(0x42, byte(n), 0, pin.Bytes(), NonceLen)
	r, err := send(ctx, d, c)
	if err == nil {
		err = pinError(ctx, d, n, c, r)
	}
	if err == nil && len(r.Data) != NonceLen {
		err = fmt.Errorf("nonce of %d bytes, want %d", len(r.Data), NonceLen)
	}
	if err != nil {
		return Nonce{}, fmt.Errorf("verifying PIN %d: %w", n, err)
	}
	return NewNonce([NonceLen]byte(r.Data)), nil
}

// ChangePIN replaces PIN number n by its owner and ends its logins. A refused old
// PIN is a *[PINError].
func ChangePIN(ctx context.Context, d apdu.Doer, n int, old, new secret.PIN) error {
	data := make([]byte, 0, 2+2*MaxPINLen)
	defer func() { clear(data[:cap(data)]) }()
	if old.Len() > MaxPINLen || new.Len() > MaxPINLen {
		return fmt.Errorf("changing PIN %d: longer than %d bytes", n, MaxPINLen)
	}
	data = append(append(data, byte(old.Len())), old.Bytes()...)
	data = append(append(data, byte(new.Len())), new.Bytes()...)
	c := plain(0x44, byte(n), 0, data, 0)
	r, err := send(ctx, d, c)
	if err == nil {
		err = pinError(ctx, d, n, c, r)
	}
	if err != nil {
		return fmt.Errorf("changing PIN %d: %w", n, err)
	}
	return nil
}

// pinError turns a refusal into a PINError, asking for the tries left.
func pinError(ctx context.Context, d apdu.Doer, n int, c apdu.Command, r apdu.Response) error {
	switch r.SW {
	case SWIdentityBlocked:
		return &PINError{SW: r.SW}
	case SWAuthFailed:
		tries, err := PINTries(ctx, d, n)
		if errors.Is(err, apdu.ErrCardRemoved) {
			return err
		}
		if err != nil {
			tries = -1
		}
		return &PINError{Tries: tries, SW: r.SW}
	}
	return named(r.Check(c))
}

// PINTries asks how many tries PIN number n has left. Applets before
// 1.4.54de790f answer 6D00.
func PINTries(ctx context.Context, d apdu.Doer, n int) (int, error) {
	b, err := call(ctx, d, fmt.Sprintf("reading the tries of PIN %d", n), plain(0x4A, byte(n), 0, nil, 1), 1)
	if err != nil {
		return 0, err
	}
	return int(b[0]), nil
}

// ListPINs asks which PINs exist, in rising order.
func ListPINs(ctx context.Context, d apdu.Doer) ([]int, error) {
	b, err := call(ctx, d, "listing PINs", plain(0x48, 0, 0, nil, 2), 2)
	if err != nil {
		return nil, err
	}
	var pins []int
	mask := binary.BigEndian.Uint16(b)
	for n := range 16 {
		if mask>>n&1 == 1 {
			pins = append(pins, n)
		}
	}
	return pins, nil
}

// Logout ends the login of PIN number n.
func Logout(ctx context.Context, d apdu.Doer, n int, nonce Nonce) error {
	_, err := call(ctx, d, fmt.Sprintf("logging out PIN %d", n), plain(0x61, byte(n), 0, nonce.Bytes(), 0), 0)
	return err
}

// CreatePIN creates PIN number n with at most tries wrong tries in a row, 1 to
// 127. An existing PIN is refused with [SWIncorrectP1]; its tries stay.
func CreatePIN(ctx context.Context, d apdu.Doer, a Access, n, tries int, pin secret.PIN) error {
	_, err := call(ctx, d, fmt.Sprintf("creating PIN %d", n), CreatePINCommand(a, n, tries, pin), 0)
	return err
}

// CreatePINCommand is 84 40 or B0 40. The command holds a copy of the PIN's bytes
// or the bytes themselves: it must not outlive them.
func CreatePINCommand(a Access, n, tries int, pin secret.PIN) apdu.Command {
	return a.command(0x40, byte(n), byte(tries), pin.Bytes(), 0)
}

// SetPIN replaces PIN number n without the old one, gives it all its tries back
// and ends its logins. It runs through a channel.
func SetPIN(ctx context.Context, d apdu.Doer, n int, pin secret.PIN) error {
	_, err := call(ctx, d, fmt.Sprintf("setting PIN %d", n), SetPINCommand(n, pin), 0)
	return err
}

// CreateAndSetPIN creates PIN number n with initial as its value, unless there is
// one, and gives it the value pin: [CreatePIN] and [SetPIN] in one list. An
// existing PIN keeps the tries it was created with. It runs through a channel.
func CreateAndSetPIN(ctx context.Context, d apdu.Doer, n, tries int, initial, pin secret.PIN) error {
	create, set := CreatePINCommand(Channel(), n, tries, initial), SetPINCommand(n, pin)
	rs, err := apdu.DoAll(ctx, d, []apdu.Entry{{Command: create, Mode: apdu.Anyway}, {Command: set}})
	if err == nil && len(rs) != 2 {
		err = fmt.Errorf("%d answers to two commands", len(rs))
	}
	if err != nil {
		return fmt.Errorf("creating and setting PIN %d: %w", n, err)
	}
	if rs[0].SW != SWIncorrectP1 {
		if err := rs[0].Check(create); err != nil {
			return fmt.Errorf("creating PIN %d: %w", n, named(err))
		}
	}
	if err := rs[1].Check(set); err != nil {
		return fmt.Errorf("setting PIN %d: %w", n, named(err))
	}
	return nil
}

// SetPINCommand is 84 04. The command holds the PIN's bytes: it must not outlive them.
func SetPINCommand(n int, pin secret.PIN) apdu.Command {
	return secure(0x04, byte(n), 0, pin.Bytes(), 0)
}
