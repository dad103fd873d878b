package gp

import (
	"errors"
	"slices"

	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/securechannel/keyset"
)

// factoryVersion is the version of initial keys, which vanish with the first
// real set.
const factoryVersion agp.KeyVersion = 0xFF

// putKey runs PUT KEY (Card Specification 2.3.1 §11.8, Amendment D 1.1.1 §7.2).
// Everything is read and checked before anything changes.
func (m *Manager) putKey(req request) apdu.Response {
	p, err := keyset.Parse(req.Data, m.session.DecryptDEK)
	switch {
	case errors.Is(err, keyset.ErrKCV):
		return sw(apdu.SWInvalidKCV)
	case err != nil, len(p.Keys) > 1 && req.P2&0x80 == 0, int(req.P2&0x7F)+len(p.Keys) > 0x7F:
		return sw(apdu.SWWrongData)
	}
	set := keySet{Version: p.Version}
	for i, k := range p.Keys {
		stored, fits := storedKey(req.P2&0x7F+byte(i), k)
		if !fits {
			return sw(apdu.SWWrongData)
		}
		set.Keys = append(set.Keys, stored)
	}
	sets, status := m.placeKeys(agp.KeyVersion(req.P1), set)
	if status != apdu.SWSuccess {
		return sw(status)
	}
	m.s.Sets = sets
	m.touch()
	switch answer := p.Answer(); m.s.Profile.Quirks.PutKey {
	case AnswerVersion:
		return ok(answer[0])
	case AnswerNothing:
		return ok()
	default:
		return ok(answer...)
	}
}

// storedKey is a key as the card keeps it; false for a length it does not have.
func storedKey(id byte, k keyset.Key) (key, bool) {
	switch k.Type {
	case keyset.DES, keyset.DESLegacy:
		return key{ID: id, Type: DES3, Value: k.Value.Bytes()}, DES3.lengthOK(k.Value.Len())
	case keyset.AES:
		return key{ID: id, Type: AES, Value: k.Value.Bytes()}, AES.lengthOK(k.Value.Len())
	}
	out := key{ID: id, Type: KeyType(k.Type)}
	for _, c := range k.Public {
		out.Parts = append(out.Parts, part{byte(c.Type), len(c.Value)})
		out.Value = append(out.Value, c.Value...)
	}
	return out, true
}

// placeKeys returns the key sets as they will be. old is P1: 00 adds, the new
// version itself replaces values, another version is replaced and renumbered.
func (m *Manager) placeKeys(old agp.KeyVersion, set keySet) ([]keySet, apdu.StatusWord) {
	if t := set.channelType(); t != 0 {
		if _, usable := m.s.Profile.channelFor(t); !usable {
			return nil, apdu.SWAlgorithmUnsupported
		}
	}
	exists := m.s.set(set.Version) != nil
	switch {
	case old == 0 || old == factoryVersion && m.s.set(factoryVersion) != nil, old == set.Version && !exists && m.onlyFactory():
		if exists {
			return nil, apdu.SWWrongData
		}
		return m.addSet(set), apdu.SWSuccess
	case m.s.set(old) == nil:
		return nil, apdu.SWReferencedNotFound
	case old != set.Version && exists:
		return nil, apdu.SWWrongData
	}
	return m.replaceSet(old, set)
}

func (m *Manager) onlyFactory() bool {
	return !slices.ContainsFunc(m.s.Sets, func(s keySet) bool { return s.channelType() != 0 && s.Version != factoryVersion })
}

func (m *Manager) addSet(set keySet) []keySet {
	sets := slices.Clone(m.s.Sets)
	if set.channelType() != 0 && !m.s.Profile.Quirks.KeepFactory {
		sets = slices.DeleteFunc(sets, func(s keySet) bool { return s.Version == factoryVersion })
	}
	return append(sets, set)
}

// replaceSet puts new values into the slots of a set: same ids, same types, same
// lengths (§11.8.2.3). The set keeps its place and loses its counter.
func (m *Manager) replaceSet(old agp.KeyVersion, set keySet) ([]keySet, apdu.StatusWord) {
	sets := slices.Clone(m.s.Sets)
	i := slices.IndexFunc(sets, func(s keySet) bool { return s.Version == old })
	next := keySet{Version: set.Version, Counter: 0, Keys: slices.Clone(sets[i].Keys)}
	for _, k := range set.Keys {
		j := slices.IndexFunc(next.Keys, func(x key) bool { return x.ID == k.ID })
		if j < 0 {
			return nil, apdu.SWReferencedNotFound
		}
		if x := next.Keys[j]; x.Type != k.Type || x.Parts == nil && len(x.Value) != len(k.Value) {
			return nil, apdu.SWWrongData
		}
		next.Keys[j] = k
	}
	if old != set.Version && len(set.Keys) != len(next.Keys) {
		return nil, apdu.SWWrongData
	}
	sets[i] = next
	return sets, apdu.SWSuccess
}
