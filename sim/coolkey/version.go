package coolkey

import (
	"bytes"
	"encoding/binary"

	ck "inkan/apdu/coolkey"
)

// versionOf reads the applet's version out of a load file (coolkey-applet.md
// §15.3): the code that returns the build id, which must occur once, and the code
// that stores protocol and applet version.
func versionOf(code []byte) (ck.Version, bool) {
	build, ok := buildOf(code)
	if !ok {
		return ck.Version{}, false
	}
	major, minor, ok := numbersOf(code)
	return ck.Version{Major: major, Minor: minor, Build: build}, ok
}

// buildOf looks for 1A 03 11 HHHH 8D xxxx 3B 1A 05 11 LLLL 8D xxxx 3B.
func buildOf(code []byte) (ck.BuildID, bool) {
	const size = 18
	found := 0
	var build ck.BuildID
	for i := 0; i+size <= len(code); i++ {
		b := code[i : i+size]
		if !bytes.HasPrefix(b, []byte{0x1A, 0x03, 0x11}) || b[5] != 0x8D || b[8] != 0x3B ||
			!bytes.HasPrefix(b[9:], []byte{0x1A, 0x05, 0x11}) || b[14] != 0x8D || b[17] != 0x3B ||
			!bytes.Equal(b[6:8], b[15:17]) {
			continue
		}
		found++
		build = ck.BuildID(binary.BigEndian.Uint16(b[3:]))<<16 | ck.BuildID(binary.BigEndian.Uint16(b[12:]))
	}
	return build, found == 1
}

// numbersOf looks for four stores in a row: protocol major and minor, applet
// major and minor.
func numbersOf(code []byte) (major, minor byte, ok bool) {
	for i := range code {
		var v [4]byte
		rest, n := code[i:], 0
		for ; n < len(v); n++ {
			value, tail, ok := storeOf(rest)
			if !ok {
				break
			}
			v[n], rest = value, tail
		}
		if n == len(v) {
			return v[2], v[3], true
		}
	}
	return 0, 0, false
}

// storeOf reads 1A (1F or 16 n) 59 n 01 (03+v) 38, or 10 v for the constant that
// has no short form: v above 5.
func storeOf(b []byte) (v byte, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != 0x1A {
		return 0, nil, false
	}
	switch b[1] {
	case 0x1F:
		b = b[2:]
	case 0x16:
		b = b[min(3, len(b)):]
	default:
		return 0, nil, false
	}
	if len(b) < 5 || b[0] != 0x59 || b[2] != 0x01 {
		return 0, nil, false
	}
	switch b = b[3:]; {
	case b[0] >= 0x03 && b[0] <= 0x08: // sconst_0 to sconst_5
		v, b = b[0]-0x03, b[1:]
	case b[0] == 0x10: // bspush
		v, b = b[1], b[2:]
	default:
		return 0, nil, false
	}
	if len(b) < 1 || b[0] != 0x38 {
		return 0, nil, false
	}
	return v, b[1:], true
}
