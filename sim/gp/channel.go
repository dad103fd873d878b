package gp

import (
	"inkan/apdu"
	agp "inkan/apdu/gp"
	"inkan/apdu/secret"
	"inkan/securechannel"
)

// newSession makes the card's end of the secure channel. It opens on whichever
// application is selected, always with the card manager's keys.
func (m *Manager) newSession() *securechannel.CardSession {
	p := &m.s.Profile
	return securechannel.NewCard(securechannel.CardConfig{
		KeySet:              m.channelKeys,
		KDD:                 p.KDD,
		AID:                 m.channelAID,
		Rand:                m.cfg.Rand,
		MACError:            p.Quirks.MACError,
		CounterWithDataOnly: p.Quirks.DataCounter,
		ErrorMAC:            p.Quirks.ErrorRMAC,
		LongPadding:         p.Quirks.LongPadding,
	})
}

// channelKeys finds the key set for INITIALIZE UPDATE; 00 is the default set.
func (m *Manager) channelKeys(v agp.KeyVersion) (securechannel.CardKeySet, bool) {
	set := m.s.set(v)
	if set == nil || set.channelType() == 0 {
		return securechannel.CardKeySet{}, false
	}
	c, found := m.s.Profile.channelFor(set.channelType())
	version := set.Version
	return securechannel.CardKeySet{
		Version: version, Protocol: c.Protocol, Option: c.Option, Counter: set.Counter,
		ENC: secret.New(set.key(1).Value), MAC: secret.New(set.key(2).Value), DEK: secret.New(set.key(3).Value),
		SetCounter: func(n uint32) error {
			if s := m.s.set(version); s != nil {
				s.Counter = n
				m.touch()
			}
			return nil
		},
	}, found
}

// channelAID is the AID of the application in which the channel opens.
func (m *Manager) channelAID() apdu.AID {
	if a := m.v.selected; a != nil {
		return a.AID
	}
	return m.s.Profile.ISD
}

// initializeUpdate begins a session, for the card manager or an application that
// delegates to it. Code without behaviour has no use for one.
func (m *Manager) initializeUpdate(cmd apdu.Command) apdu.Response {
	m.v.segments = nil
	if a := m.v.selected; a != nil && a.applet == (inert{}) && !a.isDomain() {
		return sw(apdu.SWInsNotSupported)
	}
	return m.session.InitializeUpdate(cmd)
}

func (m *Manager) externalAuthenticate(cmd apdu.Command) apdu.Response {
	if a := m.v.selected; a != nil && !a.applet.AcceptsLevel(securechannel.Level(cmd.P1)) {
		m.session.Terminate()
		return sw(apdu.SWConditionsOfUse)
	}
	return m.session.ExternalAuthenticate(cmd)
}

// runPlain runs a command without secure messaging. The card manager demands
// what the session's level says, but for GET DATA, which is free at all times; an
// application decides for itself, so its plain commands do not touch the session.
func (m *Manager) runPlain(cmd apdu.Command) apdu.Response {
	req := request{cmd, plainLevel}
	level, isOpen := m.session.Level()
	free := m.v.selected != nil || cmd.INS == insGetData
	if free && !(isOpen && level == securechannel.RMAC) {
		return m.run(req)
	}
	if _, status := m.session.Unwrap(cmd); status != apdu.SWSuccess {
		return sw(status)
	}
	return m.session.WrapResponse(m.run(req))
}

// runSecured runs a command with secure messaging.
func (m *Manager) runSecured(cmd apdu.Command) apdu.Response {
	level, isOpen := m.session.Level()
	if isOpen && level&securechannel.CMAC == 0 {
		return sw(apdu.SWSMNotSupported)
	}
	if isOpen {
		var held bool
		var status apdu.StatusWord
		if cmd, status, held = m.gather(cmd); held {
			return sw(status)
		}
	}
	plain, status := m.session.Unwrap(cmd)
	if status != apdu.SWSuccess {
		return sw(status)
	}
	plain.CLA = cmd.CLA
	return m.session.WrapResponse(m.run(request{plain, int(level)}))
}

// segments is a command in parts: bit 80 of P1 is set in all but the last, which
// ends with the MAC over the whole (§11.1.5.1).
type segments struct {
	ins  byte
	data []byte
}

// gather puts segments together. A part that carries its own MAC is a command of
// its own, as cards before 2.3 want it.
func (m *Manager) gather(cmd apdu.Command) (whole apdu.Command, status apdu.StatusWord, held bool) {
	before := m.v.segments
	m.v.segments = nil
	if cmd.INS != insDelete && cmd.INS != insInstall && cmd.INS != insPutKey {
		return cmd, 0, false
	}
	more := cmd.P1&moreFollows != 0 && !(cmd.INS == insPutKey && cmd.P1 == byte(factoryVersion))
	if before == nil && (!more || m.session.Verifies(cmd)) {
		return cmd, 0, false
	}
	if before != nil && before.ins == cmd.INS {
		cmd.Data = append(before.data, cmd.Data...)
	}
	if !more {
		return cmd, 0, false
	}
	if len(cmd.Data) > maxInstallData {
		m.session.Terminate()
		return cmd, apdu.SWWrongLength, true
	}
	m.v.segments = &segments{cmd.INS, append([]byte(nil), cmd.Data...)}
	return cmd, apdu.SWSuccess, true
}

// authenticatedHost reports whether the host has proved itself in this session.
func (m *Manager) authenticatedHost() bool {
	_, isOpen := m.session.Level()
	return isOpen
}

// stateLevel is the security level as GET DATA D3 tells it.
func (m *Manager) stateLevel() byte {
	level, isOpen := m.session.Level()
	if !isOpen {
		return 0
	}
	return 0x80 | byte(level)
}
