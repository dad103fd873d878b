package gp

import (
	"slices"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// storing is a STORE DATA that has not ended.
type storing struct {
	data []byte
	next int
}

// maxStored bounds the data of one STORE DATA sequence, in bytes.
const maxStored = 8192

// storeData runs STORE DATA (Card Specification 2.3.1 §11.11). After INSTALL
// [for personalization] the commands go to the application.
func (m *Manager) storeData(req request) apdu.Response {
	if a := m.v.target; a != nil {
		if req.P1&0x80 != 0 {
			m.v.target = nil
		}
		return a.applet.Process(&env{m: m, app: a, level: req.level}, req.Command)
	}
	if m.v.store == nil || req.P2 == 0 {
		m.v.store = &storing{}
	}
	s := m.v.store
	if int(req.P2) != s.next {
		m.v.store = nil
		return sw(apdu.SWIncorrectP1P2)
	}
	s.next++
	s.data = append(s.data, req.Data...)
	switch {
	case len(s.data) > maxStored:
		m.v.store = nil
		return sw(apdu.SWNoMemory)
	case req.P1&0x68 != 0: // encrypted, application dependent, or DGI
		m.v.store = nil
		return sw(apdu.SWFuncNotSupported)
	case req.P1&0x80 == 0:
		return ok()
	}
	m.v.store = nil
	return m.storeObjects(s.data)
}

// storeObjects writes all data objects or none.
func (m *Manager) storeObjects(data []byte) apdu.Response {
	ts, err := tlv.Parse(data)
	if err != nil || len(ts) == 0 {
		return sw(apdu.SWWrongData)
	}
	for _, t := range ts {
		if status := m.checkObject(t); status != apdu.SWSuccess {
			return sw(status)
		}
	}
	for _, t := range ts {
		m.storeObject(t)
	}
	m.touch()
	return ok()
}

func (m *Manager) checkObject(t tlv.TLV) apdu.StatusWord {
	n := len(t.Value)
	valid := false
	switch uint16(t.Tag) {
	case tagIIN, tagCIN:
		valid = n > 0 && n < 0x80
	case tagDiscretion:
		valid = n < 0x100
	case tagRecognition:
		_, valid = tlv.Find(t.Value, 0x73)
		valid = valid && n < 0x7E
	case tagPersoData, tagPrePersoData:
		valid = n == 8
	case tagDomainAID:
		a, err := apdu.NewAID(t.Value)
		valid = err == nil && n >= 5 && (a == m.s.Profile.ISD || !m.s.taken(a))
	default:
		return apdu.SWReferencedNotFound
	}
	if !valid {
		return apdu.SWWrongData
	}
	return apdu.SWSuccess
}

// Parts of the CPLC that can be written, and where in it they stand.
const (
	tagPersoData    uint16 = 0x9F66
	tagPrePersoData uint16 = 0x9F67
	offPrePerso            = 26
	offPerso               = 34
)

func (m *Manager) storeObject(t tlv.TLV) {
	switch tag := uint16(t.Tag); tag {
	case tagPersoData:
		copy(m.s.CPLC[offPerso:], t.Value)
	case tagPrePersoData:
		copy(m.s.CPLC[offPrePerso:], t.Value)
	case tagDomainAID:
		m.renameISD(t.Value)
	default:
		m.s.Objects[objectName(tag)] = slices.Clone(t.Value)
	}
}

// renameISD gives the card manager another AID; what belongs to it follows.
func (m *Manager) renameISD(to []byte) {
	old := m.s.Profile.ISD
	m.s.Profile.ISD, _ = apdu.NewAID(to)
	for _, a := range m.s.Apps {
		if a.Domain == old {
			a.Domain = m.s.Profile.ISD
		}
	}
	for _, f := range m.s.LoadFiles {
		if f.Domain == old {
			f.Domain = m.s.Profile.ISD
		}
	}
}
