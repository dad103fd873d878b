package gp

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"

	"inkan/apdu"
	"inkan/securechannel"
)

// Config is what a [Manager] needs besides its state. The zero value is usable.
type Config struct {
	// Applets gives loaded code its behaviour, by the AID of the load file. A
	// file that is not here can be loaded all the same; its applications can be
	// selected and answer 6D00 to everything else.
	Applets map[apdu.AID]Factory
	Rand    io.Reader // nil = crypto/rand
	Keys    KeyMaker  // nil = FreshKeys
	// Commit makes the state durable in the middle of a command; nil = the card is
	// in memory only.
	Commit func() error
	// UnknownTags puts data objects of no meaning into the FCI.
	UnknownTags bool
}

func (c Config) withDefaults() Config {
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Keys == nil {
		c.Keys = FreshKeys{}
	}
	return c
}

// Manager is the card manager and runtime of a software card: a GlobalPlatform
// issuer security domain (Card Specification 2.3.1) and the applications on it.
// It answers typed commands; how answers travel (61xx, 6Cxx) is not its matter.
// One goroutine at a time.
type Manager struct {
	cfg     Config
	s       *state
	v       volatile
	session *securechannel.CardSession
	dirty   bool
	fault   error
}

// volatile is what a loss of power clears.
type volatile struct {
	selected *app // nil = the card manager
	segments *segments
	load     *loading
	install  []byte // data of INSTALL blocks so far
	store    *storing
	target   *app // of INSTALL [for personalization]
	cursor   *cursor
}

// New makes a blank card from a profile.
func New(p Profile, cfg Config) (*Manager, error) {
	if err := p.Check(); err != nil {
		return nil, fmt.Errorf("making a card: %w", err)
	}
	s := &state{Profile: p, LifeCycle: p.State, CPLC: bytes.Clone(p.CPLC[:]), Objects: map[string][]byte{}}
	for _, k := range p.Keys {
		s.Sets = append(s.Sets, keySet{Version: k.Version, Keys: []key{
			{ID: 1, Type: k.Type, Value: k.ENC}, {ID: 2, Type: k.Type, Value: k.MAC}, {ID: 3, Type: k.Type, Value: k.DEK},
		}})
	}
	m := &Manager{cfg: cfg.withDefaults(), s: s}
	for _, a := range p.Applets {
		if err := m.preset(a); err != nil {
			return nil, fmt.Errorf("installing applet %v: %w", a.Instance, err)
		}
	}
	m.Reset()
	return m, nil
}

func (m *Manager) preset(p PresetApplet) error {
	f := m.s.loadFile(p.LoadFile)
	if f == nil {
		f = &loadFile{AID: p.LoadFile, Domain: m.s.Profile.ISD, Major: 1, Modules: []apdu.AID{p.Module}}
		m.s.LoadFiles = append(m.s.LoadFiles, f)
	}
	a := &app{AID: p.Instance, LoadFile: p.LoadFile, Module: p.Module, Domain: m.s.Profile.ISD,
		Privileges: []byte{0}, State: stateSelectable, Params: p.Params, Reserved: instanceDefault}
	if m.s.taken(a.AID) {
		return errors.New("AID is taken")
	}
	if err := m.instantiate(a); err != nil {
		return err
	}
	m.s.Apps = append(m.s.Apps, a)
	return nil
}

// Restore makes a card from what [Manager.Save] returned. It fails for any
// input that Save cannot have returned; it never panics.
func Restore(saved []byte, cfg Config) (*Manager, error) {
	dec := json.NewDecoder(bytes.NewReader(saved))
	dec.DisallowUnknownFields()
	s := new(state)
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("decoding card state: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("card state: %w", err)
	}
	m := &Manager{cfg: cfg.withDefaults(), s: s}
	for _, a := range s.Apps {
		if err := m.revive(a); err != nil {
			return nil, fmt.Errorf("restoring applet %v: %w", a.AID, err)
		}
	}
	m.Reset()
	return m, nil
}

func (m *Manager) revive(a *app) (err error) {
	defer guard(&err)
	if err := m.instantiate(a); err != nil {
		return err
	}
	if err := a.applet.Load(a.Data); err != nil {
		return err
	}
	a.Data = nil
	return nil
}

// check reports what would break the runtime later.
func (s *state) check() error {
	if err := s.Profile.Check(); err != nil {
		return err
	}
	if len(s.CPLC) != len(s.Profile.CPLC) {
		return fmt.Errorf("CPLC of %d bytes", len(s.CPLC))
	}
	if s.Objects == nil {
		return errors.New("no data objects")
	}
	seen := map[apdu.AID]bool{s.Profile.ISD: true}
	for _, f := range s.LoadFiles {
		if f == nil || seen[f.AID] {
			return errors.New("load file twice or missing")
		}
		seen[f.AID] = true
	}
	for _, a := range s.Apps {
		if a == nil || seen[a.AID] || len(a.Privileges) != 1 && len(a.Privileges) != 3 {
			return errors.New("application twice, missing or without privileges")
		}
		seen[a.AID] = true
	}
	return nil
}

// Profile returns what the card was born as. The caller does not change it.
func (m *Manager) Profile() Profile { return m.s.Profile }

// Save returns the persistent state, secrets included. The layout belongs to
// this package.
func (m *Manager) Save() (b []byte, err error) {
	defer guard(&err)
	for _, a := range m.s.Apps {
		if a.Data, err = a.applet.Save(); err != nil {
			return nil, fmt.Errorf("saving applet %v: %w", a.AID, err)
		}
	}
	b, err = json.Marshal(m.s)
	for _, a := range m.s.Apps {
		a.Data = nil
	}
	if err != nil {
		return nil, fmt.Errorf("saving card state: %w", err)
	}
	return b, nil
}

// Applet returns the behaviour of an application, nil where there is none.
func (m *Manager) Applet(aid apdu.AID) Applet {
	if a := m.s.app(aid); a != nil {
		return a.applet
	}
	return nil
}

// ExactLe reports whether the selected application cuts its answers at the Le of
// the command: an applet says so with a method ExactLe() bool.
func (m *Manager) ExactLe() bool {
	if m.v.selected == nil {
		return false
	}
	a, ok := m.v.selected.applet.(interface{ ExactLe() bool })
	return ok && a.ExactLe()
}

// Changed reports whether persistent state changed since the last call.
func (m *Manager) Changed() bool {
	d := m.dirty
	m.dirty = false
	return d
}

func (m *Manager) commit() error {
	if !m.dirty || m.cfg.Commit == nil {
		return nil
	}
	if err := m.cfg.Commit(); err != nil {
		return err
	}
	m.dirty = false
	return nil
}

// Fault returns what made the last command end in 6F00 by a programming error in
// the card, nil otherwise. The state in memory is then not to be trusted.
func (m *Manager) Fault() error { return m.fault }

// Reset takes power away and gives it back: volatile state is gone, and the
// default application is selected.
func (m *Manager) Reset() {
	if m.session != nil {
		m.session.Terminate()
	}
	m.v, m.session = volatile{}, m.newSession()
	for _, a := range m.s.Apps {
		m.guarded(func() { a.applet.Reset() })
	}
	if a := m.s.defaultSelected(); a != nil && !a.locked() && m.s.LifeCycle != stateCardLocked {
		m.v.selected = a
	}
}

// Do runs one command and returns its whole answer. It never panics: an error
// in an applet is answered with 6F00 and told by [Manager.Fault].
func (m *Manager) Do(cmd apdu.Command) (resp apdu.Response) {
	m.fault = nil
	resp = sw(apdu.SWUnknown)
	m.guarded(func() { resp = m.dispatch(cmd) })
	return resp
}

func (m *Manager) guarded(f func()) {
	err := func() (err error) {
		defer guard(&err)
		f()
		return nil
	}()
	if err != nil {
		m.fault = err
	}
}

// guard turns a panic into an error. Its text has the place, never the value:
// that may hold a secret.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panic in the card: %T\n%s", r, debug.Stack())
	}
}

func (m *Manager) touch() { m.dirty = true }

func sw(s apdu.StatusWord) apdu.Response { return apdu.Response{SW: s} }

func ok(data ...byte) apdu.Response { return apdu.Response{Data: data, SW: apdu.SWSuccess} }
