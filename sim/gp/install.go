package gp

import (
	"bytes"
	"errors"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// P1 of INSTALL (Card Specification 2.3.1 table 11-41).
const (
	forLoad            byte = 0x02
	forInstall         byte = 0x04
	forMakeSelectable  byte = 0x08
	forExtradition     byte = 0x10
	forPersonalization byte = 0x20
	forRegistryUpdate  byte = 0x40
	moreFollows        byte = 0x80
)

// maxInstallData bounds the data of an INSTALL in several blocks, in bytes.
const maxInstallData = 4096

// The package of supplementary security domains, known without being listed.
var (
	domainPackages = []apdu.AID{apdu.MustAID("A0000001515350"), apdu.MustAID("A0000000035350")}
	domainModules  = []apdu.AID{apdu.MustAID("A000000151535041"), apdu.MustAID("A000000003535041")}
)

// install runs INSTALL (§11.5). Blocks with bit 80 of P1 are put together first.
func (m *Manager) install(req request) apdu.Response {
	m.v.load = nil
	m.v.target = nil
	if req.P2&^0x03 != 0 {
		return sw(apdu.SWIncorrectP1P2)
	}
	data := append(bytes.Clone(m.v.install), req.Data...)
	m.v.install = nil
	if len(data) > maxInstallData {
		return sw(apdu.SWWrongData)
	}
	if req.P1&moreFollows != 0 {
		m.v.install = data
		return ok()
	}
	r := &reader{b: data}
	switch req.P1 {
	case forLoad:
		return m.installForLoad(r)
	case forInstall, forInstall | forMakeSelectable:
		return m.installForInstall(r, req.P1&forMakeSelectable != 0)
	case forMakeSelectable:
		return m.makeSelectable(r)
	case forExtradition:
		return m.extradite(r)
	case forPersonalization:
		return m.personalize(r)
	case forRegistryUpdate:
		return m.updateRegistry(r)
	}
	return sw(apdu.SWIncorrectP1P2)
}

// receipt is the answer to a finished content management command: no receipt,
// which is 00, or nothing at all.
func (m *Manager) receipt() apdu.Response {
	if m.s.Profile.Quirks.NoReceipt {
		return ok()
	}
	return ok(0x00)
}

// installForLoad opens a load: nothing changes before the last LOAD block.
func (m *Manager) installForLoad(r *reader) apdu.Response {
	l := &loading{file: r.aid(), domain: r.aid(), hash: r.lv()}
	params := r.blv()
	r.blv() // load token, not checked: no delegated management
	limit, err := quota(params, 0xC6)
	if r.err != nil || err != nil || l.file.Len() == 0 || !hashLength(len(l.hash)) {
		return sw(apdu.SWWrongData)
	}
	if m.s.taken(l.file) {
		return sw(apdu.SWConditionsOfUse)
	}
	if l.domain = m.domainNamed(l.domain); l.domain.Len() == 0 {
		return sw(apdu.SWReferencedNotFound)
	}
	if limit+fileOverhead > m.s.free() {
		return sw(apdu.SWNoMemory)
	}
	m.v.load = l
	return m.receipt()
}

// domainNamed resolves the AID of a security domain, zero where there is none.
// No AID, and a right-truncated one, mean the card manager.
func (m *Manager) domainNamed(a apdu.AID) apdu.AID {
	if m.s.Profile.ISD.HasPrefix(a) {
		return m.s.Profile.ISD
	}
	if x := m.s.app(a); x != nil && x.isDomain() {
		return a
	}
	return apdu.AID{}
}

// quota reads a memory limit out of the install parameters EF{…}, 0 where there
// is none.
func quota(params []byte, tag tlv.Tag) (int, error) {
	if len(params) == 0 {
		return 0, nil
	}
	ts, err := tlv.Parse(params)
	if err != nil {
		return 0, err
	}
	system, found := tlv.First(ts, 0xEF)
	if !found {
		return 0, nil
	}
	inner, err := system.Children()
	if err != nil {
		return 0, err
	}
	t, found := tlv.First(inner, tag)
	if !found {
		return 0, nil
	}
	if len(t.Value) == 0 || len(t.Value) > 4 {
		return 0, errors.New("memory limit of a wrong length")
	}
	n := 0
	for _, b := range t.Value {
		n = n<<8 | int(b)
	}
	return min(n, 1<<30), nil
}

func (m *Manager) installForInstall(r *reader, selectable bool) apdu.Response {
	a := &app{LoadFile: r.aid(), Module: r.aid(), AID: r.aid(), State: stateInstalled, Domain: m.s.Profile.ISD}
	privileges, valid := readPrivileges(r.lv())
	params := r.blv()
	r.blv() // install token
	if r.err != nil || !valid || a.LoadFile.Len() == 0 || a.Module.Len() == 0 {
		return sw(apdu.SWWrongData)
	}
	if a.AID.Len() == 0 {
		a.AID = a.Module
	}
	if selectable {
		a.State = stateSelectable
	}
	a.Privileges = privileges
	return m.add(a, params)
}

// add puts a new application into the registry.
func (m *Manager) add(a *app, params []byte) apdu.Response {
	nonVolatile, err := quota(params, 0xC8)
	if err != nil {
		return sw(apdu.SWWrongData)
	}
	if v, found := tlv.Find(params, 0xC9); found {
		a.Params = bytes.Clone(v)
	}
	switch {
	case !m.hasModule(a):
		return sw(apdu.SWReferencedNotFound)
	case a.isDomain() != isDomainModule(a.Module):
		return sw(apdu.SWWrongData)
	case m.s.app(a.AID) != nil || a.AID == m.s.Profile.ISD || a.AID != a.LoadFile && m.s.loadFile(a.AID) != nil:
		return sw(apdu.SWConditionsOfUse)
	}
	a.Reserved = max(nonVolatile, instanceDefault)
	if a.Reserved+instanceOverhead > m.s.free() {
		return sw(apdu.SWNoMemory)
	}
	if err := m.instantiate(a); err != nil {
		return sw(apdu.SWWrongData)
	}
	m.grant(a, a.Privileges)
	m.s.Apps = append(m.s.Apps, a)
	m.touch()
	return m.receipt()
}

func isDomainModule(a apdu.AID) bool { return a == domainModules[0] || a == domainModules[1] }

func (m *Manager) hasModule(a *app) bool {
	for i, p := range domainPackages {
		if a.LoadFile == p && a.Module == domainModules[i] {
			return true
		}
	}
	f := m.s.loadFile(a.LoadFile)
	if f == nil {
		return false
	}
	for _, x := range f.Modules {
		if x == a.Module {
			return true
		}
	}
	return false
}

// readPrivileges takes 0 to 3 bytes; two (libgp) are made three.
func readPrivileges(b []byte) ([]byte, bool) {
	switch len(b) {
	case 0:
		return []byte{0}, true
	case 1:
		return bytes.Clone(b), true
	case 2, 3:
		return append(bytes.Clone(b), 0)[:3], true
	}
	return nil, false
}

// grant gives privileges; only one application holds card reset.
func (m *Manager) grant(a *app, privileges []byte) {
	if privileges[0]&privCardReset != 0 {
		for _, x := range m.s.Apps {
			x.Privileges[0] &^= privCardReset
		}
	}
	a.Privileges = privileges
}

// target reads the fields that the remaining forms of INSTALL share: a leading
// AID, an empty field, the application, privileges, parameters, token.
func (m *Manager) readTarget(r *reader) (domain apdu.AID, a *app, privileges []byte, status apdu.StatusWord) {
	domain = r.aid()
	r.lv()
	aid := r.aid()
	raw := r.lv()
	privileges, valid := readPrivileges(raw)
	r.blv()
	if r.more() {
		r.blv()
	}
	if r.err != nil || !valid {
		return domain, nil, nil, apdu.SWWrongData
	}
	if a = m.s.app(aid); a == nil {
		return domain, nil, nil, apdu.SWReferencedNotFound
	}
	if len(raw) == 0 {
		privileges = a.Privileges
	}
	return domain, a, privileges, apdu.SWSuccess
}

func (m *Manager) makeSelectable(r *reader) apdu.Response {
	_, a, privileges, status := m.readTarget(r)
	if status != apdu.SWSuccess {
		return sw(status)
	}
	if a.State == stateInstalled {
		a.State = stateSelectable
	}
	return m.regrant(a, privileges)
}

func (m *Manager) updateRegistry(r *reader) apdu.Response {
	_, a, privileges, status := m.readTarget(r)
	if status != apdu.SWSuccess {
		return sw(status)
	}
	return m.regrant(a, privileges)
}

// regrant changes privileges after installation. What makes a security domain
// stays as it was installed.
func (m *Manager) regrant(a *app, privileges []byte) apdu.Response {
	p := bytes.Clone(privileges)
	p[0] = p[0]&^privSecurityDomain | a.Privileges[0]&privSecurityDomain
	m.grant(a, p)
	m.touch()
	return m.receipt()
}

func (m *Manager) extradite(r *reader) apdu.Response {
	to, a, _, status := m.readTarget(r)
	if status != apdu.SWSuccess {
		return sw(status)
	}
	if to = m.domainNamed(to); to.Len() == 0 {
		return sw(apdu.SWReferencedNotFound)
	}
	if to == a.AID {
		return sw(apdu.SWConditionsOfUse)
	}
	a.Domain = to
	m.touch()
	return m.receipt()
}

// personalize makes the STORE DATA commands that follow go to an application.
func (m *Manager) personalize(r *reader) apdu.Response {
	_, a, _, status := m.readTarget(r)
	if status != apdu.SWSuccess {
		return sw(status)
	}
	m.v.target = a
	return m.receipt()
}
