package gp

import (
	"encoding/binary"
	"fmt"

	"inkan/apdu"
	"inkan/apdu/tlv"
	"inkan/securechannel"
)

// Tags of GET DATA (Card Specification 2.3.1 §11.3.3.1, appendix H).
const (
	tagCPLC        uint16 = 0x9F7F
	tagIIN         uint16 = 0x0042
	tagCIN         uint16 = 0x0045
	tagDomainAID   uint16 = 0x004F
	tagRecognition uint16 = 0x0066
	tagCapability  uint16 = 0x0067
	tagCounter     uint16 = 0x00C1
	tagFreeNV      uint16 = 0x00C6
	tagFreeRAM     uint16 = 0x00C7
	tagKDD         uint16 = 0x00CF
	tagLevel       uint16 = 0x00D3
	tagKeyInfo     uint16 = 0x00E0
	tagResources   uint16 = 0xFF21
	tagDiscretion  uint16 = 0xBF0C
)

// freeRAM is what the card says of its transient memory, in bytes.
const freeRAM = 2048

// getData answers GET DATA, authenticated or not. An Le shorter than the object
// is answered with 6Cxx and no data, as TPS counts on (gp-card.md §2).
func (m *Manager) getData(cmd apdu.Command) apdu.Response {
	q := m.s.Profile.Quirks
	if q.DataClass00 && cmd.CLA&0x80 != 0 {
		return sw(apdu.SWClaNotSupported)
	}
	tag := uint16(cmd.P1)<<8 | uint16(cmd.P2)
	data, found := m.object(tag)
	if !found || q.lacks(tag) {
		return sw(apdu.SWReferencedNotFound)
	}
	if cmd.Ne > 0 && cmd.Ne < len(data) && cmd.Ne < apdu.MaxShortNe {
		return sw(0x6C00 | apdu.StatusWord(byte(min(len(data), apdu.MaxShortNe))))
	}
	return ok(data...)
}

func (m *Manager) object(tag uint16) ([]byte, bool) {
	if v, found := m.s.Objects[objectName(tag)]; found {
		return tlv.Encode(tlv.Tag(tag), v), true
	}
	t := tlv.Tag(tag)
	switch tag {
	case tagCPLC:
		return tlv.Encode(t, m.s.CPLC), true
	case tagDomainAID:
		return tlv.Encode(t, m.domainAID().Bytes()), true
	case tagRecognition:
		return m.recognition(), true
	case tagCapability:
		return m.capability(), true
	case tagCounter:
		return m.counter()
	case tagFreeNV:
		return tlv.Encode(t, number(m.s.free())), true
	case tagFreeRAM:
		return tlv.Encode(t, number(freeRAM)), true
	case tagKDD:
		return tlv.Encode(t, m.s.Profile.KDD[:]), true
	case tagLevel:
		return tlv.Encode(t, []byte{m.stateLevel()}), true
	case tagKeyInfo:
		return m.keyInfo(), true
	case tagResources:
		return tlv.Encode(t, tlv.Encode(0x81, number(len(m.s.Apps))), tlv.Encode(0x82, number(m.s.free())), tlv.Encode(0x83, number(freeRAM))), true
	}
	return nil, false
}

func objectName(tag uint16) string { return fmt.Sprintf("%04X", tag) }

// number is n in four bytes, negative as zero.
func number(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(max(n, 0))) }

// domainAID is the AID of the selected security domain, or of the card manager.
func (m *Manager) domainAID() apdu.AID {
	if a := m.v.selected; a != nil && a.isDomain() {
		return a.AID
	}
	return m.s.Profile.ISD
}

// gpOID is 1.2.840.114283, the arc of GlobalPlatform.
var gpOID = []byte{0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B}

func oid(arcs ...byte) []byte { return tlv.Encode(0x06, gpOID, arcs) }

// recognition is the card recognition data (§H.2). Hosts read it by position:
// 06, 60, 63, 64 in this order, one-byte lengths, one OID each.
func (m *Manager) recognition() []byte {
	body := oid(0x01)
	body = tlv.Append(body, 0x60, oid(append([]byte{0x02}, m.s.Profile.Version...)...))
	body = tlv.Append(body, 0x63, oid(0x03))
	for _, c := range m.s.Profile.Channels {
		body = tlv.Append(body, 0x64, oid(0x04, byte(c.Protocol), byte(c.Option)))
	}
	return tlv.Encode(0x66, tlv.Encode(0x73, body))
}

// capability is the card capability information (§H.4).
func (m *Manager) capability() []byte {
	var body []byte
	for _, c := range m.s.Profile.Channels {
		scp := tlv.Encode(0x80, []byte{byte(c.Protocol)})
		scp = tlv.Append(scp, 0x81, []byte{byte(c.Option)})
		if c.Protocol == securechannel.SCP03 {
			scp = tlv.Append(scp, 0x82, []byte{0x07}) // AES-128, 192, 256
		}
		body = tlv.Append(body, 0xA0, scp)
	}
	body = tlv.Append(body, 0x81, []byte{0x80, 0x00, 0x00})
	body = tlv.Append(body, 0x82, []byte{0x04, 0x00, 0x00})
	body = tlv.Append(body, 0x83, []byte{0x01, 0x02, 0x03}) // SHA-1, SHA-256, SHA-384
	return tlv.Encode(0x67, body)
}

// counter is the sequence counter of the default key set: 2 bytes, SCP03 3.
func (m *Manager) counter() ([]byte, bool) {
	set := m.s.set(0)
	if set == nil {
		return nil, false
	}
	c, found := m.s.Profile.channelFor(set.channelType())
	switch {
	case !found || c.Protocol == securechannel.SCP01:
		return nil, false
	case c.Protocol == securechannel.SCP02:
		return tlv.Encode(tlv.Tag(tagCounter), number(int(set.Counter))[2:]), true
	}
	return tlv.Encode(tlv.Tag(tagCounter), number(int(set.Counter))[1:]), true
}

// shown is a key's type as the key information has it.
func (q Quirks) shown(t KeyType) byte {
	if t == DES3 && q.DESType != 0 {
		return q.DESType
	}
	return byte(t)
}

// keyInfo is the key information template, the default set first (§11.3.3.1).
func (m *Manager) keyInfo() []byte {
	var body []byte
	def := m.s.set(0)
	if def != nil {
		body = def.appendInfo(body, m.s.Profile.Quirks)
	}
	for i := range m.s.Sets {
		if s := &m.s.Sets[i]; s != def {
			body = s.appendInfo(body, m.s.Profile.Quirks)
		}
	}
	return tlv.Encode(tlv.Tag(tagKeyInfo), body)
}

func (k *keySet) appendInfo(b []byte, q Quirks) []byte {
	for _, x := range k.Keys {
		e := []byte{x.ID, byte(k.Version)}
		if len(x.Parts) == 0 {
			e = append(e, q.shown(x.Type), byte(len(x.Value)))
		}
		for _, p := range x.Parts {
			e = append(e, p.Type, byte(p.Length)) // 256 becomes 00
		}
		b = tlv.Append(b, 0xC0, e)
	}
	return b
}
