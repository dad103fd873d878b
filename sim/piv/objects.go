package piv

import (
	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
)

// tagList reads 5C len tag and returns the object and what follows.
func tagList(data []byte) (piv.Object, []byte, bool) {
	t, rest, err := tlv.Next(data)
	if err != nil || t.Tag != 0x5C || len(t.Value) < 1 || len(t.Value) > 3 {
		return 0, nil, false
	}
	var o piv.Object
	for _, b := range t.Value {
		o = o<<8 | piv.Object(b)
	}
	return o, rest, true
}

func (a *Applet) getData(c call) ([]byte, apdu.StatusWord) {
	if c.cmd.P1 != 0x3F || c.cmd.P2 != 0xFF {
		return nil, apdu.SWIncorrectP1P2
	}
	o, rest, ok := tagList(c.cmd.Data)
	if !ok || len(rest) > 0 {
		return nil, apdu.SWWrongData
	}
	if o.NeedsPIN() && !a.v.verified { // whether it exists is not told either
		return nil, apdu.SWSecurityStatus
	}
	if o == piv.Discovery {
		return tlv.Encode(o.Wrapper(), piv.DiscoveryContent()), done
	}
	content, ok := a.p.Objects[o]
	if !ok {
		return nil, apdu.SWFileNotFound
	}
	return tlv.Encode(o.Wrapper(), content), done
}

func (a *Applet) putData(c call) ([]byte, apdu.StatusWord) {
	if c.cmd.P1 != 0x3F || c.cmd.P2 != 0xFF {
		return nil, apdu.SWIncorrectP1P2
	}
	if len(c.cmd.Data) > piv.MaxCommand {
		return nil, apdu.SWNoMemory
	}
	o, rest, ok := tagList(c.cmd.Data)
	if !ok {
		return nil, apdu.SWWrongData
	}
	if !a.cfg.object(o) {
		return nil, apdu.SWFileNotFound
	}
	content, rest, err := tlv.Next(rest)
	if err != nil || len(rest) > 0 || content.Tag != o.Wrapper() {
		return nil, apdu.SWWrongData
	}
	if a.used()-len(a.p.Objects[o])+len(content.Value) > maxObjects {
		return nil, apdu.SWNoMemory
	}
	if len(content.Value) == 0 {
		delete(a.p.Objects, o)
	} else {
		a.p.Objects[o] = append([]byte(nil), content.Value...)
	}
	c.env.Touch()
	return nil, done
}

// used is the memory that objects take, bytes.
func (a *Applet) used() int {
	n := 0
	for _, b := range a.p.Objects {
		n += len(b)
	}
	return n
}
