//go:build cgo && !windows

package pkcs11

import (
	"context"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"inkan/tks/hsm"
)

const sessionFlags = p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION // some tokens have no other

// connect finds the token, logs in and negotiates. Login is attempted once.
func (t *Token) connect(ctx context.Context) (*conn, error) {
	gen := t.mod.generation()
	return call(ctx, t.mod, gen, 6*t.cfg.OpTimeout, func(m *p11.Ctx) (*conn, error) {
		c := &conn{gen: gen, masters: map[hsm.MasterID]*masterHandle{}, private: map[hsm.SignerLabel]p11.ObjectHandle{}}
		if err := t.findToken(m, c); err != nil {
			return nil, err
		}
		h, err := m.OpenSession(c.slot, sessionFlags)
		if err != nil {
			return nil, fmt.Errorf("opening a session of token %s: %s: %w", c.name(), rv(err), hsm.ErrUnavailable)
		}
		c.anchor = h
		if err := t.login(m, c); err != nil {
			return nil, errors.Join(err, ignore(m.CloseSession(h)))
		}
		if err := c.negotiate(m); err != nil {
			return nil, errors.Join(err, ignore(m.CloseSession(h)))
		}
		return c, nil
	})
}

// ignore drops an error of cleaning up after a failure that is reported already.
func ignore(error) error { return nil }

// findToken chooses the slot. Labels need not be unique: an ambiguous URI is refused.
func (t *Token) findToken(m *p11.Ctx, c *conn) error {
	if i, err := m.GetInfo(); err == nil {
		c.lib = fmt.Sprintf("%s %d.%d", i.LibraryDescription, i.LibraryVersion.Major, i.LibraryVersion.Minor)
	}
	slots, err := m.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("listing slots of %s: %s: %w", t.mod.path, rv(err), hsm.ErrUnavailable)
	}
	found := 0
	var seen []string
	for _, s := range slots {
		info, err := m.GetTokenInfo(s)
		if err != nil {
			seen = append(seen, fmt.Sprintf("slot %d: %s", s, rv(err)))
			continue
		}
		seen = append(seen, fmt.Sprintf("%q", info.Label))
		if t.cfg.URI.matches(s, info) {
			c.slot, c.info = s, info
			found++
		}
	}
	switch found {
	case 0:
		return fmt.Errorf("no token matches %s; the module has %v: %w", t.cfg.URI, seen, hsm.ErrUnavailable)
	case 1:
		return checkToken(c)
	}
	return fmt.Errorf("%d tokens match %s: name the one by serial", found, t.cfg.URI)
}

func (u URI) matches(slot uint, i p11.TokenInfo) bool {
	return (u.Slot == nil || *u.Slot == slot) &&
		(u.Token == "" || u.Token == i.Label) &&
		(u.Serial == "" || u.Serial == i.SerialNumber) &&
		(u.Model == "" || u.Model == i.Model) &&
		(u.Manufacturer == "" || u.Manufacturer == i.ManufacturerID)
}

// checkToken refuses a token that a login would only hurt.
func checkToken(c *conn) error {
	switch f := c.info.Flags; {
	case f&p11.CKF_TOKEN_INITIALIZED == 0:
		return fmt.Errorf("token %s is not initialized: initialize it with its maker's tool", c.name())
	case f&p11.CKF_USER_PIN_LOCKED != 0:
		return fmt.Errorf("token %s: the user PIN is locked, the security officer must set a new one: %w", c.name(), hsm.ErrPIN)
	case f&p11.CKF_WRITE_PROTECTED != 0:
		return fmt.Errorf("token %s is write-protected", c.name())
	}
	return nil
}

func (t *Token) login(m *p11.Ctx, c *conn) error {
	err := m.Login(c.anchor, p11.CKU_USER, string(t.pin.Bytes())) // the binding wants a string
	switch {
	case err == nil, isRV(err, p11.CKR_USER_ALREADY_LOGGED_IN):
		return nil
	case classOf(err) == classPIN || isRV(err, p11.CKR_ARGUMENTS_BAD):
		return fmt.Errorf("logging in to token %s: %s; it is not tried again, tokens lock after a few: %w", c.name(), rv(err), hsm.ErrPIN)
	case isRV(err, p11.CKR_USER_PIN_NOT_INITIALIZED):
		return fmt.Errorf("logging in to token %s: the token has no user PIN yet: %w", c.name(), hsm.ErrPIN)
	}
	return fmt.Errorf("logging in to token %s: %s: %w", c.name(), rv(err), hsm.ErrUnavailable)
}

// negotiate runs the known answers in a session of their own.
func (c *conn) negotiate(m *p11.Ctx) error {
	h, err := m.OpenSession(c.slot, sessionFlags)
	if err != nil {
		return fmt.Errorf("opening a session of token %s: %s: %w", c.name(), rv(err), hsm.ErrUnavailable)
	}
	s, err := negotiate(m, h)
	if err := errors.Join(err, m.CloseSession(h)); err != nil {
		return fmt.Errorf("trying the mechanisms of token %s: %s: %w", c.name(), rv(err), hsm.ErrUnavailable)
	}
	c.strategies = s
	return nil
}
