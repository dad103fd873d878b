package gp

import (
	"inkan/apdu"
	"inkan/apdu/tlv"
)

// selectByName answers SELECT by AID (ISO 7816-4 §11.2.2, GlobalPlatform Card
// Specification 2.3.1 §11.9). An unknown AID leaves everything as it was.
func (m *Manager) selectByName(cmd apdu.Command) apdu.Response {
	if cmd.P2&^0x0E != 0 {
		return sw(apdu.SWIncorrectP1P2)
	}
	aid, err := apdu.NewAID(cmd.Data)
	if err != nil {
		return sw(apdu.SWWrongData)
	}
	if no := m.s.Profile.Quirks.EmptySelect; no != 0 && aid.Len() == 0 {
		return sw(no)
	}
	target, found := m.lookup(aid, cmd.P2&0x02 != 0)
	if !found {
		return sw(apdu.SWFileNotFound)
	}
	if old := m.v.selected; old != nil {
		old.applet.Deselect(&env{m: m, app: old, level: plainLevel})
	}
	m.v = volatile{selected: target}
	m.session.Terminate()
	resp := m.selected()
	if cmd.P2&0x0C == 0x0C {
		resp.Data = nil
	}
	return resp
}

func (m *Manager) selected() apdu.Response {
	a := m.v.selected
	switch {
	case a == nil && m.s.LifeCycle == stateCardLocked:
		return apdu.Response{Data: m.fci(m.s.Profile.ISD), SW: apdu.SWCardLocked}
	case a == nil:
		return apdu.Response{Data: m.fci(m.s.Profile.ISD), SW: apdu.SWSuccess}
	case a.isDomain():
		return apdu.Response{Data: m.fci(a.AID), SW: apdu.SWSuccess}
	}
	return a.applet.Select(&env{m: m, app: a, level: plainLevel})
}

// lookup finds the application that a full or right-truncated AID names, the
// card manager first. next asks for the one after the selected one. A nil app
// is the card manager.
func (m *Manager) lookup(aid apdu.AID, next bool) (a *app, found bool) {
	if aid.Len() == 0 && !next {
		a := m.implicit()
		return a, a != nil || !m.s.Profile.NoManager()
	}
	skip := next
	if !m.s.Profile.NoManager() && m.s.Profile.ISD.HasPrefix(aid) {
		if !skip {
			return nil, true
		}
		skip = m.v.selected != nil
	}
	for _, x := range m.s.Apps {
		if !x.AID.HasPrefix(aid) || x.State&^stateLocked < stateSelectable || x.locked() || m.s.LifeCycle == stateCardLocked {
			continue
		}
		if !skip {
			return x, true
		}
		skip = m.v.selected != x
	}
	return nil, false
}

// implicit is what an empty AID selects.
func (m *Manager) implicit() *app {
	if a := m.s.defaultSelected(); a != nil && !a.locked() && m.s.LifeCycle != stateCardLocked {
		return a
	}
	return nil
}

// fci is the file control information of a security domain. Tag 84 comes first
// inside 6F: some hosts take the first byte 84 they meet for it.
func (m *Manager) fci(aid apdu.AID) []byte {
	prop := tlv.Append(nil, 0x9F65, []byte{0xFF})
	parts := tlv.Append(nil, 0x84, aid.Bytes())
	parts = tlv.Append(parts, 0xA5, prop)
	if m.cfg.UnknownTags {
		parts = tlv.Append(parts, 0x87, []byte{0x01})
		parts = tlv.Append(parts, 0x9F11, []byte("vendor"))
	}
	return tlv.Encode(0x6F, parts)
}
