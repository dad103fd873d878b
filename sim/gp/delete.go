package gp

import (
	"slices"

	"inkan/apdu"
	agp "inkan/apdu/gp"
)

// deleteObject runs DELETE (Card Specification 2.3.1 §11.2): an application, a
// load file, or keys.
func (m *Manager) deleteObject(req request) apdu.Response {
	if req.P1 != 0 || req.P2&^0x80 != 0 {
		return sw(apdu.SWIncorrectP1P2)
	}
	var aid apdu.AID
	var version, id *byte
	r := reader{b: req.Data}
	for r.more() {
		switch tag, v := r.tlv(); {
		case tag == 0x4F && len(v) >= 5 && len(v) <= 16:
			aid, _ = apdu.NewAID(v)
		case tag == 0xD2 && len(v) == 1:
			version = &v[0]
		case tag == 0xD0 && len(v) == 1:
			id = &v[0]
		case tag == 0x9E, tag == 0xB6: // token and control reference template
		default:
			r.fail()
		}
	}
	switch {
	case r.err != nil, aid.Len() > 0 && version != nil, aid.Len() == 0 && version == nil && id == nil:
		return sw(apdu.SWWrongData)
	case aid.Len() == 0:
		return m.deleteKeys(version, id)
	}
	return m.deleteContent(aid, req.P2&0x80 != 0)
}

func (m *Manager) deleteContent(aid apdu.AID, related bool) apdu.Response {
	if aid == m.s.Profile.ISD {
		return sw(apdu.SWConditionsOfUse)
	}
	if a := m.s.app(aid); a != nil {
		if m.owns(a) {
			return sw(apdu.SWConditionsOfUse)
		}
		m.removeApps(func(x *app) bool { return x == a })
		m.touch()
		return m.receipt()
	}
	if m.s.loadFile(aid) == nil {
		return sw(apdu.SWReferencedNotFound)
	}
	uses := func(x *app) bool { return x.LoadFile == aid }
	if !related && slices.ContainsFunc(m.s.Apps, uses) {
		return sw(apdu.SWConditionsOfUse)
	}
	m.removeApps(uses)
	m.s.LoadFiles = slices.DeleteFunc(m.s.LoadFiles, func(f *loadFile) bool { return f.AID == aid })
	m.touch()
	return m.receipt()
}

// owns reports whether a security domain has content.
func (m *Manager) owns(a *app) bool {
	return slices.ContainsFunc(m.s.Apps, func(x *app) bool { return x.Domain == a.AID }) ||
		slices.ContainsFunc(m.s.LoadFiles, func(f *loadFile) bool { return f.Domain == a.AID })
}

func (m *Manager) removeApps(which func(*app) bool) {
	m.v.target = nil
	m.s.Apps = slices.DeleteFunc(m.s.Apps, which)
}

// deleteKeys removes a key set, one key of it, or a key id from all sets. The
// set that opened the channel and the last one that can open any stay.
func (m *Manager) deleteKeys(version, id *byte) apdu.Response {
	var sets []keySet
	hit := false
	for _, s := range m.s.Sets {
		if version != nil && s.Version != agp.KeyVersion(*version) || id != nil && s.key(*id) == nil {
			sets = append(sets, s)
			continue
		}
		hit = true
		if v, isOpen := m.session.KeyVersion(); isOpen && s.Version == v {
			return sw(apdu.SWConditionsOfUse)
		}
		if id == nil {
			continue
		}
		s.Keys = slices.DeleteFunc(slices.Clone(s.Keys), func(k key) bool { return k.ID == *id })
		if len(s.Keys) > 0 {
			sets = append(sets, s)
		}
	}
	if !hit {
		return sw(apdu.SWReferencedNotFound)
	}
	if !slices.ContainsFunc(sets, func(s keySet) bool { return s.channelType() != 0 }) {
		return sw(apdu.SWConditionsOfUse)
	}
	m.s.Sets = sets
	m.touch()
	return m.receipt()
}
