package gp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"inkan/apdu"
	"inkan/apdu/tlv"
)

// SCP is one secure channel protocol of a card, with its implementation option
// "i". The option of SCP11 needs two bytes.
type SCP struct {
	Protocol uint8
	Option   uint16
}

// String is like "SCP03 i=70".
func (s SCP) String() string { return fmt.Sprintf("SCP%02X i=%02X", s.Protocol, s.Option) }

// Recognition is the card recognition data (GlobalPlatform 2.3.1 appendix H.2).
type Recognition struct {
	Version string // GlobalPlatform version, "2.1.1"; empty where not told
	SCPs    []SCP  // every tag 64, in the card's order; the first is the preferred
}

// Find returns the first entry of a protocol.
func (r Recognition) Find(protocol uint8) (SCP, bool) {
	for _, s := range r.SCPs {
		if s.Protocol == protocol {
			return s, true
		}
	}
	return SCP{}, false
}

// globalPlatform is the body of OID 1.2.840.114283, root of all OIDs here.
var globalPlatform = []byte{0x2A, 0x86, 0x48, 0x86, 0xFC, 0x6B}

// ReadRecognition reads the card recognition data (tag 66).
func ReadRecognition(ctx context.Context, d apdu.Doer) (Recognition, error) {
	b, err := GetData(ctx, d, TagRecognition)
	if err != nil {
		return Recognition{}, err
	}
	return ParseRecognition(b)
}

// ParseRecognition reads a data object 66, or its value alone. The order of the
// templates inside does not matter and unknown ones are skipped.
func ParseRecognition(b []byte) (Recognition, error) {
	tmpl, ok := tlv.Find(Value(b, TagRecognition), 0x73)
	if !ok {
		return Recognition{}, errors.New("parsing card recognition data: no tag 73")
	}
	return parseRecognition(tmpl)
}

// parseRecognition reads the content of the template 73.
func parseRecognition(b []byte) (Recognition, error) {
	ts, err := tlv.Parse(b)
	if err != nil {
		return Recognition{}, fmt.Errorf("parsing card recognition data: %w", err)
	}
	var r Recognition
	for _, t := range ts {
		if t.Tag != 0x60 && t.Tag != 0x64 {
			continue
		}
		oids, err := t.Children()
		if err != nil {
			return Recognition{}, fmt.Errorf("parsing card recognition data: tag %v: %w", t.Tag, err)
		}
		for _, oid := range oids {
			r.add(t.Tag, oid)
		}
	}
	return r, nil
}

// add takes up one OID of a template 60 (…2 version) or 64 (…4 scp i).
func (r *Recognition) add(tmpl tlv.Tag, oid tlv.TLV) {
	body, ok := bytes.CutPrefix(oid.Value, globalPlatform)
	if oid.Tag != 0x06 || !ok || len(body) < 3 {
		return
	}
	switch {
	case tmpl == 0x60 && body[0] == 2:
		r.Version = dotted(body[1:])
	case tmpl == 0x64 && body[0] == 4:
		if i, ok := arc(body[2:]); ok {
			r.SCPs = append(r.SCPs, SCP{Protocol: body[1], Option: i})
		}
	}
}

func dotted(arcs []byte) string {
	parts := make([]string, len(arcs))
	for i, a := range arcs {
		parts[i] = strconv.Itoa(int(a))
	}
	return strings.Join(parts, ".")
}

// arc reads the option: one OID arc in base 128, or the bare byte that cards
// write for options of 80 and more.
func arc(b []byte) (uint16, bool) {
	if len(b) == 1 {
		return uint16(b[0]), true
	}
	n := 0
	for i, c := range b {
		last := i == len(b)-1
		if last == (c&0x80 != 0) || n > 0xFFFF>>7 {
			return 0, false
		}
		n = n<<7 | int(c&0x7F)
	}
	return uint16(n), true
}
