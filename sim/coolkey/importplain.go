package coolkey

import (
	"encoding/binary"
	"math/big"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
	"inkan/sim/internal/rawrsa"
)

// importPlain is IMPORT KEY: a plain key blob out of an object or the I/O buffer
// (coolkey-applet.md §8.3). It reaches all slots.
func (a *Applet) importPlain(c call) ([]byte, apdu.StatusWord) {
	if a.traits.has(importStub) {
		return nil, done
	}
	n, mate := int(c.cmd.P1), int(c.cmd.P2)
	if n >= len(a.p.Keys) {
		return nil, ck.SWIncorrectP1
	}
	if len(c.data) != 10 && len(c.data) != 16 {
		return nil, ck.SWInvalidParameter
	}
	blob, sw := a.blob(c, ck.ObjectID(c.data[:4]))
	if sw != done {
		return nil, sw
	}
	if blob[0] != 0 {
		return nil, ck.SWUnsupported
	}
	if sw := a.writable(c, n); sw != done {
		return nil, sw
	}
	t, bits := ck.KeyType(blob[1]), int(binary.BigEndian.Uint16(blob[2:]))
	switch t {
	case ck.KeyRSAPair:
		if len(c.data) != 16 {
			return nil, ck.SWInvalidParameter
		}
		return nil, a.importPlainPair(c, pair{private: n, public: mate, bits: bits}, blob[4:])
	case ck.KeyRSAPublic, ck.KeyRSAPrivate:
		return nil, a.importPlainKey(c, n, mate, t, bits, blob[4:])
	}
	return nil, ck.SWKeyTypeUnsupported
}

// blob is the content of an object that c may read.
func (a *Applet) blob(c call, id ck.ObjectID) ([]byte, apdu.StatusWord) {
	content := a.v.buffer.data[:a.v.buffer.size]
	if !isBuffer(id) {
		o := a.p.Heap.find(id)
		if o == nil {
			return nil, ck.SWObjectNotFound
		}
		if !c.allowed(o.ACL.Read) {
			return nil, ck.SWUnauthorized
		}
		content = o.Data
	}
	if len(content) < 5 {
		return nil, ck.SWInvalidParameter
	}
	return content, done
}

func (a *Applet) importPlainPair(c call, p pair, der []byte) apdu.StatusWord {
	if p.public >= len(a.p.Keys) {
		return ck.SWIncorrectP2
	}
	if sw := a.writable(c, p.public); sw != done {
		return sw
	}
	if sw := a.importPKCS8(c, p, ck.KeyRSAPair, der); sw != done {
		return sw
	}
	a.p.Keys[p.private].ACL = keyACL(c.data[4:])
	a.p.Keys[p.public].ACL = keyACL(c.data[10:])
	return done
}

// importPlainKey stores one half of a pair. A mate that is no slot means none.
func (a *Applet) importPlainKey(c call, n, mate int, t ck.KeyType, bits int, b []byte) apdu.StatusWord {
	count := map[ck.KeyType]int{ck.KeyRSAPublic: 2, ck.KeyRSAPrivate: 5}[t]
	var v [5][]byte
	for i := range count {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return ck.SWInvalidParameter
		}
		size := int(binary.BigEndian.Uint16(b))
		v[i], b = b[2:2+size], b[2+size:]
	}
	k := &rawrsa.Key{N: new(big.Int).SetBytes(v[0]).Bytes(), E: new(big.Int).SetBytes(v[1]).Bytes()}
	if t == ck.KeyRSAPrivate {
		var err error
		if k, err = rawrsa.FromCRT(v[0], v[1], v[2], v[3], v[4]); err != nil {
			return ck.SWInvalidParameter
		}
	}
	if !a.rsaSize(bits) || !k.Sound(bits, t == ck.KeyRSAPrivate) {
		return ck.SWKeySize
	}
	if mate >= len(a.p.Keys) || mate == n {
		mate = noMate
	}
	if old := a.p.Keys[n]; old.used() {
		if old.Mate != noMate && old.Mate != mate {
			return ck.SWKeyPairing
		}
		if old.Type != t || old.Bits != bits {
			return ck.SWNotAllowed
		}
	}
	if mate != noMate && a.p.Keys[mate].used() {
		if m := a.p.Keys[mate].Mate; m != noMate && m != n {
			return ck.SWKeyPairing
		}
		a.p.Keys[mate].Mate = n
	}
	a.put(n, &key{Type: t, Bits: bits, Mate: mate, ACL: keyACL(c.data[4:]), RSA: k})
	c.env.Touch()
	return done
}

func keyACL(b []byte) ck.KeyACL {
	return ck.KeyACL{Read: acl(b), Write: acl(b[2:]), Use: acl(b[4:])}
}
