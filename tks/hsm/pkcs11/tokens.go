//go:build cgo && !windows

package pkcs11

import (
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

// Tokens lists the initialized tokens of a module, which is given reserved as
// [URI.InitReserved]. It logs in to none.
func Tokens(module, reserved string) (out []TokenInfo, err error) {
	m, err := loadModule(module, reserved)
	if err != nil {
		return nil, fmt.Errorf("listing tokens: %w", err)
	}
	defer func() { err = errors.Join(err, m.release()) }()
	m.mu.RLock()
	defer m.mu.RUnlock()
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, fmt.Errorf("listing tokens of %s: %s: %w", module, rv(err), hsm.ErrUnavailable)
	}
	for _, s := range slots {
		i, err := m.ctx.GetTokenInfo(s)
		if err != nil || i.Flags&p11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		out = append(out, TokenInfo{Label: i.Label, Serial: i.SerialNumber, Model: i.Model, Manufacturer: i.ManufacturerID, PINState: pinState(i.Flags)})
	}
	return out, nil
}

func pinState(flags uint) string {
	switch {
	case flags&p11.CKF_USER_PIN_LOCKED != 0:
		return "the PIN is locked: the security officer must set a new one"
	case flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return "ONE try of the PIN is left"
	case flags&p11.CKF_USER_PIN_COUNT_LOW != 0:
		return "a wrong PIN was tried before"
	case flags&p11.CKF_USER_PIN_INITIALIZED == 0:
		return "the token has no user PIN yet"
	}
	return ""
}
