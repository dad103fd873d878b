package gp

import (
	"io"

	"inkan/apdu"
	"inkan/securechannel"
)

// env is the runtime as an applet sees it while one command runs.
type env struct {
	m     *Manager
	app   *app
	level int
}

func (e *env) Level() int                      { return e.level }
func (e *env) Unwrap(ct []byte) ([]byte, bool) { return e.m.session.DecryptDEK(ct) }
func (e *env) Rand() io.Reader                 { return e.m.cfg.Rand }
func (e *env) Keys() KeyMaker                  { return e.m.cfg.Keys }
func (e *env) AID() apdu.AID                   { return e.app.AID }
func (e *env) LifeCycle() byte                 { return e.app.State &^ stateLocked }
func (e *env) Touch()                          { e.m.touch() }
func (e *env) Commit() error                   { return e.m.commit() }

// SetLifeCycle accepts the application specific states: 07 to 7F with the three
// low bits set (Card Specification 2.3.1 table 11-4).
func (e *env) SetLifeCycle(b byte) bool {
	if b&stateLocked != 0 || b&stateSelectable != stateSelectable || e.app.locked() {
		return false
	}
	e.app.State = b
	e.m.touch()
	return true
}

// instantiate gives an application its behaviour.
func (m *Manager) instantiate(a *app) (err error) {
	defer guard(&err)
	a.applet = inert{}
	make, ok := m.cfg.Applets[a.LoadFile]
	if !ok || a.isDomain() {
		return nil
	}
	var code []byte
	if f := m.s.loadFile(a.LoadFile); f != nil {
		code = f.Code
	}
	a.applet, err = make(a.AID, a.Params, code)
	return err
}

// inert is an application without behaviour: code whose meaning the software
// card does not know.
type inert struct{}

func (inert) Select(Env) apdu.Response                { return ok() }
func (inert) Deselect(Env)                            {}
func (inert) Reset()                                  {}
func (inert) Process(Env, apdu.Command) apdu.Response { return sw(apdu.SWInsNotSupported) }
func (inert) AcceptsLevel(securechannel.Level) bool   { return true }
func (inert) Save() ([]byte, error)                   { return nil, nil }
func (inert) Load([]byte) error                       { return nil }
