package coolkey

import (
	"crypto/subtle"
	"encoding/binary"
	"io"
	"time"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
)

func pinLength(n int) bool { return n >= ck.MinPINLen && n <= ck.MaxPINLen }

// matches compares in constant time, whatever the lengths.
func (p *pin) matches(guess []byte) bool {
	var a, b [1 + ck.MaxPINLen]byte
	a[0], b[0] = byte(len(p.Value)), byte(len(guess))
	copy(a[1:], p.Value)
	copy(b[1:], guess)
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// slot is PIN number P1 of a command.
func (a *Applet) slot(c call) (int, *pin) {
	n := int(c.cmd.P1)
	if n >= pinSlots {
		return n, nil
	}
	return n, a.p.PINs[n]
}

// authenticate strips the nonce off a command of class B0 and finds out who sent it.
func (a *Applet) authenticate(c *call) bool {
	n := len(c.data) - len(a.v.nonce)
	if n < 0 {
		return false
	}
	nonce := c.data[n:]
	c.data = c.data[:n:n]
	var zero [8]byte
	if subtle.ConstantTimeCompare(nonce, zero[:]) == 1 {
		c.who = ck.ACLAnonymous
		return true
	}
	if subtle.ConstantTimeCompare(nonce, a.v.nonce[:]) == 1 {
		c.who = ck.ACL(a.v.loggedIn)
		return true
	}
	return false
}

func (a *Applet) verifyPIN(c call) ([]byte, apdu.StatusWord) {
	n, p := a.slot(c)
	switch {
	case p == nil:
		return nil, ck.SWIncorrectP1
	case c.cmd.P2 != 0:
		return nil, ck.SWIncorrectP2
	case p.Tries == 0:
		return nil, ck.SWIdentityBlocked
	case !pinLength(len(c.data)):
		return nil, ck.SWAuthFailed
	}
	if sw := a.present(c, n, c.data); sw != done {
		return nil, sw
	}
	for a.v.nonce == [8]byte{} {
		if _, err := io.ReadFull(c.env.Rand(), a.v.nonce[:]); err != nil {
			return nil, ck.SWInternal
		}
	}
	a.v.loggedIn |= 1 << n
	a.v.logins[n]++
	return append([]byte(nil), a.v.nonce[:]...), done
}

// present compares a PIN and keeps the try counter: the try is spent, and durable,
// before anything tells whether it was right, so that a card which dies meanwhile
// has not given it away. A wrong PIN ends all its logins and costs time, on this
// card only.
func (a *Applet) present(c call, n int, guess []byte) apdu.StatusWord {
	p := a.p.PINs[n]
	p.Tries--
	c.env.Touch()
	if err := c.env.Commit(); err != nil {
		return apdu.SWMemoryFailure
	}
	if p.matches(guess) {
		p.Tries = p.Max
		c.env.Touch()
		return done
	}
	a.endLogins(n)
	if a.delay > 0 {
		time.Sleep(a.delay)
	}
	return ck.SWAuthFailed
}

func (a *Applet) changePIN(c call) ([]byte, apdu.StatusWord) {
	n, p := a.slot(c)
	if p == nil {
		return nil, ck.SWIncorrectP1
	}
	if c.cmd.P2 != 0 {
		return nil, ck.SWIncorrectP2
	}
	old, rest, ok1 := short(c.data)
	fresh, rest, ok2 := short(rest)
	if !ok1 || !ok2 || len(rest) != 0 || !pinLength(len(old)) || !pinLength(len(fresh)) {
		return nil, ck.SWInvalidParameter
	}
	if p.Tries == 0 {
		return nil, ck.SWIdentityBlocked
	}
	if sw := a.present(c, n, old); sw != done {
		return nil, sw
	}
	a.replacePIN(c, n, fresh)
	return nil, done
}

// setPIN is the registration authority's reset of a PIN, blocked or not.
func (a *Applet) setPIN(c call) ([]byte, apdu.StatusWord) {
	n, p := a.slot(c)
	switch {
	case p == nil:
		return nil, ck.SWIncorrectP1
	case c.cmd.P2 != 0:
		return nil, ck.SWIncorrectP2
	case !pinLength(len(c.data)):
		return nil, ck.SWInvalidParameter
	}
	a.replacePIN(c, n, c.data)
	return nil, done
}

func (a *Applet) replacePIN(c call, n int, value []byte) {
	p := a.p.PINs[n]
	clear(p.Value)
	p.Value = append([]byte(nil), value...)
	p.Tries = p.Max
	a.endLogins(n)
	c.env.Touch()
}

func (a *Applet) createPIN(c call) ([]byte, apdu.StatusWord) {
	n, p := a.slot(c)
	switch {
	case !c.allowed(a.p.Create.PIN):
		return nil, ck.SWUnauthorized
	case n >= pinSlots || p != nil:
		return nil, ck.SWIncorrectP1
	case !pinLength(len(c.data)) || c.cmd.P2 == 0 || c.cmd.P2 > 127:
		return nil, ck.SWInvalidParameter
	}
	tries := int(c.cmd.P2)
	a.p.PINs[n] = &pin{Value: append([]byte(nil), c.data...), Max: tries, Tries: tries}
	a.p.PINEnabled = true
	c.env.Touch()
	return nil, done
}

// logout takes back one login; the last one ends the PIN's identity, and with the
// last identity goes the nonce. A nonce in the data is ignored.
func (a *Applet) logout(c call) ([]byte, apdu.StatusWord) {
	n, p := a.slot(c)
	if p == nil {
		return nil, ck.SWIncorrectP1
	}
	if c.cmd.P2 != 0 {
		return nil, ck.SWIncorrectP2
	}
	a.v.buffer.clear()
	if a.v.logins[n]--; a.v.logins[n] <= 0 {
		a.endLogins(n)
	}
	return nil, done
}

func (a *Applet) endLogins(n int) {
	a.v.logins[n] = 0
	a.v.loggedIn &^= 1 << n
	if a.v.loggedIn == 0 {
		clear(a.v.nonce[:])
	}
}

func (a *Applet) listPINs(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	if c.p3() != 2 {
		return nil, apdu.SWWrongLength
	}
	mask := uint16(0)
	for n, p := range a.p.PINs {
		if p != nil {
			mask |= 1 << n
		}
	}
	return binary.BigEndian.AppendUint16(nil, mask), done
}

func (a *Applet) pinTries(c call) ([]byte, apdu.StatusWord) {
	_, p := a.slot(c)
	switch {
	case p == nil:
		return nil, ck.SWIncorrectP1
	case c.cmd.P2 != 0:
		return nil, ck.SWIncorrectP2
	case c.p3() != 1:
		return nil, apdu.SWWrongLength
	}
	return []byte{byte(p.Tries)}, done
}
