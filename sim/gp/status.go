package gp

import (
	"inkan/apdu"
	"inkan/apdu/tlv"
)

// P1 of GET STATUS (Card Specification 2.3.1 table 11-32).
const (
	scopeISD     byte = 0x80
	scopeApps    byte = 0x40
	scopeFiles   byte = 0x20
	scopeModules byte = 0x10
)

// cursor is where a GET STATUS that did not fit goes on.
type cursor struct {
	p1, p2 byte
	filter string
	rest   [][]byte
}

// getStatus answers GET STATUS in pages cut between entries, 6310 while more
// are to come.
func (m *Manager) getStatus(req request) apdu.Response {
	r := reader{b: req.Data}
	tag, filter := r.tlv()
	if r.err != nil || tag != tagDomainAID || len(filter) > 16 {
		return sw(apdu.SWWrongData)
	}
	if req.P2&^0x03 != 0 || m.s.Profile.Quirks.Untagged && (req.P2&2 != 0 || req.P1 == scopeModules) {
		return sw(apdu.SWIncorrectP1P2)
	}
	prefix, _ := apdu.NewAID(filter)
	cur := &cursor{p1: req.P1, p2: req.P2 &^ 1, filter: string(filter)}
	if req.P2&1 != 0 {
		old := m.v.cursor
		if old == nil || old.p1 != cur.p1 || old.p2 != cur.p2 || old.filter != cur.filter {
			return sw(apdu.SWReferencedNotFound)
		}
		cur.rest = old.rest
	} else {
		var valid bool
		if cur.rest, valid = m.entries(req.P1, req.P2&2 != 0, prefix); !valid {
			return sw(apdu.SWIncorrectP1P2)
		}
	}
	return m.page(cur)
}

func (m *Manager) page(cur *cursor) apdu.Response {
	m.v.cursor = nil
	if len(cur.rest) == 0 {
		return sw(apdu.SWReferencedNotFound)
	}
	var data []byte
	room := m.session.MaxResponse()
	for len(cur.rest) > 0 && (len(data) == 0 || len(data)+len(cur.rest[0]) <= room) {
		data = append(data, cur.rest[0]...)
		cur.rest = cur.rest[1:]
	}
	if len(cur.rest) > 0 {
		m.v.cursor = cur
		return apdu.Response{Data: data, SW: apdu.SWMoreData}
	}
	return ok(data...)
}

// entries lists what P1 asks for; false for a P1 that asks for nothing known.
func (m *Manager) entries(p1 byte, asTLV bool, prefix apdu.AID) ([][]byte, bool) {
	switch p1 {
	case scopeISD, scopeApps, scopeFiles, scopeModules:
	default:
		return nil, false
	}
	var out [][]byte
	add := func(e entry) {
		if !e.aid.HasPrefix(prefix) {
			return
		}
		if asTLV {
			out = append(out, e.tlv())
			return
		}
		out = append(out, e.legacy(p1 == scopeModules))
	}
	switch p1 {
	case scopeISD:
		add(entry{aid: m.s.Profile.ISD, state: m.s.LifeCycle, privileges: []byte{0x9E, 0xFE, 0x80}})
	case scopeApps:
		for _, a := range m.s.Apps {
			add(entry{aid: a.AID, state: a.State, privileges: a.Privileges, file: a.LoadFile, domain: a.Domain})
		}
	default:
		for _, f := range m.s.LoadFiles {
			e := entry{aid: f.AID, state: stateLoaded, domain: f.Domain, version: []byte{f.Major, f.Minor}}
			if p1 == scopeModules {
				e.modules = f.Modules
			}
			add(e)
		}
	}
	return out, true
}

// entry is one answer of GET STATUS (table 11-36).
type entry struct {
	aid, file, domain apdu.AID
	state             byte
	privileges        []byte
	version           []byte
	modules           []apdu.AID
}

func (e entry) tlv() []byte {
	b := tlv.Encode(0x4F, e.aid.Bytes())
	b = tlv.Append(b, 0x9F70, []byte{e.state})
	if e.privileges != nil {
		b = tlv.Append(b, 0xC5, e.privileges)
	}
	if e.file.Len() > 0 {
		b = tlv.Append(b, 0xC4, e.file.Bytes())
	}
	if e.version != nil {
		b = tlv.Append(b, 0xCE, e.version)
	}
	for _, a := range e.modules {
		b = tlv.Append(b, 0x84, a.Bytes())
	}
	if e.domain.Len() > 0 {
		b = tlv.Append(b, 0xCC, e.domain.Bytes())
	}
	return tlv.Encode(0xE3, b)
}

func (e entry) legacy(withModules bool) []byte {
	b := append([]byte{byte(e.aid.Len())}, e.aid.Bytes()...)
	p := byte(0)
	if len(e.privileges) > 0 {
		p = e.privileges[0]
	}
	b = append(b, e.state, p)
	if !withModules {
		return b
	}
	b = append(b, byte(len(e.modules)))
	for _, a := range e.modules {
		b = append(append(b, byte(a.Len())), a.Bytes()...)
	}
	return b
}

// setStatus runs SET STATUS (§11.10).
func (m *Manager) setStatus(req request) apdu.Response {
	switch req.P1 {
	case scopeISD:
		return m.setCardState(req.P2)
	case scopeApps, 0x60:
	default:
		return sw(apdu.SWIncorrectP1P2)
	}
	aid, err := apdu.NewAID(req.Data)
	if err != nil {
		return sw(apdu.SWWrongData)
	}
	a := m.s.app(aid)
	if a == nil {
		return sw(apdu.SWReferencedNotFound)
	}
	if status := a.setState(req.P2); status != apdu.SWSuccess {
		return sw(status)
	}
	if req.P1 == 0x60 && a.isDomain() {
		for _, x := range m.s.Apps {
			if x.Domain == a.AID {
				x.State = x.State&^stateLocked | req.P2&stateLocked
			}
		}
	}
	m.touch()
	return ok()
}

// setCardState moves the card forward, or back from CARD_LOCKED to SECURED.
func (m *Manager) setCardState(to byte) apdu.Response {
	from := m.s.LifeCycle
	if from == to {
		return ok()
	}
	if !forwardFrom(from, to) {
		return sw(apdu.SWConditionsOfUse)
	}
	m.s.LifeCycle = to
	m.touch()
	return ok()
}

// setState locks, unlocks or moves an application: bit 80 locks, the rest sets
// the state of one that is not locked.
func (a *app) setState(p2 byte) apdu.StatusWord {
	switch to := p2 &^ stateLocked; {
	case p2&stateLocked != 0:
		a.State |= stateLocked
	case a.locked():
		a.State &^= stateLocked
	case to < stateInstalled || to&stateInstalled != stateInstalled:
		return apdu.SWConditionsOfUse
	case to < stateSelectable && a.State >= stateSelectable:
		return apdu.SWConditionsOfUse
	default:
		a.State = to
	}
	return apdu.SWSuccess
}
