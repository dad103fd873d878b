package piv

import (
	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
	"inkan/sim/internal/rawrsa"
)

// Tags of policies in GENERATE ASYMMETRIC and IMPORT KEY.
const (
	tagPINPolicy   tlv.Tag = 0xAA
	tagTouchPolicy tlv.Tag = 0xAB
)

// policyOf reads the policies out of a command, defaults made explicit. Policies
// that match a finger need a sensor.
func policyOf(ts []tlv.TLV, slot piv.Slot) (piv.Policy, bool) {
	p := piv.Policy{PIN: slot.DefaultPINPolicy(), Touch: piv.TouchNever}
	if t, ok := tlv.First(ts, tagPINPolicy); ok {
		if len(t.Value) != 1 || piv.PINPolicy(t.Value[0]) > piv.PINAlways {
			return p, false
		}
		if v := piv.PINPolicy(t.Value[0]); v != piv.PINDefault {
			p.PIN = v
		}
	}
	if t, ok := tlv.First(ts, tagTouchPolicy); ok {
		if len(t.Value) != 1 || piv.TouchPolicy(t.Value[0]) > piv.TouchCached {
			return p, false
		}
		if v := piv.TouchPolicy(t.Value[0]); v != piv.TouchDefault {
			p.Touch = v
		}
	}
	return p, true
}

// store puts a key into a slot.
func (a *Applet) store(c call, slot piv.Slot, k *key) {
	if old := a.p.Keys[slot]; old != nil {
		old.wipe()
	}
	a.p.Keys[slot] = k
	c.env.Touch()
}

// generate makes a key pair and returns the public key.
func (a *Applet) generate(c call) ([]byte, apdu.StatusWord) {
	slot := piv.Slot(c.cmd.P2)
	if c.cmd.P1 != 0 {
		return nil, apdu.SWIncorrectP1P2
	}
	if !a.cfg.keySlot(slot) {
		return nil, a.noSlot()
	}
	body, ok := tlv.Find(c.cmd.Data, 0xAC)
	if !ok {
		return nil, apdu.SWWrongData
	}
	ts, err := tlv.Parse(body)
	if err != nil {
		return nil, apdu.SWWrongData
	}
	alg, ok := tlv.First(ts, 0x80)
	policy, valid := policyOf(ts, slot)
	if !ok || !valid || len(alg.Value) != 1 || !a.cfg.makes(piv.Algorithm(alg.Value[0])) {
		return nil, apdu.SWWrongData
	}
	k, err := makeKey(piv.Algorithm(alg.Value[0]), c.env.Keys(), c.env.Rand())
	if err != nil {
		return nil, apdu.SWUnknown
	}
	k.Policy = policy
	pub, sw := encodedPublic(k)
	if sw != done {
		return nil, sw
	}
	a.store(c, slot, k)
	return tlv.Encode(0x7F49, pub), done
}

func encodedPublic(k *key) ([]byte, apdu.StatusWord) {
	pub, err := k.public()
	if err != nil {
		return nil, apdu.SWUnknown
	}
	b, err := piv.AppendPublicKey(nil, pub)
	if err != nil {
		return nil, apdu.SWUnknown
	}
	return b, done
}

// importKey brings a private key into a slot.
func (a *Applet) importKey(c call) ([]byte, apdu.StatusWord) {
	slot, alg := piv.Slot(c.cmd.P2), piv.Algorithm(c.cmd.P1)
	if !a.cfg.keySlot(slot) {
		return nil, a.noSlot()
	}
	if !a.cfg.makes(alg) {
		return nil, apdu.SWIncorrectP1P2
	}
	ts, err := tlv.Parse(c.cmd.Data)
	if err != nil {
		return nil, apdu.SWWrongData
	}
	policy, ok := policyOf(ts, slot)
	if !ok {
		return nil, apdu.SWWrongData
	}
	k := &key{Algorithm: alg, Origin: piv.Imported, Policy: policy}
	if !k.fill(ts) || !k.sound() {
		return nil, apdu.SWWrongData
	}
	a.store(c, slot, k)
	return nil, done
}

// fill takes the private values out of IMPORT KEY.
func (k *key) fill(ts []tlv.TLV) bool {
	if bits := k.Algorithm.Bits(); bits != 0 {
		var v [5][]byte
		for i := range v {
			t, ok := tlv.First(ts, tlv.Tag(i+1))
			if !ok || len(t.Value) != bits/16 {
				return false
			}
			v[i] = t.Value
		}
		var err error
		k.RSA, err = rawrsa.FromCRT(v[0], v[1], v[4], v[2], v[3])
		return err == nil
	}
	tag := map[piv.Algorithm]tlv.Tag{piv.P256: 0x06, piv.P384: 0x06, piv.Ed25519: 0x07, piv.X25519: 0x08}[k.Algorithm]
	t, ok := tlv.First(ts, tag)
	k.Scalar = append([]byte(nil), t.Value...)
	return ok
}

// moveKey moves a key to an empty slot, or nowhere.
func (a *Applet) moveKey(c call) ([]byte, apdu.StatusWord) {
	to, from := piv.Slot(c.cmd.P1), piv.Slot(c.cmd.P2)
	remove := c.cmd.P1 == 0xFF
	if !a.cfg.keySlot(from) || !remove && (!a.cfg.keySlot(to) || to == piv.Attestation || from == piv.Attestation) {
		return nil, a.noSlot()
	}
	k := a.p.Keys[from]
	switch {
	case k == nil:
		return nil, apdu.SWReferencedNotFound
	case remove:
		k.wipe()
	case a.p.Keys[to] != nil:
		return nil, apdu.SWConditionsOfUse
	default:
		a.p.Keys[to] = k
	}
	delete(a.p.Keys, from)
	c.env.Touch()
	return nil, done
}

// metadata tells of a key, PIN, PUK or the management key.
func (a *Applet) metadata(c call) ([]byte, apdu.StatusWord) {
	if c.cmd.P1 != 0 {
		return nil, apdu.SWIncorrectP1P2
	}
	m, sw := a.metadataOf(piv.Slot(c.cmd.P2))
	if sw != done {
		return nil, sw
	}
	b, err := m.Encode()
	if err != nil {
		return nil, apdu.SWUnknown
	}
	return b, done
}

func (a *Applet) metadataOf(ref piv.Slot) (piv.Metadata, apdu.StatusWord) {
	secret := func(r *reference, factory string) (piv.Metadata, apdu.StatusWord) {
		return piv.Metadata{Algorithm: 0xFF, Default: r.is(factory), Tries: r.Max, Left: r.Tries}, done
	}
	switch {
	case ref == piv.PIN:
		return secret(&a.p.PIN, piv.DefaultPIN)
	case ref == piv.PUK:
		return secret(&a.p.PUK, piv.DefaultPUK)
	case ref == piv.Management:
		m := a.p.Management
		return piv.Metadata{Algorithm: m.Algorithm, Policy: piv.Policy{Touch: m.Touch}, Default: m.Default}, done
	case !a.cfg.keySlot(ref):
		return piv.Metadata{}, a.noSlot()
	}
	k := a.p.Keys[ref]
	if k == nil {
		return piv.Metadata{}, a.emptySlot()
	}
	pub, err := k.public()
	if err != nil {
		return piv.Metadata{}, apdu.SWUnknown
	}
	return piv.Metadata{Algorithm: k.Algorithm, Policy: k.Policy, Origin: a.told(k.Origin), Public: pub}, done
}

// told is the origin as the applet tells it: PivApplet has it wrong.
func (a *Applet) told(o piv.Origin) piv.Origin {
	if a.cfg.yubikey() {
		return o
	}
	return o - 1
}
