package coolkey

import (
	"encoding/binary"
	"slices"

	"inkan/apdu"
	ck "inkan/apdu/coolkey"
)

// pair says where a new key pair goes.
type pair struct {
	private, public int
	use             ck.ACL // of the private key
	bits            int
	privateType     ck.KeyType
	publicType      ck.KeyType
}

// pairOf reads P1 and P2 of key generation and import: owner and private slot,
// usage and public slot.
func (a *Applet) pairOf(c call) (pair, apdu.StatusWord) {
	p := pair{private: int(c.cmd.P1 & 0xF), public: int(c.cmd.P2 & 0xF)}
	switch owner := c.cmd.P1 >> 4; {
	case owner == 0xF:
		p.use = ck.ACLEveryone
	case owner <= 8:
		p.use = 1 << owner
	default:
		return p, ck.SWIncorrectP1
	}
	if p.private >= len(a.p.Keys) {
		return p, ck.SWIncorrectP1
	}
	if p.public >= len(a.p.Keys) {
		return p, ck.SWIncorrectP2
	}
	return p, done
}

// writable checks that c may fill both slots: the write rule of a key that is
// there, the creation rule for an empty slot.
func (a *Applet) writable(c call, slots ...int) apdu.StatusWord {
	for _, n := range slots {
		rule := a.p.Create.Key
		if k := a.p.Keys[n]; k.used() {
			rule = k.ACL.Write
		}
		if !c.allowed(rule) {
			return ck.SWUnauthorized
		}
	}
	return done
}

// fits checks that the pair does not tear another pair apart and that keys of
// another type or size stay. Cleared slots take anything.
func (a *Applet) fits(p pair) apdu.StatusWord {
	private, public := a.p.Keys[p.private], a.p.Keys[p.public]
	if p.private == p.public ||
		private.used() && private.Mate != noMate && private.Mate != p.public ||
		public.used() && public.Mate != noMate && public.Mate != p.private {
		return ck.SWKeyPairing
	}
	if private.used() && (private.Type != p.privateType || private.Bits != p.bits) ||
		public.used() && (public.Type != p.publicType || public.Bits != p.bits) {
		return ck.SWNotAllowed
	}
	return done
}

// store fills both slots. Point of no return: the old keys are gone.
func (a *Applet) store(c call, p pair, private, public *key) {
	private.Type, private.Bits, private.Mate = p.privateType, p.bits, p.public
	public.Type, public.Bits, public.Mate = p.publicType, p.bits, p.private
	private.ACL = ck.KeyACL{Read: ck.ACLNobody, Write: ck.ACLAuthority, Use: p.use}
	public.ACL = ck.KeyACL{Read: ck.ACLEveryone, Write: ck.ACLAuthority, Use: ck.ACLEveryone}
	a.put(p.private, private)
	a.put(p.public, public)
	c.env.Touch()
}

func (a *Applet) put(n int, k *key) {
	if old := a.p.Keys[n]; old != nil {
		old.wipe()
	}
	a.p.Keys[n] = k
	if a.v.initKey == n {
		a.v.initKey = -1
	}
}

// listKeys walks the slots in use; behind the last one there is no data.
func (a *Applet) listKeys(c call) ([]byte, apdu.StatusWord) {
	if sw := c.parameters(1); sw != done {
		return nil, sw
	}
	if c.p3() != 11 {
		return nil, apdu.SWWrongLength
	}
	if c.cmd.P1 == 0 {
		a.v.nextKey = 0
	}
	for a.v.nextKey < len(a.p.Keys) {
		n := a.v.nextKey
		a.v.nextKey++
		k := a.p.Keys[n]
		if !k.used() {
			continue
		}
		b := []byte{byte(n), byte(k.Type), byte(k.Mate)} // noMate becomes FF
		b = binary.BigEndian.AppendUint16(b, uint16(k.Bits))
		return appendACL(b, k.ACL.Read, k.ACL.Write, k.ACL.Use), done
	}
	return nil, done
}

// clearKeySlots erases every key that the list of pairs does not name.
func (a *Applet) clearKeySlots(c call) ([]byte, apdu.StatusWord) {
	if sw := c.noParameters(); sw != done {
		return nil, sw
	}
	if len(c.data) == 0 || len(c.data)%2 != 0 {
		return nil, ck.SWInvalidParameter
	}
	var keep []int
	for two := range slices.Chunk(c.data, 2) {
		private, public := int(two[0]), int(two[1])
		if private >= len(a.p.Keys) || public >= len(a.p.Keys) {
			return nil, ck.SWInvalidParameter
		}
		if !a.mates(private, public) {
			return nil, ck.SWKeyPairing
		}
		keep = append(keep, private, public)
	}
	for n, k := range a.p.Keys {
		if k.used() && !slices.Contains(keep, n) {
			a.unpair(n)
			k.wipe()
			c.env.Touch()
		}
	}
	return nil, done
}

// mates reports whether two slots do not contradict being a pair.
func (a *Applet) mates(x, y int) bool {
	kx, ky := a.p.Keys[x], a.p.Keys[y]
	return !(kx.used() && kx.Mate != noMate && kx.Mate != y) && !(ky.used() && ky.Mate != noMate && ky.Mate != x)
}

func (a *Applet) unpair(n int) {
	if m := a.p.Keys[n].Mate; m != noMate && a.p.Keys[m].used() {
		a.p.Keys[m].Mate = noMate
	}
}
