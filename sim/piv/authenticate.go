package piv

import (
	"crypto/subtle"
	"io"

	"inkan/apdu"
	"inkan/apdu/piv"
	"inkan/apdu/tlv"
)

// challenge is what the card waits for an answer to.
type challenge struct {
	want []byte // plain witness, or the host's cryptogram; nil = none
	host bool   // the host's cryptogram (82) is awaited, else the witness (80)
}

func (c *challenge) clear() {
	clear(c.want)
	*c = challenge{}
}

// fields is the content of the dynamic authentication template, by tag. Hosts send
// them in any order.
type fields map[tlv.Tag][]byte

func parseFields(data []byte) (fields, bool) {
	outer, rest, err := tlv.Next(data)
	if err != nil || len(rest) > 0 || outer.Tag != 0x7C {
		return nil, false
	}
	ts, err := outer.Children()
	if err != nil {
		return nil, false
	}
	f := fields{}
	for _, t := range ts {
		if _, twice := f[t.Tag]; twice {
			return nil, false
		}
		f[t.Tag] = t.Value
	}
	return f, len(f) > 0
}

// asks reports an empty field: the card is to fill it.
func (f fields) asks(tag tlv.Tag) bool {
	v, ok := f[tag]
	return ok && len(v) == 0
}

// filled returns the value of a field that the host has filled.
func (f fields) filled(tag tlv.Tag) ([]byte, bool) {
	v := f[tag]
	return v, len(v) > 0
}

const (
	tagWitness   tlv.Tag = 0x80
	tagChallenge tlv.Tag = 0x81
	tagResponse  tlv.Tag = 0x82
	tagExponent  tlv.Tag = 0x85
)

func answer(tag tlv.Tag, value []byte) ([]byte, apdu.StatusWord) {
	return tlv.Encode(0x7C, tlv.Encode(tag, value)), done
}

// authenticate is GENERAL AUTHENTICATE.
func (a *Applet) authenticate(c call) ([]byte, apdu.StatusWord) {
	f, ok := parseFields(c.cmd.Data)
	if !ok {
		return nil, apdu.SWWrongData
	}
	if piv.Slot(c.cmd.P2) == piv.Management {
		return a.manage(c, f)
	}
	return a.useKey(c, f)
}

// manage is authentication with the management key, in either direction. A
// challenge of the card serves one answer, given by the next such command: the card
// computing for the host in between would answer it.
func (a *Applet) manage(c call, f fields) ([]byte, apdu.StatusWord) {
	alg := piv.Algorithm(c.cmd.P1)
	if alg == 0 {
		alg = piv.TripleDES
	}
	if alg != a.p.Management.Algorithm {
		return nil, apdu.SWIncorrectP1P2
	}
	block, err := piv.ManagementCipher(alg, a.p.Management.Value)
	if err != nil {
		return nil, apdu.SWUnknown
	}
	pending := a.v.pending
	a.v.pending = challenge{}
	defer pending.clear()
	n := block.BlockSize()
	sealed := func(in []byte) []byte {
		out := make([]byte, n)
		block.Encrypt(out, in)
		return out
	}
	given, hasChallenge := f.filled(tagChallenge)
	if hasChallenge && len(given) != n {
		return nil, apdu.SWWrongData
	}
	switch {
	case f.asks(tagWitness) && len(f) == 1, f.asks(tagChallenge) && len(f) == 1:
		fresh := make([]byte, n)
		if _, err := io.ReadFull(c.env.Rand(), fresh); err != nil {
			return nil, apdu.SWUnknown
		}
		if f.asks(tagWitness) {
			a.v.pending = challenge{want: fresh}
			return answer(tagWitness, sealed(fresh))
		}
		a.v.pending = challenge{want: sealed(fresh), host: true}
		return answer(tagChallenge, fresh)
	case f.asks(tagResponse) && hasChallenge && len(f) == 2:
		return answer(tagResponse, sealed(given))
	}
	return a.proved(f, pending, sealed)
}

// proved takes the host's answer to the card's challenge.
func (a *Applet) proved(f fields, pending challenge, sealed func([]byte) []byte) ([]byte, apdu.StatusWord) {
	witness, ok1 := f.filled(tagWitness)
	response, ok2 := f.filled(tagResponse)
	if ok1 == ok2 {
		return nil, apdu.SWWrongData
	}
	given := witness
	if ok2 {
		given = response
	}
	if pending.want == nil || pending.host != ok2 || subtle.ConstantTimeCompare(given, pending.want) != 1 {
		a.v.managed = false
		if a.cfg.yubikey() {
			return nil, apdu.SWSecurityStatus
		}
		return nil, apdu.SWWrongData
	}
	a.v.managed = true
	if c, ok := f.filled(tagChallenge); ok && !pending.host {
		return answer(tagResponse, sealed(c))
	}
	return nil, done
}

// setManagement replaces the management key.
func (a *Applet) setManagement(c call) ([]byte, apdu.StatusWord) {
	touch := piv.TouchNever
	switch {
	case c.cmd.P1 == 0xFF && c.cmd.P2 == 0xFF:
	case c.cmd.P1 == 0xFF && c.cmd.P2 == 0xFE:
		touch = piv.TouchAlways
	default:
		return nil, apdu.SWIncorrectP1P2
	}
	b := c.cmd.Data
	if len(b) < 3 || len(b) != 3+int(b[2]) || piv.Slot(b[1]) != piv.Management {
		return nil, apdu.SWWrongData
	}
	alg := piv.Algorithm(b[0])
	if alg != piv.TripleDES && !a.cfg.has(aesManagement) {
		return nil, apdu.SWWrongData
	}
	if _, err := piv.ManagementCipher(alg, b[3:]); err != nil {
		return nil, apdu.SWWrongData
	}
	a.p.Management.wipe()
	a.p.Management = management{Algorithm: alg, Value: append([]byte(nil), b[3:]...), Touch: touch}
	a.p.Management.Default = alg == a.cfg.ManagementAlgorithm && subtle.ConstantTimeCompare(b[3:], a.cfg.ManagementKey) == 1
	c.env.Touch()
	return nil, done
}
