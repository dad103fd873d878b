// Package coolkey is the CoolKey applet of the software card: PINs, objects with
// access rules, RSA and elliptic curve keys made on the card or brought to it
// encrypted, as TPS servers and the PKCS #11 modules of coolkey and OpenSC expect
// them.
//
// [Factory] gives the card runtime (package sim/gp) what it needs to make
// instances. The behaviour is that of the 1.4 applet, with the limits and
// differences of a [Variant]; the variant Extended adds elliptic curves, keys of
// 4096 bits and AES import.
//
// Differences from the real applet, all towards safety: the try counter, nonces
// and key checks are compared in constant time, the I/O buffer is cleared at
// logout and after use, lengths are checked where the real one relies on
// exceptions, and an object that is to be replaced survives when there is no
// room for the new one. R-MAC sessions (INS 78, 7A) are not implemented.
//
// An Applet serves one goroutine at a time, as the runtime has it. Instances
// share nothing.
package coolkey

import (
	"errors"
	"fmt"
	"time"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/securechannel"
	"inkan/sim/gp"
)

// DefaultPINDelay is how long an applet waits after a wrong PIN.
const DefaultPINDelay = 10 * time.Millisecond

// Config says what kind of applet a [Factory] makes.
type Config struct {
	Variant Variant // zero value: Extended
	// Version is reported where the load file does not name one; zero: the
	// variant's own.
	Version ck.Version
	// PINDelay is the wait after a wrong PIN; 0 = DefaultPINDelay, negative = none.
	PINDelay time.Duration
}

// Applet is one instance.
type Applet struct {
	traits traits
	delay  time.Duration
	p      state    // persistent
	v      volatile // gone at reset
}

// volatile is what a reset clears.
type volatile struct {
	nonce    [8]byte
	loggedIn uint16 // PIN bits
	logins   [pinSlots]int
	buffer   ioBuffer
	initKey  int // key of COMPUTE CRYPT INIT, -1 = none
	listed   uint32
	nextKey  int
}

// Factory returns the constructor of instances for the card runtime. The value of
// C9 holds issuer info, heap size and switches (coolkey-applet.md §13), the load
// file the version (§15.3).
func Factory(c Config) gp.Factory {
	return func(_ apdu.AID, params, code []byte) (gp.Applet, error) {
		v, err := ParseVariant(string(c.Variant))
		if err != nil {
			return nil, fmt.Errorf("making CoolKey applet: %w", err)
		}
		t := variants[v]
		a := &Applet{traits: t, delay: c.PINDelay}
		if a.delay == 0 {
			a.delay = DefaultPINDelay
		}
		a.p = newState(t)
		if !c.Version.IsZero() {
			a.p.Version = c.Version
		}
		if v, ok := versionOf(code); ok {
			a.p.Version = v
		}
		a.p.install(params)
		a.Reset()
		return a, nil
	}
}

var _ gp.Applet = (*Applet)(nil)

// Select implements gp.Applet: 9000 without data. Clients take any data for a
// different applet. Logins survive.
func (a *Applet) Select(gp.Env) apdu.Response { return apdu.Response{SW: apdu.SWSuccess} }

// Deselect implements gp.Applet: the I/O buffer is cleared, logins survive.
func (a *Applet) Deselect(gp.Env) {
	a.v.buffer.clear()
	a.v.initKey = -1
}

// Reset implements gp.Applet.
func (a *Applet) Reset() {
	a.v.buffer.clear()
	a.v = volatile{buffer: newIOBuffer(a.traits.ioBuffer), initKey: -1}
}

// AcceptsLevel implements gp.Applet: C-MAC with or without encryption; applets
// from 1.5 on also take response protection.
func (a *Applet) AcceptsLevel(l securechannel.Level) bool {
	if l&securechannel.CMAC == 0 {
		return false
	}
	return a.traits.has(rmacLevels) || l&(securechannel.RMAC|securechannel.RENC) == 0
}

// call is one command while it runs.
type call struct {
	env  gp.Env
	cmd  apdu.Command
	data []byte // without nonce
	who  ck.ACL // identities present
}

// allowed reports whether one of the identities of acl is present.
func (c call) allowed(acl ck.ACL) bool { return acl&c.who != 0 }

// p3 is what the applet takes for the expected length: the fifth byte of the command.
func (c call) p3() int {
	if len(c.cmd.Data) > 0 {
		return len(c.cmd.Data)
	}
	return c.cmd.Ne
}

// noParameters checks P1 = P2 = 00.
func (c call) noParameters() apdu.StatusWord { return c.parameters(0) }

// parameters checks P1 ≤ maxP1 and P2 = 00.
func (c call) parameters(maxP1 byte) apdu.StatusWord {
	if c.cmd.P1 > maxP1 {
		return ck.SWIncorrectP1
	}
	if c.cmd.P2 != 0 {
		return ck.SWIncorrectP2
	}
	return done
}

const done = apdu.SWSuccess

// maxAnswer is the longest answer: relays of others hold no longer one.
const maxAnswer = 255

// handler runs a command.
type handler func(a *Applet, c call) ([]byte, apdu.StatusWord)

// operation is a handler with what it needs.
type operation struct {
	run   handler
	nonce bool    // part of the nonce set (class B0)
	needs feature // of the variant
}

// Process implements gp.Applet.
func (a *Applet) Process(env gp.Env, cmd apdu.Command) apdu.Response {
	data, sw := a.process(env, cmd)
	if sw == done && len(data) > maxAnswer {
		data, sw = nil, ck.SWInternal
	}
	if sw != done {
		data = nil
	}
	return apdu.Response{Data: data, SW: sw}
}

func (a *Applet) process(env gp.Env, cmd apdu.Command) ([]byte, apdu.StatusWord) {
	if len(cmd.Data) > apdu.MaxShortData {
		return nil, apdu.SWWrongLength
	}
	c := call{env: env, cmd: cmd, data: cmd.Data}
	switch cmd.CLA {
	case 0x00, 0xA4:
		return nil, done
	case 0x80: // INITIALIZE UPDATE is the runtime's
		return nil, apdu.SWInsNotSupported
	case 0x84:
		if l := env.Level(); l < 0 || a.traits.has(demandsMAC) && securechannel.Level(l)&securechannel.CMAC == 0 {
			return nil, apdu.SWSecurityStatus
		}
		c.who = ck.ACLAuthority
		return a.dispatch(secureOps, c)
	case 0xB0:
		return a.dispatch(plainOps, c)
	}
	return nil, apdu.SWClaNotSupported
}

func (a *Applet) dispatch(ops map[byte]operation, c call) ([]byte, apdu.StatusWord) {
	op, ok := ops[c.cmd.INS]
	if !ok || !a.traits.has(op.needs) {
		return nil, apdu.SWInsNotSupported
	}
	if op.nonce || c.cmd.CLA == 0xB0 && c.cmd.INS == insLogout && a.traits.has(nonceAtLogout) {
		if !a.authenticate(&c) {
			return nil, ck.SWUnauthorized
		}
	}
	return op.run(a, c)
}

const insLogout = 0x61

// plainOps are the commands of class B0, secureOps those of class 84.
var (
	plainOps = map[byte]operation{
		0x42:      {run: (*Applet).verifyPIN},
		0x44:      {run: (*Applet).changePIN},
		insLogout: {run: (*Applet).logout},
		0x48:      {run: (*Applet).listPINs},
		0x4A:      {run: (*Applet).pinTries, needs: tellsTries},
		0x3A:      {run: (*Applet).listKeys},
		0x3C:      {run: (*Applet).status},
		0x58:      {run: (*Applet).listObjects},
		0x70:      {run: (*Applet).buildID},
		0x71:      {run: (*Applet).nop},
		0x72:      {run: (*Applet).random},
		0x73:      {run: (*Applet).nop}, // the generator needs no seed
		0xF2:      {run: (*Applet).lifeCycle},
		0xF6:      {run: (*Applet).issuerInfo},
		0xFA:      {run: (*Applet).creationACL},
		0x32:      {run: (*Applet).importPlain, nonce: true},
		0x36:      {run: (*Applet).computeCrypt, nonce: true},
		0x37:      {run: (*Applet).computeEC, nonce: true, needs: ellipticCurves},
		0x38:      {run: (*Applet).computeEC, nonce: true, needs: ellipticCurves},
		0x40:      {run: (*Applet).createPIN, nonce: true},
		0x52:      {run: (*Applet).deleteObject, nonce: true},
		0x54:      {run: (*Applet).writeObject, nonce: true},
		0x56:      {run: (*Applet).readObject, nonce: true},
		0x5A:      {run: (*Applet).createObject, nonce: true},
	}
	secureOps = map[byte]operation{
		0x04: {run: (*Applet).setPIN},
		0x0A: {run: (*Applet).importEncrypted},
		0x0C: {run: (*Applet).generateRSA},
		0x0D: {run: (*Applet).generateEC, needs: ellipticCurves},
		0x55: {run: (*Applet).clearKeySlots, needs: clearsSlots},
		0xF0: {run: (*Applet).setLifeCycle},
		0xF4: {run: (*Applet).setIssuerInfo},
		0xF8: {run: (*Applet).setCreationACL},
		0x32: {run: (*Applet).importPlain},
		0x36: {run: (*Applet).computeCrypt},
		0x40: {run: (*Applet).createPIN},
		0x52: {run: (*Applet).deleteObject},
		0x54: {run: (*Applet).writeObject},
		0x56: {run: (*Applet).readObject},
		0x5A: {run: (*Applet).createObject},
	}
)

var errState = errors.New("malformed state of a CoolKey applet")
