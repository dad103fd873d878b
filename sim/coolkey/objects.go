package coolkey

import (
	"encoding/binary"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
)

// ioBuffer is the buffer between commands, addressed as object FFFFFFFF. It is
// cleared by deselection, logout and reset.
type ioBuffer struct {
	data []byte // as long as the variant allows
	size int    // in use
}

func newIOBuffer(n int) ioBuffer { return ioBuffer{data: make([]byte, n)} }

func (b *ioBuffer) clear() {
	clear(b.data)
	b.size = 0
}

// fill replaces the content. The caller has checked the length.
func (b *ioBuffer) fill(content []byte) {
	b.clear()
	b.size = copy(b.data, content)
}

func isBuffer(id ck.ObjectID) bool {
	return id == ck.IDIOBuffer || id == ck.ObjectID{0xFF, 0xFF, 0xFF, 0xFE}
}

func (a *Applet) createObject(c call) ([]byte, apdu.StatusWord) {
	if !c.allowed(a.p.Create.Object) {
		return nil, ck.SWUnauthorized
	}
	if len(c.data) != 14 {
		return nil, ck.SWInvalidParameter
	}
	if c.cmd.P1 != 0 {
		return nil, ck.SWIncorrectP1
	}
	size := binary.BigEndian.Uint32(c.data[4:])
	switch {
	case size > ck.MaxObjectLen:
		return nil, ck.SWNoMemory
	case size == 0:
		return nil, ck.SWInvalidParameter
	}
	info := ck.ObjectInfo{ID: ck.ObjectID(c.data[:4]), Size: int(size), ACL: objectACL(c.data[8:])}
	if isBuffer(info.ID) {
		if info.Size > len(a.v.buffer.data) {
			return nil, ck.SWNoMemory
		}
		a.v.buffer.clear()
		a.v.buffer.size = info.Size
		return nil, done
	}
	old := a.p.Heap.find(info.ID)
	if old != nil && !c.allowed(ck.ACLAuthority) {
		return nil, ck.SWObjectExists
	}
	block, ok := a.p.Heap.place(info.Size, old)
	if !ok {
		return nil, ck.SWNoMemory // the old object survives, unlike in the real applet
	}
	if old != nil {
		a.p.Heap.remove(old)
	}
	a.p.Heap.add(info, block)
	c.env.Touch()
	return nil, done
}

func (a *Applet) deleteObject(c call) ([]byte, apdu.StatusWord) {
	switch {
	case c.cmd.P1 != 0:
		return nil, ck.SWIncorrectP1
	case c.cmd.P2 > 1:
		return nil, ck.SWIncorrectP2
	case len(c.data) != 4:
		return nil, ck.SWInvalidParameter
	}
	o := a.p.Heap.find(ck.ObjectID(c.data))
	if o == nil {
		return nil, ck.SWObjectNotFound
	}
	if !c.allowed(o.ACL.Delete) {
		return nil, ck.SWUnauthorized
	}
	a.p.Heap.remove(o)
	c.env.Touch()
	return nil, done
}

func (a *Applet) writeObject(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	if len(c.data) < 9 || len(c.data) != 9+int(c.data[8]) {
		return nil, ck.SWInvalidParameter
	}
	id, offset, piece := ck.ObjectID(c.data[:4]), uint64(binary.BigEndian.Uint32(c.data[4:])), c.data[9:]
	end := offset + uint64(len(piece))
	if isBuffer(id) {
		if end > uint64(len(a.v.buffer.data)) {
			return nil, ck.SWInvalidParameter
		}
		copy(a.v.buffer.data[offset:], piece)
		a.v.buffer.size = int(end)
		return nil, done
	}
	o := a.p.Heap.find(id)
	switch {
	case o == nil:
		return nil, ck.SWObjectNotFound
	case !c.allowed(o.ACL.Write):
		return nil, ck.SWUnauthorized
	case end > uint64(len(o.Data)):
		return nil, ck.SWInvalidParameter
	}
	copy(o.Data[offset:], piece)
	c.env.Touch()
	return nil, done
}

func (a *Applet) readObject(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	if len(c.data) != 9 {
		return nil, ck.SWInvalidParameter
	}
	content := a.v.buffer.data[:a.v.buffer.size]
	if id := ck.ObjectID(c.data[:4]); !isBuffer(id) {
		o := a.p.Heap.find(id)
		if o == nil {
			return nil, ck.SWObjectNotFound
		}
		if !c.allowed(o.ACL.Read) {
			return nil, ck.SWUnauthorized
		}
		content = o.Data
	}
	offset, n := uint64(binary.BigEndian.Uint32(c.data[4:])), uint64(c.data[8])
	if offset+n > uint64(len(content)) {
		return nil, ck.SWInvalidParameter
	}
	return append([]byte(nil), content[offset:offset+n]...), done
}

func (a *Applet) listObjects(c call) ([]byte, apdu.StatusWord) {
	if sw := c.parameters(1); sw != done {
		return nil, sw
	}
	if c.p3() < 14 {
		return nil, apdu.SWWrongLength
	}
	if c.cmd.P1 == 0 {
		a.v.listed = 0
	}
	if c.cmd.P1 == 1 && a.v.listed == 0 {
		return nil, ck.SWSequenceEnd
	}
	o := a.p.Heap.olderThan(a.v.listed)
	if o == nil {
		return nil, ck.SWSequenceEnd
	}
	a.v.listed = o.Seq
	b := binary.BigEndian.AppendUint32(append([]byte(nil), o.ID[:]...), uint32(len(o.Data)))
	return appendACL(b, o.ACL.Read, o.ACL.Write, o.ACL.Delete), done
}

func objectACL(b []byte) ck.ObjectACL {
	return ck.ObjectACL{Read: acl(b), Write: acl(b[2:]), Delete: acl(b[4:])}
}

func acl(b []byte) ck.ACL { return ck.ACL(binary.BigEndian.Uint16(b)) }

func appendACL(b []byte, as ...ck.ACL) []byte {
	for _, a := range as {
		b = binary.BigEndian.AppendUint16(b, uint16(a))
	}
	return b
}
