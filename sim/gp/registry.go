package gp

import (
	"slices"

	"inkan/apdu"
	agp "inkan/apdu/gp"
)

// Life cycle states (GlobalPlatform Card Specification 2.3.1 §11.1.1).
const (
	stateOPReady     byte = 0x01
	stateInitialized byte = 0x07
	stateSecured     byte = 0x0F
	stateCardLocked  byte = 0x7F
	stateTerminated  byte = 0xFF

	stateLoaded     byte = 0x01
	stateInstalled  byte = 0x03
	stateSelectable byte = 0x07
	stateLocked     byte = 0x80 // bit of a locked application
)

// Privileges of the first byte (§6.6).
const (
	privSecurityDomain byte = 0x80
	privCardLock       byte = 0x10
	privCardTerminate  byte = 0x08
	privCardReset      byte = 0x04
)

// forwardFrom reports whether a card may go from one state to the other.
func forwardFrom(from, to byte) bool {
	order := []byte{stateOPReady, stateInitialized, stateSecured, stateCardLocked, stateTerminated}
	f, t := slices.Index(order, from), slices.Index(order, to)
	return f >= 0 && t > f || from == stateCardLocked && to == stateSecured
}

// state is all that survives power loss. Its JSON is the payload of an image.
type state struct {
	Profile   Profile
	LifeCycle byte
	CPLC      []byte
	Objects   map[string][]byte // data objects by tag, upper-case hexadecimal
	Sets      []keySet          // in order of age; the first is the default set
	LoadFiles []*loadFile
	Apps      []*app
}

type loadFile struct {
	AID, Domain  apdu.AID
	Major, Minor byte
	Modules      []apdu.AID
	Code         []byte
}

type app struct {
	AID, LoadFile, Module, Domain apdu.AID
	Privileges                    []byte // 1 or 3 bytes
	State                         byte
	Params                        []byte // value of tag C9
	Reserved                      int    // bytes of memory
	Data                          []byte // what Applet.Save returned, set while saving

	applet Applet
}

// keySet is the keys of one version.
type keySet struct {
	Version agp.KeyVersion
	Counter uint32
	Keys    []key
}

type key struct {
	ID    byte
	Type  KeyType
	Value []byte // public keys: the components as they came
	Parts []part // public keys: type and length per component
}

type part struct {
	Type   byte
	Length int
}

func (s *state) app(a apdu.AID) *app {
	for _, x := range s.Apps {
		if x.AID == a {
			return x
		}
	}
	return nil
}

func (s *state) loadFile(a apdu.AID) *loadFile {
	for _, x := range s.LoadFiles {
		if x.AID == a {
			return x
		}
	}
	return nil
}

// taken reports whether an AID is in use by anything on the card.
func (s *state) taken(a apdu.AID) bool {
	return a == s.Profile.ISD || s.app(a) != nil || s.loadFile(a) != nil
}

// set returns the key set of a version; 00 is the default set.
func (s *state) set(v agp.KeyVersion) *keySet {
	for i := range s.Sets {
		if s.Sets[i].Version == v || v == 0 && s.Sets[i].channelType() != 0 {
			return &s.Sets[i]
		}
	}
	return nil
}

func (k *keySet) key(id byte) *key {
	for i := range k.Keys {
		if k.Keys[i].ID == id {
			return &k.Keys[i]
		}
	}
	return nil
}

// channelType is the type of the three keys of a set that can open a channel, 0
// for a set that cannot.
func (k *keySet) channelType() KeyType {
	e, m, d := k.key(1), k.key(2), k.key(3)
	if e == nil || m == nil || d == nil || m.Type != e.Type || d.Type != e.Type {
		return 0
	}
	if !e.Type.lengthOK(len(e.Value)) || len(m.Value) != len(e.Value) || len(d.Value) != len(e.Value) {
		return 0
	}
	return e.Type
}

// fileOverhead and instanceOverhead are the memory of a registry entry, in
// bytes; instanceDefault is what an instance without a quota takes.
const (
	fileOverhead     = 32
	instanceOverhead = 64
	instanceDefault  = 256
)

// free is the memory left, in bytes.
func (s *state) free() int {
	n := s.Profile.Memory
	for _, f := range s.LoadFiles {
		n -= len(f.Code) + fileOverhead
	}
	for _, a := range s.Apps {
		n -= a.Reserved + instanceOverhead
	}
	return n
}

// isDomain reports whether the application is a security domain.
func (a *app) isDomain() bool { return a.Privileges[0]&privSecurityDomain != 0 }

func (a *app) locked() bool { return a.State&stateLocked != 0 }

// defaultSelected is the application with the card reset privilege, nil for the
// card manager.
func (s *state) defaultSelected() *app {
	for _, a := range s.Apps {
		if a.Privileges[0]&privCardReset != 0 {
			return a
		}
	}
	return nil
}
