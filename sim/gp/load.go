package gp

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"

	"inkan/apdu"
	"inkan/apdu/gp/loadfile"
	"inkan/apdu/tlv"
)

// loading is a load file on its way to the card. It is volatile: what is cut
// before the last block never happened.
type loading struct {
	file, domain apdu.AID
	hash         []byte
	stream       []byte
	next         int // block number expected
}

// maxHeader is the room that signatures and the C4 header may take in front of
// the code, in bytes.
const maxHeader = 1024

// loadBlock runs LOAD (Card Specification 2.3.1 §11.6). The stream may be cut
// anywhere, the C4 header included. A stream without the last-block mark stays
// open and is lost with the next INSTALL or SELECT.
func (m *Manager) loadBlock(req request) apdu.Response {
	l := m.v.load
	if l == nil {
		return sw(apdu.SWConditionsOfUse)
	}
	if req.P1&^0x80 != 0 || l.next > 0xFF || int(req.P2) != l.next {
		return sw(apdu.SWIncorrectP1P2)
	}
	l.next++
	l.stream = append(l.stream, req.Data...)
	if len(l.stream) > m.s.free()+maxHeader {
		m.v.load = nil
		return sw(apdu.SWNoMemory)
	}
	if req.P1&0x80 == 0 {
		return ok()
	}
	m.v.load = nil
	return m.finishLoad(l)
}

func (m *Manager) finishLoad(l *loading) apdu.Response {
	code, valid := codeOf(l.stream)
	if !valid {
		return sw(apdu.SWWrongData)
	}
	if !hashMatches(l.hash, code) {
		return sw(apdu.SWWrongData)
	}
	f, err := loadfile.Parse(code)
	if err != nil || f.Format != loadfile.FormatIJC || f.Package != l.file {
		return sw(apdu.SWWrongData)
	}
	if len(code)+fileOverhead > m.s.free() {
		return sw(apdu.SWNoMemory)
	}
	m.s.LoadFiles = append(m.s.LoadFiles, &loadFile{AID: f.Package, Domain: l.domain,
		Major: f.Version.Major, Minor: f.Version.Minor, Modules: f.Applets, Code: bytes.Clone(code)})
	m.touch()
	return m.receipt()
}

// codeOf takes the code out of a load stream: [E2 …]* C4 length code.
func codeOf(stream []byte) ([]byte, bool) {
	for {
		t, rest, err := tlv.Next(stream)
		switch {
		case err != nil:
			return nil, false
		case t.Tag == 0xC4:
			return t.Value, len(rest) == 0
		case t.Tag != 0xE2:
			return nil, false
		}
		stream = rest
	}
}

func hashLength(n int) bool { return n == 0 || n == 20 || n == 32 || n == 48 || n == 64 }

// hashMatches compares with the hash of INSTALL [for load], over the code.
func hashMatches(want, code []byte) bool {
	var got []byte
	switch len(want) {
	case 0:
		return true
	case 20:
		h := sha1.Sum(code)
		got = h[:]
	case 32:
		h := sha256.Sum256(code)
		got = h[:]
	case 48:
		h := sha512.Sum384(code)
		got = h[:]
	default:
		h := sha512.Sum512(code)
		got = h[:]
	}
	return subtle.ConstantTimeCompare(want, got) == 1
}
