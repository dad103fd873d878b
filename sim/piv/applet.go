// Package piv is the PIV applet of the software card: PIN and PUK, data objects,
// key pairs with policies, management key, metadata and attestation, as OpenSC, the
// programs of Yubico, piv-go and the drivers of operating systems expect them.
//
// [Factory] gives the card runtime (package sim/gp) what it needs to make
// instances. The behaviour is that of a [Config]: the loadable PivApplet 0.9.0, or a
// YubiKey of some firmware.
//
// Differences from real cards, all but the last towards safety: secrets are compared
// in constant time; PIN and PUK lose a try before they are compared; a key is not
// moved onto another; a card's challenge is gone with the next command that uses the
// management key; the attestation of each card has a root of its own, which nobody
// has reason to trust; and a touch policy is kept and told, but nobody has to touch
// anything.
//
// An Applet serves one goroutine at a time, as the runtime has it. Instances share
// nothing.
package piv

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
	"inkan/securechannel"
	"inkan/sim/gp"
)

// Applet is one instance.
type Applet struct {
	cfg Config
	p   state    // persistent
	v   volatile // gone at reset and at SELECT
}

// volatile is what a reset and SELECT clear.
type volatile struct {
	verified bool      // PIN
	fresh    bool      // PIN verified by the command just before
	managed  bool      // management key proved
	pending  challenge // of the management key
}

// Factory returns the constructor of instances for the card runtime. The serial
// number and the attestation keys of a new card come from r; nil = crypto/rand. As
// the real PivApplet, an instance has the AID of the applet and no other, and takes
// no install parameters.
func Factory(c Config, r io.Reader) gp.Factory {
	if r == nil {
		r = rand.Reader
	}
	return func(instance apdu.AID, _, _ []byte) (gp.Applet, error) {
		if instance != piv.AID {
			return nil, fmt.Errorf("making PIV applet: the instance is to be %v", piv.AID)
		}
		if err := c.Check(); err != nil {
			return nil, fmt.Errorf("making PIV applet: %w", err)
		}
		a := &Applet{cfg: c.withDefaults()}
		if err := a.born(r); err != nil {
			return nil, fmt.Errorf("making PIV applet: %w", err)
		}
		return a, nil
	}
}

var _ gp.Applet = (*Applet)(nil)

// Select implements gp.Applet: the application property template. All logins end.
func (a *Applet) Select(gp.Env) apdu.Response {
	a.Reset()
	return apdu.Response{Data: a.template(), SW: done}
}

// template is the answer to SELECT: a YubiKey's is short, PivApplet's names itself
// and its algorithms.
func (a *Applet) template() []byte {
	rid := tlv.Encode(0x4F, piv.AIDShort.Bytes())
	if a.cfg.yubikey() {
		pix := piv.AID.Bytes()[piv.AIDShort.Len():]
		return tlv.Encode(0x61, tlv.Encode(0x4F, pix), tlv.Encode(0x79, rid))
	}
	var algs []byte
	for _, alg := range append([]piv.Algorithm{piv.TripleDES, piv.AES128, piv.AES192, piv.AES256}, a.cfg.Algorithms...) {
		algs = tlv.Append(algs, 0x80, []byte{byte(alg)})
	}
	algs = tlv.Append(algs, 0x06, []byte{0})
	return tlv.Encode(0x61, tlv.Encode(0x4F, piv.AID.Bytes()), tlv.Encode(0x79, rid),
		tlv.Encode(0x50, []byte("PivApplet v0.9.0/RsES")),
		tlv.Encode(0x5F50, []byte("https://github.com/arekinath/PivApplet")),
		tlv.Encode(0xAC, algs))
}

// Deselect implements gp.Applet: logins end.
func (a *Applet) Deselect(gp.Env) { a.Reset() }

// Reset implements gp.Applet.
func (a *Applet) Reset() {
	a.v.pending.clear()
	a.v = volatile{}
}

// AcceptsLevel implements gp.Applet: PIV has no use for a channel of GlobalPlatform.
func (a *Applet) AcceptsLevel(securechannel.Level) bool { return false }

// ExactLe tells the card that an answer is cut at the Le of the command, however
// short, and the rest is offered with 61xx: OpenSC probes objects with Le = 08.
func (a *Applet) ExactLe() bool { return true }

// AttestationRoot is the certificate that the attestation of this card goes back
// to, in DER; nil where it has none.
func (a *Applet) AttestationRoot() []byte { return append([]byte(nil), a.p.Root...) }

// Serial is the serial number.
func (a *Applet) Serial() uint32 { return a.p.Serial }

const done = apdu.SWSuccess

// call is one command while it runs.
type call struct {
	env   gp.Env
	cmd   apdu.Command
	fresh bool // the command before verified the PIN
}

// operation is a handler with what it needs.
type operation struct {
	run     func(a *Applet, c call) ([]byte, apdu.StatusWord)
	needs   feature
	managed bool // only after the management key was proved
}

var operations = map[byte]operation{
	piv.InsVerify:        {run: (*Applet).verify},
	piv.InsChange:        {run: (*Applet).change},
	piv.InsResetRetry:    {run: (*Applet).unblock},
	piv.InsGenerate:      {run: (*Applet).generate, managed: true},
	piv.InsAuthenticate:  {run: (*Applet).authenticate},
	piv.InsGetData:       {run: (*Applet).getData},
	piv.InsPutData:       {run: (*Applet).putData, managed: true},
	piv.InsMoveKey:       {run: (*Applet).moveKey, needs: movingKeys, managed: true},
	piv.InsMetadata:      {run: (*Applet).metadata, needs: metadata},
	piv.InsSerial:        {run: (*Applet).serial, needs: serialNumber},
	piv.InsAttest:        {run: (*Applet).attest, needs: attestation},
	piv.InsSetRetries:    {run: (*Applet).setRetries, managed: true},
	piv.InsReset:         {run: (*Applet).factoryReset},
	piv.InsVersion:       {run: (*Applet).version},
	piv.InsImport:        {run: (*Applet).importKey, managed: true},
	piv.InsSetManagement: {run: (*Applet).setManagement, managed: true},
}

// Process implements gp.Applet.
func (a *Applet) Process(env gp.Env, cmd apdu.Command) apdu.Response {
	c := call{env: env, cmd: cmd, fresh: a.v.fresh}
	a.v.fresh = false
	data, sw := a.process(c)
	if sw != done {
		data = nil
	}
	return apdu.Response{Data: data, SW: sw}
}

func (a *Applet) process(c call) ([]byte, apdu.StatusWord) {
	switch {
	case c.cmd.CLA&0x80 == 0 && c.cmd.CLA&0x0C != 0:
		return nil, apdu.SWSMNotSupported
	case c.cmd.CLA != 0:
		return nil, apdu.SWClaNotSupported
	}
	op, ok := operations[c.cmd.INS]
	if !ok || !a.cfg.has(op.needs) {
		return nil, apdu.SWInsNotSupported
	}
	if op.managed && !a.v.managed {
		return nil, apdu.SWSecurityStatus
	}
	return op.run(a, c)
}

// noSlot is the status of a slot or key reference that there is not.
func (a *Applet) noSlot() apdu.StatusWord {
	if a.cfg.yubikey() {
		return apdu.SWWrongP1P2
	}
	return apdu.SWIncorrectP1P2
}

// emptySlot is the status of a slot without a key.
func (a *Applet) emptySlot() apdu.StatusWord {
	if a.cfg.yubikey() {
		return apdu.SWReferencedNotFound
	}
	return apdu.SWIncorrectP1P2
}

func (a *Applet) version(call) ([]byte, apdu.StatusWord) {
	v := a.cfg.Firmware
	return []byte{v.Major, v.Minor, v.Patch}, done
}

func (a *Applet) serial(call) ([]byte, apdu.StatusWord) {
	n := a.p.Serial
	return []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, done
}

var errState = errors.New("malformed state of a PIV applet")
