package coolkey

import (
	"encoding/binary"
	"io"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
)

// protocol version of the applet, 1.1
const (
	protocolMajor = 1
	protocolMinor = 1
)

// status is GET STATUS. OpenSC takes P1 = 01 → 6D00 for the mark of a CoolKey.
func (a *Applet) status(c call) ([]byte, apdu.StatusWord) {
	switch {
	case c.cmd.P1 == 1:
		return nil, apdu.SWInsNotSupported
	case c.cmd.P1 > 1:
		return nil, ck.SWIncorrectP1
	case c.cmd.P2 != 0:
		return nil, ck.SWIncorrectP2
	}
	pins, keys := byte(0), byte(0)
	for _, p := range a.p.PINs {
		if p != nil {
			pins++
		}
	}
	for _, k := range a.p.Keys {
		if k != nil { // cleared slots count
			keys++
		}
	}
	b := []byte{protocolMajor, protocolMinor, a.p.Version.Major, a.p.Version.Minor}
	b = binary.BigEndian.AppendUint32(b, uint32(a.p.Heap.Size))
	b = binary.BigEndian.AppendUint32(b, uint32(a.p.Heap.available()))
	return binary.BigEndian.AppendUint16(append(b, pins, keys), a.v.loggedIn), done
}

func (a *Applet) buildID(c call) ([]byte, apdu.StatusWord) {
	if c.p3() < 4 {
		return nil, apdu.SWWrongLength
	}
	return binary.BigEndian.AppendUint32(nil, uint32(a.p.Version.Build)), done
}

func (a *Applet) nop(call) ([]byte, apdu.StatusWord) { return nil, done }

func (a *Applet) random(c call) ([]byte, apdu.StatusWord) {
	b := make([]byte, min(c.p3(), maxAnswer))
	if _, err := io.ReadFull(c.env.Rand(), b); err != nil {
		return nil, ck.SWInternal
	}
	return b, done
}

// lifeCycle is GET LIFE CYCLE: one byte if one is expected, else four.
func (a *Applet) lifeCycle(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	state := c.env.LifeCycle()
	if c.p3() == 1 {
		return []byte{state}, done
	}
	login := byte(0)
	if a.p.PINEnabled {
		login++
	}
	if a.p.Open {
		login += 2
	}
	return []byte{state, login, protocolMajor, protocolMinor}, done
}

// setLifeCycle stores an application specific state of the instance: the three
// low bits are set, the locked bit is not.
func (a *Applet) setLifeCycle(c call) ([]byte, apdu.StatusWord) {
	if len(c.data) != 0 {
		return nil, apdu.SWWrongLength
	}
	if c.cmd.P2 != 0 {
		return nil, ck.SWIncorrectP2
	}
	if s := c.cmd.P1; s&0x07 != 0x07 || s > 0x7F || !c.env.SetLifeCycle(s) {
		return nil, ck.SWInvalidParameter
	}
	c.env.Touch()
	return nil, done
}

func (a *Applet) issuerInfo(c call) ([]byte, apdu.StatusWord) {
	if c.p3() != ck.IssuerInfoLen {
		return nil, apdu.SWWrongLength
	}
	return append([]byte(nil), a.p.Issuer...), done
}

func (a *Applet) setIssuerInfo(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	if len(c.data) != ck.IssuerInfoLen {
		return nil, apdu.SWWrongLength
	}
	copy(a.p.Issuer, c.data)
	c.env.Touch()
	return nil, done
}

func (a *Applet) creationACL(c call) ([]byte, apdu.StatusWord) {
	if c.p3() < 7 {
		return nil, apdu.SWWrongLength
	}
	flag := byte(0)
	if a.p.Create.Changeable {
		flag = 1
	}
	return append(appendACL(nil, a.p.Create.Object, a.p.Create.Key, a.p.Create.PIN), flag), done
}

func (a *Applet) setCreationACL(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	if len(c.data) != 7 {
		return nil, apdu.SWWrongLength
	}
	if !a.p.Create.Changeable {
		return nil, ck.SWNotAllowed
	}
	a.p.Create = ck.CreationACL{Object: acl(c.data), Key: acl(c.data[2:]), PIN: acl(c.data[4:]), Changeable: c.data[6] != 0}
	a.p.Open = a.p.Create.Object&^ck.ACLAuthority != 0 && a.p.Create.Key&^ck.ACLAuthority != 0
	c.env.Touch()
	return nil, done
}
