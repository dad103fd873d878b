package piv

import (
	"bytes"
	"crypto/subtle"

	"inkan/apdu"
	"inkan/apdu/piv"
)

// References of the secrets.
const (
	refPIN byte = 0x80
	refPUK byte = 0x81
)

// reference is a PIN or PUK with its counter.
type reference struct {
	Value [piv.PINLen]byte
	Max   int
	Tries int
}

func newReference(value string, tries int) reference {
	r := reference{Max: tries, Tries: tries}
	r.set([]byte(value))
	return r
}

func (r *reference) sound() bool {
	return r.Max >= 1 && r.Max <= 255 && r.Tries >= 0 && r.Tries <= r.Max
}

// set stores a value of at most eight bytes and gives all tries back.
func (r *reference) set(value []byte) {
	for i := range r.Value {
		r.Value[i] = 0xFF
	}
	copy(r.Value[:], value)
	r.Tries = r.Max
}

func (r *reference) is(value string) bool {
	want := newReference(value, 1)
	return subtle.ConstantTimeCompare(r.Value[:], want.Value[:]) == 1
}

// status is 63Cx for the tries left, or 6983.
func (r *reference) status() apdu.StatusWord {
	if r.Tries == 0 {
		return apdu.SWAuthBlocked
	}
	return 0x63C0 | apdu.StatusWord(min(r.Tries, 15))
}

// present compares a value: the try is spent, and durable, before anything tells
// whether it was right, and given back with all others if it was.
func (a *Applet) present(c call, r *reference, value []byte) apdu.StatusWord {
	if r.Tries == 0 {
		return apdu.SWAuthBlocked
	}
	r.Tries--
	c.env.Touch()
	if err := c.env.Commit(); err != nil {
		return apdu.SWMemoryFailure
	}
	if subtle.ConstantTimeCompare(r.Value[:], value) != 1 {
		a.lockedOut()
		return r.status()
	}
	r.Tries = r.Max
	c.env.Touch()
	return done
}

// lockedOut erases all keys of a PivApplet that has lost PIN and PUK.
func (a *Applet) lockedOut() {
	if a.cfg.yubikey() || a.p.PIN.Tries > 0 || a.p.PUK.Tries > 0 {
		return
	}
	a.eraseKeys()
}

func (a *Applet) verify(c call) ([]byte, apdu.StatusWord) {
	switch {
	case c.cmd.P1 != 0 && c.cmd.P1 != 0xFF:
		return nil, apdu.SWIncorrectP1P2
	case c.cmd.P2 != refPIN:
		return nil, apdu.SWReferencedNotFound
	case c.cmd.P1 == 0xFF && len(c.cmd.Data) > 0:
		return nil, apdu.SWWrongData
	case c.cmd.P1 == 0xFF:
		a.v.verified = false
		return nil, done
	case len(c.cmd.Data) == 0 && a.v.verified:
		return nil, done
	case len(c.cmd.Data) == 0:
		return nil, a.p.PIN.status()
	case len(c.cmd.Data) != piv.PINLen:
		return nil, apdu.SWWrongLength
	}
	sw := a.present(c, &a.p.PIN, c.cmd.Data)
	a.v.verified, a.v.fresh = sw == done, sw == done
	return nil, sw
}

// pair checks the form of CHANGE REFERENCE DATA and RESET RETRY COUNTER and takes
// their two values apart. The new one is looked at before the old one costs a try.
func (a *Applet) pair(c call, wellFormed func([]byte) bool) (old, new []byte, sw apdu.StatusWord) {
	switch {
	case c.cmd.P1 != 0:
		return nil, nil, apdu.SWIncorrectP1P2
	case len(c.cmd.Data) != 2*piv.PINLen && a.cfg.yubikey():
		return nil, nil, apdu.SWWrongLength
	case len(c.cmd.Data) != 2*piv.PINLen:
		return nil, nil, apdu.SWWrongData
	}
	old, new = c.cmd.Data[:piv.PINLen], c.cmd.Data[piv.PINLen:]
	if !wellFormed(new) {
		return nil, nil, apdu.SWWrongData
	}
	return old, new, done
}

func (a *Applet) change(c call) ([]byte, apdu.StatusWord) {
	target, format := &a.p.PIN, a.pinFormat
	switch c.cmd.P2 {
	case refPIN:
	case refPUK:
		target, format = &a.p.PUK, a.pukFormat
	default:
		return nil, apdu.SWReferencedNotFound
	}
	old, new, sw := a.pair(c, format)
	if sw != done {
		return nil, sw
	}
	if sw := a.present(c, target, old); sw != done {
		if c.cmd.P2 == refPIN {
			a.v.verified = false
		}
		return nil, sw
	}
	target.set(new)
	return nil, done
}

// unblock sets a new PIN with the PUK.
func (a *Applet) unblock(c call) ([]byte, apdu.StatusWord) {
	if c.cmd.P2 != refPIN {
		return nil, apdu.SWReferencedNotFound
	}
	puk, pin, sw := a.pair(c, a.pinFormat)
	if sw != done {
		return nil, sw
	}
	if sw := a.present(c, &a.p.PUK, puk); sw != done {
		return nil, sw
	}
	a.p.PIN.set(pin)
	return nil, done
}

// pinFormat wants 6 to 8 bytes, filled up with FF; of PivApplet digits only.
func (a *Applet) pinFormat(b []byte) bool {
	value := bytes.TrimRight(b, "\xFF")
	if len(value) < piv.MinPINLen || bytes.IndexByte(value, 0xFF) >= 0 {
		return false
	}
	return a.cfg.yubikey() || len(bytes.Trim(value, "0123456789")) == 0
}

// pukFormat wants what pinFormat does, of PivApplet any eight bytes.
func (a *Applet) pukFormat(b []byte) bool { return !a.cfg.yubikey() || a.pinFormat(b) }

// setRetries sets the numbers of tries and makes PIN and PUK the factory's.
func (a *Applet) setRetries(c call) ([]byte, apdu.StatusWord) {
	if !a.v.verified {
		return nil, apdu.SWSecurityStatus
	}
	if c.cmd.P1 == 0 || c.cmd.P2 == 0 {
		return nil, apdu.SWIncorrectP1P2
	}
	a.p.PIN = newReference(piv.DefaultPIN, int(c.cmd.P1))
	a.p.PUK = newReference(piv.DefaultPUK, int(c.cmd.P2))
	a.v.verified = false
	c.env.Touch()
	return nil, done
}

// factoryReset erases everything but the attestation, once nobody can get in.
func (a *Applet) factoryReset(c call) ([]byte, apdu.StatusWord) {
	if a.p.PIN.Tries > 0 || a.p.PUK.Tries > 0 {
		if a.cfg.yubikey() {
			return nil, apdu.SWAuthBlocked
		}
		return nil, apdu.SWSecurityStatus
	}
	a.eraseKeys()
	for o := range a.p.Objects {
		if o != piv.AttestationCertificate {
			delete(a.p.Objects, o)
		}
	}
	a.factory()
	a.Reset()
	c.env.Touch()
	return nil, done
}

// eraseKeys erases all keys but that of the attestation.
func (a *Applet) eraseKeys() {
	for slot, k := range a.p.Keys {
		if slot != piv.Attestation {
			k.wipe()
			delete(a.p.Keys, slot)
		}
	}
}
