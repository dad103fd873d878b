package gp

import "inkan/apdu"

// Instructions of the card manager (Card Specification 2.3.1 §11).
const (
	insManageChannel byte = 0x70
	insInitUpdate    byte = 0x50
	insExtAuth       byte = 0x82
	insSelect        byte = 0xA4
	insGetData       byte = 0xCA
	insPutKey        byte = 0xD8
	insStoreData     byte = 0xE2
	insDelete        byte = 0xE4
	insInstall       byte = 0xE6
	insLoad          byte = 0xE8
	insSetStatus     byte = 0xF0
	insGetStatus     byte = 0xF2
)

// plainLevel is the level of a command without secure messaging.
const plainLevel = -1

// request is a command on its way to an application, secure messaging removed.
type request struct {
	apdu.Command
	level int // plainLevel or the security level it was verified under
}

func (m *Manager) dispatch(cmd apdu.Command) apdu.Response {
	switch {
	case m.s.LifeCycle == stateTerminated:
		return m.terminated(cmd)
	case cmd.CLA == 0x00 && cmd.INS == insSelect && cmd.P1 == 0x04:
		return m.selectByName(cmd)
	case m.s.Profile.NoManager():
		return m.fixed(cmd)
	case cmd.CLA&0xFC == 0x00 && cmd.INS == insManageChannel,
		supplementary(cmd.CLA), further(cmd.CLA) && m.v.selected == nil:
		return sw(apdu.SWChannelNotSupported)
	case cmd.CLA == 0x80 && cmd.INS == insInitUpdate:
		return m.initializeUpdate(cmd)
	case cmd.CLA == 0x84 && cmd.INS == insExtAuth:
		return m.externalAuthenticate(cmd)
	case secured(cmd.CLA):
		return m.runSecured(cmd)
	}
	return m.runPlain(cmd)
}

// fixed runs a command on a card without a card manager: nothing stands between
// the reader and the applet.
func (m *Manager) fixed(cmd apdu.Command) apdu.Response {
	a := m.v.selected
	if a == nil {
		return sw(apdu.SWInsNotSupported)
	}
	return a.applet.Process(&env{m: m, app: a, level: plainLevel}, cmd)
}

// supplementary reports a class byte that names logical channel 1, 2 or 3
// (ISO 7816-4 §5.4.1, and 8x/9x as GlobalPlatform uses them).
func supplementary(cla byte) bool { return cla&0x60 == 0 && cla&0x03 != 0 }

// further reports a class byte of logical channels 4 to 19.
func further(cla byte) bool { return cla&0x40 != 0 }

// secured reports GlobalPlatform secure messaging: 04 or 84.
func secured(cla byte) bool { return cla == 0x04 || cla == 0x84 }

func (m *Manager) run(req request) apdu.Response {
	switch a := m.v.selected; {
	case a == nil:
		return m.isd(req)
	case a.isDomain():
		return m.domain(req)
	default:
		return a.applet.Process(&env{m: m, app: a, level: req.level}, req.Command)
	}
}

// terminated is a card at the end of its life: it still says who it was.
func (m *Manager) terminated(cmd apdu.Command) apdu.Response {
	tag := uint16(cmd.P1)<<8 | uint16(cmd.P2)
	if cmd.CLA&^0x80 == 0 && cmd.INS == insGetData && (tag == tagCPLC || tag == tagRecognition) {
		return m.getData(cmd)
	}
	return sw(apdu.SWUnknown)
}

// isd runs a command of the card manager.
func (m *Manager) isd(req request) apdu.Response {
	if req.CLA&^0x84 != 0 {
		return sw(apdu.SWClaNotSupported)
	}
	switch req.INS {
	case insGetData:
		return m.getData(req.Command)
	case insGetStatus:
		return m.authenticated(req, m.getStatus)
	case insSetStatus:
		return m.authenticated(req, m.setStatus)
	case insDelete:
		return m.manage(req, m.deleteObject)
	case insInstall:
		return m.manage(req, m.install)
	case insLoad:
		return m.manage(req, m.loadBlock)
	case insPutKey:
		return m.manage(req, m.putKey)
	case insStoreData:
		return m.manage(req, m.storeData)
	}
	return sw(apdu.SWInsNotSupported)
}

// domain runs a command of a supplementary security domain, which shares the
// card manager's keys and has no content of its own.
func (m *Manager) domain(req request) apdu.Response {
	switch {
	case req.CLA&^0x84 != 0:
		return sw(apdu.SWClaNotSupported)
	case req.INS == insGetData:
		return m.getData(req.Command)
	}
	return sw(apdu.SWInsNotSupported)
}

type handler func(req request) apdu.Response

// authenticated runs h if the sender has proved itself.
func (m *Manager) authenticated(req request, h handler) apdu.Response {
	if !m.authenticatedHost() {
		return sw(apdu.SWSecurityStatus)
	}
	return h(req)
}

// manage is authenticated, and refuses while the card is locked (§5.1.1.4).
func (m *Manager) manage(req request, h handler) apdu.Response {
	if !m.authenticatedHost() {
		return sw(apdu.SWSecurityStatus)
	}
	if m.s.LifeCycle == stateCardLocked {
		return sw(apdu.SWConditionsOfUse)
	}
	return h(req)
}
