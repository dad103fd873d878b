package piv_test

import (
	"errors"
	"testing"

	"inkan/apdu"
	"inkan/apdu/piv"
)

func TestPIN(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][][2]string{
		"counts down and blocks": {
			{"0020008008 3030303030303030", "63C2"}, {"0020008000", "63C2"}, {"0020008008 3030303030303030", "63C1"},
			{"0020008008 313233343536FFFF", "9000"}, {"0020008000", "9000"}, {"0020008008 3030303030303030", "63C2"},
			{"0020008000", "63C2"}, {"0020008008 3030303030303030", "63C1"}, {"0020008008 3030303030303030", "6983"},
			{"0020008008 313233343536FFFF", "6983"}, {"0020008000", "6983"},
			{"002C008010 3132333435363738 363534333231FFFF", "9000"}, {"0020008008 363534333231FFFF", "9000"},
		},
		"log out": {
			{"0020008008 313233343536FFFF", "9000"}, {"0020FF8000", "9000"}, {"0020008000", "63C3"}, {"0020FF80 01 00", "6A80"},
		},
		"select ends the login": {
			{"0020008008 313233343536FFFF", "9000"}, {"00A4040005A000000308", "61…9000"}, {"0020008000", "63C3"},
		},
		"form": {
			{"0020008006 313233343536", "6700"}, {"0020018008 313233343536FFFF", "6A86"}, {"0020009608 313233343536FFFF", "6A88"},
			{"0020000008 313233343536FFFF", "6A88"}, {"0024008008 313233343536FFFF", "6700"}, {"0024008210 313233343536FFFF 363534333231FFFF", "6A88"},
			{"0024018010 313233343536FFFF 363534333231FFFF", "6A86"}, {"002C008110 3132333435363738 363534333231FFFF", "6A88"},
			{"0024008010 313233343536FFFF 3635343332FFFFFF", "6A80"}, {"0024008010 313233343536FFFF 3635FF34333231FF", "6A80"}, {"0020008000", "63C3"},
		},
		"change": {
			{"0024008010 303030303030FFFF 363534333231FFFF", "63C2"}, {"0024008010 313233343536FFFF 363534333231FFFF", "9000"},
			{"0020008000", "63C3"}, {"0020008008 363534333231FFFF", "9000"},
			{"0024008110 3132333435363738 3837363534333231", "9000"}, {"002C008010 3132333435363738 313233343536FFFF", "63C2"},
			{"002C008010 3837363534333231 313233343536FFFF", "9000"}, {"0020008008 313233343536FFFF", "9000"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCard(t, "yubikey-5.4")
			for _, l := range lines {
				c.want(l[0], l[1])
			}
		})
	}
}

func TestPINErrors(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.4")
	var e *piv.PINError
	wrong, right := pinOf(t, "000000"), pinOf(t, piv.DefaultPIN)
	if err := piv.VerifyPIN(t.Context(), c, wrong); !errors.As(err, &e) || e.Tries != 2 || e.Blocked() || e.Error() != "wrong PIN, 2 tries left" {
		t.Errorf("%v", err)
	}
	if s, err := piv.ReadPINStatus(t.Context(), c); err != nil || s.Verified || s.Tries != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := piv.ChangePUK(t.Context(), c, wrong, right); !errors.As(err, &e) || e.What != "PUK" || e.Tries != 2 {
		t.Errorf("%v", err)
	}
	if err := piv.Unblock(t.Context(), c, wrong, right); !errors.As(err, &e) || e.What != "PUK" || e.Tries != 1 {
		t.Errorf("%v", err)
	}
	check(t, piv.VerifyPIN(t.Context(), c, right))
	if s, err := piv.ReadPINStatus(t.Context(), c); err != nil || !s.Verified {
		t.Errorf("%+v, %v", s, err)
	}
	check(t, piv.LogOut(t.Context(), c))
	check(t, piv.ChangePIN(t.Context(), c, right, pinOf(t, "87654321")))
	check(t, piv.VerifyPIN(t.Context(), c, pinOf(t, "87654321")))
}

// block spends all tries of PIN and PUK.
func (c *card) block(pin, puk bool) {
	c.t.Helper()
	wrong := pinOf(c.t, "00000000")
	var e *piv.PINError
	for range 256 {
		err := piv.VerifyPIN(c.ctx(), c, wrong)
		if !pin || errors.As(err, &e) && e.Blocked() {
			break
		}
	}
	for range 256 {
		err := piv.ChangePUK(c.ctx(), c, wrong, wrong)
		if !puk || errors.As(err, &e) && e.Blocked() {
			break
		}
	}
}

func TestResetAndRetries(t *testing.T) {
	t.Parallel()
	c := newCard(t, "yubikey-5.7")
	refused(t, "SET RETRIES without anything", piv.SetRetries(t.Context(), c, 5, 4), apdu.SWSecurityStatus)
	c.manage()
	refused(t, "SET RETRIES without PIN", piv.SetRetries(t.Context(), c, 5, 4), apdu.SWSecurityStatus)
	c.login()
	check(t, piv.ChangePIN(t.Context(), c, pinOf(t, piv.DefaultPIN), pinOf(t, "654321")))
	check(t, piv.SetRetries(t.Context(), c, 5, 4))
	c.want("00F7008000", "0101FF 050101 06020505 9000")
	c.want("00F7008100", "0101FF 050101 06020404 9000")
	c.generate(piv.Authentication, piv.P256, piv.Policy{})
	check(t, piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}))
	check(t, piv.SetManagementKey(t.Context(), c, piv.AES256, secretOf(32), false))
	c.want("00F7009B00", "01010C 02020001 050100 9000")

	c.block(true, false)
	refused(t, "reset with an open PUK", piv.Reset(t.Context(), c), apdu.SWAuthBlocked)
	c.block(false, true)
	check(t, piv.Reset(t.Context(), c))
	c.want("00F7008000", "0101FF 050101 06020303 9000")
	c.want("00F7009B00", "01010A 02020001 050101 9000")
	c.want("00F7009A00", "6A88")
	c.want("00CB3FFF055C035FC10200", "6A82")
	if err := piv.PutData(t.Context(), c, piv.CHUIDObject, []byte{1}); !errors.Is(err, apdu.SWSecurityStatus) {
		t.Errorf("the login outlived the reset: %v", err)
	}
	c.manage()
	c.generate(piv.Authentication, piv.P256, piv.Policy{})
	if _, err := piv.Attest(t.Context(), c, piv.Authentication); err != nil {
		t.Errorf("attestation after a reset: %v", err)
	}
}
